//! Nexthop objects (kernels from 5.3 on), which the netlink crate does not know.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, NlasIterator};
use netlink_packet_route::AddressFamily;

/// Bytes of the header (`struct nhmsg`): family, scope, protocol, nothing, flags.
const HEADER: usize = 8;
// The attributes (`NHA_*` of `linux/nexthop.h`).
const ID: u16 = 1;
const OIF: u16 = 5;
const GATEWAY: u16 = 6;
/// Bytes of an attribute's length and kind.
const ATTRIBUTE: usize = 4;

/// Whether the kernel shows of a route that goes by an object what it showed before
/// there were any. (The file is there since 5.8.)
const COMPATIBLE: &str = "/proc/sys/net/ipv4/nexthop_compat_mode";

/// One object. What other kinds of them have beyond this is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NexthopMessage {
    family: u8,
    /// Who made it.
    pub(super) protocol: u8,
    /// Its number.
    pub(super) id: Option<u32>,
    /// The device's index.
    pub(super) index: Option<u32>,
    /// The gateway.
    pub(super) via: Option<IpAddr>,
}

impl NexthopMessage {
    /// One that is to be made.
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

    /// Whichever has this id.
    pub(super) fn of(id: u32) -> NexthopMessage {
        NexthopMessage {
            id: Some(id),
            ..NexthopMessage::default()
        }
    }

    /// Bytes of the message.
    pub(super) fn length(&self) -> usize {
        let numbers = [self.id, self.index].into_iter().flatten().count();
        let address = self
            .via
            .map_or(0, |via| ATTRIBUTE + if via.is_ipv4() { 4 } else { 16 });
        HEADER + numbers * (ATTRIBUTE + 4) + address
    }

    /// Fills a buffer of this length.
    pub(super) fn write(&self, buffer: &mut [u8]) {
        let mut bytes = vec![self.family, 0, self.protocol, 0, 0, 0, 0, 0];
        let mut attribute = |kind: u16, value: &[u8]| {
            bytes.extend(((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        };
        for (kind, number) in [(ID, self.id), (OIF, self.index)] {
            number
                .iter()
                .for_each(|number| attribute(kind, &number.to_ne_bytes()));
        }
        match self.via {
            Some(IpAddr::V4(via)) => attribute(GATEWAY, &via.octets()),
            Some(IpAddr::V6(via)) => attribute(GATEWAY, &via.octets()),
            None => {}
        }
        buffer.copy_from_slice(&bytes);
    }

    /// # Errors
    /// The message ends too early.
    pub(super) fn read(payload: &[u8]) -> Result<NexthopMessage, DecodeError> {
        let [family, _, protocol, _, _, _, _, _, attributes @ ..] = payload else {
            return Err(format!("a nexthop of {} bytes", payload.len()).into());
        };
        let mut message = NexthopMessage {
            family: *family,
            protocol: *protocol,
            ..Default::default()
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let number = || attribute.value().try_into().map(u32::from_ne_bytes).ok();
            match attribute.kind() {
                ID => message.id = number(),
                OIF => message.index = number(),
                GATEWAY => message.via = address(attribute.value()),
                _ => {}
            }
        }
        Ok(message)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || {
        <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into())
    };
    v4().or_else(|| {
        <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into())
    })
}

/// Whether this kernel has nexthop objects, and tells the gateways of the routes that
/// go by them.
pub(super) fn are_usable() -> bool {
    fs::read_to_string(COMPATIBLE).is_ok_and(|mode| mode.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for message in [
            NexthopMessage::new(7, 3, Ipv4Addr::new(44, 128, 0, 2), 142),
            NexthopMessage::of(7),
            NexthopMessage {
                via: Some(Ipv6Addr::LOCALHOST.into()),
                ..NexthopMessage::of(7)
            },
            NexthopMessage::default(),
        ] {
            let mut bytes = vec![0; message.length()];
            message.write(&mut bytes);
            assert_eq!(NexthopMessage::read(&bytes).unwrap(), message);
        }
        assert!(NexthopMessage::read(&[0; HEADER - 1]).is_err());
    }
}
