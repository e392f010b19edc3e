// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_FUTURE_HPP
#define MESOS_SUBSET_PROCESS_FUTURE_HPP

#include <stdlib.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <stout/lambda.hpp>
#include <stout/result.hpp>

namespace process {

template <typename T>
class Promise;

// A result that is there at once, later, or never. Nothing of it is imported: a compiler may
// leave no function of a template in libmesos that could be.
template <typename T>
class Future
{
public:
  typedef lambda::CallableOnce<void()> AbandonedCallback;
  typedef lambda::CallableOnce<void()> DiscardCallback;
  typedef lambda::CallableOnce<void(const T&)> ReadyCallback;
  typedef lambda::CallableOnce<void(const std::string&)> FailedCallback;
  typedef lambda::CallableOnce<void()> DiscardedCallback;
  typedef lambda::CallableOnce<void(const Future<T>&)> AnyCallback;

  // Abandoned: nobody will set it.
  Future() : data(new Data()) { data->abandoned = true; }

  // Ready.
  Future(const T& value) : data(new Data()) { set(value); }

  bool isReady() const { return data->state == READY; }
  bool isFailed() const { return data->state == FAILED; }

  // Of a future that is ready.
  const T& get() const
  {
    if (!isReady()) {
      abort();
    }
    return data->result.get();
  }

  // Of a future that failed.
  const std::string& failure() const
  {
    if (!isFailed()) {
      abort();
    }
    return data->result.error();
  }

  // Calls back, from any thread, when the future is no longer pending: perhaps at
  // once. Never if it is abandoned.
  const Future<T>& onAny(AnyCallback&& callback) const
  {
    bool pending;
    {
      const Lock locked(data->lock);
      pending = data->state == PENDING;
      if (pending) {
        data->onAnyCallbacks.emplace_back(std::move(callback));
      }
    }
    if (!pending) {
      std::move(callback)(*this);
    }
    return *this;
  }

private:
  friend class Promise<T>;
  friend struct subset_layout;

  enum State { PENDING, READY, FAILED, DISCARDED };

  struct Data
  {
    Data() : state(PENDING), discard(false), associated(false), abandoned(false)
    {
      lock.clear();
    }

    std::atomic_flag lock;
    State state;
    bool discard;
    bool associated;
    bool abandoned;
    Result<T> result;
    std::vector<AbandonedCallback> onAbandonedCallbacks;
    std::vector<DiscardCallback> onDiscardCallbacks;
    std::vector<ReadyCallback> onReadyCallbacks;
    std::vector<FailedCallback> onFailedCallbacks;
    std::vector<DiscardedCallback> onDiscardedCallbacks;
    std::vector<AnyCallback> onAnyCallbacks;
  };

  // Holds a lock of Data, which other threads wait for by trying.
  class Lock
  {
  public:
    explicit Lock(std::atomic_flag& flag) : flag_(flag)
    {
      while (flag_.test_and_set(std::memory_order_acquire)) {}
    }

    ~Lock() { flag_.clear(std::memory_order_release); }

  private:
    std::atomic_flag& flag_;
  };

  template <typename Callback, typename... Args>
  static void run(std::vector<Callback>& callbacks, const Args&... args)
  {
    for (Callback& callback : callbacks) {
      std::move(callback)(args...);
    }
  }

  // Ends the pending state, in which alone callbacks can be added. Returns false if it had
  // ended, or if another future will set this one.
  bool finish(State state, const Result<T>& result)
  {
    const Lock locked(data->lock);
    if (data->state != PENDING || data->associated) {
      return false;
    }
    data->result = result;
    data->state = state;
    return true;
  }

  // Calls those that wait for a result, and destroys all callbacks. A callback may destroy
  // this future.
  template <typename Callback, typename U>
  void notify(std::vector<Callback> Data::*callbacks, const U& value)
  {
    const Future<T> self = *this;
    run((*self.data).*callbacks, value);
    run(self.data->onAnyCallbacks, self);
    self.data->onAbandonedCallbacks.clear();
    self.data->onDiscardCallbacks.clear();
    self.data->onReadyCallbacks.clear();
    self.data->onFailedCallbacks.clear();
    self.data->onDiscardedCallbacks.clear();
    self.data->onAnyCallbacks.clear();
  }

  bool set(const T& value)
  {
    const bool done = finish(READY, Result<T>(value));
    if (done) {
      notify(&Data::onReadyCallbacks, data->result.get());
    }
    return done;
  }

  bool fail(const std::string& message)
  {
    const bool done = finish(FAILED, Result<T>(Error(message)));
    if (done) {
      notify(&Data::onFailedCallbacks, data->result.error());
    }
    return done;
  }

  void abandon()
  {
    std::vector<AbandonedCallback> callbacks;
    {
      const Lock locked(data->lock);
      if (data->abandoned || data->state != PENDING || data->associated) {
        return;
      }
      data->abandoned = true;
      callbacks.swap(data->onAbandonedCallbacks);
    }
    run(callbacks);
  }

  std::shared_ptr<Data> data;
};

template <typename T>
class Promise
{
public:
  Promise() { f.data->abandoned = false; }
  Promise(const Promise&) = delete;
  Promise& operator=(const Promise&) = delete;

  virtual ~Promise()
  {
    if (f.data) {
      f.abandon();
    }
  }

  bool set(const T& value) { return f.set(value); }
  bool fail(const std::string& message) { return f.fail(message); }
  Future<T> future() const { return f; }

private:
  friend struct subset_layout;

  Future<T> f;
};

} // namespace process {

#endif
