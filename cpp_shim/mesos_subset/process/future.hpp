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

// libmesos exports constructors, `set`, `fail` and `abandon` for the types in use here.
// All other functions are inline.
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

  Future();

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
    bool run = false;
    while (data->lock.test_and_set(std::memory_order_acquire)) {}
    if (data->state == PENDING) {
      data->onAnyCallbacks.emplace_back(std::move(callback));
    } else {
      run = true;
    }
    data->lock.clear(std::memory_order_release);
    if (run) {
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
    // Made and destroyed by libmesos only.
    Data() = delete;
    ~Data() = delete;

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

  bool set(const T& value);
  bool fail(const std::string& message);
  bool abandon(bool propagating = false);

  std::shared_ptr<Data> data;
};

template <typename T>
class Promise
{
public:
  Promise() {}
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
