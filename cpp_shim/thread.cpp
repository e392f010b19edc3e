#include "thread.hpp"

#include <pthread.h>
#include <signal.h>
#include <time.h>

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

Flag::Flag() : raised_(false)
{
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  // A clock that is set does not change how long a thread waits.
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_mutex_init(&mutex_, nullptr);
  pthread_cond_init(&changed_, &attributes);
  pthread_condattr_destroy(&attributes);
}

Flag::~Flag()
{
  pthread_cond_destroy(&changed_);
  pthread_mutex_destroy(&mutex_);
}

void Flag::raise()
{
  pthread_mutex_lock(&mutex_);
  raised_ = true;
  pthread_cond_broadcast(&changed_);
  pthread_mutex_unlock(&mutex_);
}

bool Flag::wait(int seconds) const
{
  timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += seconds;
  pthread_mutex_lock(&mutex_);
  int error = 0;
  while (!raised_ && error == 0) {
    error = pthread_cond_timedwait(&changed_, &mutex_, &end);
  }
  const bool raised = raised_;
  pthread_mutex_unlock(&mutex_);
  return raised;
}

} // namespace overlay {
