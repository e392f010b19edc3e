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
  // the process. If it cannot be opened, it tries again at least every 30 s, and so does each
  // fetch.
  void open(const mo_open_log& settings);

  // Carry out MO_EFFECT_FETCH and MO_EFFECT_STORE; the callback gets the same `id`. With
  // `reopen` the log is closed and opened anew before.
  void fetch(uint64_t id, const std::string& name, bool reopen);
  void store(uint64_t id, const std::string& value);

private:
  typedef mesos::state::Variable Variable;

  // Begins to open the log unless it is open; what may block runs in a thread. Ends in
  // examined().
  void openLog();
  // Opens the log if it has no problem, else has it tried again later. Continues with a fetch
  // that waits for it.
  void examined(const std::string& problem);
  // Tries to open the log again after an interval, which grows.
  void openLater();

  // Closes the log, which must be open. Once it is closed, a write that was under way has failed,
  // and the log is opened anew; a fetch continues then.
  void close();
  // Begins the read of the current operation once the log is open.
  void read();

  // Begins an operation, whose result goes to `done`.
  void begin(uint64_t id, const ResultCallback& done);
  bool isCurrent(uint64_t number) const;
  // Ends an operation, unless it has ended or a newer one has begun.
  void end(uint64_t number, mo_outcome outcome, const std::string& detail);
  // Ends it as an event of its own: the caller is carrying out an effect, and must finish
  // that first.
  void failLater(const std::string& reason);

  // Looks after `ms` milliseconds whether the operation is unanswered because of the disk,
  // and then again after twice the time.
  void watch(uint64_t number, int64_t ms);
  void look(uint64_t number, int64_t ms);

  // Looks every two seconds whether the disk is full, and closes the log then: other masters
  // write to this replica, too, and tell nobody here of a failure.
  void watchDisk();
  void diskLooked(const std::string& lack);

  // Number of bytes that must be free for the log to be opened.
  size_t space() const;
  // Number of bytes that must be free for the next write.
  size_t leastSpace() const;

  void fetched(uint64_t number, const process::Future<Variable>& future);
  void stored(uint64_t number, const process::Future<Option<Variable>>& future);

  const process::UPID owner_;
  const ResultCallback fetched_;
  const ResultCallback stored_;

  // Opens the log; not called before its files were examined and had no problem.
  std::function<mesos::log::Log*()> open_;
  std::string path_;
  std::string servers_;

  // In this order: each uses the one before.
  std::unique_ptr<mesos::log::Log> log_;
  std::unique_ptr<mesos::state::LogStorage> logStorage_;
  std::unique_ptr<mesos::state::State> state_;

  // The version that was fetched or stored last, without its value: the next store
  // must follow it. NULL while `state_` is.
  std::unique_ptr<Variable> variable_;

  // The last write failed. If a difference could not be applied, the next write
  // must be a full snapshot.
  bool lastWriteFailed_ = false;

  // The log is being closed.
  bool closing_ = false;
  // Number of times that the log was closed; results of a log that was closed are ignored.
  uint64_t closed_ = 0;

  // A thread examines whether the log can be opened.
  bool opening_ = false;
  // That has ended at least once.
  bool examined_ = false;
  // A timer runs to open the log again; the interval of the next one, in milliseconds.
  bool retries_ = false;
  int64_t retry_ = 5000;

  // Size of the largest value so far, in bytes.
  size_t largest_ = 0;

  // The current operation; results of operations before it are ignored.
  struct Operation
  {
    uint64_t number;
    uint64_t id;
    const ResultCallback* done; // NULL: it has ended
    bool waits;                 // a fetch, which begins once the log is open
  };
  Operation operation_ = {0, 0, nullptr, false};

  // Name of the variable of the latest fetch.
  std::string name_;
};

} // namespace overlay {

#endif // OVERLAY_STORAGE_HPP
