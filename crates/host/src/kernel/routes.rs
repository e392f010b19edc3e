//! Reads the routes of the tables in which ours are.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use nix::errno::Errno;
use overlay_core::host_api::names::parse_bridge_name;
use rtnetlink::LinkUnspec;

use super::links::{FAMILIES, is_vtep, link, name};
use super::netlink::{Error, Netlink};
use super::parse;
use crate::reconcile::MAIN_TABLE;
use crate::reconcile::observed::{ForeignRoute, Route};

/// Route of any origin.
pub(super) struct FoundRoute {
    /// Index of its device; `None`: it has several, or none.
    index: Option<u32>,
    route: Route,
    /// True if the kernel or a router created it.
    is_automatic: bool,
}

/// Returns the routes of these tables, of both families.
pub(super) async fn all(
    netlink: &Netlink,
    tables: &BTreeSet<u32>,
) -> Result<Vec<FoundRoute>, Error> {
    let mut all = Vec::new();
    for family in FAMILIES {
        for table in tables.iter().copied() {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            filter.attributes = vec![RouteAttribute::Table(table)];
            let objects = match netlink.dump(RouteNetlinkMessage::GetRoute(filter)).await {
                // The table has no routes yet.
                Err(Error::Refused {
                    errno: Errno::ENOENT,
                    ..
                }) => continue,
                objects => objects?,
            };
            all.extend(objects.iter().filter_map(|object| match object {
                RouteNetlinkMessage::NewRoute(message)
                    if message.header.address_family == family =>
                {
                    found(message, table)
                }
                _ => None,
            }));
        }
    }
    Ok(all)
}

fn found(message: &RouteMessage, table: u32) -> Option<FoundRoute> {
    let (index, route) = parse::route(message)?;
    (route.table == table).then(|| FoundRoute {
        index,
        route,
        is_automatic: parse::is_automatic(message.header.protocol),
    })
}

/// Returns the routes over a device, except those that the kernel manages itself.
pub(super) fn over(all: &[FoundRoute], index: u32) -> BTreeSet<Route> {
    let over = all
        .iter()
        .filter(|found| found.index == Some(index) && !found.is_automatic);
    over.map(|found| found.route).collect()
}

/// Returns the indexes of the devices over which somebody routes. Link-local routes do not count:
/// programs that configure every new device make them.
pub(super) fn outputs(all: &[FoundRoute]) -> BTreeSet<u32> {
    let made = all
        .iter()
        .filter(|found| !found.is_automatic && !parse::is_link_local(found.route.dst.network()));
    made.filter_map(|found| found.index).collect()
}

/// Returns the routes into one of the ranges, or in the table of the containers, `table`, that do
/// not lead over a VXLAN device of the overlays. `vtep` is the name of the desired VTEP. Routes of
/// the overlays' bridges count in the main table only.
pub(super) async fn foreign(
    netlink: &Netlink,
    all: &[FoundRoute],
    vtep: Option<&str>,
    ranges: &[IpNet],
    table: u32,
) -> Result<BTreeSet<ForeignRoute>, Error> {
    let matters = |route: &Route| {
        let is_in_range = || ranges.iter().any(|range| range.contains(&route.dst));
        route.table == table || route.table == MAIN_TABLE && is_in_range()
    };
    let mut names = BTreeMap::<u32, Option<String>>::new();
    let mut foreign = BTreeSet::new();
    for found in all.iter().filter(|found| matters(&found.route)) {
        let device = match found.index {
            None => None,
            Some(index) => {
                if let Entry::Vacant(entry) = names.entry(index) {
                    entry.insert(device_name(netlink, index, vtep).await?);
                }
                let is_main = found.route.table == MAIN_TABLE;
                let name = names.get(&index).and_then(Option::as_ref);
                match name.filter(|name| is_main || parse_bridge_name(name).is_none()) {
                    Some(name) => Some(name.clone()),
                    None => continue,
                }
            }
        };
        let route = found.route;
        foreign.insert(ForeignRoute { route, device });
    }
    Ok(foreign)
}

/// Returns the name of a device; `None`: it is a VXLAN device of the overlays, or is gone.
async fn device_name(
    netlink: &Netlink,
    index: u32,
    vtep: Option<&str>,
) -> Result<Option<String>, Error> {
    let query = LinkUnspec::new_with_index(index).build();
    let Some(message) = link(netlink, query).await? else {
        return Ok(None);
    };
    let name = name(&message);
    let is_other = |name: &&str| !is_vtep(name, &message, vtep);
    Ok(name.filter(is_other).map(str::to_owned))
}
