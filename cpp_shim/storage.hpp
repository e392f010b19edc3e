// The replicated log.
#ifndef OVERLAY_STORAGE_HPP
#define OVERLAY_STORAGE_HPP

#include <stdint.h>

#include <functional>
#include <memory>
#include <string>

#include "mesos.hpp"
#include "mesos_overlay.h"

namespace overlay {

// One variable in Mesos's replicated log. Belongs to the process `owner`: its
// functions are called in that process, and its callbacks are events of it.
class Storage
{
public:
  // Receives the value that was fetched, or the reason of a failure.
  typedef std::function<void(uint64_t id, mo_outcome, const std::string&)> ResultCallback;

  Storage(const process::UPID& owner, const ResultCallback& fetched, const ResultCallback& stored)
    : owner_(owner), fetched_(fetched), stored_(stored) {}

  // Opens this host's replica, which then serves the other replicas for the life of
  // the process. If it cannot be opened, each fetch tries again.
  void open(const mo_open_log& settings);

  // Carry out MO_EFFECT_FETCH and MO_EFFECT_STORE; the callback gets the same `id`.
  void fetch(uint64_t id, const std::string& name);
  void store(uint64_t id, const std::string& value);

private:
  typedef mesos::state::Variable Variable;

  // Opens the log unless it is open. Returns the problem; empty if there is none.
  std::string tryOpen();

  void fetched(uint64_t id, const process::Future<Variable>& future);
  void stored(uint64_t id, const process::Future<Option<Variable>>& future);

  // Reports a failure that happened before anything asynchronous was started.
  void failLater(const ResultCallback& done, uint64_t id, const std::string& reason);

  const process::UPID owner_;
  const ResultCallback fetched_;
  const ResultCallback stored_;

  // Opens the log; not called before replicaProblem() has found nothing.
  std::function<mesos::log::Log*()> open_;
  std::string path_;

  // In this order: each uses the one before.
  std::unique_ptr<mesos::log::Log> log_;
  std::unique_ptr<mesos::state::LogStorage> logStorage_;
  std::unique_ptr<mesos::state::State> state_;

  // The version that was fetched or stored last, without its value: the next store
  // must follow it.
  std::unique_ptr<Variable> variable_;

  // The last write failed. If a difference could not be applied, the next write
  // must be a full snapshot.
  bool lastWriteFailed_ = false;

  // Number of the current fetch; results of operations before it are ignored.
  uint64_t fetches_ = 0;
};

} // namespace overlay {

#endif // OVERLAY_STORAGE_HPP
