// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_DISPATCH_HPP
#define MESOS_SUBSET_PROCESS_DISPATCH_HPP

#include <memory>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <process/process.hpp>

#include <stout/lambda.hpp>
#include <stout/option.hpp>

namespace process {
namespace internal {

void dispatch(
    const UPID& pid,
    std::unique_ptr<lambda::CallableOnce<void(ProcessBase*)>> f,
    const Option<const std::type_info*>& functionType = None());

} // namespace internal {

// Runs `f`, which returns nothing, as an event of the process. Does nothing if there is no
// such process.
template <typename F>
void dispatch(const UPID& pid, const F& f)
{
  typedef lambda::CallableOnce<void(ProcessBase*)> Callable;

  internal::dispatch(
      pid,
      std::unique_ptr<Callable>(new Callable([f](ProcessBase*) { f(); })));
}

} // namespace process {

#endif
