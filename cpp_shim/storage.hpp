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

// One variable in Mesos's replicated log. All of it, callbacks included, runs in
// the process that owns it.
class Storage
{
public:
  typedef std::function<void(uint64_t id, mo_outcome, const std::string&)> Done;

  Storage(const Done& fetched, const Done& stored)
    : fetched_(fetched), stored_(stored) {}

  // Opens this host's replica, which then serves the others for the life of the
  // process. While that is not possible, each fetch tries again.
  void open(const mo_open_log& settings);

  // For MO_EFFECT_FETCH and MO_EFFECT_STORE; the answers have the same `id`.
  void fetch(const process::UPID& owner, uint64_t id, const std::string& name);
  void store(const process::UPID& owner, uint64_t id, const std::string& value);

private:
  typedef mesos::state::Variable Variable;

  // Why there is no log; empty: there is.
  std::string tryOpen();

  void fetched(uint64_t id, const process::Future<Variable>& future);
  void stored(uint64_t id, const process::Future<Option<Variable>>& future);

  const Done fetched_;
  const Done stored_;

  // Opens the log; it is not called again after `unreadable` found nothing.
  std::function<mesos::log::Log*()> open_;
  std::string path_;

  // In this order: each uses the one before.
  std::unique_ptr<mesos::log::Log> log_;
  std::unique_ptr<mesos::state::LogStorage> logStorage_;
  std::unique_ptr<mesos::state::State> state_;

  // As it was fetched or stored last, without its value: the next store must follow
  // on it.
  std::unique_ptr<Variable> variable_;

  // The latest write failed. Should that be for want of a difference, the next one
  // does without.
  bool failed_ = false;

  // Number of the present fetch; results of operations before it are void.
  uint64_t fetches_ = 0;
};

} // namespace overlay {

#endif // OVERLAY_STORAGE_HPP
