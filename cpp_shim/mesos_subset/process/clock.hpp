// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_CLOCK_HPP
#define MESOS_SUBSET_PROCESS_CLOCK_HPP

#include <process/timer.hpp>

#include <stout/duration.hpp>
#include <stout/lambda.hpp>

namespace process {

class Clock
{
public:
  static Timer timer(
      const Duration& duration, const lambda::function<void()>& thunk);

  static bool cancel(const Timer& timer);
};

} // namespace process {

#endif
