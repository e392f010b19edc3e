// Names of ZooKeeper's servers.
#ifndef OVERLAY_RESOLVE_HPP
#define OVERLAY_RESOLVE_HPP

#include <string>

namespace overlay {

// Returns the part of a `zk://` URL with the servers, `host:port[,host:port]`; empty for any
// other text.
std::string serversOf(const std::string& url);

// Returns whether `servers` has names, not only addresses.
bool hasNames(const std::string& servers);

// Returns which name cannot be resolved, and why, with the way out. Empty: all can. Blocks as
// long as the resolver does.
//
// Mesos tries to resolve the names for ten minutes, and then ends the process.
std::string unresolved(const std::string& servers);

// Returns which name cannot be resolved, as unresolved() does, or that the name servers have not
// answered within five seconds.
std::string unresolvedInTime(const std::string& servers);

} // namespace overlay {

#endif // OVERLAY_RESOLVE_HPP
