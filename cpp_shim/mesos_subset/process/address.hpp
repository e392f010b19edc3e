// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_ADDRESS_HPP
#define MESOS_SUBSET_PROCESS_ADDRESS_HPP

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <stout/ip.hpp>

namespace process {

struct subset_layout;

namespace network {
namespace inet {

struct Address
{
  net::IP ip;
  uint16_t port;
};

} // namespace inet {

// A boost::variant of the addresses of Unix sockets, IPv4 and IPv6. Created and destroyed by
// libmesos only.
class Address
{
public:
  Address() = delete;

  // Of a Unix socket only the family is set.
  operator sockaddr_storage() const
  {
    sockaddr_storage storage;
    memset(&storage, 0, sizeof(storage));
    storage.ss_family = AF_UNIX;
    if (which == INET4 && inet.ip.in().isSome()) {
      sockaddr_in in = sockaddr_in();
      in.sin_family = AF_INET;
      in.sin_port = htons(inet.port);
      in.sin_addr = inet.ip.in().get();
      memcpy(&storage, &in, sizeof(in));
    } else if (which == INET6 && inet.ip.in6().isSome()) {
      sockaddr_in6 in6 = sockaddr_in6();
      in6.sin6_family = AF_INET6;
      in6.sin6_port = htons(inet.port);
      in6.sin6_addr = inet.ip.in6().get();
      memcpy(&storage, &in6, sizeof(in6));
    }
    return storage;
  }

private:
  friend struct process::subset_layout;

  enum { INET4 = 1, INET6 = 2 };

  int which;
  union
  {
    alignas(8) char un[136];
    inet::Address inet;
  };
};

} // namespace network {
} // namespace process {

#endif
