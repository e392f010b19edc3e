#include "leader.hpp"

#include "dispatch.hpp"
#include "resolve.hpp"
#include "thread.hpp"

using mesos::MasterInfo;
using mesos::master::detector::MasterDetector;

namespace overlay {

void LeaderDetector::watch(const std::string& master)
{
  const uint64_t watch = ++watch_;
  const std::string servers = serversOf(master);
  if (!hasNames(servers)) {
    create(master);
    return;
  }
  const process::UPID owner = owner_;
  const std::function<void()> resolve = [this, owner, watch, master, servers]() {
    const std::string problem = unresolved(servers);
    process::dispatch(owner, [this, watch, master, problem]() {
      if (watch != watch_) {
        return;
      }
      if (problem.empty()) {
        create(master);
      } else {
        detector_.reset();
        failed_(problem);
      }
    });
  };
  // Name servers can keep a thread waiting for a minute.
  if (!runInThread(resolve)) {
    resolve();
  }
}

void LeaderDetector::create(const std::string& master)
{
  Try<MasterDetector*> created =
    MasterDetector::create(Option<std::string>(master), None(), None());
  if (created.isError()) {
    detector_.reset();
    // The caller is carrying out an effect, and must finish that first.
    const std::string error = created.error();
    process::dispatch(owner_, [this, error]() { failed_(error); });
    return;
  }
  detector_.reset(created.get());
  detectNext(None());
}

void LeaderDetector::detectNext(const Option<MasterInfo>& previous)
{
  const uint64_t watch = watch_;
  dispatchOnAny(
      detector_->detect(previous),
      owner_,
      [this, watch](const process::Future<Option<MasterInfo>>& future) {
        if (watch == watch_) {
          detected(future);
        }
      });
}

void LeaderDetector::detected(const process::Future<Option<MasterInfo>>& future)
{
  if (!future.isReady()) {
    detector_.reset();
    failed_(reason(future));
    return;
  }
  // First, because `changed_` may start another watch.
  detectNext(future.get());
  changed_(future.get());
}

} // namespace overlay {
