// Who leads.
#ifndef OVERLAY_LEADER_HPP
#define OVERLAY_LEADER_HPP

#include <stdint.h>

#include <functional>
#include <memory>
#include <string>

#include "mesos.hpp"

namespace overlay {

// Watches the election of the Mesos master. All of it, callbacks included, runs in
// the process that owns it.
class Leader
{
public:
  typedef std::function<void(const Option<mesos::MasterInfo>&)> Changed;
  typedef std::function<void(const std::string&)> Failed;

  Leader(const Changed& changed, const Failed& failed)
    : changed_(changed), failed_(failed) {}

  // Watches `master`, a `host:port` or a `zk://` url, for the process `owner`.
  // `changed` is called with every news until `failed` says that it is over.
  void watch(const process::UPID& owner, const std::string& master);

private:
  void await(const Option<mesos::MasterInfo>& previous);
  void detected(const process::Future<Option<mesos::MasterInfo>>& future);

  const Changed changed_;
  const Failed failed_;

  process::UPID owner_;
  std::unique_ptr<mesos::master::detector::MasterDetector> detector_;

  // Number of the present watch: news of former ones is ignored.
  uint64_t watch_ = 0;
};

} // namespace overlay {

#endif // OVERLAY_LEADER_HPP
