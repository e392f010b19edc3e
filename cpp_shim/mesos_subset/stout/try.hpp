// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_TRY_HPP
#define MESOS_SUBSET_STOUT_TRY_HPP

#include <string>

#include <stout/error.hpp>
#include <stout/option.hpp>

template <typename T, typename E = Error>
class Try
{
public:
  Try(const T& t) : data(t) {}
  Try(const E& error) : error_(error) {}

  bool isSome() const { return data.isSome(); }
  bool isError() const { return data.isNone(); }

  const T& get() const { return data.get(); }
  T& get() { return data.get(); }
  const T* operator->() const { return &get(); }

  const std::string& error() const { return error_->message; }

private:
  Option<T> data;
  Option<E> error_;
};

#endif
