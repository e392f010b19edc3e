#include "storage.hpp"

#include <algorithm>
#include <set>

#include "dispatch.hpp"
#include "replica.hpp"
#include "text.hpp"

using mesos::log::Log;
using mesos::state::LogStorage;
using mesos::state::State;
using mesos::state::Variable;
using process::Future;

namespace overlay {

// Number of differences that LogStorage writes between two full snapshots. With
// differences a small change is a write of some hundred bytes instead of megabytes in a
// large cluster. A reader of the log has to apply at most this many.
static const size_t DIFFERENCES = 16;

void Storage::open(const mo_open_log& settings)
{
  const int quorum = static_cast<int>(settings.quorum);
  const std::string path = copy(settings.path);
  const Option<std::string> metrics(copy(settings.metrics_prefix));
  const std::string servers = copy(settings.zk_servers);
  path_ = path;

  if (servers.empty()) {
    open_ = [=]() {
      return new Log(quorum, path, std::set<process::UPID>(), true, metrics);
    };
  } else {
    Option<zookeeper::Authentication> authentication = None();
    if (settings.zk_scheme.len > 0) {
      authentication =
        Option<zookeeper::Authentication>(zookeeper::Authentication(
            copy(settings.zk_scheme), copy(settings.zk_credentials)));
    }
    const uint64_t day = 24 * 60 * 60 * 1000;
    const Milliseconds timeout(
        static_cast<int64_t>(std::min(settings.zk_session_timeout_ms, day)));
    const std::string znode = copy(settings.zk_path);
    open_ = [=]() {
      return new Log(
          quorum, path, servers, timeout, znode, authentication, true, metrics);
    };
  }

  const std::string problem = tryOpen();
  if (!problem.empty()) {
    log(MO_ERROR, "overlay-master: " + problem);
  }
}

// Gives the replica that is made next an id that no other replica ever has.
//
// Replicas are libprocess processes, numbered in the order in which a master makes them,
// and a master has two: the other one is that of Mesos's registry. Masters learn the
// addresses of each other's replicas from ZooKeeper, where the address of a killed master
// stays until its session ends. If that master restarts before and makes its replicas in
// the other order, writes for one log would reach the other log.
static void reserveReplicaId()
{
  const std::string last = "log-replica(1000)";
  for (int i = 0; i < 1000; i++) {
    if (process::ID::generate("log-replica") == last) {
      return;
    }
  }
}

std::string Storage::tryOpen()
{
  if (log_) {
    return "";
  }
  if (!open_) {
    return "the log was not opened";
  }
  const std::string problem = replicaProblem(path_);
  if (problem.empty()) {
    reserveReplicaId();
    log_.reset(open_());
    return "";
  }
  return "The replicated log in " + path_ + " cannot be opened, and is left as it is: " +
    problem + ". If another process has it open, stop that process. If it is damaged, "
    "replace the directory with a good copy; if other masters have replicas, move the "
    "directory away, and the replica is restored from theirs";
}

void Storage::failLater(const ResultCallback& done, uint64_t id, const std::string& reason)
{
  // The caller is carrying out an effect, and must finish that first.
  process::dispatch(owner_, [&done, id, reason]() { done(id, MO_FAILED, reason); });
}

void Storage::fetch(uint64_t id, const std::string& name)
{
  // A LogStorage reads the log once and answers from memory until one of its writes
  // fails: it does not notice writes of another master. If it fails to start, all its
  // later operations fail, too. So each fetch makes a new one.
  const uint64_t fetches = ++fetches_;
  variable_.reset();
  state_.reset();
  logStorage_.reset();
  const std::string problem = tryOpen();
  if (!problem.empty()) {
    failLater(fetched_, id, problem);
    return;
  }
  logStorage_.reset(new LogStorage(log_.get(), lastWriteFailed_ ? 0 : DIFFERENCES));
  lastWriteFailed_ = false;
  state_.reset(new State(logStorage_.get()));
  dispatchOnAny(
      state_->fetch(name), owner_, [this, fetches, id](const Future<Variable>& f) {
        if (fetches == fetches_) {
          fetched(id, f);
        }
      });
}

void Storage::fetched(uint64_t id, const Future<Variable>& future)
{
  if (!future.isReady()) {
    fetched_(id, MO_FAILED, reason(future));
    return;
  }
  variable_.reset(new Variable(future.get().mutate("")));
  fetched_(id, MO_DONE, future.get().value());
}

void Storage::store(uint64_t id, const std::string& value)
{
  if (!variable_) {
    failLater(stored_, id, "nothing was fetched before");
    return;
  }
  const uint64_t fetches = fetches_;
  dispatchOnAny(
      state_->store(variable_->mutate(value)),
      owner_,
      [this, fetches, id](const Future<Option<Variable>>& f) {
        if (fetches == fetches_) {
          stored(id, f);
        }
      });
}

void Storage::stored(uint64_t id, const Future<Option<Variable>>& future)
{
  if (!future.isReady()) {
    lastWriteFailed_ = true;
    stored_(id, MO_FAILED, reason(future));
  } else if (future.get().isNone()) {
    stored_(id, MO_SUPERSEDED, "");
  } else {
    variable_.reset(new Variable(future.get().get().mutate("")));
    stored_(id, MO_DONE, "");
  }
}

} // namespace overlay {
