// Conversion of strings of the C ABI, and the log.
#ifndef OVERLAY_TEXT_HPP
#define OVERLAY_TEXT_HPP

#include <sys/socket.h>

#include <string>

#include "mesos.hpp"
#include "mesos_overlay.h"

namespace overlay {

// Borrows `text`, which must outlive the result.
inline mo_bytes lend(const std::string& text)
{
  return mo_bytes{
      reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

inline std::string copy(mo_bytes bytes)
{
  return bytes.len == 0
    ? std::string()
    : std::string(reinterpret_cast<const char*>(bytes.ptr), bytes.len);
}

// Formats as `id@ip:port`. libprocess's own conversions have different symbols in
// different builds, or print a host name.
std::string toString(const process::UPID& pid);

// Formats as `ip:port` or `[ip]:port`. None for a Unix socket.
Option<std::string> toString(const sockaddr_storage& address);

// Writes one line to Mesos's log. Set as the library's logger with mo_set_logger.
extern "C" void overlayLog(void* ctx, mo_severity severity, mo_bytes line);

inline void log(mo_severity severity, const std::string& line)
{
  overlayLog(nullptr, severity, lend(line));
}

} // namespace overlay {

#endif // OVERLAY_TEXT_HPP
