// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_DURATION_HPP
#define MESOS_SUBSET_STOUT_DURATION_HPP

#include <stdint.h>

class Duration
{
public:
  constexpr Duration() : nanos(0) {}
  int64_t ns() const { return nanos; }

protected:
  constexpr Duration(int64_t count, int64_t unit) : nanos(count * unit) {}

private:
  int64_t nanos;
};

class Seconds : public Duration
{
public:
  explicit constexpr Seconds(int64_t seconds) : Duration(seconds, 1000000000) {}
};

class Milliseconds : public Duration
{
public:
  explicit constexpr Milliseconds(int64_t ms) : Duration(ms, 1000000) {}
};

#endif
