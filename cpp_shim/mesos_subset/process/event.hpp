// Subset of libprocess: see ../README.md.
#ifndef MESOS_SUBSET_PROCESS_EVENT_HPP
#define MESOS_SUBSET_PROCESS_EVENT_HPP

#include <memory>
#include <string>

#include <process/future.hpp>
#include <process/http.hpp>
#include <process/pid.hpp>

namespace process {

struct Message
{
  std::string name;
  UPID from;
  UPID to;
  std::string body;
};

struct DispatchEvent;
struct EventVisitor;
struct ExitedEvent;
struct HttpEvent;
struct MessageEvent;
struct TerminateEvent;

struct EventConsumer
{
  virtual ~EventConsumer() {}
  virtual void consume(MessageEvent&&) {}
  virtual void consume(DispatchEvent&&) {}
  virtual void consume(HttpEvent&&) {}
  virtual void consume(ExitedEvent&&) {}
  virtual void consume(TerminateEvent&&) {}
};

// libmesos creates and destroys events.
struct Event
{
  Event() = delete;
  virtual ~Event() {}
  virtual void visit(EventVisitor* visitor) const = 0;
  virtual void consume(EventConsumer* consumer) && = 0;
};

struct MessageEvent : Event
{
  Message message;
};

struct HttpEvent : Event
{
  std::unique_ptr<http::Request> request;
  std::unique_ptr<Promise<http::Response>> response;
};

struct ExitedEvent : Event
{
  UPID pid;
};

} // namespace process {

#endif
