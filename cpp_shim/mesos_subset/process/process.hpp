// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_PROCESS_HPP
#define MESOS_SUBSET_PROCESS_PROCESS_HPP

#include <stddef.h>

#include <string>

#include <process/event.hpp>
#include <process/future.hpp>
#include <process/http.hpp>
#include <process/pid.hpp>

#include <stout/lambda.hpp>
#include <stout/option.hpp>

namespace process {

// An actor.
class ProcessBase : public EventConsumer
{
public:
  explicit ProcessBase(const std::string& id = "");
  ~ProcessBase() override;

protected:
  virtual void serve(Event&& event) { std::move(event).consume(this); }

  void consume(MessageEvent&& event) override;
  void consume(DispatchEvent&& event) override;
  void consume(HttpEvent&& event) override;
  void consume(ExitedEvent&& event) override;
  void consume(TerminateEvent&& event) override;

  virtual void initialize() {}
  virtual void finalize() {}
  virtual void exited(const UPID&) {}
  virtual void lost(const UPID&) {}

  enum class RemoteConnection { REUSE, RECONNECT };

  UPID link(
      const UPID& pid,
      const RemoteConnection remote = RemoteConnection::REUSE);

  typedef lambda::function<Future<http::Response>(const http::Request&)>
    HttpRequestHandler;

  typedef lambda::function<Future<http::Response>(
      const http::Request&, const Option<http::authentication::Principal>&)>
    AuthenticatedHttpRequestHandler;

  struct RouteOptions
  {
    RouteOptions() : requestStreaming(false) {}
    bool requestStreaming;
  };

  void route(
      const std::string& name,
      const Option<std::string>& help,
      const HttpRequestHandler& handler,
      const RouteOptions& options = RouteOptions());

  void route(
      const std::string& name,
      const std::string& realm,
      const Option<std::string>& help,
      const AuthenticatedHttpRequestHandler& handler,
      const RouteOptions& options = RouteOptions());

private:
  friend struct subset_layout;

  ProcessBase(const ProcessBase&) = delete;
  ProcessBase& operator=(const ProcessBase&) = delete;

  // Apache Mesos 1.11.0 and ClusterD 0.9.0 use 416 bytes of it. ClusterD's sources since then use
  // 464, under the same MESOS_VERSION. No member is taken directly, so it need not be known
  // where each is, only that they fit (see processLayoutMatches() in ../../compatible.cpp).
  alignas(8) char room[1016];
};

UPID spawn(ProcessBase* process, bool manage = false);

void post(
    const UPID& from,
    const UPID& to,
    const std::string& name,
    const char* data = nullptr,
    size_t length = 0);

} // namespace process {

#endif
