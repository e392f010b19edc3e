//! Monitor of a host's network configuration: the kernel's notifications about devices, addresses,
//! routes, rules, permanent neighbours, FDB entries of tunnels, and nftables (which current
//! versions of iptables use).

use std::io::ErrorKind;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use crate::net::Host;

/// Multicast groups of rtnetlink (`RTNLGRP_*` of `linux/rtnetlink.h`): links, neighbours, and
/// addresses, routes and rules of both families.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// Multicast group of nftables: `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const NFTABLES: u32 = 7;
/// Receive buffer, bytes, large enough for bursts of changes.
const BUFFER: usize = 8 << 20;

/// Monitor of a host.
pub struct Monitor {
    routing: Socket,
    netfilter: Socket,
}

impl Monitor {
    /// Subscribes to changes from now on.
    pub fn new(host: &Host) -> Result<Monitor> {
        host.netns().within(|| -> Result<Monitor> {
            let routing = socket(NETLINK_ROUTE, &GROUPS)?;
            Ok(Monitor {
                routing,
                netfilter: socket(NETLINK_NETFILTER, &[NFTABLES])?,
            })
        })?
    }

    /// Returns the changes since the last call, in order; those of nftables are last.
    pub fn changes(&self) -> Result<Vec<String>> {
        let mut changes = Vec::new();
        read(&self.routing, |message| {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)?;
            if let NetlinkPayload::InnerMessage(message) = &message.payload
                && is_relevant(message)
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
    open().context("reading the kernel's notifications")
}

/// Reads all queued messages.
fn read(socket: &Socket, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        let datagram = match socket.recv_from_full() {
            Ok((datagram, _)) => datagram,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // For example ENOBUFS: changes were lost.
            Err(error) => return Err(error).context("reading the kernel's notifications"),
        };
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let buffer = NetlinkBuffer::new_checked(rest)?;
            let length = buffer.length() as usize;
            if length == 0 {
                bail!("the kernel sent an empty message");
            }
            each(&rest[..length])?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Returns false for changes that the kernel makes by itself.
fn is_relevant(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewNeighbour(neighbour)
        | RouteNetlinkMessage::DelNeighbour(neighbour) => is_set(neighbour),
        // Bridges report timers of their ports. New and removed ports are reported separately.
        RouteNetlinkMessage::NewLink(link) => link.header.interface_family != AddressFamily::Bridge,
        _ => true,
    }
}

/// Returns true for a neighbour that a program set: a permanent one, or an FDB entry with a
/// destination, as tunnels have. The kernel learns and forgets the others by itself.
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
