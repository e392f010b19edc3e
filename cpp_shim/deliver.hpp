// Results of Mesos's asynchronous calls, as events of a process.
#ifndef OVERLAY_DELIVER_HPP
#define OVERLAY_DELIVER_HPP

#include <string>

#include "mesos.hpp"

namespace overlay {

// Once `future` is ready, failed or discarded, runs `then(future)` as an event of
// the process `owner`. (The future's own callbacks run on any thread.)
template <typename T, typename F>
void deliver(
    const process::Future<T>& future, const process::UPID& owner, const F& then)
{
  future.onAny([owner, then](const process::Future<T>& done) {
    process::dispatch(owner, [then, done]() { then(done); });
  });
}

// Why a future that came to an end is not ready.
template <typename T>
std::string reason(const process::Future<T>& future)
{
  return future.isFailed() ? future.failure() : "the operation was discarded";
}

} // namespace overlay {

#endif // OVERLAY_DELIVER_HPP
