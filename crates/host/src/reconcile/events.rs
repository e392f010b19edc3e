//! Events of the kernel's network configuration, as values.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::host_api::desired::Mac;

use super::observed::{DeviceKind, FdbEntry, Neighbour, Nexthop, Route, Rule, Tunnel};

/// Change of an object in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Object with its properties: the present ones, or the last ones of an object that is
    /// gone.
    pub subject: Subject,
    /// Existence of the object after the event.
    pub change: Change,
}

/// Existence of an object after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object was created or changed.
    Present,
    /// The object was removed.
    Gone,
}

impl Change {
    /// Returns whether the object was removed.
    pub fn is_gone(self) -> bool {
        self == Change::Gone
    }
}

/// Object of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Network device.
    Link(Link),
    /// Port of a bridge.
    Port {
        /// Index of the bridge.
        bridge: u32,
    },
    /// Address of a device.
    Address {
        /// Index of the device.
        index: u32,
        /// Address with its prefix length.
        net: IpNet,
        /// True if it cannot be used yet.
        tentative: bool,
    },
    /// Neighbour.
    Neighbour {
        /// Index of the device.
        index: u32,
        /// IP address.
        ip: IpAddr,
        /// Other properties.
        neighbour: Neighbour,
    },
    /// Entry of a forwarding database.
    Fdb {
        /// Index of the device.
        index: u32,
        /// Hardware address.
        mac: Mac,
        /// Tunnel destination.
        dst: IpAddr,
        /// Other properties.
        entry: FdbEntry,
    },
    /// Route of any origin.
    Route {
        /// Index of the device; `None`: the route has no single device.
        index: Option<u32>,
        /// Properties.
        route: Route,
    },
    /// Nexthop object.
    Nexthop {
        /// Id.
        id: u32,
        /// Properties.
        nexthop: NexthopEvent,
    },
    /// Rule that says `from <prefix> lookup <table>` and nothing else.
    Rule(Rule),
    /// Route that the kernel or a router created.
    AutomaticRoute {
        /// Destination.
        dst: IpNet,
    },
    /// Rule of somebody else.
    ForeignRule,
    /// Switch such as `ip_forward`.
    Setting,
}

/// Properties of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: DeviceKind,
    /// Outer headers and other options of a VXLAN device.
    pub tunnel: Tunnel,
    /// Hardware address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// True if it is administratively up.
    pub up: bool,
}

/// Properties of a nexthop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NexthopEvent {
    /// Index of the device.
    pub index: Option<u32>,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Origin (`RTPROT_*`).
    pub protocol: u8,
}

impl NexthopEvent {
    /// Returns the object as observed on a host whose VTEP has the index `vtep`.
    pub(super) fn observed(&self, vtep: Option<u32>) -> Nexthop {
        Nexthop {
            via: self.via,
            on_vtep: self.index.is_some() && self.index == vtep,
            protocol: self.protocol,
        }
    }
}

/// Identity of an object whose state follows from its latest event. (Routes have no such
/// identity: there can be several to one destination.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// Network device with this index.
    Link(u32),
    /// Address of a device.
    Address(u32, IpNet),
    /// Neighbour on a device.
    Neighbour(u32, IpAddr),
    /// FDB entry of a device.
    Fdb(u32, Mac),
    /// Nexthop object with this id.
    Nexthop(u32),
}

impl Event {
    /// Returns the identity of the object; `None`: see [`Object`].
    pub fn object(&self) -> Option<Object> {
        match &self.subject {
            Subject::Link(link) => Some(Object::Link(link.index)),
            Subject::Address { index, net, .. } => Some(Object::Address(*index, *net)),
            Subject::Neighbour { index, ip, .. } => Some(Object::Neighbour(*index, *ip)),
            Subject::Fdb { index, mac, .. } => Some(Object::Fdb(*index, *mac)),
            Subject::Nexthop { id, .. } => Some(Object::Nexthop(*id)),
            Subject::Port { .. } | Subject::Setting => None,
            Subject::Route { .. } | Subject::AutomaticRoute { .. } => None,
            Subject::Rule(_) | Subject::ForeignRule => None,
        }
    }
}

/// Part of the host that an event points to. It takes longer to read than a quick check may take
/// every second, so only a quick check after such an event reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clue {
    /// Containers' ports that are attached to no bridge.
    Ports,
    /// Routes to the peers.
    Underlay,
}

/// Reaction that an event asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// No reaction: the object does not matter, or is as desired.
    #[default]
    Ignore,
    /// A quick check: the event does not say whether something differs.
    QuickCheck,
    /// A reconciliation: the object differs from the desired state.
    Reconcile,
}
