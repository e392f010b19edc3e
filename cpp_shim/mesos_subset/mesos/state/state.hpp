// Subset of Mesos: see ../../README.md.
#ifndef MESOS_SUBSET_MESOS_STATE_STATE_HPP
#define MESOS_SUBSET_MESOS_STATE_STATE_HPP

#include <memory>
#include <string>

#include <mesos/state/storage.hpp>

#include <process/future.hpp>

#include <stout/option.hpp>

namespace mesos {
namespace state {

class State;

// A named value with a version.
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

  internal::state::Entry entry;
};

class State
{
public:
  explicit State(Storage* _storage) : storage(_storage) {}
  virtual ~State() {}

  process::Future<Variable> fetch(const std::string& name)
  {
    auto promise = std::make_shared<process::Promise<Variable>>();
    storage->get(name).onAny(
        [=](const process::Future<Option<internal::state::Entry>>& future) {
          if (future.isReady()) {
            promise->set(_fetch(name, future.get()).get());
          } else {
            promise->fail(future.isFailed() ? future.failure() : "discarded");
          }
        });
    return promise->future();
  }

  // None: the variable has changed since it was fetched.
  process::Future<Option<Variable>> store(const Variable& variable);

private:
  // Of a variable that was never stored: a new one, which is empty.
  static process::Future<Variable> _fetch(
      const std::string& name, const Option<internal::state::Entry>& option);

  Storage* storage;
};

} // namespace state {
} // namespace mesos {

#endif
