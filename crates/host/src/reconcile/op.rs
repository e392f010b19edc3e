//! Operations of a plan.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Checksum, Mac, Overlay};
use overlay_core::host_api::names::parse_bridge_name;
use overlay_core::util::family::Family;

/// Change of the host. Prints as a line for operators, in the words of iproute2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Turn on forwarding of a family.
    EnableForwarding(Family),
    /// Turn on forwarding of a family for packets that come from a device.
    EnableDeviceForwarding(Arc<str>, Family),
    /// Turn on IPv6 on a device.
    EnableIpv6(Arc<str>),
    /// Create a VXLAN device and set it up.
    AddDevice(NewDevice),
    /// Create a bridge for Mesos's containers with this hardware address and set it up.
    AddBridge(Arc<str>, Mac),
    /// Turn duplicate address detection off on a device (`accept_dad`), so that its IPv6
    /// addresses can be used at once.
    SkipDad(Arc<str>),
    /// Attach a container's port to a bridge.
    AttachPort(Arc<str>, Port),
    /// Let a port of a bridge send packets back to where they came from, so that a container
    /// reaches its own published ports.
    SetHairpin(Arc<str>, Port),
    /// Remove a device, and with it everything on it.
    RemoveDevice(Arc<str>),
    /// Set whether the underlay's network card computes the checksums of packets in the tunnel.
    SetTxChecksum(Arc<str>, ChecksumOffload),
    /// Change a device.
    SetDevice(Arc<str>, DeviceChange),
    /// Add an address to a device.
    AddAddress(Arc<str>, IpNet),
    /// Remove an address from a device.
    RemoveAddress(Arc<str>, IpNet),
    /// Create or replace a permanent neighbour.
    SetNeighbour(Arc<str>, IpAddr, Mac),
    /// Remove a neighbour.
    RemoveNeighbour(Arc<str>, IpAddr),
    /// Create a permanent FDB entry, or replace the one of this hardware address.
    SetFdb(Arc<str>, Mac, Ipv4Addr),
    /// Remove one destination of an FDB entry.
    RemoveFdb(Arc<str>, Mac, IpAddr),
    /// Create a nexthop object for this gateway; its id is [`nexthop_id`].
    AddNexthop(Arc<str>, Ipv4Addr),
    /// Remove a nexthop object, and with it the routes that refer to it.
    RemoveNexthop(Arc<str>, u32),
    /// Create a route, or replace ours to this destination.
    SetRoute(Arc<str>, NewRoute),
    /// Remove a route.
    RemoveRoute(Arc<str>, OldRoute),
    /// Create the rule of an overlay.
    AddRule {
        /// The overlay's name.
        overlay: String,
        /// Source prefix of the packets.
        from: IpNet,
        /// Routing table.
        table: u32,
    },
    /// Remove a rule.
    RemoveRule(OldRule),
    /// Write an overlay's CNI configuration.
    WriteCni {
        /// The overlay's name.
        overlay: String,
        /// Name of the file.
        file: String,
        /// The whole file.
        content: Vec<u8>,
    },
    /// Remove an overlay's CNI configuration.
    RemoveCni {
        /// The overlay's name.
        overlay: String,
        /// Name of the file.
        file: String,
    },
}

/// Part of the host that a failure affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The host, but no overlay as a whole: at least most peers can be reached.
    Host,
    /// Every overlay: none can reach another host.
    Overlays,
    /// Every overlay that has an IPv4 range.
    Ipv4,
    /// Every overlay that has an IPv6 range.
    Ipv6,
    /// A single overlay.
    Overlay(&'a str),
}

/// Object of the kernel that exists for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerObject {
    /// Neighbour with this address.
    Neighbour(IpAddr),
    /// FDB entry of this hardware address.
    Fdb(Mac),
    /// Nexthop object with this id.
    Nexthop(u32),
    /// Route.
    Route(RouteKey),
}

impl Scope<'_> {
    /// Returns whether an overlay is in this scope.
    pub fn includes(self, name: &str, overlay: &Overlay) -> bool {
        let has = |is_v4: bool| {
            overlay
                .ranges
                .iter()
                .any(|range| range.addr().is_ipv4() == is_v4)
        };
        match self {
            Scope::Host => false,
            Scope::Overlays => true,
            Scope::Ipv4 => has(true),
            Scope::Ipv6 => has(false),
            Scope::Overlay(one) => one == name,
        }
    }
}

/// The host's end of a container's veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: Arc<str>,
}

/// Properties of a VXLAN device to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Name.
    pub name: Arc<str>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Source address of the outer packets; `None`: the kernel chooses it by the route.
    pub local: Option<Ipv4Addr>,
    /// Hardware address.
    pub mac: Mac,
    /// MTU in bytes; `None`: the kernel's default.
    pub mtu: Option<u32>,
}

/// Place where the checksums of packets in the tunnel are computed, as `ethtool` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumOffload {
    /// The underlay's network card computes them.
    On,
    /// The kernel computes them before the packet enters the tunnel.
    Off,
}

impl ChecksumOffload {
    /// Returns the desired setting; `None`: any.
    pub fn desired(checksum: Checksum) -> Option<ChecksumOffload> {
        match checksum {
            Checksum::Auto => None,
            Checksum::On => Some(ChecksumOffload::On),
            Checksum::Off => Some(ChecksumOffload::Off),
        }
    }
}

/// Change of a device that is possible without creating it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// Learn no FDB entries from packets.
    NoLearning,
    /// Set the source address of the outer packets; `None`: the kernel chooses it by the route.
    Local(Option<Ipv4Addr>),
    /// Set the TTL of the outer packets to the kernel's default.
    DefaultTtl,
    /// Set the type of service of the outer packets to 0.
    NoTos,
    /// Set the hardware address. The kernel removes the device's neighbours.
    Mac(Mac),
    /// Set the MTU, in bytes.
    Mtu(u32),
    /// Set the device up.
    Up,
}

/// Destination of a route within a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Routing table.
    pub table: u32,
    /// Destination.
    pub dst: IpNet,
}

/// Route over our device to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewRoute {
    /// Routing table.
    pub table: u32,
    /// Destination.
    pub dst: IpNet,
    /// Gateway, of the same family.
    pub via: IpAddr,
    /// Nexthop object of that gateway, if the route is to refer to one.
    pub nexthop: Option<u32>,
    /// True if a route of ours is in its place, which it replaces in one step. Otherwise the
    /// kernel refuses it where any route to its destination exists.
    pub replaces: bool,
}

/// Route over our device to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldRoute {
    /// Routing table.
    pub table: u32,
    /// Destination.
    pub dst: IpNet,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Metric.
    pub metric: u32,
    /// Origin (`RTPROT_*`).
    pub protocol: u8,
    /// Nexthop object that it refers to.
    pub nexthop: Option<u32>,
}

/// Rule to be removed, with all properties that tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldRule {
    /// Source prefix of the packets.
    pub from: IpNet,
    /// Routing table.
    pub table: u32,
    /// Priority.
    pub priority: u32,
    /// Origin (`RTPROT_*`).
    pub protocol: u8,
}

impl NewRoute {
    /// Returns the destination and its table.
    pub fn key(&self) -> RouteKey {
        RouteKey {
            table: self.table,
            dst: self.dst,
        }
    }
}

impl OldRoute {
    /// Returns the destination and its table.
    pub fn key(&self) -> RouteKey {
        RouteKey {
            table: self.table,
            dst: self.dst,
        }
    }
}

/// Returns the id of our nexthop object for a gateway: the address as a number, so that no
/// list of ids is needed. (Routing daemons count theirs from 1.)
pub fn nexthop_id(via: Ipv4Addr) -> u32 {
    via.to_bits()
}

impl Op {
    /// Returns the device that must exist for this operation.
    pub fn device(&self) -> Option<&Arc<str>> {
        match self {
            Op::SetDevice(device, _)
            | Op::AttachPort(device, _)
            | Op::SetHairpin(device, _)
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
            Op::EnableForwarding(_) | Op::EnableDeviceForwarding(..) | Op::EnableIpv6(_) => None,
            Op::AddRule { .. } | Op::RemoveRule(_) => None,
            Op::WriteCni { .. } | Op::RemoveCni { .. } => None,
        }
    }

    /// Returns the device to be created or changed.
    pub(super) fn changed_device(&self) -> Option<&str> {
        match self {
            Op::AddBridge(name, _) | Op::EnableIpv6(name) => Some(name),
            Op::EnableDeviceForwarding(name, _) => Some(name),
            _ => self.device().map(|name| &**name),
        }
    }

    /// Returns the part of the host that a failure of this operation affects.
    pub fn scope(&self) -> Scope<'_> {
        // Containers work without them, or almost.
        if matches!(self, Op::SkipDad(_) | Op::SetHairpin(..)) {
            return Scope::Host;
        }
        if let Some((_, overlay)) = self.changed_device().and_then(parse_bridge_name) {
            return Scope::Overlay(overlay);
        }
        match self {
            Op::AddRule { overlay, .. } | Op::WriteCni { overlay, .. } => Scope::Overlay(overlay),
            Op::AddDevice(_) | Op::SetDevice(_, DeviceChange::Up) => Scope::Overlays,
            Op::AddAddress(_, net) if net.addr().is_ipv4() => Scope::Ipv4,
            Op::AddAddress(..) => Scope::Ipv6,
            Op::EnableForwarding(family) | Op::EnableDeviceForwarding(_, family) => {
                family.pick(Scope::Ipv4, Scope::Ipv6)
            }
            Op::EnableIpv6(_) => Scope::Ipv6,
            _ => Scope::Host,
        }
    }

    /// Returns the peer's object that this operation is about; `None`: it is not about a
    /// peer.
    pub fn peer_object(&self) -> Option<PeerObject> {
        match self {
            Op::SetNeighbour(_, ip, _) | Op::RemoveNeighbour(_, ip) => {
                Some(PeerObject::Neighbour(*ip))
            }
            Op::SetFdb(_, mac, _) | Op::RemoveFdb(_, mac, _) => Some(PeerObject::Fdb(*mac)),
            Op::AddNexthop(_, via) => Some(PeerObject::Nexthop(nexthop_id(*via))),
            Op::RemoveNexthop(_, id) => Some(PeerObject::Nexthop(*id)),
            Op::SetRoute(_, route) => Some(PeerObject::Route(route.key())),
            Op::RemoveRoute(_, route) => Some(PeerObject::Route(route.key())),
            _ => None,
        }
    }

    /// Returns the kind of operation, in words that complete "cannot …".
    pub fn kind(&self) -> &'static str {
        match self {
            Op::EnableForwarding(_) | Op::EnableDeviceForwarding(..) => "turn on forwarding",
            Op::EnableIpv6(_) => "turn on IPv6",
            Op::AddDevice(_) | Op::AddBridge(..) => "add device",
            Op::RemoveDevice(_) => "remove device",
            Op::SetDevice(..) | Op::SetTxChecksum(..) | Op::SkipDad(_) => "set device",
            Op::AttachPort(..) | Op::SetHairpin(..) => "attach port",
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
            Op::RemoveRule(_) => "remove rule",
            Op::WriteCni { .. } => "write CNI configuration",
            Op::RemoveCni { .. } => "remove CNI configuration",
        }
    }

    /// Returns whether this operation removes an object, so that it need not exist.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Op::RemoveDevice(_)
                | Op::RemoveAddress(..)
                | Op::RemoveNeighbour(..)
                | Op::RemoveFdb(..)
                | Op::RemoveNexthop(..)
                | Op::RemoveRoute(..)
                | Op::RemoveRule(_)
                | Op::RemoveCni { .. }
        )
    }
}
