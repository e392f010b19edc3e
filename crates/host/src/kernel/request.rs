//! What the kernel is asked to do, as messages.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use overlay_core::host_api::desired::{CONTAINER_TABLE, Mac};

use super::message::Message;
use super::nexthop::NexthopMessage;
use crate::reconcile::{
    DeviceChange, NewDevice, NewRoute, OldRoute, Op, PROTOCOL, RULE_PRIORITY, nexthop_id,
};

/// A message that changes something, and the flags that it goes with.
pub(crate) struct Request {
    pub(super) message: Message,
    pub(super) flags: u16,
}

/// Make it, or change it if it is there.
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;
/// Make it; that it is there is an error.
const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// The message for an operation; `index` is that of its device. `None`: this is
/// not an operation of the kernel's network configuration.
pub(crate) fn request(op: &Op, index: u32) -> Option<Request> {
    use RouteNetlinkMessage as M;
    let (message, flags) = match op {
        Op::AddDevice(device) => (M::NewLink(new_device(device)), ADD),
        Op::AddBridge(name, mac) => (M::NewLink(new_bridge(name, *mac)), ADD),
        Op::RemoveDevice(name) => (M::DelLink(link_named(name)), 0),
        Op::SetDevice(_, change) => (M::NewLink(device_change(index, *change)), 0),
        Op::AddAddress(_, net) => (M::NewAddress(address(index, *net)), SET),
        Op::RemoveAddress(_, net) => (M::DelAddress(address(index, *net)), 0),
        Op::SetNeighbour(_, ip, mac) => (M::NewNeighbour(neighbour(index, *ip, Some(*mac))), SET),
        Op::RemoveNeighbour(_, ip) => (M::DelNeighbour(neighbour(index, *ip, None)), 0),
        Op::SetFdb(_, mac, dst) => (M::NewNeighbour(fdb(index, *mac, (*dst).into())), SET),
        Op::RemoveFdb(_, mac, dst) => (M::DelNeighbour(fdb(index, *mac, *dst)), 0),
        Op::AddNexthop(_, via) => {
            let message = NexthopMessage::new(nexthop_id(*via), index, *via, PROTOCOL);
            return Some(Request {
                message: Message::NewNexthop(message),
                flags: ADD,
            });
        }
        Op::RemoveNexthop(_, id) => {
            return Some(Request {
                message: Message::DelNexthop(NexthopMessage::of(*id)),
                flags: 0,
            });
        }
        Op::SetRoute(_, route) => (M::NewRoute(new_route(index, route)), SET),
        Op::RemoveRoute(_, route) => (M::DelRoute(old_route(index, route)), 0),
        Op::AddRule { from, .. } => (M::NewRule(rule(*from, RULE_PRIORITY, Some(PROTOCOL))), ADD),
        Op::RemoveRule { from, priority } => (M::DelRule(rule(*from, *priority, None)), 0),
        Op::SetTxChecksum(..)
        | Op::SkipDad(_)
        | Op::EnableForwarding
        | Op::EnableForwarding6
        | Op::WriteCni { .. }
        | Op::RemoveCni { .. } => {
            return None;
        }
    };
    Some(Request {
        message: message.into(),
        flags,
    })
}

/// The device of this name.
pub(super) fn link_named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn new_device(device: &NewDevice) -> LinkMessage {
    let NewDevice {
        name,
        vni,
        port,
        mac,
        mtu,
    } = device;
    let mut message = link_named(name);
    set_up(&mut message);
    message
        .attributes
        .push(LinkAttribute::Address(mac.0.to_vec()));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.push(vxlan(vec![
        InfoVxlan::Id(*vni),
        InfoVxlan::Port(*port),
        InfoVxlan::Learning(false),
    ]));
    message
}

fn new_bridge(name: &str, mac: Mac) -> LinkMessage {
    let mut message = link_named(name);
    set_up(&mut message);
    message
        .attributes
        .push(LinkAttribute::Address(mac.0.to_vec()));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Bridge,
        )]));
    message
}

fn device_change(index: u32, change: DeviceChange) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match change {
        DeviceChange::NoLearning => message
            .attributes
            .push(vxlan(vec![InfoVxlan::Learning(false)])),
        DeviceChange::Mac(mac) => message
            .attributes
            .push(LinkAttribute::Address(mac.0.to_vec())),
        DeviceChange::Mtu(mtu) => message.attributes.push(LinkAttribute::Mtu(mtu)),
        DeviceChange::Up => set_up(&mut message),
    }
    message
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

fn vxlan(data: Vec<InfoVxlan>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ])
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    // The master gave it to us alone. Without this an IPv6 address could not be
    // used until the kernel found nobody else with it on the tunnel.
    message.header.flags = if net.addr().is_ipv6() {
        AddressHeaderFlags::Nodad
    } else {
        AddressHeaderFlags::empty()
    };
    message.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    message
}

fn neighbour(index: u32, ip: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    message
        .attributes
        .extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    message
}

fn fdb(index: u32, mac: Mac, dst: IpAddr) -> NeighbourMessage {
    let mut message = neighbour(index, dst, Some(mac));
    message.header.family = AddressFamily::Bridge;
    message.header.flags = NeighbourFlags::Own;
    message
}

/// A route by a nexthop object says neither gateway nor device.
fn route(
    index: u32,
    table: u32,
    dst: IpNet,
    via: Option<IpAddr>,
    nexthop: Option<u32>,
) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(dst.addr());
    message.header.destination_prefix_length = dst.prefix_len();
    message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Table(table),
        RouteAttribute::Destination(dst.addr().into()),
    ];
    match nexthop {
        Some(id) => message.attributes.push(RouteAttribute::NhId(id)),
        None => {
            message.attributes.push(RouteAttribute::Oif(index));
            message
                .attributes
                .extend(via.map(|via| RouteAttribute::Gateway(via.into())));
        }
    }
    message
}

fn new_route(index: u32, new: &NewRoute) -> RouteMessage {
    let mut message = route(index, new.table, new.dst, Some(new.via), new.nexthop);
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message
}

fn old_route(index: u32, old: &OldRoute) -> RouteMessage {
    let mut message = route(index, old.table, old.dst, old.via, old.nexthop);
    message.header.protocol = RouteProtocol::from(old.protocol);
    // Whatever there is of that description.
    message.header.scope = RouteScope::NoWhere;
    message
        .attributes
        .push(RouteAttribute::Priority(old.metric));
    message
}

fn rule(from: IpNet, priority: u32, protocol: Option<u8>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(from.addr());
    message.header.src_len = from.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(from.addr()),
        RuleAttribute::Table(CONTAINER_TABLE),
        RuleAttribute::Priority(priority),
    ];
    message
        .attributes
        .extend(protocol.map(|protocol| RuleAttribute::Protocol(protocol.into())));
    message
}
