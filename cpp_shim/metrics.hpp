// The node's numbers in Mesos's /metrics/snapshot.
#ifndef OVERLAY_METRICS_HPP
#define OVERLAY_METRICS_HPP

#include <map>
#include <memory>
#include <string>

#include "mesos.hpp"
#include "mesos_overlay.h"

namespace overlay {

// Every number is a gauge whose value lies in memory that Mesos's metrics process
// shares: whoever asks for a snapshot waits for nobody of ours.
class Metrics
{
public:
  // Shows the numbers as they are now. To be called in the node's process. False: the
  // node panicked over it and is to be drained again.
  bool refresh(mo_node* node);

private:
  struct Shown
  {
    explicit Shown(const std::string& name) : gauge(name) {}

    process::metrics::PushGauge gauge;
    double value = 0;
    bool found = false;
  };

  void show(const std::string& name, double value);

  // By name.
  std::map<std::string, std::unique_ptr<Shown>> shown_;
};

} // namespace overlay {

#endif // OVERLAY_METRICS_HPP
