//! Requests to the kernel for the operations of a plan.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, InfoPortKind, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteScope};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use overlay_core::host_api::desired::Mac;
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use super::message::Message;
use super::nexthop::NexthopMessage;
use crate::reconcile::{
    DeviceChange, NewDevice, NewRoute, OldRoute, OldRule, Op, PROTOCOL, RULE_PRIORITY, RouteKey,
    nexthop_id,
};

/// Request that changes the kernel's configuration: message and flags.
pub(crate) struct Request {
    pub(super) message: Message,
    pub(super) flags: u16,
}

/// Flags to create an object, or replace the existing one.
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;
/// Flags to create an object that does not exist.
const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Returns the request that makes a pair of veth devices.
pub(crate) fn veth(name: &str, peer: &str) -> Request {
    Request {
        message: RouteNetlinkMessage::NewLink(LinkVeth::new(name, peer).build()).into(),
        flags: ADD,
    }
}

/// Returns the request for an operation. `index` is the index of its device. `None`: the
/// operation does not use rtnetlink.
pub(crate) fn request(op: &Op, index: u32) -> Option<Request> {
    use RouteNetlinkMessage as M;
    let (message, flags) = match op {
        Op::AddDevice(device) => (M::NewLink(new_device(device)), ADD),
        Op::AddBridge(name, mac) => (M::NewLink(new_bridge(name, *mac)), ADD),
        Op::RemoveDevice(name) => (M::DelLink(link_named(name)), 0),
        Op::SetDevice(_, change) => (M::NewLink(device_change(index, *change)), 0),
        Op::AttachPort(_, port) => (M::NewLink(attached(port.index, index)), 0),
        Op::SetHairpin(_, port) => (M::NewLink(with_hairpin(port.index)), 0),
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
                message: Message::DelNexthop(NexthopMessage::with_id(*id)),
                flags: 0,
            });
        }
        // The kernel would replace the first route to the destination, whoever made it.
        Op::SetRoute(_, route) if route.replaces => (M::NewRoute(new_route(index, route)), SET),
        Op::SetRoute(_, route) => (M::NewRoute(new_route(index, route)), ADD),
        Op::RemoveRoute(_, route) => (M::DelRoute(old_route(index, route)), 0),
        Op::AddRule { from, table, .. } => {
            let new = OldRule {
                from: *from,
                priority: RULE_PRIORITY,
                table: *table,
                protocol: PROTOCOL,
            };
            (M::NewRule(rule(&new)), ADD)
        }
        // Of two rules that differ only in their origin, the one that was read is removed.
        Op::RemoveRule(old) => (M::DelRule(rule(old)), 0),
        Op::SetTxChecksum(..)
        | Op::SkipDad(_)
        | Op::EnableForwarding(_)
        | Op::EnableDeviceForwarding(..)
        | Op::EnableIpv6(_)
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

/// Returns the message that names a device.
pub(super) fn link_named(name: &str) -> LinkMessage {
    LinkUnspec::new_with_name(name).build()
}

fn new_device(device: &NewDevice) -> LinkMessage {
    let link = LinkVxlan::new(&device.name, device.vni)
        .port(device.port)
        .learning(false)
        .address(device.mac.0.to_vec())
        .up();
    let link = match device.local {
        Some(local) => link.local(local),
        None => link,
    };
    match device.mtu {
        Some(mtu) => link.mtu(mtu).build(),
        None => link.build(),
    }
}

fn new_bridge(name: &str, mac: Mac) -> LinkMessage {
    // This builder sets the bridge up.
    LinkBridge::new(name).address(mac.0.to_vec()).build()
}

/// Returns the message that attaches a device to a bridge.
fn attached(index: u32, bridge: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).controller(bridge).build()
}

/// Returns the message that lets a port of a bridge send packets back to where they came from.
fn with_hairpin(index: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index)
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
            true,
        )]))
        .build()
}

fn device_change(index: u32, change: DeviceChange) -> LinkMessage {
    let link = LinkUnspec::new_with_index(index);
    let vxlan =
        || LinkMessageBuilder::<LinkVxlan>::new_with_info_kind(InfoKind::Vxlan).index(index);
    match change {
        DeviceChange::NoLearning => vxlan().learning(false).build(),
        DeviceChange::Local(local) => vxlan()
            .local(local.unwrap_or(Ipv4Addr::UNSPECIFIED))
            .build(),
        DeviceChange::DefaultTtl => vxlan().ttl(0).build(),
        DeviceChange::NoTos => vxlan().tos(0).build(),
        DeviceChange::Mac(mac) => link.address(mac.0.to_vec()).build(),
        DeviceChange::Mtu(mtu) => link.mtu(mtu).build(),
        DeviceChange::Up => link.up().build(),
    }
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
    // The master allocated the address to this host alone. With duplicate address detection
    // the kernel would delay its use.
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

/// Returns a route with gateway and device, or with a nexthop object in their place.
fn route(
    index: u32,
    key: RouteKey,
    via: Option<IpAddr>,
    nexthop: Option<u32>,
) -> RouteMessageBuilder<IpAddr> {
    let mut route = RouteMessageBuilder::<IpAddr>::new();
    let message = route.get_mut();
    message.header.address_family = family(key.dst.addr());
    message.header.destination_prefix_length = key.dst.prefix_len();
    // A table beyond 255 has no room in the header.
    message.header.table = u8::try_from(key.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes = vec![
        RouteAttribute::Table(key.table),
        RouteAttribute::Destination(key.dst.addr().into()),
    ];
    if let Some(id) = nexthop {
        return route.nhid(id);
    }
    let gateway = via.map(|via| RouteAttribute::Gateway(via.into()));
    message.attributes.extend(gateway);
    route.output_interface(index)
}

fn new_route(index: u32, new: &NewRoute) -> RouteMessage {
    route(index, new.key(), Some(new.via), new.nexthop)
        .protocol(PROTOCOL.into())
        .build()
}

fn old_route(index: u32, old: &OldRoute) -> RouteMessage {
    route(index, old.key(), old.via, old.nexthop)
        .protocol(old.protocol.into())
        .priority(old.metric)
        // A route of any scope.
        .scope(RouteScope::NoWhere)
        .build()
}

fn rule(rule: &OldRule) -> RuleMessage {
    let OldRule {
        from,
        priority,
        table,
        protocol,
    } = *rule;
    let mut message = RuleMessage::default();
    message.header.family = family(from.addr());
    message.header.src_len = from.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(from.addr()),
        RuleAttribute::Table(table),
        RuleAttribute::Priority(priority),
    ];
    // A kernel that knows no origins does not tell them.
    let origin = (protocol != 0).then(|| RuleAttribute::Protocol(protocol.into()));
    message.attributes.extend(origin);
    message
}
