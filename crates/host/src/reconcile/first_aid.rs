//! Removal of what cuts a host off, before any overlay is known.
//!
//! An agent on a host whose routes lead astray does not reach the master that would correct
//! them. So what no master can ever have meant goes when the agent starts. All else stays until
//! the overlays and peers are known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::Vtep;
use overlay_core::util::family::Family;
use overlay_core::util::special_purpose;

use super::constants::{MAIN_TABLE, PROTOCOL};
use super::limits::{containing, overlapping};
use super::observed::{Device, HostNetworks, Route, Rule};
use super::op::{OldRoute, Op};
use super::rules;

/// Observed state of a host without known overlays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unassigned {
    /// Our VXLAN devices, by name.
    pub vteps: BTreeMap<String, Device>,
    /// Rules that have our mark, or lead to the predecessor's table.
    pub rules: BTreeSet<Rule>,
    /// Networks of devices that are not ours.
    pub networks: HostNetworks,
}

/// Returns the removal of addresses and routes that cannot be right. `own` is the agent's address
/// on the underlay.
pub fn first_aid(host: &Unassigned, own: Option<Ipv4Addr>) -> Vec<Op> {
    let own = own.map(IpAddr::V4);
    let mut ops = Vec::new();
    for (name, vtep) in &host.vteps {
        // Only this module believed a master that could not be right.
        let wrong = |route: &&Route| route.protocol == PROTOCOL && is_wrong_route(route, own, host);
        let routes = vtep.routes.iter().filter(wrong);
        ops.extend(routes.map(|route| Op::RemoveRoute(name.as_str().into(), old(route))));
        let wrong = |address: &&IpNet| is_wrong_address(**address, own, &host.networks);
        let addresses = vtep.addresses.iter().filter(wrong);
        ops.extend(addresses.map(|net| Op::RemoveAddress(name.as_str().into(), *net)));
    }
    ops
}

fn is_wrong_address(address: IpNet, own: Option<IpAddr>, networks: &HostNetworks) -> bool {
    address.prefix_len() < Vtep::shortest_prefix(address.into())
        || special_purpose::of_network(address.trunc()).is_some()
        || own.is_some_and(|own| address.contains(&own))
        || containing(networks, address.addr()).is_some()
}

fn is_wrong_route(route: &Route, own: Option<IpAddr>, host: &Unassigned) -> bool {
    // A route to a peer itself is for containers only.
    if route.table != MAIN_TABLE {
        return false;
    }
    let dst = route.dst;
    let family = Family::from(dst);
    let ours = || host.rules.iter().filter(|rule| rules::may_be_ours(rule));
    let ranges = || ours().map(|rule| rule.from);
    // A subnet can be divided between two bridges.
    let is_single = dst.prefix_len() == dst.max_prefix_len();
    let has_ranges = ranges().any(|range| family.includes(range));
    is_single
        || special_purpose::of_network(dst).is_some()
        || own.is_some_and(|own| dst.contains(&own))
        || overlapping(&host.networks, dst).is_some()
        || has_ranges && !ranges().any(|range| range.contains(&dst))
}

fn old(route: &Route) -> OldRoute {
    OldRoute {
        table: route.table,
        dst: route.dst,
        via: route.via,
        metric: route.metric,
        protocol: route.protocol,
        nexthop: route.nexthop,
    }
}
