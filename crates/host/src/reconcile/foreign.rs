//! Routes of others, which nothing replaces or removes.
//!
//! The kernel compares destination and metric of a new route, and not its origin: where a route
//! exists, ours would replace it, stand in front of it, or never be used. So none of ours is
//! created to a destination to which somebody else has one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use overlay_core::host_api::desired::Vtep;
use overlay_core::host_api::names::parse_bridge_name;

use super::constants::{MAIN_TABLE, PROTOCOL, PROTOCOL_BOOT};
use super::observed::{ForeignRoute, Route};
use super::op::{Op, RouteKey};

/// Names of origins (`RTPROT_*`), as `ip route` prints them.
const ORIGINS: [(u8, &str); 14] = [
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (11, "zebra"),
    (12, "bird"),
    (16, "dhcp"),
    (18, "keepalived"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
];

/// Routes of others by table and destination, and those of ours that are not on the VTEP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ForeignRoutes {
    /// Name of the desired VTEP.
    vtep: String,
    routes: BTreeMap<RouteKey, Vec<ForeignRoute>>,
    /// Destinations to which a route of ours exists that is not shown on the VTEP.
    misplaced: BTreeSet<RouteKey>,
}

impl ForeignRoutes {
    /// Returns the given routes. `vtep` is the desired VTEP.
    pub(super) fn new(
        vtep: &Vtep,
        routes: impl IntoIterator<Item = ForeignRoute>,
    ) -> ForeignRoutes {
        let mut foreign = ForeignRoutes {
            vtep: vtep.name.clone(),
            ..ForeignRoutes::default()
        };
        for found in routes {
            let key = found.route.key();
            match found.route.protocol == PROTOCOL {
                true => _ = foreign.misplaced.insert(key),
                false => foreign.routes.entry(key).or_default().push(found),
            }
        }
        foreign
    }

    /// Returns the route because of which there can be none of ours to a destination. A route that
    /// says what ours would say is as good as ours.
    pub(super) fn obstacle(&self, key: RouteKey, via: IpAddr) -> Option<&ForeignRoute> {
        let mut there = self.routes.get(&key)?.iter();
        let is_as_good = |found: &ForeignRoute| {
            let route = &found.route;
            let is_on_vtep = found.device.as_ref() == Some(&self.vtep);
            is_on_vtep && route.plain && route.via == Some(via) && route.has_default_metric()
        };
        there.find(|found| !is_as_good(found))
    }

    /// Returns a route into a part of a destination.
    pub(super) fn inside(&self, key: RouteKey) -> Option<&ForeignRoute> {
        let last = RouteKey {
            dst: key.dst.broadcast().into(),
            ..key
        };
        let mut within = self.routes.range(key..=last);
        let (_, found) = within.find(|(part, _)| **part != key && key.dst.contains(&part.dst))?;
        found.first()
    }

    /// Returns the routes in a table that are not to single hosts.
    pub(super) fn wide_routes(&self, table: u32) -> impl Iterator<Item = &ForeignRoute> {
        let is_wide = move |key: &RouteKey| {
            key.table == table && key.dst.prefix_len() < key.dst.max_prefix_len()
        };
        let routes = self.routes.iter().filter(move |(key, _)| is_wide(key));
        routes.flat_map(|(_, found)| found)
    }

    /// Returns whether there is one to this destination.
    pub(super) fn contains(&self, key: RouteKey) -> bool {
        self.routes.contains_key(&key)
    }

    /// Returns whether one of ours exists that is not shown on the VTEP.
    pub(super) fn is_misplaced(&self, key: RouteKey) -> bool {
        self.misplaced.contains(&key)
    }
}

/// Returns whether the predecessor `dcos-net` may have made a route over our device. It marks its
/// routes no more than `ip route` does.
pub(super) fn may_be_predecessors(route: &Route) -> bool {
    route.protocol == PROTOCOL_BOOT && route.via.is_some()
}

/// Returns the routes that are not ours: those over other devices, and those over the VTEP that
/// do not have our mark.
pub(super) fn candidates<'a>(
    vtep: &'a Vtep,
    others: &'a BTreeSet<ForeignRoute>,
    on_vtep: &'a BTreeSet<Route>,
) -> impl Iterator<Item = ForeignRoute> + 'a {
    let unmarked = on_vtep.iter().filter(|route| route.protocol != PROTOCOL);
    let unmarked = unmarked.map(|route| ForeignRoute {
        route: *route,
        device: Some(vtep.name.clone()),
    });
    others.iter().cloned().chain(unmarked)
}

/// Returns whether operations remove a device.
pub(super) fn are_removing(ops: &[Op], device: &str) -> bool {
    let removes = |op: &Op| matches!(op, Op::RemoveDevice(name) if &**name == device);
    ops.iter().any(removes)
}

impl ForeignRoute {
    /// Returns a phrase that says why it is in the way, and what to do.
    pub(super) fn stays(&self) -> String {
        let bridge = self.device.as_deref();
        match bridge.filter(|name| parse_bridge_name(name).is_some()) {
            Some(bridge) => format!(
                "bridge {bridge} of this host still has containers of subnet {}; end them",
                self.route.dst
            ),
            None => format!(
                "the route \"{self}\" is not ours, and stays; remove it, or give the overlay another range"
            ),
        }
    }
}

/// Prints a route like `ip route`.
impl fmt::Display for ForeignRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route {
            table,
            dst,
            via,
            protocol,
            metric,
            ..
        } = &self.route;
        write!(f, "{dst}")?;
        if let Some(via) = via {
            write!(f, " via {via}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        match ORIGINS.iter().find(|(number, _)| number == protocol) {
            Some((_, name)) => write!(f, " proto {name}")?,
            None => write!(f, " proto {protocol}")?,
        }
        if *metric != 0 {
            write!(f, " metric {metric}")?;
        }
        match *table {
            MAIN_TABLE => Ok(()),
            table => write!(f, " table {table}"),
        }
    }
}
