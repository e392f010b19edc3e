// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_ADDRESS_HPP
#define MESOS_SUBSET_PROCESS_ADDRESS_HPP

#include <stdint.h>

#include <stout/ip.hpp>

namespace process {
namespace network {
namespace inet {

struct Address
{
  net::IP ip;
  uint16_t port;
};

} // namespace inet {
} // namespace network {
} // namespace process {

#endif
