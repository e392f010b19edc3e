//! The operations a plan is made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{CONTAINER_TABLE, Mac, Overlay};

/// One change of the host. Prints as a line that an operator understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Turn on forwarding of IPv4.
    EnableForwarding,
    /// Turn on forwarding of IPv6.
    EnableForwarding6,
    /// Create a VXLAN device, with all that is said here, and set it up.
    AddDevice(NewDevice),
    /// Create a bridge for containers of Mesos, and set it up.
    AddBridge(Arc<str>, Mac),
    /// Let a device's IPv6 addresses be used at once (`accept_dad`).
    SkipDad(Arc<str>),
    /// Remove a device, and with it all that follows below.
    RemoveDevice(Arc<str>),
    /// Leave the checksums of packets into the tunnel to the device below, or not.
    SetTxChecksum(Arc<str>, bool),
    /// Change a device.
    SetDevice(Arc<str>, DeviceChange),
    /// Give a device an address.
    AddAddress(Arc<str>, IpNet),
    /// Take an address from a device.
    RemoveAddress(Arc<str>, IpNet),
    /// Create or replace a permanent neighbour.
    SetNeighbour(Arc<str>, IpAddr, Mac),
    /// Remove a neighbour.
    RemoveNeighbour(Arc<str>, IpAddr),
    /// Create a permanent FDB entry, or replace the one for this address.
    SetFdb(Arc<str>, Mac, Ipv4Addr),
    /// Remove one destination of an FDB entry.
    RemoveFdb(Arc<str>, Mac, IpAddr),
    /// Create a nexthop object for this gateway; its id is [`nexthop_id`].
    AddNexthop(Arc<str>, Ipv4Addr),
    /// Remove a nexthop object, and with it the routes that go by it.
    RemoveNexthop(Arc<str>, u32),
    /// Create a route, or replace the one with this destination.
    SetRoute(Arc<str>, NewRoute),
    /// Remove a route.
    RemoveRoute(Arc<str>, OldRoute),
    /// Create the rule of an overlay.
    AddRule {
        /// The overlay's name.
        overlay: String,
        /// Whose packets it is about.
        from: IpNet,
    },
    /// Remove a rule.
    RemoveRule {
        /// Whose packets it is about.
        from: IpNet,
        /// Which of the rules that say this.
        priority: u32,
    },
    /// Write an overlay's CNI configuration.
    WriteCni {
        /// The overlay's name.
        overlay: String,
        /// The whole file.
        content: Vec<u8>,
    },
    /// Remove the CNI configuration of an overlay that has none any more.
    RemoveCni {
        /// The overlay's name.
        overlay: String,
    },
}

/// Who is not right when something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern<'a> {
    /// The host; its overlays work, at least with most peers.
    Host,
    /// Every overlay: none of them reaches another host.
    Overlays,
    /// Every overlay that has an IPv4 range.
    Ipv4,
    /// Every overlay that has an IPv6 range.
    Ipv6,
    /// One overlay.
    Overlay(&'a str),
}

/// Something on the VXLAN device that is there for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerObject {
    /// The neighbour with this address.
    Neighbour(IpAddr),
    /// The FDB entry of this hardware address.
    Fdb(Mac),
    /// The nexthop object with this id.
    Nexthop(u32),
    /// The route to this destination in this table.
    Route(u32, IpNet),
}

impl Concern<'_> {
    /// Whether it is about this overlay.
    pub fn includes(self, name: &str, overlay: &Overlay) -> bool {
        let has = |is_v4: bool| {
            overlay
                .ranges
                .iter()
                .any(|range| range.addr().is_ipv4() == is_v4)
        };
        match self {
            Concern::Host => false,
            Concern::Overlays => true,
            Concern::Ipv4 => has(true),
            Concern::Ipv6 => has(false),
            Concern::Overlay(one) => one == name,
        }
    }
}

/// A VXLAN device to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Its name.
    pub name: Arc<str>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Hardware address.
    pub mac: Mac,
    /// Bytes; `None` leaves the choice to the kernel.
    pub mtu: Option<u32>,
}

/// A change of a device that needs no new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// Do not learn FDB entries from packets.
    NoLearning,
    /// Another hardware address. The kernel forgets the device's neighbours.
    Mac(Mac),
    /// Another MTU, in bytes.
    Mtu(u32),
    /// Set it up.
    Up,
}

/// A route over our device to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewRoute {
    /// The routing table.
    pub table: u32,
    /// Where to.
    pub dst: IpNet,
    /// The gateway, of the same family.
    pub via: IpAddr,
    /// The nexthop object for that gateway, if the route is to go by one.
    pub nexthop: Option<u32>,
}

/// A route over our device to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldRoute {
    /// The routing table.
    pub table: u32,
    /// Where to.
    pub dst: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// Its metric.
    pub metric: u32,
    /// Who made it.
    pub protocol: u8,
    /// The nexthop object that it goes by.
    pub nexthop: Option<u32>,
}

/// The id of our nexthop object for a gateway: the address as a number, so that no
/// list of ids has to be kept. (Routing daemons count theirs from 1.)
pub fn nexthop_id(via: Ipv4Addr) -> u32 {
    via.to_bits()
}

impl Op {
    /// The device without which this cannot be done.
    pub fn device(&self) -> Option<&Arc<str>> {
        match self {
            Op::SetDevice(device, _)
            | Op::AddAddress(device, _)
            | Op::RemoveAddress(device, _)
            | Op::SetNeighbour(device, _, _)
            | Op::RemoveNeighbour(device, _)
            | Op::SetFdb(device, _, _)
            | Op::RemoveFdb(device, _, _)
            | Op::AddNexthop(device, _)
            | Op::RemoveNexthop(device, _)
            | Op::SetRoute(device, _)
            | Op::RemoveRoute(device, _) => Some(device),
            Op::AddDevice(_) | Op::RemoveDevice(_) | Op::SetTxChecksum(..) => None,
            Op::AddBridge(..) | Op::SkipDad(_) => None,
            Op::EnableForwarding | Op::EnableForwarding6 => None,
            Op::AddRule { .. } | Op::RemoveRule { .. } => None,
            Op::WriteCni { .. } | Op::RemoveCni { .. } => None,
        }
    }

    /// The bridge that it is about, if it is about a bridge that is desired.
    fn bridge(&self) -> Option<&str> {
        match self {
            Op::AddBridge(name, _) | Op::SkipDad(name) => Some(name),
            _ => self.device().map(|name| &**name),
        }
    }

    /// Whom it concerns when this fails.
    pub fn concern(&self) -> Concern<'_> {
        let of = |prefix| self.bridge().and_then(|name| name.strip_prefix(prefix));
        if let Some(overlay) = of(super::MESOS_BRIDGE).or(of(super::DOCKER_BRIDGE)) {
            return Concern::Overlay(overlay);
        }
        match self {
            Op::AddRule { overlay, .. } | Op::WriteCni { overlay, .. } => Concern::Overlay(overlay),
            Op::AddDevice(_) | Op::SetDevice(_, DeviceChange::Up) => Concern::Overlays,
            Op::AddAddress(_, net) if net.addr().is_ipv4() => Concern::Ipv4,
            Op::AddAddress(..) => Concern::Ipv6,
            Op::EnableForwarding => Concern::Ipv4,
            Op::EnableForwarding6 => Concern::Ipv6,
            _ => Concern::Host,
        }
    }

    /// What of a peer it is about; `None`: it is not about a peer.
    pub fn peer_object(&self) -> Option<PeerObject> {
        match self {
            Op::SetNeighbour(_, ip, _) | Op::RemoveNeighbour(_, ip) => {
                Some(PeerObject::Neighbour(*ip))
            }
            Op::SetFdb(_, mac, _) | Op::RemoveFdb(_, mac, _) => Some(PeerObject::Fdb(*mac)),
            Op::AddNexthop(_, via) => Some(PeerObject::Nexthop(nexthop_id(*via))),
            Op::RemoveNexthop(_, id) => Some(PeerObject::Nexthop(*id)),
            Op::SetRoute(_, NewRoute { table, dst, .. })
            | Op::RemoveRoute(_, OldRoute { table, dst, .. }) => {
                Some(PeerObject::Route(*table, *dst))
            }
            _ => None,
        }
    }

    /// What sort of operation it is, in words that complete "cannot …".
    pub fn kind(&self) -> &'static str {
        match self {
            Op::EnableForwarding | Op::EnableForwarding6 => "turn on forwarding",
            Op::AddDevice(_) | Op::AddBridge(..) => "add device",
            Op::RemoveDevice(_) => "remove device",
            Op::SetDevice(..) | Op::SetTxChecksum(..) | Op::SkipDad(_) => "set device",
            Op::AddAddress(..) => "add address",
            Op::RemoveAddress(..) => "remove address",
            Op::SetNeighbour(..) => "add neighbour",
            Op::RemoveNeighbour(..) => "remove neighbour",
            Op::SetFdb(..) => "add FDB entry",
            Op::RemoveFdb(..) => "remove FDB entry",
            Op::AddNexthop(..) => "add nexthop",
            Op::RemoveNexthop(..) => "remove nexthop",
            Op::SetRoute(..) => "add route",
            Op::RemoveRoute(..) => "remove route",
            Op::AddRule { .. } => "add rule",
            Op::RemoveRule { .. } => "remove rule",
            Op::WriteCni { .. } => "write CNI configuration",
            Op::RemoveCni { .. } => "remove CNI configuration",
        }
    }

    /// Whether it takes something away, so that it is fine if that is gone.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Op::RemoveDevice(_)
                | Op::RemoveAddress(..)
                | Op::RemoveNeighbour(..)
                | Op::RemoveFdb(..)
                | Op::RemoveNexthop(..)
                | Op::RemoveRoute(..)
                | Op::RemoveRule { .. }
                | Op::RemoveCni { .. }
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::EnableForwarding => write!(f, "turn on IPv4 forwarding"),
            Op::EnableForwarding6 => write!(f, "turn on IPv6 forwarding"),
            Op::AddDevice(device) => write!(f, "add device {device}"),
            Op::AddBridge(device, mac) => write!(f, "add device {device} bridge address {mac}"),
            Op::SkipDad(device) => write!(f, "set device {device} accept_dad 0"),
            Op::RemoveDevice(device) => write!(f, "remove device {device}"),
            Op::SetTxChecksum(device, on) => {
                write!(
                    f,
                    "set device {device} tx-checksum-ip-generic {}",
                    if *on { "on" } else { "off" }
                )
            }
            Op::SetDevice(device, change) => write!(f, "set device {device} {change}"),
            Op::AddAddress(device, net) => write!(f, "add address {net} dev {device}"),
            Op::RemoveAddress(device, net) => write!(f, "remove address {net} dev {device}"),
            Op::SetNeighbour(device, ip, mac) => {
                write!(f, "add neighbour {ip} lladdr {mac} permanent dev {device}")
            }
            Op::RemoveNeighbour(device, ip) => write!(f, "remove neighbour {ip} dev {device}"),
            Op::SetFdb(device, mac, dst) => {
                write!(
                    f,
                    "add FDB entry {mac} dst {dst} self permanent dev {device}"
                )
            }
            Op::RemoveFdb(device, mac, dst) => {
                write!(f, "remove FDB entry {mac} dst {dst} dev {device}")
            }
            Op::AddNexthop(device, via) => {
                write!(
                    f,
                    "add nexthop id {} via {via} dev {device}",
                    nexthop_id(*via)
                )
            }
            Op::RemoveNexthop(device, id) => write!(f, "remove nexthop id {id} dev {device}"),
            Op::SetRoute(device, route) => write!(f, "add route {route} dev {device}"),
            Op::RemoveRoute(device, route) => write!(f, "remove route {route} dev {device}"),
            Op::AddRule { from, .. } => write!(f, "add rule from {from} lookup {CONTAINER_TABLE}"),
            Op::RemoveRule { from, priority } => {
                write!(
                    f,
                    "remove rule from {from} lookup {CONTAINER_TABLE} priority {priority}"
                )
            }
            Op::WriteCni { overlay, .. } => write!(f, "write CNI configuration {overlay}.conf"),
            Op::RemoveCni { overlay } => write!(f, "remove CNI configuration {overlay}.conf"),
        }
    }
}

impl fmt::Display for NewDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewDevice {
            name,
            vni,
            port,
            mac,
            mtu,
        } = self;
        write!(
            f,
            "{name} vxlan id {vni} dstport {port} nolearning address {mac}"
        )?;
        mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

impl fmt::Display for DeviceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChange::NoLearning => write!(f, "nolearning"),
            DeviceChange::Mac(mac) => write!(f, "address {mac}"),
            DeviceChange::Mtu(mtu) => write!(f, "mtu {mtu}"),
            DeviceChange::Up => write!(f, "up"),
        }
    }
}

impl fmt::Display for NewRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewRoute {
            table, dst, via, ..
        } = self;
        write!(f, "{dst} via {via}{}", Table(*table))
    }
}

impl fmt::Display for OldRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, "{}", Table(self.table))
    }
}

/// ` table 42`, and nothing for the table that goes without saying.
struct Table(u32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == super::MAIN_TABLE {
            Ok(())
        } else {
            write!(f, " table {}", self.0)
        }
    }
}
