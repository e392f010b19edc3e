// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_MODULE_ANONYMOUS_HPP
#define MESOS_SUBSET_MESOS_MODULE_ANONYMOUS_HPP

#include <mesos/mesos.hpp>
#include <mesos/module.hpp>

namespace mesos {
namespace modules {

class Anonymous
{
public:
  Anonymous() {}
  virtual ~Anonymous() {}
};

template <>
struct Module<Anonymous> : ModuleBase
{
  Module(
      const char* _moduleApiVersion,
      const char* _mesosVersion,
      const char* _authorName,
      const char* _authorEmail,
      const char* _description,
      bool (*_compatible)(),
      Anonymous* (*_create)(const Parameters& parameters))
    : ModuleBase{
          _moduleApiVersion,
          _mesosVersion,
          "Anonymous",
          _authorName,
          _authorEmail,
          _description,
          _compatible},
      create(_create) {}

  Anonymous* (*create)(const Parameters& parameters);
};

} // namespace modules {
} // namespace mesos {

#endif
