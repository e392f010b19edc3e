//! Reads the objects of the kernel that may be ours.
//!
//! The kernel filters its dumps where it can. Everything is filtered again here, since an old
//! kernel ignores filters that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use overlay_core::host_api::desired::{CONTAINER_TABLE, ContainerTable, Desired, Mac, VXLAN_PORT};
use overlay_core::host_api::names::{parse_bridge_name, vtep_name};
use rtnetlink::LinkUnspec;

use super::netlink::{Error, Netlink};
use super::nexthop;
use super::parse::{self, Entry};
use super::request::{family, link_named};
use super::routes::{self, FoundRoute};
use super::sysctl;
use crate::reconcile::observed::{
    Device, DeviceKind, DockerBridge, FdbEntry, HostNetwork, HostNetworks, Kernel, Leftover,
    MesosBridge, Neighbour, Nexthop, Rule, Underlay,
};
use crate::reconcile::{MAIN_TABLE, PROTOCOL, Unassigned};

/// Address families, IPv4 first.
pub(super) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Reads the objects of the kernel that may be ours.
///
/// # Errors
/// Part of them cannot be read; a sentence for operators.
pub(crate) async fn observe(netlink: &Netlink, desired: &Desired) -> Result<Kernel, String> {
    let cannot_read =
        |what| move |error: Error| format!("cannot read the kernel's {what}: {error}");
    let name = desired.vtep.as_ref().map(|vtep| vtep.name.as_str());
    let ContainerTable(table) = desired.container_table;
    let rules = rules(netlink, table).await.map_err(cannot_read("rules"))?;
    let all = routes::all(netlink, &tables(&rules, table))
        .await
        .map_err(cannot_read("routes"))?;
    let device = match name {
        Some(name) => device(netlink, name, &all)
            .await
            .map_err(cannot_read("VXLAN device"))?,
        None => None,
    };
    let ranges = desired
        .overlays
        .values()
        .flat_map(|overlay| overlay.ranges.iter().copied());
    let ranges: Vec<IpNet> = ranges.chain(rules.iter().map(|rule| rule.from)).collect();
    Ok(Kernel {
        device,
        foreign_routes: routes::foreign(netlink, &all, name, &ranges, table)
            .await
            .map_err(cannot_read("routes"))?,
        stale_devices: stale_devices(netlink, name)
            .await
            .map_err(cannot_read("VXLAN devices"))?,
        rules,
        bridges: bridges(netlink, desired)
            .await
            .map_err(cannot_read("bridges"))?,
        nexthops: nexthops(netlink, name)
            .await
            .map_err(cannot_read("nexthop objects"))?,
        mesos_bridges: mesos_bridges(netlink, desired)
            .await
            .map_err(cannot_read("bridges"))?,
        docker_bridges: docker_bridges(netlink, desired)
            .await
            .map_err(cannot_read("bridges"))?,
        networks: networks(netlink, name)
            .await
            .map_err(cannot_read("addresses"))?,
    })
}

/// Reads what is known of a host before any overlay is known.
///
/// # Errors
/// A part cannot be read; a sentence for operators.
pub(crate) async fn unassigned(netlink: &Netlink) -> Result<Unassigned, String> {
    let cannot_read =
        |what| move |error: Error| format!("cannot read the kernel's {what}: {error}");
    let names = stale_devices(netlink, None).await;
    let rules = rules(netlink, CONTAINER_TABLE)
        .await
        .map_err(cannot_read("rules"))?;
    let all = routes::all(netlink, &tables(&rules, CONTAINER_TABLE))
        .await
        .map_err(cannot_read("routes"))?;
    let mut vteps = BTreeMap::new();
    for name in names.map_err(cannot_read("VXLAN devices"))? {
        let vtep = device(netlink, &name, &all).await;
        if let Some(vtep) = vtep.map_err(cannot_read("VXLAN device"))? {
            vteps.insert(name, vtep);
        }
    }
    Ok(Unassigned {
        vteps,
        rules,
        networks: networks(netlink, None)
            .await
            .map_err(cannot_read("addresses"))?,
    })
}

/// Returns the index of a device; `None`: there is none of this name.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn index_of(netlink: &Netlink, name: &str) -> Result<Option<u32>, Error> {
    Ok(link(netlink, link_named(name))
        .await?
        .map(|message| message.header.index))
}

pub(super) async fn link(
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

/// Reads the device of this name with everything on it. `all` are the host's routes.
async fn device(
    netlink: &Netlink,
    name: &str,
    all: &[FoundRoute],
) -> Result<Option<Device>, Error> {
    let Some(message) = link(netlink, link_named(name)).await? else {
        return Ok(None);
    };
    let (index, kind) = (message.header.index, parse::kind(&message));
    let mut device = Device {
        mac: Mac::default(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        addresses: BTreeSet::new(),
        neighbours: BTreeMap::new(),
        fdb: BTreeMap::new(),
        routes: BTreeSet::new(),
        kind,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => device.mac = parse::mac(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            _ => {}
        }
    }
    // Objects on a device of another kind are not ours.
    if matches!(device.kind, DeviceKind::Vxlan { .. }) {
        for family in FAMILIES {
            device
                .addresses
                .append(&mut addresses(netlink, index, family).await?);
            device
                .neighbours
                .append(&mut neighbours(netlink, index, family).await?);
        }
        device.routes = routes::over(all, index);
        device.fdb = fdb(netlink, index).await?;
    }
    Ok(Some(device))
}

/// Returns the names of VXLAN devices that look like ours, other than the wanted one.
async fn stale_devices(netlink: &Netlink, wanted: Option<&str>) -> Result<BTreeSet<String>, Error> {
    let mut filter = LinkMessage::default();
    filter
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Vxlan,
        )]));
    let mut stale = BTreeSet::new();
    for object in netlink.dump(RouteNetlinkMessage::GetLink(filter)).await? {
        let RouteNetlinkMessage::NewLink(message) = object else {
            continue;
        };
        let DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            ..
        } = parse::kind(&message)
        else {
            continue;
        };
        let names = message
            .attributes
            .into_iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
        stale.extend(names.filter(|name| *name == vtep_name(vni) && Some(name.as_str()) != wanted));
    }
    Ok(stale)
}

async fn addresses(
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

async fn address_messages(
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

/// Returns the neighbours of a device or, with the family "bridge", its FDB entries.
async fn entries(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
) -> Result<Vec<Entry>, Error> {
    let mut filter = NeighbourMessage::default();
    filter.header.family = family;
    if family == AddressFamily::Bridge {
        filter.header.ifindex = index;
    } else {
        filter.attributes.push(NeighbourAttribute::IfIndex(index));
    }
    let objects = netlink
        .dump(RouteNetlinkMessage::GetNeighbour(filter))
        .await?;
    let parsed = objects.into_iter().filter_map(|object| match object {
        RouteNetlinkMessage::NewNeighbour(message)
            if message.header.ifindex == index
                && message.header.family == family
                && !message.header.flags.contains(NeighbourFlags::Proxy) =>
        {
            Some(parse::entry(&message))
        }
        _ => None,
    });
    Ok(parsed.collect())
}

async fn neighbours(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
) -> Result<BTreeMap<IpAddr, Neighbour>, Error> {
    let entries = entries(netlink, index, family).await?.into_iter();
    Ok(entries
        .filter_map(
            |Entry {
                 ip, mac, permanent, ..
             }| Some((ip?, Neighbour { mac, permanent })),
        )
        .collect())
}

/// Returns the FDB of a device. (Entries without a destination are its own addresses.)
async fn fdb(netlink: &Netlink, index: u32) -> Result<BTreeMap<(Mac, IpAddr), FdbEntry>, Error> {
    let entries = entries(netlink, index, AddressFamily::Bridge)
        .await?
        .into_iter();
    Ok(entries
        .filter_map(
            |Entry {
                 ip,
                 mac,
                 permanent,
                 plain,
             }| Some(((mac?, ip?), FdbEntry { permanent, plain })),
        )
        .collect())
}

/// Returns all nexthop objects: an id that somebody else uses cannot be ours.
async fn nexthops(
    netlink: &Netlink,
    name: Option<&str>,
) -> Result<Option<BTreeMap<u32, Nexthop>>, Error> {
    let Some(name) = name.filter(|_| nexthop::are_usable()) else {
        return Ok(None);
    };
    let index = index_of(netlink, name).await?;
    let objects = netlink.dump_nexthops().await?.into_iter();
    let nexthops = objects.filter_map(|object| {
        let on_vtep = index.is_some() && object.index == index;
        Some((
            object.id?,
            Nexthop {
                via: object.via,
                on_vtep,
                protocol: object.protocol,
            },
        ))
    });
    Ok(Some(nexthops.collect()))
}

/// Returns the tables in which routes of ours may be: `table`, the predecessor's, and those of
/// rules with our mark.
fn tables(rules: &BTreeSet<Rule>, table: u32) -> BTreeSet<u32> {
    let marked = rules.iter().filter(|rule| rule.protocol == PROTOCOL);
    let former = marked.map(|rule| rule.table);
    former.chain([MAIN_TABLE, CONTAINER_TABLE, table]).collect()
}

/// Returns the rules that have our mark, or lead to `table` or the predecessor's.
async fn rules(netlink: &Netlink, table: u32) -> Result<BTreeSet<Rule>, Error> {
    let matters =
        |rule: &Rule| rule.protocol == PROTOCOL || [table, CONTAINER_TABLE].contains(&rule.table);
    let mut rules = BTreeSet::new();
    for family in FAMILIES {
        let mut filter = RuleMessage::default();
        filter.header.family = family;
        let objects = match netlink.dump(RouteNetlinkMessage::GetRule(filter)).await {
            // The kernel has no rules of this family.
            Err(Error::Refused {
                errno: Errno::EAFNOSUPPORT,
                ..
            }) => continue,
            objects => objects?,
        };
        rules.extend(objects.iter().filter_map(|object| match object {
            RouteNetlinkMessage::NewRule(message) if message.header.family == family => {
                parse::rule(message).filter(matters)
            }
            _ => None,
        }));
    }
    Ok(rules)
}

/// Reads overlays' bridges that are not desired.
async fn bridges(
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

/// Reads the networks of all devices but ours: VXLAN devices and overlays' bridges. `vtep` is
/// the name of the desired VTEP.
async fn networks(netlink: &Netlink, vtep: Option<&str>) -> Result<HostNetworks, Error> {
    let mut filter = AddressMessage::default();
    filter.header.family = AddressFamily::Unspec;
    let objects = netlink
        .dump(RouteNetlinkMessage::GetAddress(filter))
        .await?;
    let mut of_devices = BTreeMap::<u32, Vec<IpNet>>::new();
    for object in objects {
        let RouteNetlinkMessage::NewAddress(message) = object else {
            continue;
        };
        let net = parse::address(&message)
            .filter(|net| !net.addr().is_loopback() && !parse::is_link_local(net.addr()));
        let nets = of_devices.entry(message.header.index).or_default();
        nets.extend(net);
    }
    of_devices.retain(|_, nets| !nets.is_empty());
    let mut networks = HostNetworks::new();
    for (index, nets) in of_devices {
        let query = LinkUnspec::new_with_index(index).build();
        // A device that is gone has no networks any more.
        let Some(message) = link(netlink, query).await? else {
            continue;
        };
        if let Some(device) = name(&message).filter(|name| !is_ours(name, &message, vtep)) {
            let network = |net| HostNetwork {
                net,
                device: device.to_owned(),
            };
            networks.extend(nets.into_iter().map(network));
        }
    }
    Ok(networks)
}

/// Returns whether a device belongs to the overlays, now or before.
pub(super) fn is_ours(name: &str, message: &LinkMessage, vtep: Option<&str>) -> bool {
    let is_vtep = match parse::kind(message) {
        DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            ..
        } => name == vtep_name(vni),
        _ => false,
    };
    is_vtep || Some(name) == vtep || parse_bridge_name(name).is_some()
}

/// Reads the devices with the names of desired bridges of Mesos.
async fn mesos_bridges(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, MesosBridge>, Error> {
    let mut found = BTreeMap::new();
    for name in desired.mesos_bridges_with_ipv6().into_keys() {
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
        };
        found.insert(name.to_owned(), bridge);
    }
    Ok(found)
}

/// Reads the existing bridges of Docker that are desired.
async fn docker_bridges(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, DockerBridge>, Error> {
    let mut found = BTreeMap::new();
    for name in desired.docker_bridges_with_ipv6() {
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

/// Reads the ports and addresses of a bridge.
async fn leftover(netlink: &Netlink, index: u32) -> Result<Leftover, Error> {
    let mut filter = LinkMessage::default();
    filter.attributes.push(LinkAttribute::Controller(index));
    let objects = netlink.dump(RouteNetlinkMessage::GetLink(filter)).await?;
    let is_port = |object: &&RouteNetlinkMessage| match object {
        RouteNetlinkMessage::NewLink(message) => message
            .attributes
            .contains(&LinkAttribute::Controller(index)),
        _ => false,
    };
    let mut leftover = Leftover {
        index,
        ports: objects.iter().filter(is_port).count(),
        ..Leftover::default()
    };
    for family in FAMILIES {
        leftover
            .addresses
            .append(&mut addresses(netlink, index, family).await?);
    }
    Ok(leftover)
}

pub(super) fn name(message: &LinkMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// Finds the device that carries the tunnels: the one with the agent's underlay address, or
/// else the one over which the first peer is reached. (Outside of this host the agent may be
/// known by another address.)
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
    let index = match own {
        Some(index) => Some(index),
        None => device_to_peers(netlink, desired).await?,
    };
    let Some(index) = index else { return Ok(None) };
    let query = LinkUnspec::new_with_index(index).build();
    let Some(message) = link(netlink, query).await? else {
        return Ok(None);
    };
    // A test on a single machine has no underlay.
    if message.header.flags.contains(LinkFlags::Loopback) {
        return Ok(None);
    }
    let mtu = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(bytes) => Some(*bytes),
            _ => None,
        });
    let device = name(&message).map(str::to_owned);
    Ok(device
        .zip(mtu)
        .map(|(device, mtu)| Underlay { index, device, mtu }))
}

/// Returns whether a device has a route or a temporary address from router advertisements.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn is_advertised(netlink: &Netlink, index: u32) -> Result<bool, Error> {
    let messages = address_messages(netlink, index, AddressFamily::Inet6).await?;
    let mut temporary = messages
        .iter()
        .filter(|message| !message.header.flags.contains(AddressHeaderFlags::Permanent));
    if temporary.any(|message| message.header.scope == AddressScope::Universe) {
        return Ok(true);
    }
    let mut filter = RouteMessage::default();
    filter.header.address_family = AddressFamily::Inet6;
    filter.attributes = vec![
        RouteAttribute::Oif(index),
        RouteAttribute::Table(MAIN_TABLE),
    ];
    let objects = netlink.dump(RouteNetlinkMessage::GetRoute(filter)).await?;
    Ok(objects.iter().any(|object| match object {
        RouteNetlinkMessage::NewRoute(message) => {
            message.header.protocol == RouteProtocol::Ra
                && message.attributes.contains(&RouteAttribute::Oif(index))
        }
        _ => false,
    }))
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

/// Returns the index of the device over which the first peer is reached, other than this
/// host.
async fn device_to_peers(netlink: &Netlink, desired: &Desired) -> Result<Option<u32>, Error> {
    let own = desired.vtep.as_ref().map(|vtep| vtep.mac);
    let mut others = desired
        .peers
        .iter()
        .flat_map(|peers| peers.iter())
        .filter(|(_, peer)| Some(peer.vtep_mac) != own);
    let Some((peer, _)) = others.next() else {
        return Ok(None);
    };
    let mut query = RouteMessage::default();
    query.header.address_family = family((*peer).into());
    query.header.destination_prefix_length = 32;
    query.attributes = vec![RouteAttribute::Destination(IpAddr::V4(*peer).into())];
    let route = netlink.get(RouteNetlinkMessage::GetRoute(query)).await?;
    let Some(RouteNetlinkMessage::NewRoute(route)) = route else {
        return Ok(None);
    };
    Ok(route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        }))
}
