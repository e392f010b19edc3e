//! Reads network devices and their addresses.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use overlay_core::host_api::desired::VXLAN_PORT;
use overlay_core::host_api::names::{parse_bridge_name, vtep_name};

use super::netlink::{Error, Netlink};
use super::parse;
use crate::reconcile::observed::DeviceKind;

/// Address families, IPv4 first.
pub(crate) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Returns a device; `None`: it does not exist.
pub(crate) async fn link(
    netlink: &Netlink,
    which: LinkMessage,
) -> Result<Option<LinkMessage>, Error> {
    Ok(
        match netlink.get(RouteNetlinkMessage::GetLink(which)).await? {
            Some(RouteNetlinkMessage::NewLink(message)) => Some(message),
            _ => None,
        },
    )
}

/// Returns the addresses of a device in a family, except link-local ones.
pub(crate) async fn addresses(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
) -> Result<BTreeSet<IpNet>, Error> {
    let messages = address_messages(netlink, index, family).await?;
    Ok(messages
        .iter()
        .filter_map(parse::address)
        .filter(|net| !parse::is_link_local(net.addr()))
        .collect())
}

/// Returns all addresses of a device in a family.
pub(super) async fn address_messages(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
) -> Result<Vec<AddressMessage>, Error> {
    let mut filter = AddressMessage::default();
    filter.header.family = family;
    filter.header.index = index;
    let objects = netlink
        .dump(RouteNetlinkMessage::GetAddress(filter))
        .await?;
    let messages = objects.into_iter().filter_map(|object| match object {
        RouteNetlinkMessage::NewAddress(message)
            if message.header.index == index && message.header.family == family =>
        {
            Some(message)
        }
        _ => None,
    });
    Ok(messages.collect())
}

/// Returns whether a device belongs to the overlays, now or before.
pub(super) fn is_ours(name: &str, message: &LinkMessage, vtep: Option<&str>) -> bool {
    is_vtep(name, message, vtep) || parse_bridge_name(name).is_some()
}

/// Returns whether a device is a VXLAN device of the overlays, now or before, or has the name of
/// the desired one, `vtep`.
pub(super) fn is_vtep(name: &str, message: &LinkMessage, vtep: Option<&str>) -> bool {
    let looks_like_vtep = match parse::kind(message) {
        DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            ..
        } => name == vtep_name(vni),
        _ => false,
    };
    looks_like_vtep || Some(name) == vtep
}

/// Returns the name of a device.
pub(crate) fn name(message: &LinkMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}
