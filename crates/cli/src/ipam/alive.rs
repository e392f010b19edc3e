//! Addresses that answer on this host's networks, whoever has them.
//!
//! A datagram to an address that nobody has fails when this host does not find the neighbour. Every
//! other outcome means that somebody may have it: silence, and errors of firewalls and routers.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

/// Time within which the kernel gives up looking for a neighbour: three requests, one a second.
const LIMIT: Duration = Duration::from_secs(4);
/// Number of addresses that are tried at a time. Each needs a socket.
const AT_ONCE: usize = 256;
/// Time between two datagrams. The kernel sends itself at most 50 errors at once, and further ones
/// at a limited rate.
const PAUSE: Duration = Duration::from_millis(5);
/// Number of attempts for addresses of which nothing was heard.
const ATTEMPTS: usize = 2;
/// Port that nothing listens on: `discard`.
const PORT: u16 = 9;
/// Size of the description of an error, in bytes. The kernel's has at most 44.
const DESCRIPTION: usize = 128;
/// Type and code of the ICMP message "host unreachable".
const HOST_UNREACHABLE: (u8, u8) = (3, 1);
/// Type and code of the ICMPv6 message "address unreachable".
const ADDRESS_UNREACHABLE: (u8, u8) = (1, 3);

/// Returns those of the addresses that somebody may have.
pub fn answering(addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    let own = own_addresses();
    let somebody = |addresses| try_some(addresses, &own);
    addresses.chunks(AT_ONCE).flat_map(somebody).collect()
}

/// Returns the addresses of this network namespace; none if the kernel does not say them.
fn own_addresses() -> BTreeSet<IpAddr> {
    let devices = getifaddrs().into_iter().flatten();
    let addresses = devices.filter_map(|device| device.address);
    addresses
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
            v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
        })
        .collect()
}

fn try_some(addresses: &[IpAddr], own: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let mut somebody = Vec::new();
    let mut silent = addresses.to_vec();
    for _ in 0..ATTEMPTS {
        let tried = attempt(&silent, own);
        somebody.extend(tried.somebody);
        silent = tried.silent;
        if silent.is_empty() {
            break;
        }
    }
    somebody.extend(silent);
    somebody
}

/// Result of one attempt.
#[derive(Default)]
struct Attempt {
    /// Addresses that somebody has.
    somebody: Vec<IpAddr>,
    /// Addresses of which nothing was heard.
    silent: Vec<IpAddr>,
}

fn attempt(addresses: &[IpAddr], own: &BTreeSet<IpAddr>) -> Attempt {
    let mut result = Attempt::default();
    let mut waiting: Vec<(IpAddr, UdpSocket)> = Vec::new();
    for address in addresses {
        match connect(*address) {
            Ok(socket) => waiting.push((*address, socket)),
            // Without a route to it, nothing is known.
            Err(_) => result.somebody.push(*address),
        }
        thread::sleep(PAUSE);
    }
    let deadline = Instant::now() + LIMIT;
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || wait(&waiting, left).is_err() {
            break;
        }
        waiting.retain(|(address, socket)| match heard(socket, own) {
            Heard::Nothing => true,
            Heard::Nobody => false,
            Heard::Somebody => {
                result.somebody.push(*address);
                false
            }
        });
    }
    result.silent = waiting.into_iter().map(|(address, _)| address).collect();
    result
}

/// Sends a datagram to an address.
fn connect(address: IpAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // Otherwise only a refusal would be reported, and not an unreachable host.
    match address {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
    }?;
    socket.connect(SocketAddr::new(address, PORT))?;
    socket.send(&[])?;
    Ok(socket)
}

/// State of an address, by what its socket heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Nobody,
    Somebody,
}

fn heard(socket: &UdpSocket, own: &BTreeSet<IpAddr>) -> Heard {
    let mut description = cmsg_space!([u8; DESCRIPTION]);
    let mut content: [IoSliceMut<'_>; 0] = [];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let error = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut content,
        Some(&mut description),
        flags,
    );
    match error {
        Ok(error) => {
            let mut messages = error.cmsgs().into_iter().flatten();
            match messages.any(|message| is_nobody(&message, own)) {
                true => Heard::Nobody,
                false => Heard::Somebody,
            }
        }
        Err(Errno::EAGAIN) => match socket.recv(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            _ => Heard::Somebody,
        },
        Err(_) => Heard::Somebody,
    }
}

/// Returns true if this host itself says that it did not find the neighbour. A firewall's refusal
/// is the same error of the socket, but another message.
fn is_nobody(message: &ControlMessageOwned, own: &BTreeSet<IpAddr>) -> bool {
    let (error, offender, origin, expected): (_, Option<IpAddr>, _, _) = match message {
        ControlMessageOwned::Ipv4RecvErr(error, offender) => (
            error,
            offender.map(|v4| Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into()),
            libc::SO_EE_ORIGIN_ICMP,
            HOST_UNREACHABLE,
        ),
        ControlMessageOwned::Ipv6RecvErr(error, offender) => (
            error,
            offender.map(|v6| Ipv6Addr::from(v6.sin6_addr.s6_addr).into()),
            libc::SO_EE_ORIGIN_ICMP6,
            ADDRESS_UNREACHABLE,
        ),
        _ => return false,
    };
    error.ee_origin == origin
        && (error.ee_type, error.ee_code) == expected
        && offender.is_some_and(|offender| own.contains(&offender))
}

/// Waits until one of the sockets has something, or the time is over.
fn wait(sockets: &[(IpAddr, UdpSocket)], limit: Duration) -> nix::Result<()> {
    let mut fds: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(
        &mut fds,
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_host_answers() {
        let own: IpAddr = Ipv4Addr::LOCALHOST.into();
        assert_eq!(answering(&[own]), [own].into());
        assert_eq!(answering(&[]), BTreeSet::new());
    }

    #[test]
    fn only_this_hosts_own_failure_to_find_a_neighbour_means_nobody() {
        let own_ip = Ipv4Addr::new(9, 0, 0, 1);
        let own = [IpAddr::from(own_ip)].into();
        let message = |code, offender: Ipv4Addr| {
            let error = libc::sock_extended_err {
                ee_errno: Errno::EHOSTUNREACH as u32,
                ee_origin: libc::SO_EE_ORIGIN_ICMP,
                ee_type: 3,
                ee_code: code,
                ee_pad: 0,
                ee_info: 0,
                ee_data: 0,
            };
            let offender = libc::sockaddr_in {
                sin_family: 2,
                sin_port: 0,
                sin_addr: libc::in_addr {
                    s_addr: u32::from(offender).to_be(),
                },
                sin_zero: [0; 8],
            };
            ControlMessageOwned::Ipv4RecvErr(error, Some(offender))
        };
        assert!(is_nobody(&message(1, own_ip), &own));
        // Administratively prohibited, by a firewall.
        for code in [0, 3, 9, 10, 13] {
            assert!(!is_nobody(&message(code, own_ip), &own), "code {code}");
        }
        let router = Ipv4Addr::new(10, 0, 0, 254);
        assert!(!is_nobody(&message(1, router), &own));
        assert!(!is_nobody(&message(1, own_ip), &BTreeSet::new()));
    }
}
