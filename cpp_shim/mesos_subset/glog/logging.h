// Subset of glog: see ../README.md.
#ifndef MESOS_SUBSET_GLOG_LOGGING_H
#define MESOS_SUBSET_GLOG_LOGGING_H

#include <ostream>

namespace google {

typedef int LogSeverity;
const LogSeverity GLOG_INFO = 0;
const LogSeverity GLOG_WARNING = 1;
const LogSeverity GLOG_ERROR = 2;

// One line, which the destructor writes.
class LogMessage
{
public:
  LogMessage(const char* file, int line, LogSeverity severity);
  ~LogMessage();
  std::ostream& stream();

private:
  LogMessage(const LogMessage&);
  LogMessage& operator=(const LogMessage&);

  // Sixteen bytes in the glog that Mesos 1.11 bundles; more in later ones.
  alignas(16) char room[1024];
};

} // namespace google {

#endif
