//! Messages to and from the kernel, without a kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkMessage};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use overlay_core::host_api::desired::Mac;
use overlay_core::util::family::Family;

use super::message::Message;
use super::nexthop::NexthopMessage;
use super::request::{Request, request};
use crate::reconcile::observed::{DeviceKind, FdbEntry, Neighbour, Route, Rule, Tunnel};
use crate::reconcile::{
    Change, DeviceChange, Event, Link, NewDevice, NewRoute, NexthopEvent, OldRoute, OldRule, Op,
    PROTOCOL, Port, Subject,
};

mod errors;
mod events;
mod parsing;
mod requests;

const DEVICE: &str = "vtep1024";
const INDEX: u32 = 7;
const MAC: Mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 2]);
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;
const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns a message as the kernel sends it.
fn datagram(message: impl Into<Message>) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Returns the kernel's message about an operation that somebody executed.
pub(crate) fn sent_by_kernel(op: &Op, index: u32) -> Vec<u8> {
    datagram(request(op, index).unwrap().message)
}

/// Returns message and flags of an operation.
fn sent(op: &Op) -> (RouteNetlinkMessage, u16) {
    match request(op, INDEX).unwrap() {
        Request {
            message: Message::Route(message),
            flags,
        } => (message, flags),
        Request { message, .. } => panic!("{message:?}"),
    }
}
