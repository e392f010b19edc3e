//! Devices that have routes or addresses from router advertisements.

use std::collections::BTreeSet;

use netlink_packet_route::address::{AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::LinkUnspec;

use super::links::{link, name};
use super::netlink::{Error, Netlink};
use super::sysctl;
use crate::reconcile::MAIN_TABLE;

/// Returns the names of devices that have a route or a temporary address from router
/// advertisements, and accept no more of them once the host forwards IPv6.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn losing_devices(netlink: &Netlink) -> Result<BTreeSet<String>, Error> {
    let mut losing = BTreeSet::new();
    for index in advertised(netlink).await? {
        let query = LinkUnspec::new_with_index(index).build();
        let message = link(netlink, query).await?;
        let accepts = |name: &&str| sysctl::ipv6_setting(name, "accept_ra").as_deref() == Some("1");
        losing.extend(
            message
                .as_ref()
                .and_then(name)
                .filter(accepts)
                .map(str::to_owned),
        );
    }
    Ok(losing)
}

/// Returns the indexes of devices that have a route or a temporary address from router
/// advertisements.
async fn advertised(netlink: &Netlink) -> Result<BTreeSet<u32>, Error> {
    let mut filter = AddressMessage::default();
    filter.header.family = AddressFamily::Inet6;
    let objects = netlink
        .dump(RouteNetlinkMessage::GetAddress(filter))
        .await?;
    let mut found: BTreeSet<u32> = objects.iter().filter_map(temporary_address).collect();
    let mut filter = RouteMessage::default();
    filter.header.address_family = AddressFamily::Inet6;
    filter.header.protocol = RouteProtocol::Ra;
    filter.attributes = vec![RouteAttribute::Table(MAIN_TABLE)];
    let objects = netlink.dump(RouteNetlinkMessage::GetRoute(filter)).await?;
    for object in &objects {
        let RouteNetlinkMessage::NewRoute(message) = object else {
            continue;
        };
        if message.header.protocol == RouteProtocol::Ra {
            found.extend(
                message
                    .attributes
                    .iter()
                    .filter_map(|attribute| match attribute {
                        RouteAttribute::Oif(index) => Some(*index),
                        _ => None,
                    }),
            );
        }
    }
    Ok(found)
}

/// Returns the index of the device if this is a temporary address that other hosts know.
fn temporary_address(object: &RouteNetlinkMessage) -> Option<u32> {
    let RouteNetlinkMessage::NewAddress(AddressMessage { header, .. }) = object else {
        return None;
    };
    let is_temporary = header.family == AddressFamily::Inet6
        && header.scope == AddressScope::Universe
        && !header.flags.contains(AddressHeaderFlags::Permanent);
    is_temporary.then_some(header.index)
}
