// The one process class of both modules.
#ifndef OVERLAY_PROCESS_HPP
#define OVERLAY_PROCESS_HPP

#include <stdint.h>

#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "leader.hpp"
#include "mesos.hpp"
#include "metrics.hpp"
#include "mesos_overlay.h"
#include "storage.hpp"

namespace overlay {

// What makes an overlay-master differ from an overlay-agent for the shim.
struct Role
{
  const char* id;
  mo_result (*create)(const mo_options*, mo_node**);

  // Mesos's authentication realms for endpoints that change something, and for those
  // that tell of the state.
  const char* readwrite;
  const char* readonly;
};

// Turns what libprocess delivers into calls of the C ABI, and effects into calls
// of libprocess. Decides nothing.
//
// libprocess lets one event at a time into a process, on any of its threads, which
// is just what the ABI asks for. Everything asynchronous comes back as an event.
class Process : public process::ProcessBase
{
public:
  typedef std::vector<mo_pair> Parameters;

  // A process to be spawned, unmanaged: it is there as long as Mesos. NULL if the
  // configuration cannot be used; the log says why.
  static Process* create(const Role& role, const Parameters& parameters);

  // Waits until it is initialized, and so has opened its replica of the log, but not
  // for ever.
  void await() const;

protected:
  void initialize() override;
  void finalize() override;
  void exited(const process::UPID& pid) override;

  // Raw: the names of messages and the paths of requests are the library's matter.
  void consume(process::MessageEvent&& event) override;
  void consume(process::HttpEvent&& event) override;

  using process::ProcessBase::consume;

private:
  typedef process::http::Response Response;
  typedef process::Promise<Response> Promise;
  typedef std::chrono::steady_clock Clock;

  explicit Process(const Role& role);

  // Announces the endpoints, for authentication and Mesos's /help.
  void route();
  void route(const mo_endpoint& endpoint);
  bool isRouted(const std::string& path) const;
  process::Future<Response> request(const process::http::Request& request);
  void request(
      const process::http::Request& request, std::unique_ptr<Promise>&& promise);

  // Takes effects until there are none, sets the timer, and shows the metrics.
  void drain();
  // Now, or within a second. False: the node panicked, and is to be drained again.
  bool showMetrics();
  bool takeEffects();
  void perform(const mo_effect& effect);
  void respond(const mo_respond& respond);
  static Response stream(const mo_respond& respond);
  void schedule(uint64_t deadlineMs);

  static void wake(void* self);

  const Role role_;
  std::promise<void> initialized_;
  const std::future<void> isInitialized_;
  const process::UPID self_;
  mo_node* node_ = nullptr;

  Leader leader_;
  Storage storage_;
  Metrics metrics_;

  // By whole path: whether those below belong to it, too.
  std::map<std::string, bool> routes_;
  uint64_t requests_ = 0;
  struct Open
  {
    std::unique_ptr<Promise> promise;
    // The answer may come in chunks.
    bool chunked;
  };
  std::map<uint64_t, Open> open_;

  Option<process::Timer> timer_;
  Clock::time_point due_;

  // When the metrics may be shown again, and whether a timer waits for that.
  Clock::time_point showAt_;
  bool showing_ = false;
};

} // namespace overlay {

#endif // OVERLAY_PROCESS_HPP
