//! Reads bridges of overlays, and ends of containers' veth pairs that are attached to none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::names::parse_bridge_name;

use super::links::{FAMILIES, address_messages, addresses, link, name};
use super::netlink::{Error, Netlink};
use super::raw::{self, Attributes, Request, Socket, find};
use super::request::link_named;
use super::{parse, sysctl};
use crate::reconcile::observed::{DeviceKind, DockerBridge, Leftover, LoosePort, MesosBridge};

/// Reads overlays' bridges that are not desired.
pub(super) async fn bridges(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, Leftover>, Error> {
    let wanted: BTreeSet<&str> = desired
        .overlays
        .values()
        .flat_map(|overlay| [&overlay.mesos_bridge, &overlay.docker_bridge])
        .flatten()
        .map(|bridge| bridge.name.as_str())
        .collect();
    let mut filter = LinkMessage::default();
    filter
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Bridge,
        )]));
    let mut bridges = BTreeMap::new();
    for object in netlink.dump(RouteNetlinkMessage::GetLink(filter)).await? {
        let RouteNetlinkMessage::NewLink(message) = object else {
            continue;
        };
        let Some(name) = name(&message) else { continue };
        let is_bridge = parse::kind(&message) == DeviceKind::Other(InfoKind::Bridge.to_string());
        if is_bridge && parse_bridge_name(name).is_some() && !wanted.contains(name) {
            bridges.insert(
                name.to_owned(),
                leftover(netlink, message.header.index).await?,
            );
        }
    }
    Ok(bridges)
}

/// Reads the devices with the names of desired bridges of Mesos.
pub(super) async fn mesos_bridges(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, MesosBridge>, Error> {
    let mut found = BTreeMap::new();
    for name in desired.mesos_bridges().into_keys() {
        let Some(message) = link(netlink, link_named(name)).await? else {
            continue;
        };
        let Leftover {
            ports, addresses, ..
        } = leftover(netlink, message.header.index).await?;
        let bridge = MesosBridge {
            is_bridge: parse::kind(&message) == DeviceKind::Other(InfoKind::Bridge.to_string()),
            up: message.header.flags.contains(LinkFlags::Up),
            ports,
            addresses,
            detects_duplicates: sysctl::ipv6_setting(name, "accept_dad")
                .is_some_and(|value| value != "0"),
            is_without_ipv6: sysctl::is_without_ipv6(name),
        };
        found.insert(name.to_owned(), bridge);
    }
    Ok(found)
}

/// Reads the existing bridges of Docker that are desired.
pub(super) async fn docker_bridges(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, DockerBridge>, Error> {
    let mut found = BTreeMap::new();
    for name in desired.docker_bridges().into_keys() {
        let Some(message) = link(netlink, link_named(name)).await? else {
            continue;
        };
        let index = message.header.index;
        let objects = address_messages(netlink, index, AddressFamily::Inet6).await?;
        let tentative: BTreeSet<IpNet> = objects
            .iter()
            .filter(|message| parse::is_tentative(message))
            .filter_map(parse::address)
            .collect();
        // Only then the number of ports matters.
        let ports = if tentative.is_empty() {
            0
        } else {
            leftover(netlink, index).await?.ports
        };
        found.insert(name.to_owned(), DockerBridge { ports, tentative });
    }
    Ok(found)
}

/// Returns the number of ports of a bridge.
pub(super) async fn ports_of(netlink: &Netlink, index: u32) -> Result<usize, Error> {
    let mut filter = LinkMessage::default();
    filter.attributes.push(LinkAttribute::Controller(index));
    let objects = netlink.dump(RouteNetlinkMessage::GetLink(filter)).await?;
    let is_port = |object: &&RouteNetlinkMessage| match object {
        RouteNetlinkMessage::NewLink(message) => message
            .attributes
            .contains(&LinkAttribute::Controller(index)),
        _ => false,
    };
    Ok(objects.iter().filter(is_port).count())
}

/// Reads the ports and addresses of a bridge.
async fn leftover(netlink: &Netlink, index: u32) -> Result<Leftover, Error> {
    let mut leftover = Leftover {
        index,
        ports: ports_of(netlink, index).await?,
        ..Leftover::default()
    };
    for family in FAMILIES {
        leftover
            .addresses
            .append(&mut addresses(netlink, index, family).await?);
    }
    Ok(leftover)
}

/// Reads the ends of containers' veth pairs that are attached to no bridge, with the addresses
/// of the containers' ends, routed ones included. On kernels before 4.20, which do not tell these addresses, there are
/// none.
pub(crate) async fn loose_ports(netlink: &Netlink) -> Result<Vec<LoosePort>, Error> {
    let mut filter = LinkMessage::default();
    let veth = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
    filter.attributes.push(veth);
    let objects = netlink.dump(RouteNetlinkMessage::GetLink(filter)).await?;
    let mut containers = BTreeMap::<i32, ContainerAddresses>::new();
    let mut ports = Vec::new();
    for object in objects {
        let RouteNetlinkMessage::NewLink(message) = object else {
            continue;
        };
        let Some((namespace, peer)) = loose_end(&message) else {
            continue;
        };
        let addresses = containers.entry(namespace).or_insert_with(|| {
            // A container that is just ending has none.
            container_addresses(namespace).unwrap_or_default()
        });
        if let (Some(name), Some(addresses)) = (name(&message), addresses.get(&peer)) {
            ports.push(LoosePort {
                index: message.header.index,
                name: name.to_owned(),
                addresses: addresses.clone(),
            });
        }
    }
    Ok(ports)
}

/// Returns the namespace of the other end of a veth pair, and the index of that end in it;
/// `None`: it is in this namespace, or the device is attached to a bridge or is no veth.
fn loose_end(message: &LinkMessage) -> Option<(i32, u32)> {
    if parse::kind(message) != DeviceKind::Other(InfoKind::Veth.to_string()) {
        return None;
    }
    let (mut namespace, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Controller(_) => return None,
            LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
            LinkAttribute::Link(index) => peer = Some(*index),
            _ => {}
        }
    }
    Some((namespace?, peer?))
}

/// Addresses in another network namespace, by index of their device.
type ContainerAddresses = BTreeMap<u32, BTreeSet<IpAddr>>;

// From linux/rtnetlink.h and linux/if_addr.h.
const GET_ADDRESS: u16 = 22;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const TARGET_NAMESPACE: u16 = 10;
/// Bytes of the header of a message about an address, whose last four are the index of the device.
const ADDRESS_HEADER: usize = 8;

/// Reads the addresses in the network namespace that has this id here.
fn container_addresses(namespace: i32) -> io::Result<ContainerAddresses> {
    let socket = Socket::open(NETLINK_ROUTE)?;
    // Without strict checks the kernel would answer with the addresses of this namespace.
    socket.set_strict()?;
    let mut found = ContainerAddresses::new();
    for family in FAMILIES {
        let mut header = [0; ADDRESS_HEADER];
        header[0] = u8::from(family);
        let target = Attributes::default().with(TARGET_NAMESPACE, &namespace.to_ne_bytes());
        let request = [&header, target.bytes()].concat();
        socket.ask(GET_ADDRESS, Request::Dump, &request, |answer| {
            if let Some((index, ip)) = container_address(answer, namespace) {
                found.entry(index).or_default().insert(ip);
            }
        })?;
    }
    Ok(found)
}

fn container_address(answer: &[u8], namespace: i32) -> Option<(u32, IpAddr)> {
    let (header, attributes) = answer.split_at_checked(ADDRESS_HEADER)?;
    let index = u32::from_ne_bytes(header[4..].try_into().ok()?);
    let is_there = find(attributes, TARGET_NAMESPACE) == Some(&namespace.to_ne_bytes());
    let ip = find(attributes, LOCAL).or_else(|| find(attributes, ADDRESS))?;
    let ip = raw::address(ip).filter(|ip| !parse::is_link_local(*ip))?;
    is_there.then_some((index, ip))
}
