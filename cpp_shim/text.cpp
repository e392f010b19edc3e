#include "text.hpp"

#include <arpa/inet.h>

namespace overlay {

std::string toString(const process::UPID& pid)
{
  char ip[INET6_ADDRSTRLEN] = "";
  std::string text = pid.id;
  const net::IP& address = pid.address.ip;
  if (address.family() == AF_INET6) {
    const struct in6_addr in6 = address.in6().get();
    inet_ntop(AF_INET6, &in6, ip, sizeof(ip));
    text += std::string("@[") + ip + "]";
  } else {
    const struct in_addr in = address.in().get();
    inet_ntop(AF_INET, &in, ip, sizeof(ip));
    text += std::string("@") + ip;
  }
  return text + ":" + std::to_string(pid.address.port);
}

void overlayLog(void*, mo_severity severity, mo_bytes line)
{
  google::LogSeverity glogSeverity = google::GLOG_INFO;
  if (severity == MO_WARNING) {
    glogSeverity = google::GLOG_WARNING;
  } else if (severity == MO_ERROR) {
    glogSeverity = google::GLOG_ERROR;
  }
  google::LogMessage("mesos_overlay", 0, glogSeverity).stream().write(
      reinterpret_cast<const char*>(line.ptr),
      static_cast<std::streamsize>(line.len));
}

} // namespace overlay {
