// The manifests of the two modules, which Mesos looks up in the library.

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
    "mesos-master-readonly",
    {"master"}};
const overlay::Role AGENT = {
    "overlay-agent",
    mo_agent_new,
    "mesos-agent-readwrite",
    "mesos-agent-readonly",
    // In a Mesos master, which does not authenticate for agents, the module waits for that.
    {"slave(1)", "master"}};

Anonymous* create(const overlay::Role& role, const Parameters& parameters)
{
  if ((mo_abi_version() >> 16) != (MO_ABI_VERSION >> 16)) {
    overlay::log(MO_ERROR, std::string(role.id) + ": the C++ shim and the Rust library have different ABI versions");
    return nullptr;
  }
  mo_set_logger(overlay::overlayLog, nullptr);
  if (!overlay::processLayoutMatches()) {
    return nullptr;
  }
  overlay::Process::Parameters pairs;
  for (int i = 0; i < parameters.parameter_size(); i++) {
    const mesos::Parameter& parameter = parameters.parameter(i);
    pairs.push_back(mo_pair{
        overlay::lend(parameter.key()), overlay::lend(parameter.value())});
  }
  if (!overlay::Process::start(role, pairs)) {
    return nullptr;
  }
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

// rustc hides every symbol of a cdylib that Rust does not define. So src/ffi/manifest.rs
// defines the symbols as uninitialised memory, and the manifests are constructed there
// when the library is loaded, before Mesos looks them up.
extern "C" {
extern unsigned char com_mesosphere_mesos_OverlayMasterManager[64];
extern unsigned char com_mesosphere_mesos_OverlayAgentManager[64];
}

static_assert(sizeof(Manifest) <= 64, "a manifest fits into the memory that Rust reserves");
static_assert(alignof(Manifest) <= 16, "a manifest fits into the memory that Rust reserves");

__attribute__((constructor)) static void installManifests()
{
  const char* author = "The mesos-overlay developers";
  const char* email = "maintainers@mesos-overlay.invalid";
  new (com_mesosphere_mesos_OverlayMasterManager) Manifest(
      MESOS_MODULE_API_VERSION,
      MESOS_VERSION,
      author,
      email,
      "Allocates subnets of the overlay networks to the agents.",
      overlay::compatible,
      createMaster);
  new (com_mesosphere_mesos_OverlayAgentManager) Manifest(
      MESOS_MODULE_API_VERSION,
      MESOS_VERSION,
      author,
      email,
      "Connects this agent's host to the overlay networks.",
      overlay::compatible,
      createAgent);
}
