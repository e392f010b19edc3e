// Detection of the leading Mesos master.
#ifndef OVERLAY_LEADER_HPP
#define OVERLAY_LEADER_HPP

#include <stdint.h>

#include <functional>
#include <memory>
#include <string>

#include "mesos.hpp"

namespace overlay {

// Watches the election of the Mesos master. Belongs to the process `owner`: its
// functions are called in that process, and its callbacks are events of it.
class LeaderDetector
{
public:
  typedef std::function<void(const Option<mesos::MasterInfo>&)> Changed;
  typedef std::function<void(const std::string&)> Failed;

  LeaderDetector(
      const process::UPID& owner, const Changed& changed, const Failed& failed)
    : owner_(owner), changed_(changed), failed_(failed) {}

  // Watches `master`, a `host:port` or a `zk://` URL, and ends a former watch.
  // Calls `changed` at each change, until it calls `failed` once.
  void watch(const std::string& master);

private:
  // Creates the detector of the current watch.
  void create(const std::string& master);
  void detectNext(const Option<mesos::MasterInfo>& previous);
  void detected(const process::Future<Option<mesos::MasterInfo>>& future);

  const process::UPID owner_;
  const Changed changed_;
  const Failed failed_;

  std::unique_ptr<mesos::master::detector::MasterDetector> detector_;

  // Number of the current watch; results of former watches are ignored.
  uint64_t watch_ = 0;
};

} // namespace overlay {

#endif // OVERLAY_LEADER_HPP
