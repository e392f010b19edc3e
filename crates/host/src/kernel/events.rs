//! What the kernel says on its own (rtnetlink's multicast groups).

use netlink_packet_core::{NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, Parseable};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::message::{DEL_NEXTHOP, NEW_NEXTHOP};
use super::nexthop::NexthopMessage;
use super::observe;
use crate::reconcile::Event;
use crate::reconcile::observed::{FdbEntry, Neighbour};

// The messages' types (`RTM_NEW*` and `RTM_DEL*` of `linux/rtnetlink.h`).
const LINK: u16 = 16;
const LINK_GONE: u16 = 17;
const ADDRESS: u16 = 20;
const ADDRESS_GONE: u16 = 21;
const ROUTE: u16 = 24;
const ROUTE_GONE: u16 = 25;
const NEIGHBOUR: u16 = 28;
const NEIGHBOUR_GONE: u16 = 29;
const RULE: u16 = 32;
const RULE_GONE: u16 = 33;
/// A switch of the kernel's IP configuration, such as forwarding.
const NEW_NETCONF: u16 = 80;

/// Bytes of a message's header.
const HEADER: usize = 16;

/// The events in one datagram. `None` stands for something that this does not
/// understand, and that may be anything.
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
        match header.message_type {
            NEW_NETCONF => events.push(Some(Event::Setting)),
            NEW_NEXTHOP | DEL_NEXTHOP => match NexthopMessage::read(&rest[HEADER..length]) {
                Ok(message) => {
                    events.extend(nexthop(&message, header.message_type == DEL_NEXTHOP).map(Some))
                }
                Err(_) => events.push(None),
            },
            LINK | LINK_GONE | ADDRESS | ADDRESS_GONE | ROUTE | ROUTE_GONE | NEIGHBOUR
            | NEIGHBOUR_GONE | RULE | RULE_GONE => {
                match RouteNetlinkMessage::deserialize(&header, &rest[HEADER..length]) {
                    Ok(message) => events.extend(event(message).map(Some)),
                    Err(_) => events.push(None),
                }
            }
            // Something that came into these groups with a later kernel.
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    events
}

/// What a message says; `None`: nothing that could be about us.
fn event(message: RouteNetlinkMessage) -> Option<Event> {
    use RouteNetlinkMessage as M;
    match message {
        M::NewLink(message) => link(message, false),
        M::DelLink(message) => link(message, true),
        M::NewAddress(message) | M::DelAddress(message) if message.header.index == 0 => None,
        M::NewAddress(message) => address(&message, false),
        M::DelAddress(message) => address(&message, true),
        M::NewNeighbour(message) => neighbour(&message, false),
        M::DelNeighbour(message) => neighbour(&message, true),
        M::NewRoute(message) => route(&message, false),
        M::DelRoute(message) => route(&message, true),
        M::NewRule(message) => Some(Event::Rule {
            rule: observe::rule(&message)?,
            gone: false,
        }),
        M::DelRule(message) => Some(Event::Rule {
            rule: observe::rule(&message)?,
            gone: true,
        }),
        _ => None,
    }
}

fn link(message: LinkMessage, gone: bool) -> Option<Event> {
    let header = &message.header;
    let port = header.interface_family == AddressFamily::Bridge;
    let (mut name, mut mac, mut mtu, mut master) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = observe::mac(bytes),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            LinkAttribute::Controller(index) => master = Some(*index),
            _ => {}
        }
    }
    if port {
        // The bridge's view of one of its ports.
        return Some(Event::Port {
            master: master?,
            gone,
        });
    }
    Some(Event::Link {
        index: header.index,
        name: name?,
        kind: observe::kind(&message),
        mac: mac.unwrap_or_default(),
        mtu: mtu.unwrap_or_default(),
        up: header.flags.contains(LinkFlags::Up),
        gone,
    })
}

fn address(message: &netlink_packet_route::address::AddressMessage, gone: bool) -> Option<Event> {
    let net = observe::address(message)?;
    let foreign = observe::is_link_local(net.addr());
    let tentative = observe::is_tentative(message);
    (!foreign).then_some(Event::Address {
        index: message.header.index,
        net,
        tentative,
        gone,
    })
}

fn neighbour(message: &NeighbourMessage, gone: bool) -> Option<Event> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let index = header.ifindex;
    let observe::Entry {
        ip,
        mac,
        permanent,
        plain,
    } = observe::entry(message);
    match header.family {
        AddressFamily::Bridge => Some(Event::Fdb {
            index,
            mac: mac?,
            dst: ip?,
            entry: FdbEntry { permanent, plain },
            gone,
        }),
        _ => Some(Event::Neighbour {
            index,
            ip: ip?,
            neighbour: Neighbour { mac, permanent },
            gone,
        }),
    }
}

fn route(message: &netlink_packet_route::route::RouteMessage, gone: bool) -> Option<Event> {
    let (index, route) = observe::route(message)?;
    Some(Event::Route { index, route, gone })
}

fn nexthop(message: &NexthopMessage, gone: bool) -> Option<Event> {
    let NexthopMessage {
        index,
        via,
        protocol,
        ..
    } = *message;
    Some(Event::Nexthop {
        id: message.id?,
        index,
        via,
        protocol,
        gone,
    })
}
