//! Parses messages of rtnetlink into observed objects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use overlay_core::host_api::desired::Mac;

use super::raw;
use crate::reconcile::observed::{DeviceKind, Route, Rule, Tunnel};

/// Bit of a neighbour's state: it never expires (`NUD_PERMANENT`). `dcos-net` combines it with
/// another one in its FDB entries.
const PERMANENT: u16 = 0x80;

/// Parses a hardware address; `None`: it is no Ethernet address.
pub(crate) fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}

/// Returns the kind of a device.
pub(crate) fn kind(message: &LinkMessage) -> DeviceKind {
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
        // The kernel names no kind of hardware.
        None => DeviceKind::Other("hardware".to_owned()),
    }
}

/// Returns the options of a VXLAN device; the default ones of another device.
pub(super) fn tunnel(message: &LinkMessage) -> Tunnel {
    let mut tunnel = Tunnel::default();
    for attribute in &message.attributes {
        let LinkAttribute::LinkInfo(infos) = attribute else {
            continue;
        };
        for info in infos {
            if let LinkInfo::Data(InfoData::Vxlan(options)) = info {
                options
                    .iter()
                    .for_each(|option| add_option(option, &mut tunnel));
            }
        }
    }
    tunnel
}

fn add_option(option: &InfoVxlan, tunnel: &mut Tunnel) {
    let other = match option {
        InfoVxlan::Local(ip) => return tunnel.local = Some((*ip).into()),
        InfoVxlan::Local6(ip) => return tunnel.local = Some((*ip).into()),
        InfoVxlan::Link(index) => return tunnel.link = Some(*index),
        InfoVxlan::Ttl(ttl) => return tunnel.ttl = *ttl,
        InfoVxlan::Tos(tos) => return tunnel.tos = *tos,
        InfoVxlan::Group(_) | InfoVxlan::Group6(_) => "remote",
        InfoVxlan::Limit(1..) => "maxaddress",
        InfoVxlan::Proxy(true) => "proxy",
        InfoVxlan::Rsc(true) => "rsc",
        InfoVxlan::RemCsumTX(true) => "remcsumtx",
        InfoVxlan::RemCsumRX(true) => "remcsumrx",
        InfoVxlan::Gbp => "gbp",
        InfoVxlan::Gpe => "gpe",
        InfoVxlan::Vnifilter(true) => "vnifilter",
        InfoVxlan::TtlInheritFlag | InfoVxlan::TtlInherit(1..) => "ttl inherit",
        _ => return,
    };
    tunnel.others.insert(other);
}

/// Parses an address with its prefix length.
pub(crate) fn address(message: &AddressMessage) -> Option<IpNet> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // IPv6 has no `local`. With IPv4 `address` is the address of the peer, if there is one.
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

/// Returns whether an address is link-local, so that the host assigns it itself.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Parsed neighbour or FDB entry.
pub(super) struct Entry {
    pub(super) ip: Option<IpAddr>,
    pub(super) mac: Option<Mac>,
    pub(super) permanent: bool,
    pub(super) plain: bool,
}

/// Parses a neighbour or FDB entry.
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
            // In a message of the family "bridge" the length tells the address's family.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                entry.ip = raw::address(bytes)
            }
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

/// Returns whether the kernel or a router created a route.
pub(super) fn is_automatic(protocol: RouteProtocol) -> bool {
    matches!(
        protocol,
        RouteProtocol::Kernel | RouteProtocol::Ra | RouteProtocol::IcmpRedirect
    )
}

/// Parses a route, and returns it with its device; `None`: the message is none about a route.
pub(crate) fn route(message: &RouteMessage) -> Option<(Option<u32>, Route)> {
    let header = &message.header;
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

/// Parses a rule that says `from <prefix> lookup <table>` and nothing else; `None`: another rule.
pub(super) fn rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let plain = header.action == RuleAction::ToTable
        && header.dst_len == 0
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert);
    let (mut table, mut from, mut priority) = (u32::from(header.table), None, 0);
    let mut protocol = 0;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Source(ip) => from = Some(*ip),
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Protocol(origin) => protocol = u8::from(*origin),
            // Default values that the kernel sends for every rule.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            // Attributes that the crate does not know.
            RuleAttribute::Other(_) => {}
            // A condition that our rules do not have.
            _ => return None,
        }
    }
    let from = IpNet::new(from?, header.src_len).ok()?;
    plain.then_some(Rule {
        from,
        priority,
        table,
        protocol,
    })
}

/// Returns whether duplicate address detection delays the use of an address.
pub(super) fn is_tentative(message: &AddressMessage) -> bool {
    message.header.flags.contains(AddressHeaderFlags::Tentative)
}
