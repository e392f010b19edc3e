// Subset of libprocess: see ../../README.md.
#ifndef MESOS_SUBSET_PROCESS_METRICS_METRICS_HPP
#define MESOS_SUBSET_PROCESS_METRICS_METRICS_HPP

#include <memory>
#include <string>

#include <process/dispatch.hpp>
#include <process/future.hpp>
#include <process/metrics/metric.hpp>
#include <process/owned.hpp>
#include <process/pid.hpp>

#include <stout/lambda.hpp>
#include <stout/nothing.hpp>

namespace process {
namespace metrics {
namespace internal {

// The process that owns all metrics. It is a ProcessBase, which is a virtual base at a place
// that is not known here.
class MetricsProcess
{
public:
  Future<Nothing> add(Owned<Metric> metric);
  Future<Nothing> remove(const std::string& name);
};

extern PID<MetricsProcess> metrics;

// Runs `f` with the process of the metrics, as an event of it.
template <typename F>
void dispatch(const F& f)
{
  typedef lambda::CallableOnce<void(ProcessBase*)> Callable;

  process::internal::dispatch(
      metrics,
      std::unique_ptr<Callable>(new Callable([f](ProcessBase* process) {
        // To the whole object, of which nothing is derived.
        f(static_cast<MetricsProcess*>(dynamic_cast<void*>(process)));
      })));
}

} // namespace internal {

// Keeps a copy, which shares the value.
template <typename T>
void add(const T& metric)
{
  const Owned<Metric> copy(new T(metric));
  internal::dispatch([copy](internal::MetricsProcess* process) { process->add(copy); });
}

// Removes the metric by its name.
inline void remove(const Metric& metric)
{
  const std::string name = metric.name();
  internal::dispatch([name](internal::MetricsProcess* process) { process->remove(name); });
}

} // namespace metrics {
} // namespace process {

#endif
