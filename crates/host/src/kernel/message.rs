//! Messages of rtnetlink: those of the crate, and those about nexthop objects.

use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;

use super::nexthop::NexthopMessage;

// `RTM_*NEXTHOP` of `linux/rtnetlink.h`.
pub(super) const NEW_NEXTHOP: u16 = 104;
pub(super) const DEL_NEXTHOP: u16 = 105;
const GET_NEXTHOP: u16 = 106;

/// Message in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Message that the crate knows.
    Route(RouteNetlinkMessage),
    /// Request to create a nexthop object, or event or answer about an existing one.
    NewNexthop(NexthopMessage),
    /// Request to remove a nexthop object.
    DelNexthop(NexthopMessage),
    /// Request of all nexthop objects.
    GetNexthop,
}

impl From<RouteNetlinkMessage> for Message {
    fn from(message: RouteNetlinkMessage) -> Message {
        Message::Route(message)
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> NetlinkPayload<Message> {
        NetlinkPayload::InnerMessage(message)
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Message::Route(message) => message.message_type(),
            Message::NewNexthop(_) => NEW_NEXTHOP,
            Message::DelNexthop(_) => DEL_NEXTHOP,
            Message::GetNexthop => GET_NEXTHOP,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Message::Route(message) => message.buffer_len(),
            Message::NewNexthop(message) | Message::DelNexthop(message) => message.bytes().len(),
            Message::GetNexthop => NexthopMessage::default().bytes().len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Message::Route(message) => message.serialize(buffer),
            Message::NewNexthop(message) | Message::DelNexthop(message) => {
                buffer.copy_from_slice(&message.bytes());
            }
            Message::GetNexthop => buffer.copy_from_slice(&NexthopMessage::default().bytes()),
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Message, DecodeError> {
        let nexthop = || NexthopMessage::read(payload);
        Ok(match header.message_type {
            NEW_NEXTHOP => Message::NewNexthop(nexthop()?),
            DEL_NEXTHOP => Message::DelNexthop(nexthop()?),
            _ => Message::Route(RouteNetlinkMessage::deserialize(header, payload)?),
        })
    }
}
