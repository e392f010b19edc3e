#include "thread.hpp"

#include <pthread.h>
#include <signal.h>

#include <memory>

namespace overlay {

static void* run(void* argument)
{
  const std::unique_ptr<std::function<void()>> work(
      static_cast<std::function<void()>*>(argument));
  (*work)();
  return nullptr;
}

bool runInThread(const std::function<void()>& work)
{
  std::unique_ptr<std::function<void()>> argument(new std::function<void()>(work));
  // The new thread inherits the mask: Mesos's handlers run on Mesos's threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const bool started = pthread_create(&thread, nullptr, run, argument.get()) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started) {
    argument.release();
    pthread_detach(thread);
  }
  return started;
}

} // namespace overlay {
