//! UDP: questions and answers in batches.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::answer::{Client, Transport};
use super::engine::{Engine, Next};
use super::metrics::Counters;

/// Messages that are received and sent at once.
const BATCH: usize = 32;

/// Longest request that is read, in bytes. Questions have less than 300; a cookie, padding or a TSIG
/// record fit.
const REQUEST_SIZE: usize = 1_500;

/// Room for messages that wait in the kernel, in bytes.
const BUFFER_SIZE: usize = 4 << 20;

/// Time after which a thread without questions looks whether it is to end.
const WAKE_UP: Duration = Duration::from_millis(200);

/// A socket, and whether it has the addresses of all of the host.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
    /// Answers must leave from the address that was asked.
    is_wildcard: bool,
}

/// Destination of an answer, and the address that it is sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Client.
    pub client: SocketAddr,
    /// Address that was asked, where the socket has several.
    pub local: Option<IpAddr>,
}

impl Listener {
    /// Opens a socket. Several can have one address; the kernel spreads clients over them.
    pub fn open(address: SocketAddr) -> std::io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The kernel gives less where its limit is lower.
        let _ = socket.set_recv_buffer_size(BUFFER_SIZE);
        let _ = socket.set_send_buffer_size(BUFFER_SIZE);
        socket.set_read_timeout(Some(WAKE_UP))?;
        let is_wildcard = address.ip().is_unspecified();
        if is_wildcard && address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else if is_wildcard {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        socket.bind(&address.into())?;
        Ok(Self {
            socket: socket.into(),
            is_wildcard,
        })
    }

    /// Returns the address of the socket.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one answer.
    pub fn send(&self, message: &[u8], route: Route) -> Result<usize, Errno> {
        let (v4, v6) = packet_info(route.local);
        let control = control_messages(v4.as_ref(), v6.as_ref());
        let address = SockaddrStorage::from(route.client);
        let slices = [IoSlice::new(message)];
        let socket = self.socket.as_raw_fd();
        sendmsg(socket, &slices, &control, MsgFlags::empty(), Some(&address))
    }

    fn receive(
        &self,
        buffers: &mut [Vec<u8>],
        requests: &mut Vec<(usize, usize, Route)>,
    ) -> Result<(), Errno> {
        let space = self
            .is_wildcard
            .then(|| nix::cmsg_space!(libc::in6_pktinfo));
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(buffers.len(), space);
        let mut slices: Vec<[IoSliceMut; 1]> = buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let socket = self.socket.as_raw_fd();
        let received = recvmmsg(
            socket,
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        )?;
        for (index, message) in received.enumerate() {
            // What is longer than the buffer is no question.
            if message.flags.contains(MsgFlags::MSG_TRUNC) {
                continue;
            }
            if let Some(route) = route(&message, self.is_wildcard) {
                requests.push((index, message.bytes, route));
            }
        }
        Ok(())
    }

    /// Sends answers, those of one local address at once.
    fn send_all(&self, answers: &[(Vec<u8>, Route)]) {
        for same in answers.chunk_by(|one, other| one.1.local == other.1.local) {
            let Some((_, route)) = same.first() else {
                continue;
            };
            let (v4, v6) = packet_info(route.local);
            let control = control_messages(v4.as_ref(), v6.as_ref());
            self.send_batch(same, &control);
        }
    }

    fn send_batch(&self, answers: &[(Vec<u8>, Route)], control: &[ControlMessage<'_>]) {
        let mut rest = answers;
        while !rest.is_empty() {
            let space = match control {
                [] => None,
                [ControlMessage::Ipv4PacketInfo(_), ..] => Some(nix::cmsg_space!(libc::in_pktinfo)),
                [..] => Some(nix::cmsg_space!(libc::in6_pktinfo)),
            };
            let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(rest.len(), space);
            let slices: Vec<[IoSlice; 1]> = rest
                .iter()
                .map(|(bytes, _)| [IoSlice::new(bytes)])
                .collect();
            let addresses: Vec<Option<SockaddrStorage>> = rest
                .iter()
                .map(|(_, route)| Some(SockaddrStorage::from(route.client)))
                .collect();
            let socket = self.socket.as_raw_fd();
            let sent = sendmmsg(
                socket,
                &mut headers,
                &slices,
                &addresses,
                control,
                MsgFlags::empty(),
            );
            // An error belongs to the first message: its address cannot be reached.
            let sent = sent.map_or(1, |sent| sent.count().max(1));
            rest = rest.get(sent..).unwrap_or_default();
        }
    }
}

/// Returns the addresses of a message.
fn route(message: &RecvMsg<'_, '_, SockaddrStorage>, is_wildcard: bool) -> Option<Route> {
    let address = message.address?;
    let client = if let Some(address) = address.as_sockaddr_in() {
        SocketAddr::V4(SocketAddrV4::from(*address))
    } else {
        SocketAddr::V6(SocketAddrV6::from(*address.as_sockaddr_in6()?))
    };
    // An answer to port 0 cannot be sent.
    if client.port() == 0 {
        return None;
    }
    let local = is_wildcard
        .then(|| message.cmsgs().ok()?.find_map(local_address))
        .flatten();
    Some(Route { client, local })
}

fn local_address(control: ControlMessageOwned) -> Option<IpAddr> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Returns what makes the kernel send from an address.
fn packet_info(local: Option<IpAddr>) -> (Option<libc::in_pktinfo>, Option<libc::in6_pktinfo>) {
    match local {
        None => (None, None),
        Some(IpAddr::V4(address)) => {
            let address = libc::in_addr {
                s_addr: u32::from(address).to_be(),
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address,
                ipi_addr: address,
            };
            (Some(info), None)
        }
        Some(IpAddr::V6(address)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ipi6_ifindex: 0,
            };
            (None, Some(info))
        }
    }
}

fn control_messages<'a>(
    v4: Option<&'a libc::in_pktinfo>,
    v6: Option<&'a libc::in6_pktinfo>,
) -> Vec<ControlMessage<'a>> {
    let v4 = v4.map(ControlMessage::Ipv4PacketInfo);
    let v6 = v6.map(ControlMessage::Ipv6PacketInfo);
    v4.into_iter().chain(v6).collect()
}

/// Answers questions until the engine ends. After a panic, which is an error of this program, it goes on
/// with the next question.
pub fn serve(listener: &Arc<Listener>, engine: &Arc<Engine>, counters: &Arc<Counters>) {
    let run = || answer_all(listener, engine, counters);
    while catch_unwind(AssertUnwindSafe(run)).is_err() {
        log::error!("a thread that answers over UDP panicked and starts again");
        std::thread::sleep(WAKE_UP);
    }
}

fn answer_all(listener: &Arc<Listener>, engine: &Arc<Engine>, counters: &Arc<Counters>) {
    let mut buffers = vec![vec![0; REQUEST_SIZE]; BATCH];
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let mut requests = Vec::with_capacity(BATCH);
    let mut answers: Vec<(Vec<u8>, Route)> = Vec::with_capacity(BATCH);
    while !engine.stop.load(Ordering::Relaxed) {
        requests.clear();
        match listener.receive(&mut buffers, &mut requests) {
            Ok(()) => {}
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => continue,
            Err(error) => {
                log::error!("cannot receive questions over UDP: {error}");
                std::thread::sleep(WAKE_UP);
                continue;
            }
        }
        let begin = Instant::now();
        {
            let zones = engine.authority.zones();
            for (index, length, route) in &requests {
                let mut out = spare.pop().unwrap_or_default();
                let request = &buffers[*index][..*length];
                let client = Client {
                    address: route.client.ip().to_canonical(),
                    transport: Transport::Udp,
                };
                match engine.answer(&zones, request, client, counters, &mut out) {
                    Next::Send => answers.push((out, *route)),
                    Next::Nothing => spare.push(out),
                    Next::Forward => {
                        let waits = engine.forward_udp(request, listener, *route, counters);
                        if !waits && engine.answer_busy(request, client, counters, &mut out) {
                            answers.push((out, *route));
                        } else {
                            spare.push(out);
                        }
                    }
                    // Changes of a zone are asked over TCP; see `Engine::answer`.
                    Next::Transfer => spare.push(out),
                }
            }
        }
        listener.send_all(&answers);
        counters
            .answer_time
            .observe(begin.elapsed(), answers.len() as u64);
        spare.extend(answers.drain(..).map(|(out, _)| out));
    }
}
