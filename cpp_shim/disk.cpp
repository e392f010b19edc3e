#include "disk.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

namespace overlay {

// Writes `size` bytes to the disk. Returns the error number; 0 if there was no error.
static int writeAll(int file, size_t size)
{
  const std::string block(64 * 1024, 'x');
  while (size > 0) {
    const ssize_t written = write(file, block.data(), std::min(size, block.size()));
    if (written < 0 && errno != EINTR) {
      return errno;
    }
    size -= written > 0 ? static_cast<size_t>(written) : 0;
  }
  return fsync(file) == 0 ? 0 : errno;
}

// Writes a file that has no name any more, so that nothing is left of it.
static int tryToWrite(const std::string& path, size_t size)
{
  struct stat status;
  const bool exists = stat(path.c_str(), &status) == 0;
  const std::string name = path + (exists ? "/" : ".") + "write-test";
  const int file =
    open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) {
    return errno;
  }
  unlink(name.c_str());
  const int error = writeAll(file, size);
  close(file);
  return error;
}

// Returns the sentence for an error; empty if it has nothing to do with the disk.
static std::string sentence(const std::string& path, int error)
{
  const std::string reason = strerror(error);
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "the file system of " + path + " is full (" + reason + "); free some space";
    case EROFS:
      return "the file system of " + path + " is read-only (" + reason +
        "); look for errors of the disk in the kernel's log, and mount it writable";
    case EIO:
      return "the disk of " + path + " fails (" + reason +
        "); look for its errors in the kernel's log";
    case EACCES:
    case EPERM:
      return "Mesos's user may not write to " + path + " (" + reason + ")";
    default:
      return "";
  }
}

std::string diskProblem(const std::string& path, size_t size)
{
  const std::string lack = lackOfSpace(path, size);
  if (!lack.empty()) {
    return lack;
  }
  // One block: the test itself must not fill the disk.
  const size_t block = 4096;
  return sentence(path, tryToWrite(path, std::min(size, block)));
}

std::string lackOfSpace(const std::string& path, size_t size)
{
  struct statvfs status;
  const std::string parent = path.substr(0, path.rfind('/') + 1);
  if (statvfs(path.c_str(), &status) != 0 &&
      (parent.empty() || statvfs(parent.c_str(), &status) != 0)) {
    return "";
  }
  if ((status.f_flag & ST_RDONLY) != 0) {
    return sentence(path, EROFS);
  }
  // Some blocks are root's only.
  const uint64_t blocks = geteuid() == 0 ? status.f_bfree : status.f_bavail;
  return blocks * status.f_frsize < size ? sentence(path, ENOSPC) : "";
}

} // namespace overlay {
