// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_MODULE_MODULE_HPP
#define MESOS_SUBSET_MESOS_MODULE_MODULE_HPP

#define MESOS_MODULE_API_VERSION "2"

namespace mesos {
namespace modules {

struct ModuleBase
{
  const char* moduleApiVersion;
  const char* mesosVersion;
  const char* kind;
  const char* authorName;
  const char* authorEmail;
  const char* description;
  bool (*compatible)();
};

template <typename T>
struct Module;

} // namespace modules {
} // namespace mesos {

#endif
