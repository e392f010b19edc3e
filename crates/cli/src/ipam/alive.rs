//! Addresses that answer on this host's networks, whoever has them.
//!
//! A datagram to an address that nobody has fails when the neighbour is not found. Every other
//! outcome, silence included, means that somebody may have it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

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

/// Returns those of the addresses that somebody may have.
pub fn answering(addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    addresses.chunks(AT_ONCE).flat_map(try_some).collect()
}

fn try_some(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut somebody = Vec::new();
    let mut silent = addresses.to_vec();
    for _ in 0..ATTEMPTS {
        let tried = attempt(&silent);
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

fn attempt(addresses: &[IpAddr]) -> Attempt {
    let mut result = Attempt::default();
    let mut waiting: Vec<(IpAddr, UdpSocket)> = Vec::new();
    for address in addresses {
        match connect(*address) {
            Ok(socket) => waiting.push((*address, socket)),
            Err(error) if is_nobody(error.kind()) => {}
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
        waiting.retain(|(address, socket)| match socket.recv(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) if is_nobody(error.kind()) => false,
            _ => {
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

fn is_nobody(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
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
    fn an_address_of_this_host_answers_and_one_without_a_route_does_not() {
        let own: IpAddr = Ipv4Addr::LOCALHOST.into();
        assert_eq!(answering(&[own]), [own].into());
        assert_eq!(answering(&[]), BTreeSet::new());
    }
}
