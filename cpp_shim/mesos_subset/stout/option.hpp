// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_OPTION_HPP
#define MESOS_SUBSET_STOUT_OPTION_HPP

#include <assert.h>

#include <new>
#include <type_traits>
#include <utility>

#include <stout/none.hpp>

// The state comes first, then the value.
template <typename T>
class Option
{
public:
  Option() : state(NONE) {}
  Option(const None&) : state(NONE) {}
  Option(const T& value) : state(SOME), t(value) {}
  Option(T&& value) : state(SOME), t(std::move(value)) {}

  template <typename U, typename = typename std::enable_if<
      std::is_constructible<T, const U&>::value>::type>
  Option(const U& value) : state(SOME), t(value) {}

  Option(const Option& that) : state(that.state)
  {
    if (isSome()) {
      new (&t) T(that.t);
    }
  }

  Option(Option&& that) : state(that.state)
  {
    if (isSome()) {
      new (&t) T(std::move(that.t));
    }
  }

  ~Option() { clear(); }

  Option& operator=(const Option& that)
  {
    if (this != &that) {
      clear();
      if (that.isSome()) {
        new (&t) T(that.t);
      }
      state = that.state;
    }
    return *this;
  }

  bool isSome() const { return state == SOME; }
  bool isNone() const { return state == NONE; }

  const T& get() const& { assert(isSome()); return t; }
  T& get() & { assert(isSome()); return t; }

  const T* operator->() const { return &get(); }
  T* operator->() { return &get(); }

private:
  enum State { SOME, NONE };

  void clear()
  {
    if (isSome()) {
      t.~T();
    }
    state = NONE;
  }

  State state;
  union { typename std::remove_const<T>::type t; };
};

#endif
