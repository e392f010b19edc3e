//! Ethtool's netlink family: who computes checksums of packets that leave through
//! a device. In the network namespace of the calling thread.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

/// The feature, as `ethtool -k` calls it.
const FEATURE: &str = "tx-checksum-ip-generic";

/// How long the kernel may take. It answers before `send` returns.
const PATIENCE: Duration = Duration::from_secs(5);

// From linux/netlink.h, linux/genetlink.h and linux/ethtool_netlink.h.
const ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;
const TYPE: u16 = !NESTED;
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
/// In both questions: whom it is about.
const HEADER: u16 = 1;
const HEADER_NAME: u16 = 2;
/// Of the answer: the features that are on.
const ACTIVE: u16 = 4;
/// Of the order: the features to be as said.
const WANTED: u16 = 3;
/// Of a set of features: only what is in the list is meant; the list.
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
/// Of a set of features: only those that are on are listed.
const NO_MASK: u16 = 1;

/// Bytes of the header of a generic message: command, version, nothing.
const GENERIC_HEADER: usize = 4;

/// A conversation about features.
pub(crate) struct Ethtool {
    socket: Socket,
    family: u16,
}

impl Ethtool {
    /// # Errors
    /// The kernel does not know the family (before 5.6).
    pub(crate) fn open() -> io::Result<Ethtool> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        setsockopt(
            &socket,
            ReceiveTimeout,
            &TimeVal::new(PATIENCE.as_secs() as _, 0),
        )?;
        let mut ethtool = Ethtool {
            socket,
            family: CONTROL,
        };
        let answer = ethtool.ask(GET_FAMILY, &attribute(FAMILY_NAME, b"ethtool\0"))?;
        let id =
            find(&answer, FAMILY_ID).and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
        ethtool.family = id.ok_or_else(|| io::Error::other("the kernel's answer has no family"))?;
        Ok(ethtool)
    }

    /// Whether the device below computes the checksums.
    pub(crate) fn tx_checksum(&self, device: &str) -> io::Result<bool> {
        let answer = self.ask(FEATURES_GET, &header(device))?;
        let active = find(&answer, ACTIVE)
            .ok_or_else(|| io::Error::other("the kernel's answer has no features"))?;
        let bits = find(active, BITS).unwrap_or_default();
        let name = [FEATURE.as_bytes(), b"\0"].concat();
        Ok(NlasIterator::new(bits).flatten().any(|bit| {
            let is_list = find(active, NO_MASK).is_some() || find(bit.value(), BIT_VALUE).is_some();
            is_list && find(bit.value(), BIT_NAME) == Some(&name)
        }))
    }

    /// Lets the device below compute the checksums, or not.
    pub(crate) fn set_tx_checksum(&self, device: &str, on: bool) -> io::Result<()> {
        let mut bit = attribute(BIT_NAME, &[FEATURE.as_bytes(), b"\0"].concat());
        if on {
            bit.extend(attribute(BIT_VALUE, &[]));
        }
        let bits = attribute(NESTED | BITS, &attribute(NESTED | BIT, &bit));
        let order = [header(device), attribute(NESTED | WANTED, &bits)].concat();
        self.ask(FEATURES_SET, &order)?;
        // What a device cannot do is no error for the kernel.
        if self.tx_checksum(device)? == on {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the device does not take {FEATURE} {}",
            if on { "on" } else { "off" }
        )))
    }

    /// Sends a message; gives the attributes of the answer, if there are any.
    fn ask(&self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        message.extend((16 + GENERIC_HEADER as u32 + attributes.len() as u32).to_ne_bytes());
        message.extend(self.family.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        self.socket.send_to(&message, &SocketAddr::new(0, 0), 0)?;
        let mut answer = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while let Ok(message) = NetlinkBuffer::new_checked(rest) {
                let payload = message.payload();
                if message.message_type() == ERROR {
                    // The payload begins with the error's number, negative.
                    let code = payload
                        .first_chunk()
                        .map_or(0, |code| i32::from_ne_bytes(*code));
                    return match code {
                        0 => Ok(answer),
                        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    };
                }
                answer = payload.get(GENERIC_HEADER..).unwrap_or_default().to_vec();
                rest = rest
                    .get((message.length() as usize).next_multiple_of(4)..)
                    .unwrap_or_default();
            }
        }
    }
}

/// The header that says whom a message is about.
fn header(device: &str) -> Vec<u8> {
    attribute(
        NESTED | HEADER,
        &attribute(HEADER_NAME, &[device.as_bytes(), b"\0"].concat()),
    )
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of a kind.
fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let start = attributes.as_ptr() as usize;
    let mut found = NlasIterator::new(attributes).flatten();
    let value = found
        .find(|attribute| attribute.kind() & TYPE == kind)
        .map(|attribute| {
            let value = attribute.value();
            (value.as_ptr() as usize - start, value.len())
        });
    value.map(|(offset, length)| &attributes[offset..offset + length])
}
