//! What the kernel has of the things that may be ours.
//!
//! The kernel filters what it tells, as far as it can; here everything is
//! filtered once more, since an old kernel ignores filters that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use overlay_core::host_api::desired::{CONTAINER_TABLE, Desired, Mac, VXLAN_PORT};

use super::netlink::{Error, Netlink};
use super::nexthop;
use super::request::{family, link_named};
use super::sysctl;
use crate::reconcile::observed::{
    Device, DeviceKind, DockersBridge, FdbEntry, FoundBridge, Kernel, Leftover, Neighbour, Nexthop,
    Route, Rule, Underlay,
};
use crate::reconcile::{DOCKER_BRIDGE, MAIN_TABLE, MESOS_BRIDGE, dockers_bridges, wanted_bridges};

/// Both families of addresses.
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// The bit of a neighbour's state that says that it was set for good. (`dcos-net`
/// combines it with another one in its FDB entries.)
const PERMANENT: u16 = 0x80;

/// Reads what the kernel has.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn observe(netlink: &Netlink, desired: &Desired) -> Result<Kernel, String> {
    let told = |what| move |error: Error| format!("cannot read the kernel's {what}: {error}");
    let name = desired.vtep.as_ref().map(|vtep| vtep.name.as_str());
    let device = match name {
        Some(name) => device(netlink, name).await.map_err(told("VXLAN device"))?,
        None => None,
    };
    Ok(Kernel {
        device,
        stale_devices: stale_devices(netlink, name)
            .await
            .map_err(told("VXLAN devices"))?,
        rules: rules(netlink).await.map_err(told("rules"))?,
        bridges: bridges(netlink, desired).await.map_err(told("bridges"))?,
        nexthops: nexthops(netlink, name)
            .await
            .map_err(told("nexthop objects"))?,
        wanted_bridges: found_bridges(netlink, desired)
            .await
            .map_err(told("bridges"))?,
        dockers_bridges: found_dockers(netlink, desired)
            .await
            .map_err(told("bridges"))?,
    })
}

/// The index of a device; `None` if there is none of this name.
pub(crate) async fn index_of(netlink: &Netlink, name: &str) -> Result<Option<u32>, Error> {
    Ok(link(netlink, link_named(name))
        .await?
        .map(|message| message.header.index))
}

async fn link(netlink: &Netlink, which: LinkMessage) -> Result<Option<LinkMessage>, Error> {
    Ok(
        match netlink.get(RouteNetlinkMessage::GetLink(which)).await? {
            Some(RouteNetlinkMessage::NewLink(message)) => Some(message),
            _ => None,
        },
    )
}

/// The device of this name, with everything on it.
async fn device(netlink: &Netlink, name: &str) -> Result<Option<Device>, Error> {
    let Some(message) = link(netlink, link_named(name)).await? else {
        return Ok(None);
    };
    let (index, kind) = (message.header.index, kind(&message));
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
            LinkAttribute::Address(bytes) => device.mac = mac(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            _ => {}
        }
    }
    // Nothing on a device that is not ours is any business of ours.
    if matches!(device.kind, DeviceKind::Vxlan { .. }) {
        for family in FAMILIES {
            device
                .addresses
                .append(&mut addresses(netlink, index, family).await?);
            device
                .neighbours
                .append(&mut neighbours(netlink, index, family).await?);
            for table in [MAIN_TABLE, CONTAINER_TABLE] {
                device
                    .routes
                    .append(&mut routes(netlink, index, family, table).await?);
            }
        }
        device.fdb = fdb(netlink, index).await?;
    }
    Ok(Some(device))
}

pub(super) fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

/// What a device is, and if VXLAN, of which sort.
pub(super) fn kind(message: &LinkMessage) -> DeviceKind {
    let infos = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
    let mut name = None;
    let (mut vni, mut port, mut learning, mut many) = (None, 0, false, false);
    for info in infos.flatten() {
        match info {
            LinkInfo::Kind(kind) => name = Some(kind.to_string()),
            LinkInfo::Data(InfoData::Vxlan(data)) => {
                for datum in data {
                    match datum {
                        InfoVxlan::Id(id) => vni = Some(*id),
                        InfoVxlan::Port(number) => port = *number,
                        InfoVxlan::Learning(on) => learning = *on,
                        InfoVxlan::CollectMetadata(on) => many |= *on,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    match name {
        Some(name) if name == InfoKind::Vxlan.to_string() => DeviceKind::Vxlan {
            vni: vni.filter(|_| !many),
            port,
            learning,
        },
        Some(name) => DeviceKind::Other(name),
        // Hardware has no kind.
        None => DeviceKind::Other("hardware".to_owned()),
    }
}

/// VXLAN devices that look like ours and have not the name that is wanted.
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
        } = kind(&message)
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
        stale.extend(
            names.filter(|name| *name == format!("vtep{vni}") && Some(name.as_str()) != wanted),
        );
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
        .filter_map(address)
        .filter(|net| !is_link_local(net.addr()))
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

pub(super) fn address(message: &AddressMessage) -> Option<IpNet> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // IPv6 has no `local`; with IPv4 `address` is the other side, if there is one.
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

/// Addresses that a host gives itself.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// A neighbour or FDB entry, taken apart.
pub(super) struct Entry {
    pub(super) ip: Option<IpAddr>,
    pub(super) mac: Option<Mac>,
    pub(super) permanent: bool,
    pub(super) plain: bool,
}

/// The neighbours or, as family "bridge", the FDB entries of a device.
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
            Some(entry(&message))
        }
        _ => None,
    });
    Ok(parsed.collect())
}

pub(super) fn entry(message: &NeighbourMessage) -> Entry {
    let state = u16::from(message.header.state);
    let mut entry = Entry {
        ip: None,
        mac: None,
        permanent: state & PERMANENT != 0,
        plain: true,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                entry.ip = Some((*ip).into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                entry.ip = Some((*ip).into())
            }
            // In a message of family "bridge" the length says what it is.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => entry.ip = ip(bytes),
            NeighbourAttribute::LinkLayerAddress(bytes) => entry.mac = mac(bytes),
            NeighbourAttribute::Port(_)
            | NeighbourAttribute::Vni(_)
            | NeighbourAttribute::IfIndex(_) => {
                entry.plain = false;
            }
            _ => {}
        }
    }
    entry
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
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

/// Entries without a destination are the device's own addresses.
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

async fn routes(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
    table: u32,
) -> Result<BTreeSet<Route>, Error> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = family;
    filter.attributes = vec![RouteAttribute::Oif(index), RouteAttribute::Table(table)];
    let objects = match netlink.dump(RouteNetlinkMessage::GetRoute(filter)).await {
        // Nobody made this table yet.
        Err(Error::Refused {
            errno: Errno::ENOENT,
            ..
        }) => return Ok(BTreeSet::new()),
        objects => objects?,
    };
    let parsed = objects.into_iter().filter_map(|object| match object {
        RouteNetlinkMessage::NewRoute(message) if message.header.address_family == family => {
            route(&message).filter(|(oif, route)| *oif == Some(index) && route.table == table)
        }
        _ => None,
    });
    Ok(parsed.map(|(_, route)| route).collect())
}

/// A route and the device that it is over, unless the kernel (or a router) made
/// it.
pub(super) fn route(message: &RouteMessage) -> Option<(Option<u32>, Route)> {
    let header = &message.header;
    if matches!(
        header.protocol,
        RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect
    ) {
        return None;
    }
    let (mut table, mut oif, mut dst, mut via) = (u32::from(header.table), None, None, None);
    let (mut metric, mut nexthop) = (0, None);
    let mut plain = header.kind == RouteType::Unicast && header.tos == 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(number) => oif = Some(*number),
            RouteAttribute::Destination(address) => dst = route_ip(address),
            RouteAttribute::Gateway(address) => via = route_ip(address),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::NhId(id) => nexthop = Some(*id),
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::Encap(_) => {
                plain = false
            }
            RouteAttribute::Source(_) => plain = false,
            _ => {}
        }
    }
    let dst = dst.or(match header.address_family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => Some(Ipv6Addr::UNSPECIFIED.into()),
    })?;
    let dst = IpNet::new(dst, header.destination_prefix_length).ok()?;
    let protocol = u8::from(header.protocol);
    Some((
        oif,
        Route {
            table,
            dst,
            via,
            metric,
            protocol,
            plain,
            nexthop,
        },
    ))
}

fn route_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// Everybody's nexthop objects: an id that somebody else has is not for us.
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
        let here = index.is_some() && object.index == index;
        Some((
            object.id?,
            Nexthop {
                via: object.via,
                here,
                protocol: object.protocol,
            },
        ))
    });
    Ok(Some(nexthops.collect()))
}

async fn rules(netlink: &Netlink) -> Result<BTreeSet<Rule>, Error> {
    let mut rules = BTreeSet::new();
    for family in FAMILIES {
        let mut filter = RuleMessage::default();
        filter.header.family = family;
        let objects = match netlink.dump(RouteNetlinkMessage::GetRule(filter)).await {
            // A kernel without rules of this family.
            Err(Error::Refused {
                errno: Errno::EAFNOSUPPORT,
                ..
            }) => continue,
            objects => objects?,
        };
        rules.extend(objects.iter().filter_map(|object| match object {
            RouteNetlinkMessage::NewRule(message) if message.header.family == family => {
                rule(message)
            }
            _ => None,
        }));
    }
    Ok(rules)
}

/// A rule that says `from <prefix> lookup 42` and nothing else; every other one
/// is not like ours.
pub(super) fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let plain = header.action == RuleAction::ToTable
        && header.dst_len == 0
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert);
    let (mut table, mut from, mut priority) = (u32::from(header.table), None, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Source(ip) => from = Some(*ip),
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Protocol(_) => {}
            // "Nothing is suppressed", which the kernel says of every rule.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            // A condition that ours have not. (Of attributes that the crate does
            // not know we cannot say.)
            RuleAttribute::Other(_) => {}
            _ => return None,
        }
    }
    let from = IpNet::new(from?, header.src_len).ok()?;
    (plain && table == CONTAINER_TABLE).then_some(Rule { from, priority })
}

/// The bridges of containers that are not desired.
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
        let is_bridge = kind(&message) == DeviceKind::Other(InfoKind::Bridge.to_string());
        let is_containers = name.starts_with(MESOS_BRIDGE) || name.starts_with(DOCKER_BRIDGE);
        if is_bridge && is_containers && !wanted.contains(name) {
            bridges.insert(
                name.to_owned(),
                leftover(netlink, message.header.index).await?,
            );
        }
    }
    Ok(bridges)
}

/// The devices that have the names of bridges that are desired.
async fn found_bridges(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, FoundBridge>, Error> {
    let mut found = BTreeMap::new();
    for (name, _) in wanted_bridges(desired) {
        let Some(message) = link(netlink, link_named(name)).await? else {
            continue;
        };
        let Leftover {
            ports, addresses, ..
        } = leftover(netlink, message.header.index).await?;
        let bridge = FoundBridge {
            is_bridge: kind(&message) == DeviceKind::Other(InfoKind::Bridge.to_string()),
            up: message.header.flags.contains(LinkFlags::Up),
            ports,
            addresses,
            detects_duplicates: sysctl::device6(name, "accept_dad")
                .is_some_and(|value| value != "0"),
        };
        found.insert(name.to_owned(), bridge);
    }
    Ok(found)
}

/// Docker's bridges of overlays that are desired.
async fn found_dockers(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<BTreeMap<String, DockersBridge>, Error> {
    let mut found = BTreeMap::new();
    for name in dockers_bridges(desired) {
        let Some(message) = link(netlink, link_named(name)).await? else {
            continue;
        };
        let index = message.header.index;
        let objects = address_messages(netlink, index, AddressFamily::Inet6).await?;
        let tentative: BTreeSet<IpNet> = objects
            .iter()
            .filter(|message| is_tentative(message))
            .filter_map(address)
            .collect();
        // Who is on it matters only then.
        let ports = if tentative.is_empty() {
            0
        } else {
            leftover(netlink, index).await?.ports
        };
        found.insert(name.to_owned(), DockersBridge { ports, tentative });
    }
    Ok(found)
}

/// Whether an address cannot be used yet.
pub(super) fn is_tentative(message: &AddressMessage) -> bool {
    message.header.flags.contains(AddressHeaderFlags::Tentative)
}

/// What is on a bridge.
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

fn name(message: &LinkMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

/// The device that carries the tunnels: the one that has the agent's own address,
/// or else (the address may be another one outside of this host) the one over
/// which the first peer is reached.
pub(crate) async fn underlay(
    netlink: &Netlink,
    desired: &Desired,
) -> Result<Option<Underlay>, Error> {
    let own = match desired.own {
        Some(own) => device_with(netlink, own.into()).await?,
        None => None,
    };
    let index = match own {
        Some(index) => Some(index),
        None => way_to_peers(netlink, desired).await?,
    };
    let Some(index) = index else { return Ok(None) };
    let mut which = LinkMessage::default();
    which.header.index = index;
    let Some(message) = link(netlink, which).await? else {
        return Ok(None);
    };
    // What is tried out on one machine alone has no underlay.
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

/// Whether a device has a route, or an address with an end, by router advertisements.
pub(crate) async fn is_advertised(netlink: &Netlink, index: u32) -> Result<bool, Error> {
    let messages = address_messages(netlink, index, AddressFamily::Inet6).await?;
    let mut passing = messages
        .iter()
        .filter(|message| !message.header.flags.contains(AddressHeaderFlags::Permanent));
    if passing.any(|message| message.header.scope == AddressScope::Universe) {
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

/// The device that has this address.
async fn device_with(netlink: &Netlink, ip: IpAddr) -> Result<Option<u32>, Error> {
    let mut filter = AddressMessage::default();
    filter.header.family = family(ip);
    let objects = netlink
        .dump(RouteNetlinkMessage::GetAddress(filter))
        .await?;
    Ok(objects.iter().find_map(|object| match object {
        RouteNetlinkMessage::NewAddress(message) if address(message)?.addr() == ip => {
            Some(message.header.index)
        }
        _ => None,
    }))
}

/// The device over which the first peer that is not the host itself is reached.
async fn way_to_peers(netlink: &Netlink, desired: &Desired) -> Result<Option<u32>, Error> {
    let own = desired.vtep.as_ref().map(|vtep| vtep.mac);
    let mut others = desired
        .peers
        .iter()
        .flatten()
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
