//! Metrics of our routes.

use ipnet::IpNet;
use overlay_core::util::family::Family;

use super::constants::DEFAULT_METRIC6;
use super::observed::Route;

/// Returns whether a route has the metric of our routes.
pub(super) fn has_default_metric(route: &Route) -> bool {
    route.metric == default_metric(route.dst)
}

/// Returns the metric that the kernel gives a route to this destination.
pub(super) fn default_metric(dst: IpNet) -> u32 {
    Family::from(dst).pick(0, DEFAULT_METRIC6)
}
