// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_STATE_STATE_HPP
#define MESOS_SUBSET_MESOS_STATE_STATE_HPP

#include <string.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <random>
#include <string>

#include <mesos/state/storage.hpp>

#include <process/future.hpp>

#include <stout/error.hpp>
#include <stout/option.hpp>
#include <stout/try.hpp>

namespace mesos {
namespace state {

class State;

// A named value with a version, a UUID.
class Variable
{
public:
  std::string value() const { return entry.value(); }

  Variable mutate(const std::string& value) const
  {
    Variable variable(*this);
    variable.entry.set_value(value);
    return variable;
  }

private:
  friend class State;

  explicit Variable(const internal::state::Entry& _entry) : entry(_entry) {}

  internal::state::Entry entry;
};

// All functions are inline in Mesos, too, so libmesos need not have any of them.
class State
{
public:
  explicit State(Storage* _storage) : storage(_storage) {}
  virtual ~State() {}

  // A variable that was never stored is a new one, which is empty.
  process::Future<Variable> fetch(const std::string& name)
  {
    const auto promise = std::make_shared<process::Promise<Variable>>();
    storage->get(name).onAny(
        [promise, name](const process::Future<Option<internal::state::Entry>>& stored) {
          if (!stored.isReady()) {
            promise->fail(reason(stored));
            return;
          }
          if (stored.get().isSome()) {
            promise->set(Variable(stored.get().get()));
            return;
          }
          const Try<std::string> version = newVersion();
          if (version.isError()) {
            promise->fail(version.error());
            return;
          }
          internal::state::Entry entry;
          entry.set_name(name);
          entry.set_uuid(version.get());
          promise->set(Variable(entry));
        });
    return promise->future();
  }

  // None: the variable has changed since it was fetched.
  process::Future<Option<Variable>> store(const Variable& variable)
  {
    const auto promise = std::make_shared<process::Promise<Option<Variable>>>();
    const Try<std::string> version = newVersion();
    if (version.isError()) {
      promise->fail(version.error());
      return promise->future();
    }
    Variable next(variable);
    next.entry.set_uuid(version.get());
    id::UUID expected;
    memset(&expected, 0, sizeof(expected));
    const std::string& bytes = variable.entry.uuid();
    memcpy(&expected, bytes.data(), std::min(bytes.size(), sizeof(expected)));
    storage->set(next.entry, expected).onAny(
        [promise, next](const process::Future<bool>& stored) {
          if (!stored.isReady()) {
            promise->fail(reason(stored));
          } else {
            promise->set(stored.get() ? Option<Variable>(next) : Option<Variable>());
          }
        });
    return promise->future();
  }

private:
  template <typename T>
  static std::string reason(const process::Future<T>& future)
  {
    return future.isFailed() ? future.failure() : "discarded";
  }

  // The 16 bytes of a random UUID, version 4 of RFC 4122. An error: the system gives no random
  // numbers. An exception would end the process, since callers are callbacks of libprocess.
  static Try<std::string> newVersion()
  {
    std::string bytes;
    try {
      std::random_device device;
      while (bytes.size() < sizeof(id::UUID)) {
        bytes.push_back(static_cast<char>(device() & 0xff));
      }
    } catch (const std::exception& error) {
      return Error(std::string("no random numbers: ") + error.what());
    }
    bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
    bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
    return bytes;
  }

  Storage* storage;
};

} // namespace state {
} // namespace mesos {

#endif
