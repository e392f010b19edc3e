// What Mesos finds in the library: the manifests of the two modules.

#include <string>

#include "compatible.hpp"
#include "mesos.hpp"
#include "mesos_overlay.h"
#include "process.hpp"
#include "text.hpp"

using mesos::Parameters;
using mesos::modules::Anonymous;

namespace {

const overlay::Role MASTER = {
    "overlay-master",
    mo_master_new,
    "mesos-master-readwrite",
    "mesos-master-readonly"};
const overlay::Role AGENT = {
    "overlay-agent",
    mo_agent_new,
    "mesos-agent-readwrite",
    "mesos-agent-readonly"};

Anonymous* create(const overlay::Role& role, const Parameters& parameters)
{
  if ((mo_abi_version() >> 16) != (MO_ABI_VERSION >> 16)) {
    overlay::log(MO_ERROR, std::string(role.id) + ": shim and library differ");
    return nullptr;
  }
  mo_set_logger(overlay::overlayLog, nullptr);
  if (!overlay::fits()) {
    return nullptr;
  }
  overlay::Process::Parameters pairs;
  for (int i = 0; i < parameters.parameter_size(); i++) {
    const mesos::Parameter& parameter = parameters.parameter(i);
    pairs.push_back(mo_pair{
        overlay::lend(parameter.key()), overlay::lend(parameter.value())});
  }
  overlay::Process* process = overlay::Process::create(role, pairs);
  if (process == nullptr) {
    return nullptr;
  }
  process::spawn(process);
  // If Mesos has not made its registry's replica yet it goes on to do so only now: two that
  // are made at the same time could change places from one start to the next (storage.cpp).
  process->await();
  return new Anonymous();
}

Anonymous* createMaster(const Parameters& parameters)
{
  return create(MASTER, parameters);
}

Anonymous* createAgent(const Parameters& parameters)
{
  return create(AGENT, parameters);
}

typedef mesos::modules::Module<Anonymous> Manifest;

} // namespace {

// rustc exports from the library what Rust defines, and hides everything else. So
// Rust (src/ffi/manifest.rs) lends the names and the room, and the manifests move
// in when the library is loaded, before Mesos looks.
extern "C" {
extern unsigned char com_mesosphere_mesos_OverlayMasterManager[64];
extern unsigned char com_mesosphere_mesos_OverlayAgentManager[64];
}

static_assert(sizeof(Manifest) <= 64, "a manifest fits in its room");
static_assert(alignof(Manifest) <= 16, "a manifest fits in its room");

__attribute__((constructor)) static void moveIn()
{
  const char* author = "The mesos-overlay developers";
  const char* email = "maintainers@mesos-overlay.invalid";
  new (com_mesosphere_mesos_OverlayMasterManager) Manifest(
      MESOS_MODULE_API_VERSION,
      MESOS_VERSION,
      author,
      email,
      "Gives every agent its share of the overlay networks.",
      overlay::compatible,
      createMaster);
  new (com_mesosphere_mesos_OverlayAgentManager) Manifest(
      MESOS_MODULE_API_VERSION,
      MESOS_VERSION,
      author,
      email,
      "Makes this agent's host part of the overlay networks.",
      overlay::compatible,
      createAgent);
}
