#include "process.hpp"

#include <algorithm>
#include <utility>

#include "text.hpp"

using process::Future;
using process::UPID;
using process::http::Request;

namespace overlay {

Process::Process(const Role& role)
  : process::ProcessBase(role.id),
    role_(role),
    self_(*this),
    awake_(false),
    leader_(
        self_,
        [this](const Option<mesos::MasterInfo>& info) {
          if (info.isSome()) {
            const std::string serialized = info.get().SerializeAsString();
            const mo_bytes bytes = lend(serialized);
            mo_node_leader(node_, &bytes);
          } else {
            mo_node_leader(node_, nullptr);
          }
          runUntilIdle();
        },
        [this](const std::string& reason) {
          mo_node_detect_failed(node_, lend(reason));
          runUntilIdle();
        }),
    storage_(
        self_,
        [this](uint64_t id, mo_outcome outcome, const std::string& detail) {
          mo_node_fetched(node_, id, outcome, lend(detail));
          runUntilIdle();
        },
        [this](uint64_t id, mo_outcome outcome, const std::string& detail) {
          mo_node_stored(node_, id, outcome, lend(detail));
          runUntilIdle();
        }) {}

Process::~Process()
{
  mo_node_free(node_);
}

bool Process::start(const Role& role, const Parameters& parameters)
{
  std::unique_ptr<Process> process(new Process(role));
  if (!process->configure(parameters)) {
    return false;
  }
  if (!process->spawn()) {
    log(MO_ERROR,
        std::string(role.id) + ": not created, because this Mesos has a process " + role.id +
          " already: create the module once in a process of Mesos");
    return false;
  }
  // It lives as long as Mesos.
  const Process* const spawned = process.release();
  // Mesos may create the replica of its own registry right after this. Two replicas that
  // are created at the same time could get each other's ids (storage.cpp).
  const int seconds = 30;
  if (!spawned->initialized_.wait(seconds)) {
    log(MO_WARNING,
        std::string(role.id) + ": has not started within " + std::to_string(seconds) +
          " s: the threads of this Mesos are busy");
  }
  return true;
}

bool Process::configure(const Parameters& parameters)
{
  mo_options options = mo_options();
  options.size = sizeof(options);
  options.parameters = parameters.data();
  options.parameter_count = parameters.size();
  options.wake = wake;
  options.wake_ctx = this;
  return role_.create(&options, &node_) == MO_OK;
}

bool Process::spawn()
{
  const UPID pid = process::spawn(this);
  const std::string& id = pid.id;
  return !id.empty();
}

void Process::initialize()
{
  addRoutes();
  awaitMesos();
  awake_ = true;
  mo_node_start(node_, lend(toString(self_)));
  runUntilIdle();
  initialized_.raise();
}

void Process::finalize()
{
  mo_node_free(node_);
  node_ = nullptr;
}

void Process::exited(const UPID& pid)
{
  mo_node_exited(node_, lend(toString(pid)));
  runUntilIdle();
}

void Process::consume(process::MessageEvent&& event)
{
  const process::Message& message = event.message;
  const std::string from = toString(message.from);
  mo_node_message(node_, lend(from), lend(message.name), lend(message.body));
  runUntilIdle();
}

// ---------------------------------------------------------------------- HTTP

static std::string withoutTrailingSlash(std::string path)
{
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path;
}

void Process::addRoutes()
{
  mo_endpoint endpoint = mo_endpoint();
  endpoint.size = sizeof(endpoint);
  for (size_t i = 0; mo_node_endpoint(node_, i, &endpoint) == MO_OK; i++) {
    addRoute(endpoint);
  }
}

void Process::addRoute(const mo_endpoint& endpoint)
{
  const std::string path = copy(endpoint.path);
  const Option<std::string> help(copy(endpoint.help));
  const bool writes = (endpoint.flags & MO_ENDPOINT_WRITES) != 0;
  const bool reads = (endpoint.flags & MO_ENDPOINT_READS) != 0;
  routes_[std::string("/") + role_.id + path] =
    Route{(endpoint.flags & MO_ENDPOINT_TREE) != 0, writes || reads};
  if (writes || reads) {
    const AuthenticatedHttpRequestHandler handler =
      [this](
          const Request& r,
          const Option<process::http::authentication::Principal>&) {
        return request(r);
      };
    const std::string realm = writes ? role_.readwrite : role_.readonly;
    ProcessBase::route(path, realm, help, handler);
  } else {
    const HttpRequestHandler handler =
      [this](const Request& r) { return request(r); };
    ProcessBase::route(path, help, handler);
  }
}

const Process::Route* Process::findRoute(const std::string& path) const
{
  for (size_t end = path.size(); end > 0 && end != std::string::npos;
       end = path.rfind('/', end - 1)) {
    const auto route = routes_.find(path.substr(0, end));
    if (route != routes_.end()) {
      const bool matches = end == path.size() || route->second.includesSubpaths;
      return matches ? &route->second : nullptr;
    }
  }
  return nullptr;
}

void Process::awaitMesos()
{
  if (mesosStarted_) {
    return;
  }
  // A process runs nothing before its initialize(), in which Mesos's processes install
  // their authenticators. What is dispatched to a process that does not exist is dropped.
  const UPID self = self_;
  const std::string pid = toString(self_);
  for (const std::string& id : role_.authenticating) {
    process::dispatch(UPID(id + pid.substr(pid.find('@'))), [this, self]() {
      process::dispatch(self, [this]() { mesosStarted_ = true; });
    });
  }
  process::Clock::timer(Milliseconds(50), [this, self]() {
    process::dispatch(self, [this]() { awaitMesos(); });
  });
}

// An answer of the shim itself to this request.
static process::http::Response sentence(
    const Request& request, uint16_t code, const std::string& text)
{
  process::http::Response response(text + "\n", code);
  if (request.method == "HEAD") {
    response.type = process::http::Response::NONE;
    response.body.clear();
  }
  response.headers["X-Content-Type-Options"] = "nosniff";
  return response;
}

void Process::consume(process::HttpEvent&& event)
{
  const Route* route = findRoute(withoutTrailingSlash(event.request->url.path));
  if (route != nullptr && (mesosStarted_ || !route->authenticated)) {
    // libprocess authenticates the request, and calls the handler set in addRoute().
    ProcessBase::consume(std::move(event));
    return;
  }
  // The body is not used, but must be read, or the connection stalls.
  if (event.request->reader.isSome()) {
    event.request->reader.get().readAll();
  }
  if (route != nullptr) {
    // libprocess would let the request through.
    process::http::Response response = sentence(
        *event.request,
        503,
        "Mesos is starting and cannot authenticate requests yet; try again in a second.");
    response.headers["Retry-After"] = "1";
    event.response->set(response);
    return;
  }
  // The library answers with a list of the endpoints.
  request(*event.request, std::move(event.response));
}

Future<process::http::Response> Process::request(const Request& r)
{
  std::unique_ptr<Promise> promise(new Promise());
  const Future<Response> future = promise->future();
  request(r, std::move(promise));
  return future;
}

// Lends the value of a header until `value` is destroyed.
static mo_bytes lendHeader(const Option<std::string>& value)
{
  return value.isSome() ? lend(value.get()) : mo_bytes();
}

void Process::request(const Request& r, std::unique_ptr<Promise>&& promise)
{
  const std::string path = r.url.path;
  const Option<std::string> accept = r.headers.get("Accept");
  const Option<std::string> host = r.headers.get("Host");
  const Option<std::string> origin = r.headers.get("Origin");
  const Option<std::string> fetchSite = r.headers.get("Sec-Fetch-Site");
  const Option<std::string> contentType = r.headers.get("Content-Type");
  const Option<std::string> noneMatch = r.headers.get("If-None-Match");
  const Option<std::string> client =
    r.client.isSome() ? toString(sockaddr_storage(r.client.get())) : None();
  std::vector<mo_pair> query;
  for (const auto& pair : r.url.query) {
    query.push_back(mo_pair{lend(pair.first), lend(pair.second)});
  }

  mo_request request = mo_request();
  request.size = sizeof(request);
  request.id = ++lastRequestId_;
  request.method = lend(r.method);
  request.path = lend(path);
  request.query = query.data();
  request.query_count = query.size();
  request.accept = lendHeader(accept);
  request.body = lend(r.body);
  request.host = lendHeader(host);
  request.origin = lendHeader(origin);
  request.sec_fetch_site = lendHeader(fetchSite);
  request.content_type = lendHeader(contentType);
  request.client = lendHeader(client);
  request.if_none_match = lendHeader(noneMatch);

  const mo_result result = mo_node_request(node_, &request);
  if (result == MO_OK || result == MO_PANIC) {
    openRequests_[request.id] = OpenRequest{std::move(promise), r.method == "HEAD"};
  } else {
    const std::string text = mo_result_text(result);
    promise->set(sentence(r, 500, "The request was rejected: " + text));
  }
  runUntilIdle();
}

void Process::respond(const mo_respond& respond)
{
  auto found = openRequests_.find(respond.id);
  if (found == openRequests_.end()) {
    return;
  }
  Response response = toResponse(respond, found->second.isHead);
  for (size_t i = 0; i < respond.header_count; i++) {
    response.headers[copy(respond.headers[i].key)] =
      copy(respond.headers[i].value);
  }
  found->second.promise->set(response);
  openRequests_.erase(found);
}

Process::Response Process::toResponse(const mo_respond& respond, bool isHead)
{
  if (!isHead && respond.file.len == 0) {
    return Response(
        copy(respond.body), respond.status, copy(respond.content_type));
  }
  Response response(respond.status);
  response.headers["Content-Type"] = copy(respond.content_type);
  if (isHead) {
    // libprocess would send the body.
    response.headers["Content-Length"] = std::to_string(respond.body.len);
  } else {
    // libprocess opens the file and sends it as the client reads. It copies other bodies
    // about ten times, and keeps them until the client has read them.
    response.type = Response::PATH;
    response.path = copy(respond.file);
  }
  return response;
}

// ------------------------------------------------------------------- effects

void Process::runUntilIdle()
{
  do {
    if (!runEffects()) {
      return;
    }
    // Repeats at most once: a node that panicked has no machine that could panic again.
  } while (!publishMetrics());
}

bool Process::publishMetrics()
{
  // At most once a second: there may be thousands of events a second, and reading all
  // metrics can take longer than an event.
  const std::chrono::milliseconds interval(1000);
  const Clock::time_point now = Clock::now();
  if (now >= publishAt_) {
    publishAt_ = now + interval;
    return metrics_.publish(node_);
  }
  if (!publishScheduled_) {
    publishScheduled_ = true;
    const UPID self = self_;
    const int64_t ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(publishAt_ - now)
        .count();
    process::Clock::timer(Milliseconds(ms + 1), [this, self]() {
      process::dispatch(self, [this]() {
        publishScheduled_ = false;
        runUntilIdle();
      });
    });
  }
  return true;
}

bool Process::runEffects()
{
  mo_effect effect = mo_effect();
  effect.size = sizeof(effect);
  do {
    const mo_result result = mo_node_poll(node_, &effect);
    if (result != MO_OK && result != MO_PANIC) {
      return false;
    }
    carryOut(effect);
  } while (effect.kind != MO_EFFECT_NONE);
  return true;
}

void Process::carryOut(const mo_effect& effect)
{
  switch (effect.kind) {
    case MO_EFFECT_NONE:
      schedule(effect.as.none.deadline_ms);
      break;
    case MO_EFFECT_SEND: {
      const mo_send& send = effect.as.send;
      process::post(
          self_,
          UPID(copy(send.to)),
          copy(send.name),
          reinterpret_cast<const char*>(send.body.ptr),
          send.body.len);
      break;
    }
    case MO_EFFECT_LINK:
      link(
          UPID(copy(effect.as.link.to)),
          effect.as.link.reconnect ? RemoteConnection::RECONNECT
                                   : RemoteConnection::REUSE);
      break;
    case MO_EFFECT_RESPOND:
      respond(effect.as.respond);
      break;
    case MO_EFFECT_DETECT:
      leader_.watch(copy(effect.as.detect.master));
      break;
    case MO_EFFECT_OPEN_LOG:
      storage_.open(effect.as.open_log);
      break;
    case MO_EFFECT_FETCH:
      storage_.fetch(
          effect.as.fetch.id, copy(effect.as.fetch.name), effect.as.fetch.reopen != 0);
      break;
    case MO_EFFECT_STORE:
      storage_.store(effect.as.store.id, copy(effect.as.store.value));
      break;
  }
}

// ---------------------------------------------------------------------- time

void Process::schedule(uint64_t deadlineMs)
{
  if (deadlineMs == MO_NEVER) {
    return; // A timer that is already set causes one superfluous tick.
  }
  const uint64_t day = 24 * 60 * 60 * 1000;
  const int64_t ms = static_cast<int64_t>(std::min(deadlineMs, day));
  const Clock::time_point due = Clock::now() + std::chrono::milliseconds(ms);
  if (timer_.isSome()) {
    if (due_ <= due) {
      return; // That tick comes early enough, and its runUntilIdle() schedules the next one.
    }
    process::Clock::cancel(timer_.get());
  }
  due_ = due;
  const UPID self = self_;
  timer_ = Option<process::Timer>(
      process::Clock::timer(Milliseconds(ms), [this, self]() {
        process::dispatch(self, [this]() {
          timer_ = None();
          mo_node_tick(node_);
          runUntilIdle();
        });
      }));
}

void Process::wake(void* self)
{
  Process* process = static_cast<Process*>(self);
  if (process->awake_) {
    process::dispatch(process->self_, [process]() { process->runUntilIdle(); });
  }
}

} // namespace overlay {
