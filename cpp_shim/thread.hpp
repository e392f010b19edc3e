// Threads for calls that may block.
#ifndef OVERLAY_THREAD_HPP
#define OVERLAY_THREAD_HPP

#include <pthread.h>

#include <functional>

namespace overlay {

// Runs `work` in a thread of its own, which has no signal handlers to run. Returns false if
// the system has no thread left.
bool runInThread(const std::function<void()>& work);

// A flag that one thread raises and another one waits for.
//
// std::promise and std::condition_variable need symbols of a newer libstdc++ or C library
// than that of hosts on which Mesos runs.
class Flag
{
public:
  Flag();
  ~Flag();

  // Raises the flag. Writes of the thread before this are visible to threads that have waited.
  void raise();

  // Waits until the flag is raised, at most `seconds`. Returns whether it is raised.
  bool wait(int seconds) const;

private:
  Flag(const Flag&);
  Flag& operator=(const Flag&);

  mutable pthread_mutex_t mutex_;
  mutable pthread_cond_t changed_;
  bool raised_;
};

} // namespace overlay {

#endif // OVERLAY_THREAD_HPP
