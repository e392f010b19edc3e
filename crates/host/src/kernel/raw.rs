//! Raw netlink: one request at a time, as bytes. For protocols of which the netlink crates
//! have no typed messages: ethtool (generic netlink), nftables and ipset (nfnetlink), and
//! nexthop objects (rtnetlink, attributes only).

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use netlink_sys::SocketAddr;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use crate::progress;

/// Timeout of an answer. The kernel answers before `send` returns.
const TIMEOUT: Duration = Duration::from_secs(5);

// Types of messages (`linux/netlink.h`).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes of a message's header.
const HEADER: usize = 16;
/// Bytes of an attribute's header: length and kind.
const ATTRIBUTE_HEADER: usize = 4;
/// Flag of an attribute's kind: the value consists of attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;
/// Bits of an attribute's kind without its flags (`NLA_TYPE_MASK`).
const KIND: u16 = !(NESTED | 1 << 14);

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Single object, or a change.
    Single,
    /// All objects of a kind.
    Dump,
}

/// Size of the largest datagram of answers to [`Socket::ask_each`], in bytes.
const ANSWERS: usize = 32 << 10;

/// A netlink socket.
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    /// Sequence number of the last request.
    sequence: Cell<u32>,
}

impl Socket {
    /// Opens a socket of a netlink protocol, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel does not know the protocol.
    pub(crate) fn open(protocol: isize) -> io::Result<Socket> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        let timeout = TimeVal::new(TIMEOUT.as_secs() as _, 0);
        setsockopt(&socket, ReceiveTimeout, &timeout)?;
        Ok(Socket {
            socket,
            sequence: Cell::new(0),
        })
    }

    /// Has the kernel refuse requests with attributes that it would ignore.
    ///
    /// # Errors
    /// The kernel is older than 4.20.
    pub(crate) fn set_strict(&self) -> io::Result<()> {
        self.socket.set_netlink_get_strict_chk(true)
    }

    /// Sends a request of type `kind`, and calls `take` with the payload of each answer.
    /// Returns when the kernel has acknowledged the request.
    ///
    /// # Errors
    /// The kernel refuses the request, or does not answer.
    pub(crate) fn ask(
        &self,
        kind: u16,
        request: Request,
        payload: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let flags = match request {
            Request::Single => NLM_F_REQUEST | NLM_F_ACK,
            Request::Dump => NLM_F_REQUEST | NLM_F_DUMP,
        };
        let mut message = Vec::with_capacity(HEADER + payload.len());
        append(&mut message, kind, flags, sequence, payload);
        self.socket.send_to(&message, &SocketAddr::new(0, 0), 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while let Ok(answer) = NetlinkBuffer::new_checked(rest) {
                // Answers to a request that timed out are not ours.
                if answer.sequence_number() == sequence {
                    match answer.message_type() {
                        DONE => return Ok(()),
                        ERROR => return verdict(answer.payload()),
                        _ => take(answer.payload()),
                    }
                }
                let length = (answer.length() as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

/// Number of requests in one datagram of [`Socket::ask_each`]. The kernel answers all of them
/// before the first answer can be read, and all answers have to fit into the receive buffer.
const BATCH: usize = 64;

impl Socket {
    /// Sends requests of type `kind`, each of which has one answer, and calls `take` with the
    /// number of the request, and type and payload of its answer, which can be an error.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(crate) fn ask_each(
        &self,
        kind: u16,
        requests: impl Iterator<Item = Vec<u8>>,
        mut take: impl FnMut(usize, u16, &[u8]),
    ) -> io::Result<()> {
        let mut requests = requests.peekable();
        let mut next = 0;
        let mut buffer = Vec::with_capacity(ANSWERS);
        while requests.peek().is_some() {
            progress::part(TIMEOUT);
            let first = self.sequence.get().wrapping_add(1);
            let mut datagram = Vec::new();
            let mut count = 0;
            for payload in requests.by_ref().take(BATCH) {
                let sequence = first.wrapping_add(count);
                append(&mut datagram, kind, NLM_F_REQUEST, sequence, &payload);
                count += 1;
            }
            self.sequence.set(first.wrapping_add(count).wrapping_sub(1));
            self.socket.send_to(&datagram, &SocketAddr::new(0, 0), 0)?;
            let mut answered = 0;
            while answered < count {
                buffer.clear();
                self.socket.recv(&mut buffer, 0)?;
                let mut rest = &buffer[..];
                while let Ok(answer) = NetlinkBuffer::new_checked(rest) {
                    let number = answer.sequence_number().wrapping_sub(first);
                    if number < count {
                        answered += 1;
                        take(
                            next + number as usize,
                            answer.message_type(),
                            answer.payload(),
                        );
                    }
                    let length = (answer.length() as usize).next_multiple_of(4);
                    rest = rest.get(length..).unwrap_or_default();
                }
            }
            next += count as usize;
        }
        Ok(())
    }
}

/// Appends a request to a datagram.
fn append(datagram: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    datagram.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
    datagram.extend(kind.to_ne_bytes());
    datagram.extend(flags.to_ne_bytes());
    datagram.extend(sequence.to_ne_bytes());
    // The kernel knows the sender's port.
    datagram.extend([0; 4]);
    datagram.extend(payload);
    datagram.resize(datagram.len().next_multiple_of(4), 0);
}

/// Parses an error message, whose payload begins with the negative error number; 0 is an
/// acknowledgement.
fn verdict(payload: &[u8]) -> io::Result<()> {
    let code = payload.first_chunk().copied().map_or(0, i32::from_ne_bytes);
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// Attributes to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute with a text that ends in NUL.
    pub(crate) fn with_text(self, kind: u16, text: &str) -> Attributes {
        self.with(kind, &[text.as_bytes(), b"\0"].concat())
    }

    /// Adds an attribute that consists of attributes.
    pub(crate) fn with_nested(self, kind: u16, attributes: &Attributes) -> Attributes {
        self.with(NESTED | kind, &attributes.0)
    }

    /// Returns the attributes as they are sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Received attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// Kind without flags.
    pub(crate) kind: u16,
    /// Value without padding.
    pub(crate) value: &'a [u8],
}

/// Error of attributes that end within an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

/// Returns the attributes in `bytes`. The last one is an error if the bytes end within it.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Truncated>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let attribute = split_attribute(rest);
        rest = attribute.map_or(&[], |(_, rest)| rest);
        Some(attribute.map(|(attribute, _)| attribute).ok_or(Truncated))
    })
}

fn split_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let ([a, b, c, d], _) = bytes.split_first_chunk::<ATTRIBUTE_HEADER>()?;
    let length = usize::from(u16::from_ne_bytes([*a, *b]));
    let value = bytes.get(ATTRIBUTE_HEADER..length)?;
    let kind = u16::from_ne_bytes([*c, *d]) & KIND;
    // The last attribute may lack its padding.
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Attribute { kind, value }, rest))
}

/// Returns the value of the first attribute of a kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut found = attributes(bytes).flatten();
    found
        .find(|attribute| attribute.kind == kind)
        .map(|attribute| attribute.value)
}

/// Parses an address of either family, which its length tells.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_attributes_as_they_are_written() {
        let inner = Attributes::default().with_text(2, "eth0").with(3, &[]);
        let outer = Attributes::default()
            .with(1, &[7])
            .with_nested(5, &inner)
            .with(1, &[8]);
        assert_eq!(outer.bytes().len() % 4, 0);
        assert_eq!(find(outer.bytes(), 1), Some(&[7][..]));
        let nested = find(outer.bytes(), 5).unwrap();
        assert_eq!(find(nested, 2), Some(&b"eth0\0"[..]));
        assert_eq!(find(nested, 3), Some(&[][..]));
        assert_eq!(find(nested, 4), None);
    }

    #[test]
    fn truncated_attributes_are_an_error_and_end_the_list() {
        let bytes = Attributes::default().with(1, &[7]).with(2, &[1, 2, 3, 4]);
        let bytes = bytes.bytes();
        for (length, expected) in [(0, 0), (8, 1), (16, 2)] {
            let found: Result<Vec<_>, _> = attributes(&bytes[..length]).collect();
            assert_eq!(found.map(|found| found.len()), Ok(expected));
        }
        for length in [3, 4, 9, 15] {
            let last = attributes(&bytes[..length]).last();
            assert_eq!(last, Some(Err(Truncated)), "{length}");
        }
        // An attribute that is shorter than its header.
        assert_eq!(attributes(&[3, 0, 1, 0]).last(), Some(Err(Truncated)));
    }

    #[test]
    fn an_error_message_without_an_error_is_a_success() {
        assert!(verdict(&0_i32.to_ne_bytes()).is_ok());
        let refused = verdict(&(-2_i32).to_ne_bytes()).unwrap_err();
        assert_eq!(
            refused.raw_os_error(),
            Some(nix::errno::Errno::ENOENT as i32)
        );
    }
}
