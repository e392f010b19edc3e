// The files of this host's replica of the log.
#ifndef OVERLAY_REPLICA_HPP
#define OVERLAY_REPLICA_HPP

#include <string>

namespace overlay {

// Why Mesos could not open the replica in the directory `path`, or would lose
// some of it; empty if it can, or if that cannot be known. Nothing of a replica
// that is not in order is changed.
//
// Mesos ends the process when it cannot open a replica (another process has it,
// a file is damaged), passes over blocks that it cannot read, and takes a
// directory that lost its file CURRENT for an empty one. So the replica is read
// first, with the LevelDB that is in libmesos, once.
std::string unreadable(const std::string& path);

} // namespace overlay {

#endif // OVERLAY_REPLICA_HPP
