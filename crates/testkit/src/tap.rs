//! A tap on a host's network: reads the messages of modules as they pass.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use testbed::net::Host;

/// Receive buffer, bytes, large enough for a burst of packets.
const BUFFER: usize = 8 << 20;
/// Longest packet; the kernel gives several segments at once.
const LONGEST: usize = 64 << 10;
/// Longest wait for a packet, microseconds.
const PAUSE: i64 = 20_000;

/// A message of a module, as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// Address of the receiver.
    pub to: SocketAddr,
    /// The request with its body.
    pub bytes: Vec<u8>,
}

impl Tapped {
    /// Returns true for a message of this type.
    pub fn is(&self, name: &str) -> bool {
        let line = self.bytes.split(|byte| *byte == b' ').nth(1);
        line.is_some_and(|path| path.ends_with(format!("/{name}").as_bytes()))
    }

    /// Returns the body, without the frames of its chunks.
    pub fn body(&self) -> Vec<u8> {
        let (length, parts) = message_parts(&self.bytes).unwrap_or_default();
        debug_assert_eq!(length, self.bytes.len());
        parts
            .into_iter()
            .flat_map(|part| &self.bytes[part])
            .copied()
            .collect()
    }
}

/// A thread that reads all packets of a host.
pub struct Tap {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Streams>,
}

/// The bytes of each direction of TCP connections, by sender and receiver.
type Streams = BTreeMap<(SocketAddrV4, SocketAddrV4), Stream>;

impl Tap {
    /// Taps a host. Only connections that are opened later are understood.
    pub fn start(host: &Host) -> Result<Tap> {
        let socket = host.netns().within(open)?.context("tapping a host")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut streams, mut packet) = (Streams::new(), vec![0; LONGEST]);
            while !stopped.load(Ordering::Relaxed) {
                match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                    Ok(length) => _ = take(&packet[..length], &mut streams),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => panic!("reading packets: {error}"),
                }
            }
            streams
        });
        Ok(Tap { stop, thread })
    }

    /// Ends the tap, and returns the messages to masters and agents of the modules.
    pub fn stop(self) -> Result<Vec<Tapped>> {
        self.stop.store(true, Ordering::Relaxed);
        let streams = self.thread.join().map_err(|_| anyhow!("a tap panicked"))?;
        let of = |((_, to), stream): (&(SocketAddrV4, SocketAddrV4), &Stream)| {
            let messages = messages(&stream.bytes);
            let tapped = |bytes: &[u8]| Tapped {
                to: (*to).into(),
                bytes: bytes.to_vec(),
            };
            messages.into_iter().map(tapped).collect::<Vec<_>>()
        };
        Ok(streams.iter().flat_map(of).collect())
    }
}

fn open() -> nix::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, PAUSE))?;
    Ok(socket)
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    /// Sequence number of the next byte.
    next: u32,
    bytes: Vec<u8>,
}

/// Takes a packet; `None`: it is no TCP over IPv4 over Ethernet.
fn take(packet: &[u8], streams: &mut Streams) -> Option<()> {
    let ip = packet.get(14..).filter(|_| packet[12..14] == [8, 0])?;
    if ip.len() < 20 || ip[9] != 6 {
        return None;
    }
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    // Short packets are padded.
    let ip = ip.get(..word(ip, 2).into())?;
    let tcp = ip
        .get(usize::from(ip[0] & 15) * 4..)
        .filter(|tcp| tcp.len() >= 20)?;
    let address = |ip_at: usize, port_at: usize| {
        let octets: [u8; 4] = ip[ip_at..ip_at + 4].try_into().unwrap_or_default();
        SocketAddrV4::new(Ipv4Addr::from(octets), word(tcp, port_at))
    };
    let number = u32::from(word(tcp, 4)) << 16 | u32::from(word(tcp, 6));
    let stream = streams.entry((address(12, 0), address(16, 2))).or_default();
    const SYN: u8 = 2;
    if tcp[13] & SYN != 0 {
        stream.next = number.wrapping_add(1);
        return Some(());
    }
    let data = tcp.get(usize::from(tcp[12] >> 4) * 4..)?;
    // Nothing is lost or reordered between namespaces; what was seen already begins earlier.
    if number == stream.next {
        stream.bytes.extend_from_slice(data);
        stream.next = number.wrapping_add(u32::try_from(data.len()).ok()?);
    }
    Some(())
}

/// Returns the complete messages in a stream whose receiver is a module.
fn messages(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, _)) = message_parts(stream) {
        let (message, rest) = stream.split_at(length);
        if message.starts_with(b"POST /overlay-") {
            messages.push(message);
        }
        stream = rest;
    }
    messages
}

/// Returns the length of the first request or answer in a stream, and the parts of its body; `None`:
/// it is not complete.
fn message_parts(stream: &[u8]) -> Option<(usize, Vec<Range<usize>>)> {
    let find = |from: usize, what: &[u8]| {
        let mut windows = stream.get(from..)?.windows(what.len());
        windows
            .position(|window| window == what)
            .map(|at| from + at)
    };
    let body = find(0, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&stream[..body]).to_ascii_lowercase();
    let (mut end, mut parts) = (body, Vec::new());
    if head.contains("transfer-encoding: chunked") {
        loop {
            let line = find(end, b"\r\n")?;
            let size = str::from_utf8(&stream[end..line]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            let start = line + 2;
            end = start.checked_add(size)? + 2;
            if size == 0 {
                break;
            }
            parts.push(start..start + size);
        }
    } else {
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Some(0), |text| text.trim().parse().ok())?;
        end = body.checked_add(length)?;
        parts.push(body..end);
    }
    (end <= stream.len()).then_some((end, parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wire;

    #[test]
    fn only_messages_to_modules_are_returned() {
        let to = |id: &str, body: &[u8]| wire::encode("a@10.0.0.1:1", id, "x.Y", body);
        let wanted = [to("overlay-master", b"one"), to("overlay-agent", b"")];
        let mut stream = wanted[0].clone();
        stream.extend(to("slave(1)", b"POST /overlay-master/x.Y HTTP/1.1"));
        stream.extend(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}");
        stream.extend(&wanted[1]);
        stream.extend(&to("overlay-agent", b"cut off")[..80]);
        assert_eq!(messages(&stream), wanted);
        let bodies = wanted.map(|bytes| {
            let to = SocketAddr::from(([10, 0, 0, 1], 1));
            Tapped { to, bytes }.body()
        });
        assert_eq!(bodies, [b"one".to_vec(), Vec::new()]);
    }
}
