//! Listens to what the kernel says about changes of a host, whoever makes them:
//! devices, addresses, routes, rules, permanent neighbours, FDB entries of tunnels,
//! and nftables (which today's iptables writes to).

use std::io::ErrorKind;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use crate::net::Host;

/// Groups of rtnetlink (`RTNLGRP_*` of `linux/rtnetlink.h`): links, neighbours, and of both
/// families addresses, routes and rules.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const NFTABLES: u32 = 7;
/// For a burst of changes that nobody reads at once.
const BUFFER: usize = 8 << 20;

/// A host that is listened to.
pub struct Monitor {
    routing: Socket,
    netfilter: Socket,
}

impl Monitor {
    /// Hears everything that happens from now on.
    pub fn new(host: &Host) -> Result<Monitor> {
        host.netns().within(|| -> Result<Monitor> {
            let routing = socket(NETLINK_ROUTE, &GROUPS)?;
            Ok(Monitor {
                routing,
                netfilter: socket(NETLINK_NETFILTER, &[NFTABLES])?,
            })
        })?
    }

    /// What changed since the last time, in order. (nftables last.)
    pub fn changes(&self) -> Result<Vec<String>> {
        let mut changes = Vec::new();
        read(&self.routing, |message| {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)?;
            if let NetlinkPayload::InnerMessage(message) = &message.payload
                && counts(message)
            {
                changes.push(format!("{message:?}"));
            }
            Ok(())
        })?;
        read(&self.netfilter, |message| {
            // The low byte of the type is NFT_MSG_*, in `linux/netfilter/nf_tables.h`.
            let kind = NetlinkBuffer::new_checked(message)?.message_type() & 0xff;
            changes.push(format!("nftables, message {kind}"));
            Ok(())
        })?;
        Ok(changes)
    }
}

fn socket(protocol: isize, groups: &[u32]) -> Result<Socket> {
    let open = || -> std::io::Result<Socket> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_rx_buf_sz(BUFFER)?;
        groups
            .iter()
            .try_for_each(|group| socket.add_membership(*group))?;
        socket.set_non_blocking(true)?;
        Ok(socket)
    };
    open().context("listening to the kernel")
}

/// Reads all that waits, message by message.
fn read(socket: &Socket, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        let datagram = match socket.recv_from_full() {
            Ok((datagram, _)) => datagram,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // ENOBUFS among others: then nobody knows what happened.
            Err(error) => return Err(error).context("listening to the kernel"),
        };
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let buffer = NetlinkBuffer::new_checked(rest)?;
            let length = buffer.length() as usize;
            if length == 0 {
                bail!("an empty message of the kernel");
            }
            each(&rest[..length])?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// What is no everyday business of the kernel.
fn counts(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewNeighbour(neighbour)
        | RouteNetlinkMessage::DelNeighbour(neighbour) => is_set(neighbour),
        // A bridge tells of the timers of its ports. A port that comes or goes is told of anyway.
        RouteNetlinkMessage::NewLink(link) => link.header.interface_family != AddressFamily::Bridge,
        _ => true,
    }
}

/// Whether somebody set it: a permanent neighbour, or an FDB entry with a destination,
/// which only tunnels have. The kernel learns and forgets the others by itself.
fn is_set(neighbour: &NeighbourMessage) -> bool {
    let has_destination = neighbour
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, NeighbourAttribute::Destination(_)));
    match neighbour.header.family {
        AddressFamily::Bridge => has_destination,
        _ => neighbour.header.state == NeighbourState::Permanent,
    }
}
