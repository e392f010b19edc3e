//! Finds the network that carries the tunnels' packets: asks the routing tables for the way to
//! each peer.
//!
//! Ten thousand peers are ten thousand questions, so they are asked and answered as bytes, many
//! in one datagram. The answers are few different ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use overlay_core::host_api::desired::{Backend, Desired};
use rtnetlink::LinkUnspec;

use super::bridges::ports_of;
use super::links::{link, name};
use super::netlink::{Error, Netlink};
use super::observe::destinations;
use super::parse;
use super::raw::{Attributes, Socket, attributes, find};
use super::request::family;
use crate::progress;
use crate::reconcile::observed::{DeviceKind, PeerPath, Underlay};

// From linux/rtnetlink.h.
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const INET: u8 = 2;
/// Flag of a request: answer with the route of the table, and not with what the kernel has learned
/// about the destination meanwhile.
const FIB_MATCH: u32 = 0x2000;
/// Type of a route to another host.
const UNICAST: u8 = 1;
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;
const DEVICE: u16 = 4;
const METRICS: u16 = 8;
const METRIC_MTU: u16 = 2;
const MULTIPATH: u16 = 9;
/// Bytes of the header of a message about a route, and of one of the paths of a multipath route.
const ROUTE_HEADER: usize = 12;
const PATH_HEADER: usize = 8;

/// Address that no host has (RFC 5737): only a default route leads to it.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Finds the network that carries the tunnels: the paths to the peers (as long as they are unknown,
/// to those that the kernel has), or else the device with the agent's address. That address can be on a device that leads nowhere; then the default
/// route counts.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn underlay(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<Option<Underlay>, Error> {
    let own = match desired.underlay_ip {
        Some(own) => device_with(netlink, own.into()).await?,
        None => None,
    };
    let source = desired.underlay_ip.filter(|_| own.is_some());
    let peers = other_hosts(netlink, desired).await?;
    if let Some(underlay) = of_paths(netlink, desired, source, &peers).await? {
        return Ok(Some(underlay));
    }
    let Some(own) = own else { return Ok(None) };
    let query = LinkUnspec::new_with_index(own).build();
    let Some(message) = link(netlink, query).await? else {
        return Ok(None);
    };
    if !leads_nowhere(netlink, &message).await? {
        let parts = name(&message).zip(mtu(&message));
        return Ok(parts.map(|(name, mtu)| Underlay::of_device(own, name, mtu)));
    }
    // A test on a single machine has no underlay.
    if desired.underlay_ip.is_some_and(|own| own.is_loopback()) {
        return Ok(None);
    }
    let outside = of_paths(netlink, desired, source, &[OUTSIDE]).await?;
    Ok(outside.map(|underlay| Underlay {
        route_to: None,
        paths: BTreeSet::new(),
        ..underlay
    }))
}

/// Returns whether the paths to all these peers are among those of an underlay.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn has_paths_to(
    netlink: &Netlink,
    desired: &Desired,
    underlay: Option<&Underlay>,
    peers: &[Ipv4Addr],
) -> Result<bool, Error> {
    let own = match desired.underlay_ip {
        Some(own) => device_with(netlink, own.into()).await?,
        None => None,
    };
    let source = desired.underlay_ip.filter(|_| own.is_some());
    let paths = paths(source, peers).map_err(|error| Error::from_io(&error))?;
    let are_known = |underlay: &Underlay| paths.keys().all(|path| underlay.paths.contains(path));
    Ok(underlay.map_or(paths.is_empty(), are_known))
}

/// Returns the addresses of the other agents. As long as the master has not sent them, they are
/// those that the VXLAN device has.
async fn other_hosts(netlink: &Netlink, desired: &Desired) -> Result<Vec<Ipv4Addr>, Error> {
    let vtep = desired.vtep.as_ref();
    if let Some(peers) = &desired.peers {
        let own = vtep.map(|vtep| vtep.mac);
        let others = peers.iter();
        let others = others.filter(|(_, peer)| Some(peer.vtep_mac) != own);
        return Ok(others.map(|(ip, _)| *ip).collect());
    }
    let Some(vtep) = vtep.filter(|_| desired.backend == Backend::Internal) else {
        return Ok(Vec::new());
    };
    let all = destinations(netlink, &vtep.name).await?.into_iter();
    Ok(all.filter(|ip| Some(*ip) != desired.underlay_ip).collect())
}

/// Returns the underlay that consists of the paths to these hosts; `None`: there are none.
async fn of_paths(
    netlink: &Netlink,
    desired: &Desired,
    source: Option<Ipv4Addr>,
    hosts: &[Ipv4Addr],
) -> Result<Option<Underlay>, Error> {
    progress::step("read the routes to the peers");
    let paths = paths(source, hosts).map_err(|error| Error::from_io(&error))?;
    let vtep = desired.vtep.as_ref().map(|vtep| vtep.name.as_str());
    let mut found = Underlay::default();
    let mut names = BTreeMap::<u32, String>::new();
    for index in paths.keys().flat_map(|path| &path.devices) {
        let query = LinkUnspec::new_with_index(*index).build();
        let Some(message) = link(netlink, query).await? else {
            continue;
        };
        let is_loopback = message.header.flags.contains(LinkFlags::Loopback);
        let Some((name, mtu)) = name(&message).zip(mtu(&message)) else {
            continue;
        };
        if !is_loopback && Some(name) != vtep {
            names.insert(*index, name.to_owned());
            found.devices.insert(*index, mtu);
        }
    }
    let mut narrowest = u32::MAX;
    for (path, host) in &paths {
        for index in &path.devices {
            let (Some(name), Some(mtu)) = (names.get(index), found.devices.get(index)) else {
                continue;
            };
            let route_mtu = path.mtu.filter(|own| own < mtu);
            let mtu = route_mtu.unwrap_or(*mtu);
            if mtu < narrowest {
                narrowest = mtu;
                found.device.clone_from(name);
                found.route_to = route_mtu.map(|_| *host);
            }
        }
    }
    found.mtu = narrowest;
    found.paths = paths.into_keys().collect();
    Ok((!found.devices.is_empty()).then_some(found))
}

/// Returns whether no packet to another host leaves by a device: the loopback device, a dummy, or
/// a bridge without ports. Addresses that move between network cards are on such devices.
async fn leads_nowhere(netlink: &Netlink, message: &LinkMessage) -> Result<bool, Error> {
    if message.header.flags.contains(LinkFlags::Loopback) {
        return Ok(true);
    }
    let kind = parse::kind(message);
    if kind == DeviceKind::Other(InfoKind::Bridge.to_string()) {
        return Ok(ports_of(netlink, message.header.index).await? == 0);
    }
    Ok(kind == DeviceKind::Other(InfoKind::Dummy.to_string()))
}

fn mtu(message: &LinkMessage) -> Option<u32> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Mtu(bytes) => Some(*bytes),
        _ => None,
    })
}

/// Asks the kernel for the paths to these hosts, and returns the different ones, each with a host.
/// `source` is the address of the packets, on which rules can depend.
fn paths(source: Option<Ipv4Addr>, hosts: &[Ipv4Addr]) -> io::Result<BTreeMap<PeerPath, Ipv4Addr>> {
    let socket = Socket::open(NETLINK_ROUTE)?;
    // An old kernel would refuse nothing, either.
    let _ = socket.set_strict();
    let mut paths = BTreeMap::new();
    let requests = hosts.iter().map(|host| route_request(source, *host));
    socket.ask_each(GET_ROUTE, requests, |number, kind, answer| {
        let path = (kind == NEW_ROUTE).then(|| path(answer)).flatten();
        if let (Some(path), Some(host)) = (path, hosts.get(number)) {
            paths.entry(path).or_insert(*host);
        }
    })?;
    Ok(paths)
}

fn route_request(source: Option<Ipv4Addr>, host: Ipv4Addr) -> Vec<u8> {
    let mut header = [0; ROUTE_HEADER];
    header[0] = INET;
    header[1] = 32;
    header[8..].copy_from_slice(&FIB_MATCH.to_ne_bytes());
    let mut attributes = Attributes::default().with(DESTINATION, &host.octets());
    if let Some(source) = source {
        header[2] = 32;
        attributes = attributes.with(SOURCE, &source.octets());
    }
    [&header, attributes.bytes()].concat()
}

/// Parses a route; `None`: it leads to no other host.
fn path(answer: &[u8]) -> Option<PeerPath> {
    let (header, rest) = answer.split_at_checked(ROUTE_HEADER)?;
    if header[7] != UNICAST {
        return None;
    }
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let mut path = PeerPath::default();
    for attribute in attributes(rest).flatten() {
        match attribute.kind {
            DEVICE => path.devices.extend(number(attribute.value)),
            METRICS => path.mtu = find(attribute.value, METRIC_MTU).and_then(number),
            MULTIPATH => path.devices.extend(devices(attribute.value)),
            _ => {}
        }
    }
    (!path.devices.is_empty()).then_some(path)
}

/// Returns the devices of the paths of a multipath route.
fn devices(mut paths: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let Some(([a, b, _, _, c, d, e, f], _)) = paths.split_first_chunk::<PATH_HEADER>() {
        devices.push(u32::from_ne_bytes([*c, *d, *e, *f]));
        let length = usize::from(u16::from_ne_bytes([*a, *b])).max(PATH_HEADER);
        paths = paths.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    devices
}

/// Returns the index of the device that has an address.
async fn device_with(netlink: &Netlink, ip: IpAddr) -> Result<Option<u32>, Error> {
    let mut filter = AddressMessage::default();
    filter.header.family = family(ip);
    let objects = netlink
        .dump(RouteNetlinkMessage::GetAddress(filter))
        .await?;
    Ok(objects.iter().find_map(|object| match object {
        RouteNetlinkMessage::NewAddress(message) if parse::address(message)?.addr() == ip => {
            Some(message.header.index)
        }
        _ => None,
    }))
}
