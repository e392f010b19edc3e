//! What a host really has of the things this module looks after. Plain values:
//! [`crate::Executor`] fills them from kernel and disk, [`crate::reconcile`] compares
//! them with what is desired.
//!
//! Only what may be ours is in here. What is somebody else's for certain (other
//! devices' routes, rules of other tables, the kernel's own routes) is left out
//! when the values are read, so that no plan can touch it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::host_api::desired::Mac;

/// What the host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether the host forwards packets.
    pub forwarding: Forwarding,
    /// The CNI configurations that are ours or lie where ours belong, by overlay
    /// name. `None`: the directory could not be read, so nothing is known.
    pub cni: Option<BTreeMap<String, CniFile>>,
    /// Whether checksums of packets into the tunnel are left to the device below.
    /// `None`: nobody asked, there is no tunnel, or the kernel does not say.
    pub tx_checksum: Option<bool>,
    /// The device that carries the tunnels; `None` if it cannot be found.
    pub underlay: Option<Underlay>,
    /// Whether the underlay's device has addresses or a default route from router
    /// advertisements, of which the kernel takes no more once it forwards IPv6
    /// (`accept_ra` is 1).
    pub forgets_routers: bool,
    /// What the kernel has. `None`: it was not looked at, because another program
    /// looks after it or because it could not be read.
    pub kernel: Option<Kernel>,
}

/// The host's switches for forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`; `None`: it cannot be read.
    pub v4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`; `None`: the host has no IPv6.
    pub v6: Option<bool>,
}

/// A file in the directory of the CNI configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniFile {
    /// The whole file.
    pub content: Vec<u8>,
    /// Whether it is a configuration as we write them. One that is not is
    /// overwritten if its name is wanted, and never removed.
    pub ours: bool,
}

/// The part of the kernel's network configuration that may be ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// The device that has the name of the desired VTEP, of whatever kind.
    pub device: Option<Device>,
    /// Names of further VXLAN devices that look like ours: `vtep<VNI>` on our
    /// UDP port.
    pub stale_devices: BTreeSet<String>,
    /// The rules that only say `from <prefix> lookup 42`.
    pub rules: BTreeSet<Rule>,
    /// The bridges whose names say that they are a containerizer's for an overlay (`m-…`,
    /// `d-…`), as far as these are not desired.
    pub bridges: BTreeMap<String, Leftover>,
    /// Everybody's nexthop objects, by id. `None`: this kernel has none, or does not
    /// show the gateway of a route that goes by one.
    pub nexthops: Option<BTreeMap<u32, Nexthop>>,
    /// The devices that have the names of the bridges that are desired.
    pub wanted_bridges: BTreeMap<String, FoundBridge>,
    /// Docker's bridges of overlays that are desired, as far as they are there.
    pub dockers_bridges: BTreeMap<String, DockersBridge>,
}

/// A nexthop object: a gateway that routes refer to by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nexthop {
    /// The gateway; `None` if it is another kind of object.
    pub via: Option<IpAddr>,
    /// Whether it is over the device that has the name of the desired VTEP.
    pub here: bool,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
}

/// A bridge that Docker made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockersBridge {
    /// How many devices are on it.
    pub ports: usize,
    /// Its addresses that cannot be used yet: the kernel does not know whether nobody
    /// else has them.
    pub tentative: BTreeSet<IpNet>,
}

/// A device that has the name of a bridge that is desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundBridge {
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// How many devices are on it.
    pub ports: usize,
    /// Its addresses, except link-local ones.
    pub addresses: BTreeSet<IpNet>,
    /// Whether new IPv6 addresses have to wait until nobody else has them.
    pub detects_duplicates: bool,
}

/// A bridge that is not desired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Its index.
    pub index: u32,
    /// How many devices are on it: the host's ends of containers' cables.
    pub ports: usize,
    /// Its addresses.
    pub addresses: BTreeSet<IpNet>,
}

/// A network device and what the kernel keeps with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub kind: DeviceKind,
    /// Its hardware address.
    pub mac: Mac,
    /// Bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Its addresses, except link-local ones.
    pub addresses: BTreeSet<IpNet>,
    /// Its neighbours.
    pub neighbours: BTreeMap<IpAddr, Neighbour>,
    /// Its forwarding database: what lies behind a hardware address and a tunnel
    /// destination. (The kernel can have several destinations for an address that
    /// floods: all zeros, or multicast.)
    pub fdb: BTreeMap<(Mac, IpAddr), FdbEntry>,
    /// The routes over it in the two tables that we write to, except those that
    /// the kernel keeps itself.
    pub routes: BTreeSet<Route>,
}

/// The kind of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A VXLAN tunnel endpoint.
    Vxlan {
        /// Network identifier; `None` for a device that serves many.
        vni: Option<u32>,
        /// UDP port it sends to and receives on.
        port: u16,
        /// Whether it fills its FDB from the packets it sees.
        learning: bool,
    },
    /// Something else; the kernel's name for it.
    Other(String),
}

/// A neighbour (ARP or NDP) entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address; `None` while it is not resolved.
    pub mac: Option<Mac>,
    /// Whether somebody set it for good, as we do.
    pub permanent: bool,
}

/// What there is to say about an entry of a VXLAN device's FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// Whether somebody set it for good, as we do; otherwise it was learned.
    pub permanent: bool,
    /// Whether it has nothing that ours have not (a UDP port or VNI of its own).
    pub plain: bool,
}

/// A route over our device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The routing table.
    pub table: u32,
    /// Where to.
    pub dst: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// Its metric, as the kernel shows it.
    pub metric: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// Whether it has nothing that ours have not (a type other than unicast, a
    /// TOS, several next hops).
    pub plain: bool,
    /// The nexthop object that it goes by, if by one.
    pub nexthop: Option<u32>,
}

/// A rule `from <prefix> lookup 42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The prefix.
    pub from: IpNet,
    /// Its place among the rules; lower ones are asked first.
    pub priority: u32,
}

/// The device that carries the tunnels' packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The device's index.
    pub index: u32,
    /// The device's name.
    pub device: String,
    /// Bytes.
    pub mtu: u32,
}
