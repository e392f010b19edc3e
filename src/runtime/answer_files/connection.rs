//! TCP connections of this process, which the driver owns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{SockaddrStorage, getpeername, setsockopt};

/// Connection of a client: another file descriptor of the driver's socket. Dropping it does not
/// end the connection.
pub(super) struct Connection(TcpStream);

impl Connection {
    /// Returns how many bytes the client's host has acknowledged since the connection began;
    /// `None` if the kernel does not count them (before Linux 4.1).
    pub(super) fn acknowledged(&self) -> Option<u64> {
        // `tcpi_bytes_acked` in `struct tcp_info` of linux/tcp.h, which only grows.
        const OFFSET: usize = 120;
        let mut info = [0u8; 256];
        let mut length = info.len() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which `info` has.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let bytes = info[..length as usize].get(OFFSET..OFFSET + 8)?;
        (result == 0).then(|| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// Ends the connection. The driver notices it at its socket, and closes that; then the kernel
    /// resets the connection and frees its buffers, and does not wait for the client.
    pub(super) fn end(&self) {
        let reset = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // An error means that the connection has ended already.
        let _ = setsockopt(&self.0, Linger, &reset);
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Returns the connections of these clients to the local port. Clients without one are absent.
pub(super) fn find(clients: &BTreeSet<SocketAddr>, port: u16) -> BTreeMap<SocketAddr, Connection> {
    let Ok(directory) = fs::read_dir("/proc/self/fd") else {
        return BTreeMap::new();
    };
    let number = |entry: std::io::Result<fs::DirEntry>| -> Option<RawFd> {
        entry.ok()?.file_name().to_str()?.parse().ok()
    };
    let connection = |fd| {
        let client = peer(fd)?;
        let connection = clients.contains(&client).then(|| duplicate(fd)).flatten()?;
        // The number may be another socket's by now.
        let is_same = canonical(connection.peer_addr().ok()?) == client
            && connection.local_addr().ok()?.port() == port;
        is_same.then_some((client, Connection(connection)))
    };
    directory
        .filter_map(number)
        .filter_map(connection)
        .collect()
}

/// Returns the other end of a socket; `None` if `fd` is not a connected socket of IPv4 or IPv6.
fn peer(fd: RawFd) -> Option<SocketAddr> {
    let address = getpeername::<SockaddrStorage>(fd).ok()?;
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    };
    v4.or_else(v6).map(canonical)
}

/// Returns the address without what differs between descriptions of one client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn duplicate(fd: RawFd) -> Option<TcpStream> {
    // SAFETY: takes a number, and fails if it is not open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: the kernel has just returned it, so it is open and has no other owner.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) }.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn finds_the_connection_of_a_client_and_no_other() {
        let (first, second) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("[::1]:0").unwrap(),
        );
        let port = first.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _other = TcpStream::connect(second.local_addr().unwrap()).unwrap();
        let accepted = first.accept().unwrap().0;
        let address = client.local_addr().unwrap();

        let clients = BTreeSet::from([address]);
        assert!(find(&clients, port + 1).is_empty(), "another port");
        assert!(find(&BTreeSet::from([first.local_addr().unwrap()]), port).is_empty());
        let found = find(&clients, port);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&address]);
        assert_eq!(found[&address].acknowledged(), Some(0));

        drop(found);
        use std::io::Write;
        (&accepted).write_all(b"12345").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        let found = find(&clients, port);
        assert_eq!(found[&address].acknowledged(), Some(5));
        found[&address].end();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end");
        drop(client);
    }
}
