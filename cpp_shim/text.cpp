#include "text.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

namespace overlay {

static std::string format(int family, const void* ip, uint16_t port)
{
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(family, ip, text, sizeof(text));
  const std::string host =
    family == AF_INET6 ? std::string("[") + text + "]" : text;
  return host + ":" + std::to_string(port);
}

std::string toString(const process::UPID& pid)
{
  const std::string& id = pid.id;
  const net::IP& address = pid.address.ip;
  if (address.family() == AF_INET6) {
    const struct in6_addr in6 = address.in6().get();
    return id + "@" + format(AF_INET6, &in6, pid.address.port);
  }
  const struct in_addr in = address.in().get();
  return id + "@" + format(AF_INET, &in, pid.address.port);
}

Option<std::string> toString(const sockaddr_storage& address)
{
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 in6;
    memcpy(&in6, &address, sizeof(in6));
    return Option<std::string>(
        format(AF_INET6, &in6.sin6_addr, ntohs(in6.sin6_port)));
  }
  if (address.ss_family == AF_INET) {
    sockaddr_in in;
    memcpy(&in, &address, sizeof(in));
    return Option<std::string>(format(AF_INET, &in.sin_addr, ntohs(in.sin_port)));
  }
  return None();
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
