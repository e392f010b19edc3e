//! Sockets for ICMP echo requests whose packets must not be fragmented.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use overlay_core::util::family::Family;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of a header of ICMP.
pub const ICMP_HEADER: usize = 8;
/// Largest packet that is received, in bytes.
const MAX_PACKET: usize = 64 << 10;
/// Bytes of the receive buffer: the answers of thousands of peers can come at once.
const BUFFER: usize = 4 << 20;

/// Bytes of an IP header without options.
pub fn ip_header(family: Family) -> usize {
    family.pick(20, 40)
}

/// Option `IP_MTU_DISCOVER`, which nix lacks.
#[derive(Clone)]
struct MtuDiscover4;
/// Option `IPV6_MTU_DISCOVER`.
#[derive(Clone)]
struct MtuDiscover6;

nix::setsockopt_impl!(
    MtuDiscover4,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    nix::sys::socket::sockopt::SetStruct<'_, libc::c_int>
);
nix::setsockopt_impl!(
    MtuDiscover6,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int,
    nix::sys::socket::sockopt::SetStruct<'_, libc::c_int>
);

/// Socket that sends echo requests from one address.
pub struct EchoSocket {
    socket: Socket,
    family: Family,
    /// True if received packets have their IP header.
    has_ip_header: bool,
    buffer: Vec<u8>,
}

/// Received message.
pub enum Received {
    /// Answer to an echo request: sender and data.
    Answer(IpAddr, Vec<u8>),
    /// Error about an echo request.
    Error(EchoError),
}

/// Error about an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoError {
    /// Destination of the request; `None`: not known.
    pub target: Option<IpAddr>,
    /// Sequence number of the request; `None`: the error is about the last request, which was not
    /// sent.
    pub sequence: Option<u16>,
    /// Error number.
    pub errno: Errno,
    /// Host that reports it; `None`: this host's kernel.
    pub reporter: Option<IpAddr>,
    /// MTU in bytes, if the packet is too large.
    pub mtu: Option<u32>,
}

impl EchoSocket {
    /// Opens a socket; `source`: the address of the requests, or `None` if the kernel chooses.
    ///
    /// # Errors
    /// This user may not send echo requests, or no device of the host has the address.
    pub fn open(family: Family, source: Option<IpAddr>) -> io::Result<EchoSocket> {
        let domain = family.pick(Domain::IPV4, Domain::IPV6);
        let protocol = family.pick(Protocol::ICMPV4, Protocol::ICMPV6);
        // Ordinary users may have the first kind, and root always has the second one.
        let (socket, is_raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
        };
        socket.set_nonblocking(true)?;
        // The system's limit may be lower.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let dont_fragment = match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)
                .and_then(|()| setsockopt(&socket, MtuDiscover4, &libc::IP_PMTUDISC_DO)),
            Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)
                .and_then(|()| setsockopt(&socket, MtuDiscover6, &libc::IPV6_PMTUDISC_DO))
                .and_then(|()| setsockopt(&socket, sockopt::Ipv6DontFrag, &true)),
        };
        dont_fragment?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(EchoSocket {
            socket,
            family,
            has_ip_header: is_raw && family == Family::V4,
            buffer: vec![0; MAX_PACKET],
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The kernel does not send it. If it is too large, the next received error has the MTU.
    pub fn send(&self, target: IpAddr, sequence: u16, data: &[u8]) -> io::Result<()> {
        let mut packet = vec![self.family.pick(8, 128), 0, 0, 0, 0x6d, 0x6f];
        packet.extend(sequence.to_be_bytes());
        packet.extend(data);
        // The kernel computes the checksum of IPv6.
        if self.family == Family::V4 {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let to = SocketAddr::new(target, 0).into();
        self.socket.send_to(&packet, &to).map(drop)
    }

    /// Returns a message that has been received, errors first; `None`: there is none.
    pub fn receive(&mut self) -> Option<Received> {
        if let Some(error) = self.receive_error() {
            return Some(Received::Error(error));
        }
        loop {
            let mut parts = [io::IoSliceMut::new(&mut self.buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = self.socket.as_raw_fd();
            let message = match recvmsg::<SockaddrStorage>(fd, &mut parts, None, flags) {
                Ok(message) => message,
                // An error that the queue of errors has, too.
                Err(errno) if errno != Errno::EAGAIN => {
                    return self.receive_error().map(Received::Error);
                }
                Err(_) => return None,
            };
            let (length, sender) = (message.bytes, message.address.and_then(|from| ip(&from)));
            let packet = self.buffer.get(..length).unwrap_or_default();
            if let Some(data) = answer(packet, self.family, self.has_ip_header)
                && let Some(sender) = sender
            {
                return Some(Received::Answer(sender, data.to_vec()));
            }
        }
    }

    /// Returns an error from the socket's queue of errors.
    pub fn receive_error(&mut self) -> Option<EchoError> {
        let mut parts = [io::IoSliceMut::new(&mut self.buffer)];
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, [u8; 64]);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags).ok()?;
        let target = message.address.and_then(|target| ip(&target));
        let (error, reporter) = message.cmsgs().ok()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4RecvErr(error, from) => {
                let from = from.map(|from| Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr)));
                Some((error, from.map(IpAddr::V4)))
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) => {
                let from = from.map(|from| Ipv6Addr::from(from.sin6_addr.s6_addr));
                Some((error, from.map(IpAddr::V6)))
            }
            _ => None,
        })?;
        let length = message.bytes;
        let is_local = error.ee_origin == libc::SO_EE_ORIGIN_LOCAL;
        let errno = Errno::from_raw(error.ee_errno as i32);
        let is_too_large = errno == Errno::EMSGSIZE;
        let packet = self.buffer.get(..length).unwrap_or_default();
        let sequence = packet.get(6..8).filter(|_| !is_local);
        Some(EchoError {
            target,
            sequence: sequence.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])),
            errno,
            reporter: reporter.filter(|from| !is_local && !from.is_unspecified()),
            mtu: (is_too_large && error.ee_info > 0).then_some(error.ee_info),
        })
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
}

/// Returns the data of an answer; `None`: the packet is something else.
fn answer(packet: &[u8], family: Family, has_ip_header: bool) -> Option<&[u8]> {
    let start = match has_ip_header {
        true => usize::from(packet.first()? & 0xf) * 4,
        false => 0,
    };
    let message = packet.get(start..)?;
    let data = message.get(ICMP_HEADER..)?;
    (message[0] == family.pick(0, 129)).then_some(data)
}

/// Returns the checksum of the Internet protocols (RFC 1071).
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2);
    let words = words.map(|word| u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
    let mut sum: u64 = words.map(u64::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        let mut packet = vec![8, 0, 0, 0, 1, 2, 3, 4, 0xff];
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }

    #[test]
    fn answers_are_told_from_other_messages() {
        let reply = [0, 0, 9, 9, 1, 1, 0, 7, b'x'];
        assert_eq!(answer(&reply, Family::V4, false), Some(&b"x"[..]));
        let with_header = [&[0x46; 24][..], &reply].concat();
        assert_eq!(answer(&with_header, Family::V4, true), Some(&b"x"[..]));
        assert_eq!(answer(&[8; 9], Family::V4, false), None);
        assert_eq!(answer(&[129; 9], Family::V6, false), Some(&[129][..]));
        for length in 0..8 {
            assert_eq!(answer(&reply[..length], Family::V4, false), None);
        }
        assert_eq!(answer(&[], Family::V4, true), None);
    }
}
