// Subset of libprocess: see ../../README.md.
#ifndef MESOS_SUBSET_PROCESS_METRICS_METRIC_HPP
#define MESOS_SUBSET_PROCESS_METRICS_METRIC_HPP

#include <atomic>
#include <memory>
#include <string>

#include <process/future.hpp>

#include <stout/option.hpp>

namespace process {
namespace metrics {

// A named value. Copies are the same metric. All functions are inline in libprocess, too, so
// libmesos need not have any of them.
class Metric
{
public:
  virtual ~Metric() {}
  virtual Future<double> value() const = 0;

  const std::string& name() const { return data->name; }

protected:
  // Without a history.
  explicit Metric(const std::string& name) : data(new Data(name)) {}

private:
  friend struct process::subset_layout;

  struct Data
  {
    explicit Data(const std::string& _name) : name(_name) { lock.clear(); }

    const std::string name;
    std::atomic_flag lock;
    // A pointer to former values.
    Option<std::shared_ptr<void>> history;
  };

  std::shared_ptr<Data> data;
};

} // namespace metrics {
} // namespace process {

#endif
