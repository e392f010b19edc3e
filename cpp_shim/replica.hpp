// Check of the files of this host's replica of the log.
#ifndef OVERLAY_REPLICA_HPP
#define OVERLAY_REPLICA_HPP

#include <string>

namespace overlay {

// Returns the reason why Mesos could not open the replica in the directory `path`, or
// would lose a part of it. Empty: there is no problem, or it cannot be checked. Does not
// change a replica that has a problem.
//
// Mesos ends the process when it cannot open a replica (another process has it open, or
// a file is damaged), skips blocks that it cannot read, and treats a directory without
// the file CURRENT as empty. So the whole replica is read once before Mesos opens it,
// with the LevelDB inside libmesos.
std::string replicaProblem(const std::string& path);

} // namespace overlay {

#endif // OVERLAY_REPLICA_HPP
