#include "metrics.hpp"

#include "text.hpp"

namespace overlay {

bool Metrics::publish(mo_node* node)
{
  bool panicked = false;
  for (auto& pair : published_) {
    pair.second->current = false;
  }
  mo_metric metric = mo_metric();
  metric.size = sizeof(metric);
  for (size_t i = 0;; i++) {
    const mo_result result = mo_node_metric(node, i, &metric);
    if (result != MO_OK && result != MO_PANIC) {
      break;
    }
    panicked = panicked || result == MO_PANIC;
    publish(copy(metric.name), metric.value);
  }
  // Metrics of removed overlays are no longer listed by the node.
  for (auto i = published_.begin(); i != published_.end();) {
    if (i->second->current) {
      ++i;
    } else {
      process::metrics::remove(i->second->gauge);
      i = published_.erase(i);
    }
  }
  return !panicked;
}

void Metrics::publish(const std::string& name, double value)
{
  std::unique_ptr<Published>& metric = published_[name];
  const bool isNew = !metric;
  if (isNew) {
    metric.reset(new Published(name));
  }
  metric->current = true;
  if (metric->value != value) {
    metric->gauge += value - metric->value;
    metric->value = value;
  }
  if (isNew) {
    process::metrics::add(metric->gauge);
  }
}

} // namespace overlay {
