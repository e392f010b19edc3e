//! Messages about nexthop objects (kernels from 5.3 on), which the netlink crates lack.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;

use super::raw::{Attributes, address, attributes};
use crate::files::read_setting;

/// Bytes of the header (`struct nhmsg`): family, scope, protocol, padding, flags.
const HEADER: usize = 8;
// Attributes (`NHA_*` of `linux/nexthop.h`).
const ID: u16 = 1;
const OIF: u16 = 5;
const GATEWAY: u16 = 6;

/// Setting by which the kernel shows gateway and device of a route that refers to an object.
/// (The file exists since 5.8.)
const COMPATIBLE: &str = "/proc/sys/net/ipv4/nexthop_compat_mode";

/// Message about one object. Properties of other kinds of objects are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NexthopMessage {
    family: u8,
    /// Origin (`RTPROT_*`).
    pub(super) protocol: u8,
    /// Id.
    pub(super) id: Option<u32>,
    /// Index of the device.
    pub(super) index: Option<u32>,
    /// Gateway.
    pub(super) via: Option<IpAddr>,
}

impl NexthopMessage {
    /// Returns the message that creates an object.
    pub(super) fn new(id: u32, index: u32, via: Ipv4Addr, protocol: u8) -> NexthopMessage {
        let family = u8::from(AddressFamily::Inet);
        NexthopMessage {
            family,
            protocol,
            id: Some(id),
            index: Some(index),
            via: Some(via.into()),
        }
    }

    /// Returns the message that names the object with this id.
    pub(super) fn with_id(id: u32) -> NexthopMessage {
        NexthopMessage {
            id: Some(id),
            ..NexthopMessage::default()
        }
    }

    /// Returns the message as it is sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut attributes = Attributes::default();
        for (kind, number) in [(ID, self.id), (OIF, self.index)] {
            if let Some(number) = number {
                attributes = attributes.with(kind, &number.to_ne_bytes());
            }
        }
        attributes = match self.via {
            Some(IpAddr::V4(via)) => attributes.with(GATEWAY, &via.octets()),
            Some(IpAddr::V6(via)) => attributes.with(GATEWAY, &via.octets()),
            None => attributes,
        };
        let header: [u8; HEADER] = [self.family, 0, self.protocol, 0, 0, 0, 0, 0];
        [&header, attributes.bytes()].concat()
    }

    /// Parses a message.
    ///
    /// # Errors
    /// The message is truncated.
    pub(super) fn read(payload: &[u8]) -> Result<NexthopMessage, DecodeError> {
        let [family, _, protocol, _, _, _, _, _, rest @ ..] = payload else {
            return Err(format!("a nexthop of {} bytes", payload.len()).into());
        };
        let mut message = NexthopMessage {
            family: *family,
            protocol: *protocol,
            ..Default::default()
        };
        for attribute in attributes(rest) {
            let attribute = attribute.map_err(|_| "a truncated attribute of a nexthop")?;
            let number = || attribute.value.try_into().map(u32::from_ne_bytes).ok();
            match attribute.kind {
                ID => message.id = number(),
                OIF => message.index = number(),
                GATEWAY => message.via = address(attribute.value),
                _ => {}
            }
        }
        Ok(message)
    }
}

/// Returns whether this kernel has nexthop objects, and shows the gateways of routes that
/// refer to them.
pub(super) fn are_usable() -> bool {
    read_setting(COMPATIBLE).is_ok_and(|mode| mode == "1")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn parses_messages_as_they_are_sent() {
        for message in [
            NexthopMessage::new(7, 3, Ipv4Addr::new(44, 128, 0, 2), 142),
            NexthopMessage::with_id(7),
            NexthopMessage {
                via: Some(Ipv6Addr::LOCALHOST.into()),
                ..NexthopMessage::with_id(7)
            },
            NexthopMessage::default(),
        ] {
            assert_eq!(NexthopMessage::read(&message.bytes()).unwrap(), message);
        }
        assert!(NexthopMessage::read(&[0; HEADER - 1]).is_err());
        let mut truncated = NexthopMessage::with_id(7).bytes();
        truncated.pop();
        assert!(NexthopMessage::read(&truncated).is_err());
    }
}
