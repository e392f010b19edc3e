// Subset of stout: see ../README.md.
#ifndef MESOS_SUBSET_STOUT_IP_HPP
#define MESOS_SUBSET_STOUT_IP_HPP

#include <netinet/in.h>
#include <string.h>

#include <stout/error.hpp>
#include <stout/try.hpp>

namespace net {

class IP
{
public:
  int family() const { return family_; }

  Try<struct in_addr> in() const
  {
    if (family_ == AF_INET) {
      return storage_.in_;
    }
    return Error("not an IPv4 address");
  }

  Try<struct in6_addr> in6() const
  {
    if (family_ == AF_INET6) {
      return storage_.in6_;
    }
    return Error("not an IPv6 address");
  }

protected:
  explicit IP(uint32_t address) : family_(AF_INET)
  {
    memset(&storage_, 0, sizeof(storage_));
    storage_.in_.s_addr = htonl(address);
  }

private:
  union Storage
  {
    struct in_addr in_;
    struct in6_addr in6_;
  };

  int family_;
  Storage storage_;
};

struct IPv4 : IP
{
  explicit IPv4(uint32_t address) : IP(address) {}
};

} // namespace net {

#endif
