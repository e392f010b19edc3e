#include "storage.hpp"

#include <algorithm>
#include <set>

#include "disk.hpp"
#include "dispatch.hpp"
#include "replica.hpp"
#include "resolve.hpp"
#include "text.hpp"
#include "thread.hpp"

using mesos::log::Log;
using mesos::state::LogStorage;
using mesos::state::State;
using mesos::state::Variable;
using process::Future;
using process::UPID;

namespace overlay {

// Number of differences that LogStorage writes between two full snapshots. With
// differences a small change is a write of some hundred bytes instead of megabytes in a
// large cluster. A reader of the log has to apply at most this many.
static const size_t DIFFERENCES = 16;

// The first and the longest interval at which opening the log is tried again, in milliseconds.
static const int64_t FIRST_RETRY = 5000;
static const int64_t LAST_RETRY = 30000;

void Storage::open(const mo_open_log& settings)
{
  const int quorum = static_cast<int>(settings.quorum);
  const std::string path = copy(settings.path);
  const Option<std::string> metrics(copy(settings.metrics_prefix));
  const std::string servers = copy(settings.zk_servers);
  path_ = path;
  servers_ = servers;

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

  openLog();
  watchDisk();
}

void Storage::watchDisk()
{
  const UPID owner = owner_;
  const std::string path = path_;
  process::Clock::timer(Milliseconds(2000), [this, owner, path]() {
    process::dispatch(owner, [this, owner, path]() {
      const size_t size = leastSpace();
      const std::function<void()> look = [this, owner, path, size]() {
        const std::string lack = lackOfSpace(path, size);
        process::dispatch(owner, [this, lack]() { diskLooked(lack); });
      };
      if (!runInThread(look)) {
        watchDisk();
      }
    });
  });
}

void Storage::diskLooked(const std::string& lack)
{
  if (!lack.empty() && log_) {
    log(MO_WARNING,
        "overlay-master: " + lack + ". This replica of the log is closed until it can be written");
    close();
  }
  watchDisk();
}

// Gives the replica that is made next an id that no other replica ever has.
//
// Replicas are libprocess processes, numbered in the order in which a master makes them,
// and a master has two: the other one is that of Mesos's registry. Masters learn the
// addresses of each other's replicas from ZooKeeper, where the address of a killed master
// stays until its session ends. If that master restarts before and makes its replicas in
// the other order, writes for one log would reach the other log.
//
// So ours are the first of each thousand. Another one is made when the log is opened anew.
static void reserveReplicaId()
{
  static int thousands = 0;
  thousands++;
  const std::string last = "log-replica(" + std::to_string(1000 * thousands) + ")";
  for (int i = 0; i < 1000; i++) {
    if (process::ID::generate("log-replica") == last) {
      return;
    }
  }
}

// Returns the reason why the log cannot be opened; empty if there is none. Blocks as long as the
// disk does, and some seconds for the resolver.
static std::string openProblem(const std::string& path, const std::string& servers, size_t space)
{
  const std::string names = unresolvedInTime(servers);
  if (!names.empty()) {
    return "The replicated log in " + path + " is not opened: " + names;
  }
  const std::string disk = diskProblem(path, space);
  if (!disk.empty()) {
    return "The replicated log in " + path + " is not opened: " + disk;
  }
  const std::string problem = replicaProblem(path);
  if (problem.empty()) {
    return "";
  }
  return "The replicated log in " + path + " cannot be opened, and is left as it is: " +
    problem + ". If another process has it open, stop that process. If it is damaged, "
    "replace the directory with a good copy; if other masters have replicas, move the "
    "directory away, and the replica is restored from theirs; else `mesos-overlay salvage` "
    "makes a copy of what can be read";
}

void Storage::openLog()
{
  // While it is being closed there is nothing to do: close() ends here.
  if (log_ || opening_ || closing_) {
    return;
  }
  opening_ = true;
  const UPID owner = owner_;
  const std::string path = path_;
  const std::string servers = servers_;
  const size_t size = space();
  const bool started = runInThread([this, owner, path, servers, size]() {
    const std::string problem = openProblem(path, servers, size);
    process::dispatch(owner, [this, problem]() { examined(problem); });
  });
  if (!started) {
    process::dispatch(owner, [this, path]() {
      examined("The replicated log in " + path + " is not opened: there is no thread for it");
    });
  }
}

void Storage::examined(const std::string& problem)
{
  opening_ = false;
  if (problem.empty()) {
    reserveReplicaId();
    log_.reset(open_());
    retry_ = FIRST_RETRY;
  } else {
    if (!examined_) {
      log(MO_ERROR, "overlay-master: " + problem);
    }
    openLater();
  }
  examined_ = true;
  if (!operation_.waits) {
    return;
  }
  if (problem.empty()) {
    read();
  } else {
    end(operation_.number, MO_FAILED, problem);
  }
}

void Storage::openLater()
{
  if (retries_) {
    return;
  }
  retries_ = true;
  const UPID owner = owner_;
  process::Clock::timer(Milliseconds(retry_), [this, owner]() {
    process::dispatch(owner, [this]() {
      retries_ = false;
      openLog();
    });
  });
  retry_ = std::min(2 * retry_, LAST_RETRY);
}

size_t Storage::space() const
{
  const size_t least = 1024 * 1024;
  return std::max(least, 2 * largest_);
}

size_t Storage::leastSpace() const
{
  return 256 * 1024 + 2 * largest_;
}

void Storage::close()
{
  // It must follow from a read of this log.
  variable_.reset();
  closed_++;
  operation_.waits = operation_.done == &fetched_;
  lastWriteFailed_ = lastWriteFailed_ || operation_.done == &stored_;
  // In this order: each uses the one before.
  struct Parts
  {
    std::unique_ptr<Log> log;
    std::unique_ptr<LogStorage> logStorage;
    std::unique_ptr<State> state;
  };
  Parts* const parts =
    new Parts{std::move(log_), std::move(logStorage_), std::move(state_)};
  closing_ = true;
  const UPID owner = owner_;
  const std::function<void()> work = [this, owner, parts]() {
    delete parts;
    process::dispatch(owner, [this]() {
      closing_ = false;
      if (!operation_.waits) {
        end(operation_.number, MO_FAILED, "the log was opened anew meanwhile");
      }
      openLog();
    });
  };
  // Mesos waits there until all operations of the log have ended.
  if (!runInThread(work)) {
    work();
  }
}

void Storage::begin(uint64_t id, const ResultCallback& done)
{
  operation_ = Operation{operation_.number + 1, id, &done, false};
  watch(operation_.number, 2000);
}

bool Storage::isCurrent(uint64_t number) const
{
  return number == operation_.number && operation_.done != nullptr;
}

void Storage::end(uint64_t number, mo_outcome outcome, const std::string& detail)
{
  if (!isCurrent(number)) {
    return;
  }
  const Operation operation = operation_;
  operation_.done = nullptr;
  operation_.waits = false;
  (*operation.done)(operation.id, outcome, detail);
}

void Storage::failLater(const std::string& reason)
{
  const uint64_t number = operation_.number;
  process::dispatch(
      owner_, [this, number, reason]() { end(number, MO_FAILED, reason); });
}

void Storage::watch(uint64_t number, int64_t ms)
{
  const UPID owner = owner_;
  process::Clock::timer(Milliseconds(ms), [this, owner, number, ms]() {
    process::dispatch(owner, [this, number, ms]() { look(number, ms); });
  });
}

void Storage::look(uint64_t number, int64_t ms)
{
  if (!isCurrent(number)) {
    return;
  }
  if (closing_ && ms >= 8000) {
    end(
        number,
        MO_FAILED,
        "The replicated log in " + path_ + " has to be opened anew after a failure, and "
        "Mesos does not close it; restart this Mesos master");
    return;
  }
  if (opening_ && operation_.waits && ms >= 8000) {
    end(
        number,
        MO_FAILED,
        "The replicated log in " + path_ + " is not open yet: its files are still being read; "
        "if that lasts, look for errors of the disk in the kernel's log");
    return;
  }
  const UPID owner = owner_;
  const std::string path = path_;
  const size_t size = space();
  // A disk that fails can keep a thread waiting for minutes.
  const bool started = runInThread([this, owner, path, size, number, ms]() {
    const std::string problem = diskProblem(path, size);
    process::dispatch(owner, [this, problem, number, ms]() {
      if (!problem.empty()) {
        end(number, MO_FAILED, problem);
      } else if (isCurrent(number)) {
        watch(number, 2 * ms);
      }
    });
  });
  if (!started) {
    watch(number, 2 * ms);
  }
}

void Storage::fetch(uint64_t id, const std::string& name, bool reopen)
{
  begin(id, fetched_);
  name_ = name;
  if (reopen && log_) {
    close();
  } else {
    read();
  }
}

void Storage::read()
{
  // A LogStorage reads the log once and answers from memory until one of its writes
  // fails: it does not notice writes of another master. If it fails to start, all its
  // later operations fail, too. So each fetch makes a new one.
  variable_.reset();
  state_.reset();
  logStorage_.reset();
  if (!open_) {
    failLater("the log was not opened");
    return;
  }
  operation_.waits = !log_;
  if (!log_) {
    openLog();
    return;
  }
  const std::string lack = lackOfSpace(path_, leastSpace());
  if (!lack.empty()) {
    failLater(lack);
    return;
  }
  logStorage_.reset(new LogStorage(log_.get(), lastWriteFailed_ ? 0 : DIFFERENCES));
  lastWriteFailed_ = false;
  state_.reset(new State(logStorage_.get()));
  const uint64_t number = operation_.number;
  const uint64_t closed = closed_;
  dispatchOnAny(
      state_->fetch(name_), owner_, [this, number, closed](const Future<Variable>& f) {
        if (closed == closed_) {
          fetched(number, f);
        }
      });
}

void Storage::fetched(uint64_t number, const Future<Variable>& future)
{
  if (!isCurrent(number)) {
    return;
  }
  if (!future.isReady()) {
    end(number, MO_FAILED, reason(future));
    return;
  }
  variable_.reset(new Variable(future.get().mutate("")));
  const std::string value = future.get().value();
  largest_ = std::max(largest_, value.size());
  end(number, MO_DONE, value);
}

void Storage::store(uint64_t id, const std::string& value)
{
  begin(id, stored_);
  if (!variable_ || !state_) {
    failLater("the log was opened anew, and not read since");
    return;
  }
  largest_ = std::max(largest_, value.size());
  // Mesos ends the process if the replica has a write, and fails to note that it has.
  const std::string lack = lackOfSpace(path_, leastSpace());
  if (!lack.empty()) {
    failLater(lack);
    return;
  }
  const uint64_t number = operation_.number;
  const uint64_t closed = closed_;
  dispatchOnAny(
      state_->store(variable_->mutate(value)),
      owner_,
      [this, number, closed](const Future<Option<Variable>>& f) {
        if (closed == closed_) {
          stored(number, f);
        }
      });
}

void Storage::stored(uint64_t number, const Future<Option<Variable>>& future)
{
  if (!isCurrent(number)) {
    return;
  }
  if (!future.isReady()) {
    lastWriteFailed_ = true;
    end(number, MO_FAILED, reason(future));
  } else if (future.get().isNone()) {
    end(number, MO_SUPERSEDED, "");
  } else {
    variable_.reset(new Variable(future.get().get().mutate("")));
    end(number, MO_DONE, "");
  }
}

} // namespace overlay {
