//! TCP connections of this process, which the driver owns.

use std::fs::{self, File};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{SockaddrStorage, getpeername, setsockopt};

/// Connection of a client: another file descriptor of the driver's socket. Dropping it does not
/// end the connection.
pub(super) struct Connection {
    socket: TcpStream,
    /// The driver's file descriptor, which has this number until the connection ends.
    number: RawFd,
}

impl Connection {
    /// Returns the number of the driver's file descriptor.
    pub(super) fn number(&self) -> RawFd {
        self.number
    }

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
                self.socket.as_raw_fd(),
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
        let _ = setsockopt(&self.socket, Linger, &reset);
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Number of file descriptors below the lowest free one that are looked at first.
const NEAR: RawFd = 256;

/// Returns the connection of a client to the local port; `None`: it has none.
///
/// A new connection has the lowest number that was free, so it is mostly found below the lowest
/// free one. Reading `/proc/self/fd` takes 30 ms if the process has 20,000 files open.
pub(super) fn find(client: SocketAddr, port: u16) -> Option<Connection> {
    let free = lowest_free()?;
    let mut near = (0..free).rev().take(NEAR as usize);
    near.find_map(|number| at(number, client, port))
        .or_else(|| open_files().find_map(|number| at(number, client, port)))
}

/// Returns the connection of a client to the local port if the file descriptor with this number
/// is the driver's end of it.
pub(super) fn at(number: RawFd, client: SocketAddr, port: u16) -> Option<Connection> {
    if peer(number)? != client {
        return None;
    }
    let socket = duplicate(number)?;
    // The number may be another socket's by now.
    let is_same =
        canonical(socket.peer_addr().ok()?) == client && socket.local_addr().ok()?.port() == port;
    is_same.then_some(Connection { socket, number })
}

/// Returns the number that the next file to be opened gets.
fn lowest_free() -> Option<RawFd> {
    let file = File::open("/dev/null").ok()?;
    Some(file.as_raw_fd())
}

/// Returns the numbers of all open files of this process.
fn open_files() -> impl Iterator<Item = RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
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
    fn finds_a_connection_far_below_the_lowest_free_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let accepted = listener.accept().unwrap().0;
        let _others: Vec<File> = (0..2 * NEAR)
            .map(|_| File::open("/dev/null").unwrap())
            .collect();
        let found = find(client.local_addr().unwrap(), address.port()).unwrap();
        assert_eq!(found.number(), accepted.as_raw_fd());
    }

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

        assert!(find(address, port + 1).is_none(), "another port");
        assert!(find(first.local_addr().unwrap(), port).is_none());
        let found = find(address, port).unwrap();
        assert_eq!(found.number(), accepted.as_raw_fd());
        assert_eq!(found.acknowledged(), Some(0));
        assert!(at(found.number(), address, port).is_some());
        assert!(at(found.number() - 1, address, port).is_none());

        drop(found);
        use std::io::Write;
        (&accepted).write_all(b"12345").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        let found = find(address, port).unwrap();
        assert_eq!(found.acknowledged(), Some(5));
        found.end();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end");
        drop(client);
    }
}
