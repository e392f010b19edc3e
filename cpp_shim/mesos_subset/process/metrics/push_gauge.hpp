// Subset of libprocess: see ../../README.md.
#ifndef MESOS_SUBSET_PROCESS_METRICS_PUSH_GAUGE_HPP
#define MESOS_SUBSET_PROCESS_METRICS_PUSH_GAUGE_HPP

#include <atomic>
#include <memory>
#include <string>

#include <process/metrics/metric.hpp>

namespace process {
namespace metrics {

// A gauge that its owner sets, from any thread.
class PushGauge : public Metric
{
public:
  explicit PushGauge(const std::string& name)
    : Metric(name), current(std::make_shared<std::atomic<double>>(0.0)) {}

  Future<double> value() const override { return Future<double>(current->load()); }

  PushGauge& operator+=(double v)
  {
    double before = current->load();
    while (!current->compare_exchange_weak(before, before + v)) {}
    return *this;
  }

private:
  // libmesos reads it through value() only.
  std::shared_ptr<std::atomic<double>> current;
};

} // namespace metrics {
} // namespace process {

#endif
