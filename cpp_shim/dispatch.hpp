// Results of Mesos's asynchronous calls as events of a process.
#ifndef OVERLAY_DISPATCH_HPP
#define OVERLAY_DISPATCH_HPP

#include <string>

#include "mesos.hpp"

namespace overlay {

// Runs `then(future)` as an event of the process `owner` once `future` is ready,
// failed or discarded. libprocess itself runs a future's callbacks on any thread.
template <typename T, typename F>
void dispatchOnAny(
    const process::Future<T>& future, const process::UPID& owner, const F& then)
{
  future.onAny([owner, then](const process::Future<T>& done) {
    process::dispatch(owner, [then, done]() { then(done); });
  });
}

// The failure of a future that ended without being ready.
template <typename T>
std::string reason(const process::Future<T>& future)
{
  return future.isFailed() ? future.failure() : "the operation was discarded";
}

} // namespace overlay {

#endif // OVERLAY_DISPATCH_HPP
