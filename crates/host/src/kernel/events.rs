//! Events that the kernel sends to rtnetlink's multicast groups.

use netlink_packet_core::{NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, Parseable};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::message::{DEL_NEXTHOP, NEW_NEXTHOP};
use super::nexthop::NexthopMessage;
use super::parse;
use crate::reconcile::observed::{FdbEntry, Neighbour};
use crate::reconcile::{Change, Event, Link, NexthopEvent, Subject};

// Types of messages (`RTM_NEW*` and `RTM_DEL*` of `linux/rtnetlink.h`).
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;
const DEL_NEIGHBOUR: u16 = 29;
const NEW_RULE: u16 = 32;
const DEL_RULE: u16 = 33;
/// Message about a switch of the kernel's IP configuration, such as forwarding.
const NEW_NETCONF: u16 = 80;

/// Bytes of a message's header.
const HEADER: usize = 16;

/// Returns the events of a datagram. `None` stands for a message that cannot be parsed, and
/// that may be about anything.
pub(crate) fn events(datagram: &[u8]) -> Vec<Option<Event>> {
    let mut events = Vec::new();
    let mut rest = datagram;
    while rest.len() >= HEADER {
        let Ok(buffer) = NetlinkBuffer::new_checked(rest) else {
            events.push(None);
            break;
        };
        let length = buffer.length() as usize;
        let Ok(header) = NetlinkHeader::parse(&buffer) else {
            events.push(None);
            break;
        };
        match event(&header, &rest[HEADER..length]) {
            Ok(event) => events.extend(event.map(Some)),
            Err(Unreadable) => events.push(None),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    events
}

/// Error of parsing a message.
struct Unreadable;

/// Parses a message; `None`: it cannot be about us.
fn event(header: &NetlinkHeader, payload: &[u8]) -> Result<Option<Event>, Unreadable> {
    let subject = match header.message_type {
        NEW_NETCONF => Some(Subject::Setting),
        NEW_NEXTHOP | DEL_NEXTHOP => {
            nexthop(&NexthopMessage::read(payload).map_err(|_| Unreadable)?)
        }
        NEW_LINK | DEL_LINK | NEW_ADDRESS | DEL_ADDRESS | NEW_ROUTE | DEL_ROUTE | NEW_NEIGHBOUR
        | DEL_NEIGHBOUR | NEW_RULE | DEL_RULE => {
            let message = RouteNetlinkMessage::deserialize(header, payload);
            subject(message.map_err(|_| Unreadable)?)
        }
        // A later kernel sends it to these groups.
        _ => None,
    };
    let change = match header.message_type {
        DEL_LINK | DEL_ADDRESS | DEL_ROUTE | DEL_NEIGHBOUR | DEL_RULE | DEL_NEXTHOP => Change::Gone,
        _ => Change::Present,
    };
    Ok(subject.map(|subject| Event { subject, change }))
}

fn subject(message: RouteNetlinkMessage) -> Option<Subject> {
    use RouteNetlinkMessage as M;
    match message {
        M::NewLink(message) | M::DelLink(message) => link(message),
        M::NewAddress(message) | M::DelAddress(message) => address(&message),
        M::NewNeighbour(message) | M::DelNeighbour(message) => neighbour(&message),
        M::NewRoute(message) | M::DelRoute(message) => route(&message),
        M::NewRule(message) | M::DelRule(message) => {
            Some(parse::rule(&message).map_or(Subject::ForeignRule, Subject::Rule))
        }
        _ => None,
    }
}

fn link(message: LinkMessage) -> Option<Subject> {
    let header = &message.header;
    let (mut name, mut mac, mut mtu, mut bridge) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = parse::mac(bytes),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            LinkAttribute::Controller(index) => bridge = Some(*index),
            _ => {}
        }
    }
    if header.interface_family == AddressFamily::Bridge {
        // The bridge's view of one of its ports.
        return Some(Subject::Port { bridge: bridge? });
    }
    Some(Subject::Link(Link {
        index: header.index,
        name: name?,
        kind: parse::kind(&message),
        tunnel: parse::tunnel(&message),
        mac: mac.unwrap_or_default(),
        mtu: mtu.unwrap_or_default(),
        up: header.flags.contains(LinkFlags::Up),
    }))
}

fn address(message: &AddressMessage) -> Option<Subject> {
    let index = message.header.index;
    let net = parse::address(message)?;
    if index == 0 || parse::is_link_local(net.addr()) {
        return None;
    }
    Some(Subject::Address {
        index,
        net,
        tentative: parse::is_tentative(message),
    })
}

fn neighbour(message: &NeighbourMessage) -> Option<Subject> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let index = header.ifindex;
    let parse::Entry {
        ip,
        mac,
        permanent,
        plain,
    } = parse::entry(message);
    match header.family {
        AddressFamily::Bridge => Some(Subject::Fdb {
            index,
            mac: mac?,
            dst: ip?,
            entry: FdbEntry { permanent, plain },
        }),
        _ => Some(Subject::Neighbour {
            index,
            ip: ip?,
            neighbour: Neighbour { mac, permanent },
        }),
    }
}

fn route(message: &RouteMessage) -> Option<Subject> {
    let (index, route) = parse::route(message)?;
    let is_automatic = parse::is_automatic(message.header.protocol);
    Some(match is_automatic {
        true => Subject::AutomaticRoute { dst: route.dst },
        false => Subject::Route { index, route },
    })
}

fn nexthop(message: &NexthopMessage) -> Option<Subject> {
    Some(Subject::Nexthop {
        id: message.id?,
        nexthop: NexthopEvent {
            index: message.index,
            via: message.via,
            protocol: message.protocol,
        },
    })
}
