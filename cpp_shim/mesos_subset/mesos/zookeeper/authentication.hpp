// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_ZOOKEEPER_AUTHENTICATION_HPP
#define MESOS_SUBSET_MESOS_ZOOKEEPER_AUTHENTICATION_HPP

#include <string>

namespace zookeeper {

struct Authentication
{
  // The only scheme that Mesos takes is `digest`.
  Authentication(const std::string& _scheme, const std::string& _credentials)
    : scheme(_scheme), credentials(_credentials) {}

  const std::string scheme;
  const std::string credentials;
};

} // namespace zookeeper {

#endif
