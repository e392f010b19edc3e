// Real Mesos masters and agents out of the release's library, for tests and the demo.
//
//   mesos-launcher master        a master; with MESOS_ZK in the environment one that
//                                has to be elected there
//   mesos-launcher agent         an agent
//   mesos-launcher variable DIRECTORY NAME
//                                prints what a replica of the log has under this name, as
//                                any program reads it that uses Mesos's storage
//   mesos-containerizer launch|network-cni-setup …
//                                what an agent starts its containers with
//
// Settings are Mesos's own: MESOS_* and LIBPROCESS_* in the environment. The
// release's package has no main programs; this does what theirs do, less what
// tests have no use for (TLS, firewalls, secrets).
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <iostream>
#include <iterator>
#include <set>

#include "internals.hpp"

using std::string;

namespace agent = mesos::internal::slave;

// Makes the compiler forget what object this is: where its virtual bases are is
// then looked up in the object's own vtable, and not taken from our declaration.
template <typename T> static T* opaque(T* object)
{
  asm("" : "+r"(object));
  return object;
}

template <typename T> static T orExit(const char* what, const Try<T>& result)
{
  if (result.isError()) {
    std::cerr << "mesos-launcher: " << what << ": " << result.error() << std::endl;
    exit(EXIT_FAILURE);
  }
  return result.get();
}

static Option<string> environment(const char* name)
{
  const char* value = getenv(name);
  return value == nullptr ? Option<string>(None()) : Option<string>(string(value));
}

static string required(const char* name)
{
  const Option<string> value = environment(name);
  if (value.isSome()) return value.get();
  std::cerr << "mesos-launcher: " << name << " is not set" << std::endl;
  exit(EXIT_FAILURE);
}

static void loadManifest(const string& what, const string& json)
{
  // Never destroyed: modules live as long as the process.
  const auto* modules = new Try<mesos::Modules>(flags::parse<mesos::Modules>(json));
  if (modules->isError()) {
    std::cerr << "mesos-launcher: " << what << ": " << modules->error() << std::endl;
    exit(EXIT_FAILURE);
  }
  orExit(what.c_str(), mesos::modules::ModuleManager::loadManifest(modules->get()));
}

// Returns the paths of a directory's files in alphabetical order, as Mesos reads them.
static std::set<string> filesOf(const string& directory)
{
  std::set<string> files;
  DIR* entries = opendir(directory.c_str());
  if (entries == nullptr) {
    std::cerr << "mesos-launcher: " << directory << ": " << strerror(errno) << std::endl;
    exit(EXIT_FAILURE);
  }
  while (const dirent* entry = readdir(entries))
    if (entry->d_name[0] != '.') files.insert(directory + "/" + entry->d_name);
  closedir(entries);
  return files;
}

static void loadModulesDir()
{
  const Option<string> directory = environment("MESOS_MODULES_DIR");
  if (directory.isNone()) return;
  for (const string& file : filesOf(directory.get())) {
    std::ifstream content(file);
    loadManifest(file, string(std::istreambuf_iterator<char>(content), {}));
  }
}

static void loadModules()
{
  using mesos::modules::Anonymous;
  using mesos::modules::ModuleManager;
  const Option<string> json = environment("MESOS_MODULES");
  if (json.isSome()) loadManifest("MESOS_MODULES", json.get());
  loadModulesDir();
  for (const string& name : ModuleManager::find<Anonymous>())
    orExit("MESOS_MODULES", ModuleManager::create<Anonymous>(name, None()));
}

// The registry and the election are in ZooKeeper, as with `mesos-master --zk`.
static int runElectedMaster(const string& zk)
{
  using mesos::internal::master::allocator::DRFSorter;
  using Allocator = mesos::internal::master::allocator::MesosAllocator<
      mesos::internal::master::allocator::HierarchicalAllocatorProcess<DRFSorter, DRFSorter>>;
  using mesos::master::contender::MasterContender;
  using mesos::master::detector::MasterDetector;
  const Duration session = Seconds(6); // on a busy machine a shorter one ends by itself
  auto* flags = opaque(new mesos::internal::master::Flags());
  orExit("flags", static_cast<flags::FlagsBase*>(flags)->load("MESOS_"));
  process::initialize(string("master"), string("mesos-master-readwrite"), string("mesos-master-readonly"));
  process::spawn(opaque(new mesos::internal::VersionProcess()));
  loadModules();

  const string workDir = required("MESOS_WORK_DIR");
  if (mkdir(workDir.c_str(), 0755) != 0 && errno != EEXIST) {
    std::cerr << "mesos-launcher: MESOS_WORK_DIR: " << workDir << ": " << strerror(errno) << std::endl;
    exit(EXIT_FAILURE);
  }
  // zk://[user:password@]host:port[,host:port]/path
  const string rest = zk.substr(strlen("zk://"));
  const string authority = rest.substr(0, rest.find('/'));
  const string path = rest.substr(authority.size());
  const size_t at = authority.rfind('@');
  const string servers = at == string::npos ? authority : authority.substr(at + 1);
  Option<zookeeper::Authentication> login = None();
  if (at != string::npos) {
    login = Option<zookeeper::Authentication>(
        zookeeper::Authentication("digest", authority.substr(0, at)));
  }
  auto* log = new mesos::log::Log(
      atoi(required("MESOS_QUORUM").c_str()), workDir + "/replicated_log", servers, session,
      path + "/log_replicas", login, true, string("registrar/"));
  auto* state = new mesos::state::State(new mesos::state::LogStorage(log));
  auto* allocator = reinterpret_cast<mesos::allocator::Allocator*>(opaque(new Allocator()));
  auto* contender = orExit("MESOS_ZK", MasterContender::create(zk, None(), session));
  auto* detector = orExit("MESOS_ZK", MasterDetector::create(zk, None(), session));
  auto* master = opaque(new mesos::internal::master::Master(
      allocator, new mesos::internal::master::Registrar(*flags, state, None()),
      new mesos::internal::Files(None(), None()), contender, detector, None(), None(), *flags));
  process::wait(process::spawn(master));
  return EXIT_SUCCESS;
}

static int runMaster()
{
  const Option<string> zk = environment("MESOS_ZK");
  if (zk.isSome()) return runElectedMaster(zk.get());
  // local::launch is a master and so many agents in one process: here none.
  const mesos::internal::local::Flags flags{nullptr, required("MESOS_WORK_DIR"), 0};
  unsetenv("MESOS_WORK_DIR"); // else it is refused as a flag given twice
  process::initialize(string("master"), string("mesos-master-readwrite"), string("mesos-master-readonly"));
  loadModulesDir(); // launch() has only the modules of MESOS_MODULES, and creates all
  process::wait(mesos::internal::local::launch(flags, nullptr));
  return EXIT_SUCCESS;
}

static int runAgent()
{
  auto* flags = opaque(new agent::Flags());
  orExit("flags", static_cast<flags::FlagsBase*>(flags)->load("MESOS_"));
  const string id = process::ID::generate("slave");
  process::initialize(id, string("mesos-agent-readwrite"), string("mesos-agent-readonly"));
  process::spawn(opaque(new mesos::internal::VersionProcess()));
  loadModules();

  auto* fetcher = new agent::Fetcher(*flags);
  auto* gc = new agent::GarbageCollector(required("MESOS_WORK_DIR"));
  auto* secrets = orExit("secret resolver", mesos::SecretResolver::create(None()));
  auto* containerizer = orExit(
      "containerizer",
      agent::Containerizer::create(*flags, false, fetcher, gc, secrets, nullptr, nullptr, nullptr));
  auto* detector = orExit(
      "MESOS_MASTER",
      mesos::master::detector::MasterDetector::create(required("MESOS_MASTER"), None(), None()));
  auto* estimator = orExit("resource estimator", mesos::slave::ResourceEstimator::create(None()));
  auto* qos = orExit("QoS controller", mesos::slave::QoSController::create(None()));
  auto* slave = opaque(new agent::Slave(
      id, *flags, detector, containerizer, new mesos::internal::Files(None(), None()), gc,
      new agent::TaskStatusUpdateManager(*flags), estimator, qos, nullptr, nullptr, nullptr,
      process::Owned<agent::CSIServer>(), None(), None()));
  process::wait(process::spawn(slave));
  process::finalize(true); // as Mesos's main does: all processes end, those of modules too
  return EXIT_SUCCESS;
}

static int printVariable(const string& directory, const string& name)
{
  process::initialize();
  auto* log = new mesos::log::Log(1, directory, std::set<process::UPID>());
  auto* state = new mesos::state::State(new mesos::state::LogStorage(log));
  std::promise<int> promise;
  state->fetch(name).onAny([&](const process::Future<mesos::state::Variable>& future) {
    if (future.isReady()) {
      std::cout << future.get().value() << std::flush;
    } else {
      std::cerr << "mesos-launcher: " << directory << " cannot be read" << std::endl;
    }
    promise.set_value(future.isReady() ? EXIT_SUCCESS : EXIT_FAILURE);
  });
  _exit(promise.get_future().get()); // libprocess's threads do not end
}

static int runContainerizer(int argc, char** argv)
{
  const string name = argc > 1 ? argv[1] : "";
  Subcommand* command = nullptr;
  if (name == agent::MesosContainerizerLaunch::NAME)
    command = opaque(new agent::MesosContainerizerLaunch());
  else if (name == agent::NetworkCniIsolatorSetup::NAME)
    command = opaque(new agent::NetworkCniIsolatorSetup());
  if (command == nullptr) {
    std::cerr << "mesos-containerizer: there is no subcommand \"" << name << "\"" << std::endl;
    return EXIT_FAILURE;
  }
  const Option<string> prefix = string("MESOS_CONTAINERIZER_");
  orExit("flags", command->getFlags()->load(prefix, argc - 1, argv + 1, false, false));
  return command->execute();
}

int main(int argc, char** argv)
{
  const string program = argv[0];
  const string role = argc == 2 ? argv[1] : "";
  if (program.substr(program.rfind('/') + 1) == "mesos-containerizer") return runContainerizer(argc, argv);
  const bool variable = argc == 4 && argv[1] == string("variable");
  if (role != "master" && role != "agent" && !variable) {
    std::cerr << "usage: mesos-launcher master|agent|variable DIRECTORY NAME" << std::endl;
    return 2;
  }
  fLB::FLAGS_logtostderr = true; // in the environment glog would look for it too early
  google::InitGoogleLogging(argv[0]);
  signal(SIGPIPE, SIG_IGN);
  if (variable) return printVariable(argv[2], argv[3]);
  return role == "master" ? runMaster() : runAgent();
}
