// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_TIMER_HPP
#define MESOS_SUBSET_PROCESS_TIMER_HPP

#include <stdint.h>

#include <process/pid.hpp>

#include <stout/lambda.hpp>

namespace process {

class Timer
{
private:
  friend struct subset_layout;

  uint64_t id;
  int64_t timeout;
  UPID pid;
  lambda::function<void()> thunk;
};

} // namespace process {

#endif
