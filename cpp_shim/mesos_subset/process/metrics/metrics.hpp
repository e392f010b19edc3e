// Subset of libprocess: see ../../README.md.
#ifndef MESOS_SUBSET_PROCESS_METRICS_METRICS_HPP
#define MESOS_SUBSET_PROCESS_METRICS_METRICS_HPP

#include <process/future.hpp>
#include <process/metrics/metric.hpp>

#include <stout/nothing.hpp>

namespace process {
namespace metrics {

// Keeps a copy, which shares the value. libmesos exports it for the type in use.
template <typename T>
Future<Nothing> add(const T& metric);

// Removes the metric by its name.
Future<Nothing> remove(const Metric& metric);

} // namespace metrics {
} // namespace process {

#endif
