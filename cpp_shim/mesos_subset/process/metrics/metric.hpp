// Subset of libprocess: see ../../README.md.
#ifndef MESOS_SUBSET_PROCESS_METRICS_METRIC_HPP
#define MESOS_SUBSET_PROCESS_METRICS_METRIC_HPP

#include <process/future.hpp>

namespace process {
namespace metrics {

// Created by libmesos only.
class Metric
{
public:
  virtual ~Metric();
  virtual Future<double> value() const = 0;

protected:
  Metric() = default;

private:
  // A shared pointer; copies of a metric are the same metric.
  void* data[2];
};

} // namespace metrics {
} // namespace process {

#endif
