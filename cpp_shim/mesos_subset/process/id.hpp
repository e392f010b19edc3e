// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_ID_HPP
#define MESOS_SUBSET_PROCESS_ID_HPP

#include <string>

namespace process {
namespace ID {

// Returns "prefix(N)", where N counts from 1 for each prefix.
std::string generate(const std::string& prefix);

} // namespace ID {
} // namespace process {

#endif
