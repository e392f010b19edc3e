// Test of the file system under the log.
#ifndef OVERLAY_DISK_HPP
#define OVERLAY_DISK_HPP

#include <stddef.h>

#include <string>

namespace overlay {

// Returns the reason why `size` bytes cannot be written to the directory `path` (or beside it
// while it does not exist), with the way out. Empty: they can be written, or the reason has
// nothing to do with the disk. Writes one block at most. Blocks as long as the disk does.
//
// Mesos does not answer a write that the replica could not do, and LevelDB tells nobody why.
std::string diskProblem(const std::string& path, size_t size);

// Returns the reason why `size` bytes have no space below `path`, by the file system's statistics
// alone, with the way out. Empty: they have. Writes nothing, and does not find a disk that fails.
std::string lackOfSpace(const std::string& path, size_t size);

} // namespace overlay {

#endif // OVERLAY_DISK_HPP
