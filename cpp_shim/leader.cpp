#include "leader.hpp"

#include "deliver.hpp"

using mesos::MasterInfo;
using mesos::master::detector::MasterDetector;

namespace overlay {

void Leader::watch(const process::UPID& owner, const std::string& master)
{
  owner_ = owner;
  watch_++;
  Try<MasterDetector*> created =
    MasterDetector::create(Option<std::string>(master), None(), None());
  if (created.isError()) {
    detector_.reset();
    failed_(created.error());
    return;
  }
  detector_.reset(created.get());
  await(None());
}

void Leader::await(const Option<MasterInfo>& previous)
{
  const uint64_t watch = watch_;
  deliver(
      detector_->detect(previous),
      owner_,
      [this, watch](const process::Future<Option<MasterInfo>>& future) {
        if (watch == watch_) {
          detected(future);
        }
      });
}

void Leader::detected(const process::Future<Option<MasterInfo>>& future)
{
  if (!future.isReady()) {
    detector_.reset();
    failed_(reason(future));
    return;
  }
  // Before the owner acts on it: it may want another watch.
  await(future.get());
  changed_(future.get());
}

} // namespace overlay {
