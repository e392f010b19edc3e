// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_MASTER_DETECTOR_HPP
#define MESOS_SUBSET_MESOS_MASTER_DETECTOR_HPP

#include <string>

#include <mesos/mesos.hpp>

#include <process/future.hpp>

#include <stout/duration.hpp>
#include <stout/option.hpp>
#include <stout/try.hpp>

namespace mesos {
namespace master {
namespace detector {

class MasterDetector
{
public:
  // Of a `host:port` or a `zk://` url.
  static Try<MasterDetector*> create(
      const Option<std::string>& zk,
      const Option<std::string>& masterDetectorModule = None(),
      const Option<Duration>& zkSessionTimeout = None());

  virtual ~MasterDetector() = 0;

  // Who leads, as soon as it is not `previous`.
  virtual process::Future<Option<MasterInfo>> detect(
      const Option<MasterInfo>& previous = None()) = 0;
};

} // namespace detector {
} // namespace master {
} // namespace mesos {

#endif
