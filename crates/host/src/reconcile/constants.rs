//! Numbers by which the kernel's objects of this module are known.

use ipnet::IpNet;
use overlay_core::util::family::Family;

/// Routing table `main`.
pub const MAIN_TABLE: u32 = 254;

/// Origin (`RTPROT_*`) of our routes, rules and nexthop objects, which tells them from those
/// of others. Free in the lists of the kernel and of the routing daemons; 100 and
/// [`CONTAINER_TABLE`](overlay_core::host_api::desired::CONTAINER_TABLE).
pub const PROTOCOL: u8 = 142;

/// Priority of our rules: right before the kernel's own rule for the table `main`, and after
/// an operator's rules.
pub const RULE_PRIORITY: u32 = MAIN_PRIORITY - 1;

/// Priority of the kernel's own rule for the table `main`. On a host with a default route
/// the kernel never reaches the rules behind it.
pub(super) const MAIN_PRIORITY: u32 = 32766;

/// Origin of the routes that `dcos-net` creates: `RTPROT_BOOT`, as with `ip route`.
pub(super) const PROTOCOL_BOOT: u8 = 3;

/// Metric of an IPv6 route that is created without one.
const DEFAULT_METRIC6: u32 = 1024;

/// Bytes that VXLAN over IPv4 adds to a packet: outer IPv4, UDP and VXLAN headers, and the
/// inner Ethernet header.
pub(super) const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;

/// Returns the metric that the kernel gives a route to this destination.
pub(super) fn default_metric(dst: IpNet) -> u32 {
    Family::from(dst).pick(0, DEFAULT_METRIC6)
}
