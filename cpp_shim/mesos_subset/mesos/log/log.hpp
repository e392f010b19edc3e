// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_LOG_LOG_HPP
#define MESOS_SUBSET_MESOS_LOG_LOG_HPP

#include <set>
#include <string>

#include <mesos/zookeeper/authentication.hpp>

#include <process/pid.hpp>

#include <stout/duration.hpp>
#include <stout/option.hpp>

namespace mesos {

namespace internal {
namespace log {

class LogProcess;

} // namespace log {
} // namespace internal {

namespace log {

// A replica of the replicated log.
class Log
{
public:
  Log(int quorum,
      const std::string& path,
      const std::set<process::UPID>& pids,
      bool autoInitialize = false,
      const Option<std::string>& metricsPrefix = None());

  Log(int quorum,
      const std::string& path,
      const std::string& servers,
      const Duration& timeout,
      const std::string& znode,
      const Option<zookeeper::Authentication>& auth = None(),
      bool autoInitialize = false,
      const Option<std::string>& metricsPrefix = None());

  ~Log();

private:
  internal::log::LogProcess* process;
};

} // namespace log {
} // namespace mesos {

#endif
