#include "leader.hpp"

#include "dispatch.hpp"

using mesos::MasterInfo;
using mesos::master::detector::MasterDetector;

namespace overlay {

void LeaderDetector::watch(const std::string& master)
{
  watch_++;
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
