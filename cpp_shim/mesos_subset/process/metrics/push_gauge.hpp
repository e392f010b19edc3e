// Subset of libprocess: see ../../README.md.
#ifndef MESOS_SUBSET_PROCESS_METRICS_PUSH_GAUGE_HPP
#define MESOS_SUBSET_PROCESS_METRICS_PUSH_GAUGE_HPP

#include <string>

#include <process/metrics/metric.hpp>

namespace process {
namespace metrics {

// A gauge that its owner sets, from any thread.
class PushGauge : public Metric
{
public:
  explicit PushGauge(const std::string& name);
  ~PushGauge() override;

  Future<double> value() const override;

  PushGauge& operator+=(double v);

private:
  friend struct subset_layout;

  PushGauge(const PushGauge&) = delete;
  PushGauge& operator=(const PushGauge&) = delete;

  // A shared pointer to the value.
  void* data[2];
};

} // namespace metrics {
} // namespace process {

#endif
