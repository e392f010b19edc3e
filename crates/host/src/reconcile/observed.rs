//! Observed state of a host. Plain values: the executor fills them from kernel and disk,
//! [`crate::reconcile`] compares them with the desired state.
//!
//! Objects that certainly belong to somebody else (rules of other tables, routes to destinations
//! that no peer can have) are left out when the values are read. Others are read to be heeded: no
//! operation is about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::Mac;
use overlay_core::util::family::Family;

use super::constants::default_metric;
use super::op::{ChecksumOffload, RouteKey};

/// Observed state of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// True if the host forwards packets.
    pub forwarding: Forwarding,
    /// CNI configurations that are ours or in the place of a wanted one, by overlay.
    /// `None`: the directory could not be read, so that nothing is known.
    pub cni: Option<BTreeMap<String, CniFile>>,
    /// Overlays in the place of whose CNI configuration is something of others: no regular file, or
    /// a file with another network. Nobody but its owner removes it.
    pub cni_obstacles: BTreeSet<String>,
    /// Place where the checksums of packets in the tunnel are computed. `None`: the setting does
    /// not matter, there is no tunnel, or the kernel cannot tell.
    pub tx_checksum: Option<ChecksumOffload>,
    /// Device that carries the tunnels; `None`: it cannot be found.
    pub underlay: Option<Underlay>,
    /// Devices that have addresses or routes from router advertisements, of which the kernel
    /// accepts no more once it forwards IPv6 (`accept_ra` is 1).
    pub losing_routers: BTreeSet<String>,
    /// Devices of the overlays that forward no packets of a family, whatever the host does.
    pub not_forwarding: BTreeSet<(String, Family)>,
    /// Settings of new devices.
    pub defaults: DeviceDefaults,
    /// Reason, as a phrase, why no device of this host can have IPv6.
    pub ipv6_obstacle: Option<String>,
    /// Network configuration of the kernel. `None`: another program manages it, or it could
    /// not be read.
    pub kernel: Option<Kernel>,
}

/// Settings that a new device begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceDefaults {
    /// Families of which it forwards no packets.
    pub not_forwarding: BTreeSet<Family>,
    /// True if it has no IPv6 (`disable_ipv6`).
    pub is_without_ipv6: bool,
}

/// Switches for forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`; `None`: it cannot be read.
    pub v4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`; `None`: the host has no IPv6.
    pub v6: Option<bool>,
}

/// File in the directory of the CNI configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniFile {
    /// Content of the file.
    pub content: Vec<u8>,
    /// True if this module or its predecessor wrote it. Another file with a wanted name is
    /// overwritten if it defines no network, and never removed.
    pub ours: bool,
}

/// Part of the kernel's network configuration that may be ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Device with the name of the desired VTEP, of any kind.
    pub device: Option<Device>,
    /// Names of other VXLAN devices that look like ours: `vtep<VNI>` on our UDP port.
    pub stale_devices: BTreeSet<String>,
    /// Rules that have our mark, or lead to our table or the predecessor's.
    pub rules: BTreeSet<Rule>,
    /// Bridges with names of overlays' bridges (`m-…`, `d-…`) that are not desired.
    pub bridges: BTreeMap<String, Leftover>,
    /// Nexthop objects of this module and of others, by id. `None`: this kernel has none, or
    /// does not show the gateway of a route that refers to one.
    pub nexthops: Option<BTreeMap<u32, Nexthop>>,
    /// Devices with the names of desired bridges of Mesos.
    pub mesos_bridges: BTreeMap<String, MesosBridge>,
    /// Existing bridges of Docker that are desired.
    pub docker_bridges: BTreeMap<String, DockerBridge>,
    /// Ends of containers' veth pairs that are attached to no bridge, and over which nobody routes.
    pub loose_ports: Vec<LoosePort>,
    /// Networks of devices that are not ours.
    pub networks: HostNetworks,
    /// Routes of others into the ranges of the overlays, and in the table of the containers; also
    /// those of the overlays' bridges in the main table.
    pub foreign_routes: BTreeSet<ForeignRoute>,
}

/// Networks of a host's devices.
pub type HostNetworks = BTreeSet<HostNetwork>;

/// Network that a host reaches without a gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostNetwork {
    /// The host's address in the network, with the prefix length of the network.
    pub net: IpNet,
    /// Name of the device.
    pub device: String,
}

/// Nexthop object: a gateway to which routes refer by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nexthop {
    /// Gateway; `None`: another kind of object.
    pub via: Option<IpAddr>,
    /// True if its device has the name of the desired VTEP.
    pub on_vtep: bool,
    /// Origin (`RTPROT_*`).
    pub protocol: u8,
}

/// Bridge that Docker created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerBridge {
    /// Number of attached devices.
    pub ports: usize,
    /// Addresses that cannot be used yet, since duplicate address detection is under way.
    pub tentative: BTreeSet<IpNet>,
}

/// Device with the name of a desired bridge of Mesos.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MesosBridge {
    /// True if it is a bridge.
    pub is_bridge: bool,
    /// True if it is administratively up.
    pub up: bool,
    /// Number of attached devices.
    pub ports: usize,
    /// Addresses, except link-local ones.
    pub addresses: BTreeSet<IpNet>,
    /// True if duplicate address detection delays new IPv6 addresses.
    pub detects_duplicates: bool,
    /// True if IPv6 is turned off on it (`disable_ipv6`).
    pub is_without_ipv6: bool,
}

/// The host's end of a container's veth pair that is attached to no bridge: a bridge that is
/// deleted leaves its ports behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoosePort {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Addresses of the container's end.
    pub addresses: BTreeSet<IpAddr>,
}

/// Bridge that is not desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Index.
    pub index: u32,
    /// Number of attached devices: the host's ends of containers' veth pairs.
    pub ports: usize,
    /// Addresses.
    pub addresses: BTreeSet<IpNet>,
}

/// Network device and everything on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Kind of the device.
    pub kind: DeviceKind,
    /// Hardware address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// True if it is administratively up.
    pub up: bool,
    /// True if IPv6 is turned off on it (`disable_ipv6`).
    pub is_without_ipv6: bool,
    /// Outer headers and other options of a VXLAN device.
    pub tunnel: Tunnel,
    /// Addresses, except link-local ones.
    pub addresses: BTreeSet<IpNet>,
    /// Neighbours.
    pub neighbours: BTreeMap<IpAddr, Neighbour>,
    /// Forwarding database, by hardware address and tunnel destination. (The kernel can have
    /// several destinations for an address that floods: all zeros, or multicast.)
    pub fdb: BTreeMap<(Mac, IpAddr), FdbEntry>,
    /// Routes over it in the tables in which ours can be, of any origin but the kernel.
    pub routes: BTreeSet<Route>,
}

/// Kind of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// VXLAN tunnel endpoint.
    Vxlan {
        /// Network identifier; `None`: a device for several networks.
        vni: Option<u32>,
        /// UDP port that it sends to and receives on.
        port: u16,
        /// True if it learns FDB entries from packets.
        learning: bool,
    },
    /// Another kind; the kernel's name for it.
    Other(String),
}

/// Options of a VXLAN device besides those of [`DeviceKind::Vxlan`], as far as they decide
/// whether its packets arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnel {
    /// Source address of the outer packets; `None`: the kernel chooses it by the route.
    pub local: Option<IpAddr>,
    /// Index of the only device that outer packets leave by; `None`: any.
    pub link: Option<u32>,
    /// TTL of the outer packets; 0: the kernel's default.
    pub ttl: u8,
    /// Type of service of the outer packets; 1: that of the inner ones.
    pub tos: u8,
    /// Options, in the words of iproute2, that ours do not have and that the kernel does not
    /// change.
    pub others: BTreeSet<&'static str>,
}

/// Neighbour entry (ARP or NDP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Hardware address; `None`: not resolved yet.
    pub mac: Option<Mac>,
    /// True if it was set and never expires.
    pub permanent: bool,
}

/// Properties of an entry of a VXLAN device's FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// True if it was set and never expires. Other entries were learned.
    pub permanent: bool,
    /// True if it has only properties that our entries have (for example no UDP port or VNI).
    pub plain: bool,
}

/// Route over our device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Destination.
    pub dst: IpNet,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Metric, as the kernel shows it.
    pub metric: u32,
    /// Origin (`RTPROT_*`).
    pub protocol: u8,
    /// True if it has only properties that our routes have: unicast, no TOS, one next hop.
    pub plain: bool,
    /// Nexthop object that it refers to.
    pub nexthop: Option<u32>,
}

impl Route {
    /// Returns whether it has the metric of our routes.
    pub(super) fn has_default_metric(&self) -> bool {
        self.metric == default_metric(self.dst)
    }
}

impl Route {
    /// Returns the destination and its table.
    pub fn key(&self) -> RouteKey {
        RouteKey {
            table: self.table,
            dst: self.dst,
        }
    }
}

/// Route that is not known to be ours, or that the kernel made for a bridge of ours. No operation
/// replaces or removes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignRoute {
    /// Properties.
    pub route: Route,
    /// Name of its device; `None`: it has several, or none.
    pub device: Option<String>,
}

/// Rule that says `from <prefix> lookup <table>` and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Source prefix.
    pub from: IpNet,
    /// Priority; the kernel begins with the lowest.
    pub priority: u32,
    /// Routing table.
    pub table: u32,
    /// Origin (`RTPROT_*`).
    pub protocol: u8,
}

/// Network that carries the tunnels' packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// Name of the device of the narrowest path.
    pub device: String,
    /// MTU of the narrowest path, in bytes.
    pub mtu: u32,
    /// Peer on the narrowest path if the route to it has an MTU of its own.
    pub route_to: Option<Ipv4Addr>,
    /// MTUs of all devices that lead to peers, by index.
    pub devices: BTreeMap<u32, u32>,
    /// Paths to the peers, without repetitions. Empty: no route to a peer is known, so that the
    /// device that has the agent's address counts.
    pub paths: BTreeSet<PeerPath>,
}

/// Path to peers, as the routing tables have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerPath {
    /// Indexes of the devices; several with a multipath route.
    pub devices: BTreeSet<u32>,
    /// MTU of the route itself, in bytes.
    pub mtu: Option<u32>,
}

impl Underlay {
    /// Returns an underlay of one device.
    pub fn of_device(index: u32, device: &str, mtu: u32) -> Underlay {
        Underlay {
            device: device.to_owned(),
            mtu,
            devices: [(index, mtu)].into(),
            ..Underlay::default()
        }
    }

    /// Returns the index of the device that leads to all peers.
    pub fn only_device(&self) -> Option<u32> {
        let mut devices = self.devices.keys();
        devices.next().filter(|_| self.devices.len() == 1).copied()
    }

    /// Returns the narrowest path in words.
    pub fn narrowest(&self) -> String {
        match self.route_to {
            Some(peer) => format!("the route to {peer} over {}", self.device),
            None => self.device.clone(),
        }
    }
}
