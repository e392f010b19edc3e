// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_STATE_LOG_HPP
#define MESOS_SUBSET_MESOS_STATE_LOG_HPP

#include <stddef.h>

#include <set>
#include <string>

#include <mesos/log/log.hpp>
#include <mesos/state/storage.hpp>

namespace mesos {
namespace state {

class LogStorageProcess;

// Stores variables in a replicated log. The first operation takes over the log's
// writer.
class LogStorage : public Storage
{
public:
  LogStorage(log::Log* log, size_t diffsBetweenSnapshots = 0);
  ~LogStorage() override;

  process::Future<Option<internal::state::Entry>> get(
      const std::string& name) override;
  process::Future<bool> set(
      const internal::state::Entry& entry, const id::UUID& uuid) override;
  process::Future<bool> expunge(const internal::state::Entry& entry) override;
  process::Future<std::set<std::string>> names() override;

private:
  LogStorageProcess* process;
};

} // namespace state {
} // namespace mesos {

#endif
