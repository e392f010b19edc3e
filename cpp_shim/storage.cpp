#include "storage.hpp"

#include <algorithm>
#include <set>

#include "deliver.hpp"
#include "replica.hpp"
#include "text.hpp"

using mesos::log::Log;
using mesos::state::LogStorage;
using mesos::state::State;
using mesos::state::Variable;
using process::Future;

namespace overlay {

// A write of a few changes is then one of a few hundred bytes, and not of megabytes in
// a large cluster. Whoever reads the log has to apply as many at the most.
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

  const std::string why = tryOpen();
  if (!why.empty()) {
    log(MO_ERROR, why);
  }
}

// Replicas are processes of libprocess, numbered in the order in which a master makes
// them, and there are two: Mesos's registry has one. The others' addresses are learned
// from ZooKeeper, where those of a master that was killed stay until its session ends.
// If it is back by then and has numbered its replicas the other way round, what is meant
// for one log is written to the other. So ours has a number that no other replica ever has.
static void skipNumbers()
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
  const std::string why = unreadable(path_);
  if (why.empty()) {
    skipNumbers();
    log_.reset(open_());
    return "";
  }
  return "The replicated log in " + path_ + " cannot be opened, and is left as "
    "it is: " + why + ". If another process has it, end that one. If it is "
    "damaged, put a good copy of the directory in its place; where other masters "
    "have theirs, move it away, and it is filled from them";
}

void Storage::fetch(
    const process::UPID& owner, uint64_t id, const std::string& name)
{
  // A LogStorage reads the log once and answers from memory until one of its
  // writes fails. It would not notice that another master wrote meanwhile, and a
  // failure to start it would be its last word. So each fetch takes a new one.
  const uint64_t fetches = ++fetches_;
  variable_.reset();
  state_.reset();
  logStorage_.reset();
  const std::string why = tryOpen();
  if (!why.empty()) {
    fetched_(id, MO_FAILED, why);
    return;
  }
  logStorage_.reset(new LogStorage(log_.get(), failed_ ? 0 : DIFFERENCES));
  failed_ = false;
  state_.reset(new State(logStorage_.get()));
  deliver(
      state_->fetch(name), owner, [this, fetches, id](const Future<Variable>& f) {
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

void Storage::store(
    const process::UPID& owner, uint64_t id, const std::string& value)
{
  if (!variable_) {
    stored_(id, MO_FAILED, "nothing was fetched before");
    return;
  }
  const uint64_t fetches = fetches_;
  deliver(
      state_->store(variable_->mutate(value)),
      owner,
      [this, fetches, id](const Future<Option<Variable>>& f) {
        if (fetches == fetches_) {
          stored(id, f);
        }
      });
}

void Storage::stored(uint64_t id, const Future<Option<Variable>>& future)
{
  if (!future.isReady()) {
    failed_ = true;
    stored_(id, MO_FAILED, reason(future));
  } else if (future.get().isNone()) {
    stored_(id, MO_SUPERSEDED, "");
  } else {
    variable_.reset(new Variable(future.get().get().mutate("")));
    stored_(id, MO_DONE, "");
  }
}

} // namespace overlay {
