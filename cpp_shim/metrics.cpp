#include "metrics.hpp"

#include "text.hpp"

namespace overlay {

bool Metrics::refresh(mo_node* node)
{
  bool panicked = false;
  for (auto& pair : shown_) {
    pair.second->found = false;
  }
  mo_metric metric = {};
  metric.size = sizeof(metric);
  for (size_t i = 0;; i++) {
    const mo_result result = mo_node_metric(node, i, &metric);
    if (result != MO_OK && result != MO_PANIC) {
      break;
    }
    panicked = panicked || result == MO_PANIC;
    show(copy(metric.name), metric.value);
  }
  // Those of overlays that are gone.
  for (auto i = shown_.begin(); i != shown_.end();) {
    if (i->second->found) {
      ++i;
    } else {
      process::metrics::remove(i->second->gauge);
      i = shown_.erase(i);
    }
  }
  return !panicked;
}

void Metrics::show(const std::string& name, double value)
{
  std::unique_ptr<Shown>& shown = shown_[name];
  const bool fresh = !shown;
  if (fresh) {
    shown.reset(new Shown(name));
  }
  shown->found = true;
  if (shown->value != value) {
    // Adding is the one thing that every Mesos's gauge can do without its insides.
    shown->gauge += value - shown->value;
    shown->value = value;
  }
  if (fresh) {
    process::metrics::add(shown->gauge);
  }
}

} // namespace overlay {
