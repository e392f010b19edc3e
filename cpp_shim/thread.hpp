// Threads for calls that may block.
#ifndef OVERLAY_THREAD_HPP
#define OVERLAY_THREAD_HPP

#include <functional>

namespace overlay {

// Runs `work` in a thread of its own, which has no signal handlers to run. Returns false if
// the system has no thread left.
bool runInThread(const std::function<void()>& work);

} // namespace overlay {

#endif // OVERLAY_THREAD_HPP
