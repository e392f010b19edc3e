// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_RESULT_HPP
#define MESOS_SUBSET_STOUT_RESULT_HPP

#include <string>

#include <stout/error.hpp>
#include <stout/option.hpp>
#include <stout/try.hpp>

// A value, no value, or an error.
template <typename T>
class Result
{
public:
  Result() : data(Option<T>()) {}
  explicit Result(const T& value) : data(Option<T>(value)) {}
  explicit Result(const Error& error) : data(error) {}

  const T& get() const { return data->get(); }
  const std::string& error() const { return data.error(); }

private:
  Try<Option<T>> data;
};

#endif
