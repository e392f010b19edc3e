// The libprocess process of both modules.
#ifndef OVERLAY_PROCESS_HPP
#define OVERLAY_PROCESS_HPP

#include <stdint.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "leader.hpp"
#include "mesos.hpp"
#include "metrics.hpp"
#include "mesos_overlay.h"
#include "storage.hpp"
#include "thread.hpp"

namespace overlay {

// The differences between overlay-master and overlay-agent in the shim.
struct Role
{
  const char* id;
  mo_result (*create)(const mo_options*, mo_node**);

  // Mesos's authentication realms of endpoints that write, and of endpoints that read.
  const char* readwrite;
  const char* readonly;

  // Ids of the processes of Mesos that install authenticators for these realms. One of them
  // exists.
  std::vector<std::string> authenticating;
};

// Translates libprocess events into calls of the C ABI, and effects into calls of
// libprocess. Makes no decisions.
//
// libprocess delivers one event at a time to a process, on any of its threads, as the ABI
// demands. Results of asynchronous calls arrive as events, too.
class Process : public process::ProcessBase
{
public:
  typedef std::vector<mo_pair> Parameters;

  // Starts a process, which lives as long as Mesos, and waits until it is initialized, at
  // most 30 s. Returns false if the configuration is invalid, or this Mesos has a process
  // of the role already; the reason is in the log.
  static bool start(const Role& role, const Parameters& parameters);

  ~Process() override;

protected:
  void initialize() override;
  void finalize() override;
  void exited(const process::UPID& pid) override;

  // Overridden so that the library, and not libprocess, dispatches messages by name and
  // requests by path.
  void consume(process::MessageEvent&& event) override;
  void consume(process::HttpEvent&& event) override;

  using process::ProcessBase::consume;

private:
  typedef process::http::Response Response;
  typedef process::Promise<Response> Promise;
  typedef std::chrono::steady_clock Clock;

  explicit Process(const Role& role);

  // Creates the node. Returns false if the configuration is invalid.
  bool configure(const Parameters& parameters);

  // Spawns the process, unmanaged. Returns false if another one has its id.
  bool spawn();

  // Registers the endpoints with libprocess, for authentication and Mesos's /help.
  void addRoutes();
  void addRoute(const mo_endpoint& endpoint);

  struct Route
  {
    // Paths below it belong to it, too.
    bool includesSubpaths;
    // True if the endpoint has a realm.
    bool authenticated;
  };

  // Returns the route of an endpoint that libprocess finds for this path, or NULL. libprocess
  // cuts components off the end of a path until it finds a handler.
  const Route* findRoute(const std::string& path) const;

  // Looks until Mesos's own process has started, and with it the authentication of requests.
  void awaitMesos();

  process::Future<Response> request(const process::http::Request& request);
  void request(
      const process::http::Request& request, std::unique_ptr<Promise>&& promise);

  // Carries out all effects, sets the timer, and publishes the metrics.
  void runUntilIdle();
  // Publishes the metrics now, or within a second. Returns false if the node panicked, and
  // runUntilIdle() must run again.
  bool publishMetrics();
  // Carries out all effects. Returns false if the node does not give any.
  bool runEffects();
  void carryOut(const mo_effect& effect);
  void respond(const mo_respond& respond);
  static Response toResponse(const mo_respond& respond, bool isHead);
  // Schedules a call of mo_node_tick.
  void schedule(uint64_t deadlineMs);

  // The `wake` callback of mo_options.
  static void wake(void* self);

  const Role role_;
  Flag initialized_;
  const process::UPID self_;
  mo_node* node_ = nullptr;

  // The node is about to be started. Before that there is nothing to wake the process for,
  // and its id may be that of another one.
  std::atomic<bool> awake_;

  LeaderDetector leader_;
  Storage storage_;
  Metrics metrics_;

  // By full path.
  std::map<std::string, Route> routes_;

  // Mesos has installed its HTTP authenticators, if it has any.
  bool mesosStarted_ = false;

  uint64_t lastRequestId_ = 0;
  struct OpenRequest
  {
    std::unique_ptr<Promise> promise;
    bool isHead;
  };
  // By id.
  std::map<uint64_t, OpenRequest> openRequests_;

  Option<process::Timer> timer_;
  Clock::time_point due_;

  // Earliest time at which the metrics are published again, and whether a timer is set
  // for it.
  Clock::time_point publishAt_;
  bool publishScheduled_ = false;
};

} // namespace overlay {

#endif // OVERLAY_PROCESS_HPP
