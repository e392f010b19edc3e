// The node's metrics in Mesos's /metrics/snapshot.
#ifndef OVERLAY_METRICS_HPP
#define OVERLAY_METRICS_HPP

#include <map>
#include <memory>
#include <string>

#include "mesos.hpp"
#include "mesos_overlay.h"

namespace overlay {

// Each metric is a PushGauge, whose value Mesos's metrics process reads from memory: a
// snapshot does not wait for our process.
class Metrics
{
public:
  // Publishes the node's current metrics. Must be called in the node's process. Returns
  // false if the node panicked, and runUntilIdle() must run again.
  bool publish(mo_node* node);

private:
  struct Published
  {
    explicit Published(const std::string& name) : gauge(name) {}

    process::metrics::PushGauge gauge;
    double value = 0;
    bool current = false;
  };

  void publish(const std::string& name, double value);

  // By name.
  std::map<std::string, std::unique_ptr<Published>> published_;
};

} // namespace overlay {

#endif // OVERLAY_METRICS_HPP
