// Declarations of what the launcher uses of Mesos 1.11.0 beyond what the shim
// does (cpp_shim/mesos_subset has that): the parts that its own main programs are
// put together from. Objects whose layout only Mesos knows are declared with room
// to spare and constructed by Mesos's own, exported constructors.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <mesos/log/log.hpp>
#include <mesos/master/detector.hpp>
#include <mesos/mesos.hpp>
#include <mesos/module.hpp>
#include <mesos/module/anonymous.hpp>
#include <mesos/state/log.hpp>
#include <mesos/state/state.hpp>
#include <process/pid.hpp>
#include <process/process.hpp>
#include <stout/duration.hpp>
#include <stout/option.hpp>
#include <stout/try.hpp>

// Room for an object that only Mesos knows. The largest is the agent, with
// about 3 kB.
template <size_t Bytes = 1 << 15> struct Room { alignas(8) char bytes[Bytes]; };

struct Nothing {};

namespace google {
void InitGoogleLogging(const char* argv0);
}

namespace fLB {
extern bool FLAGS_logtostderr;
}

namespace flags {
template <typename T> Try<T> parse(const std::string& value);

struct Warning { std::string message; };
struct Warnings { std::vector<Warning> warnings; };

class FlagsBase
{
public:
  FlagsBase();
  virtual ~FlagsBase();
  virtual Try<Warnings> load(const std::string& prefix);
  virtual Try<Warnings> load(
      const Option<std::string>& prefix, int argc, const char* const* argv, bool unknowns, bool duplicates);
  virtual Try<Warnings> load(
      const Option<std::string>& prefix, int* argc, char*** argv, bool unknowns, bool duplicates);
  virtual Try<Warnings> load(
      const std::map<std::string, Option<std::string>>& values, bool unknowns,
      const Option<std::string>& prefix);
  virtual Try<Warnings> load(
      const std::map<std::string, std::string>& values, bool unknowns, const Option<std::string>& prefix);

  // Members, and exactly so many: a base without any would share its vtable pointer
  // with what derives from it, and Subcommand has one of these inside.
  bool help;
  char members[168];
};
static_assert(sizeof(FlagsBase) == 184, "as in Mesos 1.11.0");
} // namespace flags

class Subcommand
{
public:
  explicit Subcommand(const std::string& name) : name_(name) {}
  virtual ~Subcommand() {}
  virtual int execute() = 0;
  virtual flags::FlagsBase* getFlags() = 0;

private:
  std::string name_;
  flags::FlagsBase flags_;
};

namespace process {
bool initialize(
    const Option<std::string>& delegate = None(),
    const Option<std::string>& readwriteAuthenticationRealm = None(),
    const Option<std::string>& readonlyAuthenticationRealm = None());
void finalize(bool finalize_wsa = false);

bool wait(const UPID& pid, const Duration& duration = Seconds(-1));

template <typename T> class Process : public virtual ProcessBase {};
class RateLimiter;
template <typename T> class Owned { std::shared_ptr<void> data; };

namespace network {
namespace unix { class Address; }
namespace internal { template <typename Address> class Socket { std::shared_ptr<void> impl; }; }
} // namespace network

namespace ID { std::string generate(const std::string& prefix = ""); }
} // namespace process

template <typename T> class ProtobufProcess : public process::Process<T> {};

namespace mesos {
class Authorizer;
class SecretGenerator;
class Modules { public: Modules(); ~Modules(); Room<4096> room; };

class SecretResolver
{
public:
  static Try<SecretResolver*> create(const Option<std::string>& module);
};

namespace allocator {
struct Allocator { virtual ~Allocator() {} };
} // namespace allocator

namespace master { namespace contender {
class MasterContender
{
public:
  static Try<MasterContender*> create(
      const Option<std::string>& zk, const Option<std::string>& module,
      const Option<Duration>& zkSessionTimeout);
};
}} // namespace master::contender

namespace modules {
class ModuleManager
{
public:
  static Try<Nothing> loadManifest(const Modules& modules);
  template <typename T> static std::vector<std::string> find();
  template <typename T>
  static Try<T*> create(const std::string& name, const Option<Parameters>& parameters);
};
} // namespace modules

namespace slave {
class ResourceEstimator
{
public:
  static Try<ResourceEstimator*> create(const Option<std::string>& module);
};

class QoSController
{
public:
  static Try<QoSController*> create(const Option<std::string>& module);
};
} // namespace slave

namespace internal {
class PendingFutureTracker;
struct VersionProcess : process::Process<VersionProcess>, Room<> { VersionProcess(); };
struct Files : Room<> { Files(const Option<std::string>& realm, const Option<Authorizer*>& authorizer); };

namespace logging {
class Flags : public virtual flags::FlagsBase { public: bool quiet; };
} // namespace logging

namespace local {
// Only these two are read; the rest comes from the environment.
struct Flags { void* vtable; std::string work_dir; int num_slaves; };
process::UPID launch(const Flags& flags, allocator::Allocator* allocator);
} // namespace local

namespace master {
namespace allocator {
class DRFSorter;
template <typename RoleSorter, typename FrameworkSorter> class HierarchicalAllocatorProcess;

// Derived from Allocator alone, so a pointer to it is one to that.
template <typename Process> struct MesosAllocator : Room<> { MesosAllocator(); };
} // namespace allocator

class Flags : public virtual logging::Flags { public: Flags(); Room<> room; };
struct Registrar : Room<>
{
  Registrar(const Flags& flags, mesos::state::State* state, const Option<std::string>& realm);
};

class Master : public ProtobufProcess<Master>
{
public:
  Master(
      mesos::allocator::Allocator* allocator, Registrar* registrar, Files* files,
      mesos::master::contender::MasterContender* contender,
      mesos::master::detector::MasterDetector* detector, const Option<Authorizer*>& authorizer,
      const Option<std::shared_ptr<process::RateLimiter>>& agentRemovalLimiter, const Flags& flags);
  Room<> room;
};
} // namespace master

namespace slave {
class VolumeGidManager;
class CSIServer;

class Flags : public virtual logging::Flags { public: Flags(); Room<> room; };
struct Fetcher : Room<> { explicit Fetcher(const Flags& flags); };
struct GarbageCollector : Room<> { explicit GarbageCollector(const std::string& workDir); };
struct TaskStatusUpdateManager : Room<> { explicit TaskStatusUpdateManager(const Flags& flags); };

struct Containerizer
{
  static Try<Containerizer*> create(
      const Flags& flags, bool local, Fetcher* fetcher, GarbageCollector* gc, SecretResolver* secretResolver,
      VolumeGidManager* volumeGidManager, PendingFutureTracker* futureTracker, CSIServer* csiServer);
};

// Two of the three subcommands of mesos-containerizer; `mount` is not in the binary.
class MesosContainerizerLaunch : public Subcommand
{
public:
  static const std::string NAME;
  struct Flags : public virtual flags::FlagsBase { Flags(); Room<4096> room; } flags;
  MesosContainerizerLaunch() : Subcommand(NAME) {}
  int execute() override;
  flags::FlagsBase* getFlags() override;
};

class NetworkCniIsolatorSetup : public Subcommand
{
public:
  static const char* NAME;
  struct Flags : public virtual flags::FlagsBase { Flags(); Room<4096> room; } flags;
  NetworkCniIsolatorSetup() : Subcommand(NAME) {}
  int execute() override;
  flags::FlagsBase* getFlags() override;
};

class Slave : public ProtobufProcess<Slave>
{
public:
  Slave(
      const std::string& id, const Flags& flags, mesos::master::detector::MasterDetector* detector,
      Containerizer* containerizer, Files* files, GarbageCollector* gc,
      TaskStatusUpdateManager* statusUpdateManager, mesos::slave::ResourceEstimator* resourceEstimator,
      mesos::slave::QoSController* qosController, SecretGenerator* secretGenerator,
      VolumeGidManager* volumeGidManager, PendingFutureTracker* futureTracker,
      process::Owned<CSIServer>&& csiServer,
      const Option<process::network::internal::Socket<process::network::unix::Address>>& executorSocket,
      const Option<Authorizer*>& authorizer);
  Room<> room;
};
} // namespace slave
} // namespace internal
} // namespace mesos
