//! The planner's result.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use overlay_core::host_api::problem::Problem;
use overlay_core::host_api::usage::Containerizer;

use super::op::Op;

/// Operations that make the host match the desired state, and what they cannot do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Operations in an order that works.
    pub ops: Vec<Op>,
    /// Reason why there can be no tunnel at all, in a sentence.
    pub obstacle: Option<String>,
    /// Other parts that cannot be made as desired.
    pub problems: Vec<Problem>,
    /// Number of the problems with single peers.
    pub peer_problems: usize,
    /// Overlays whose bridges cannot be made as desired, each with the reason in a sentence.
    pub refused: BTreeMap<String, String>,
    /// Operations that are left out for overlays in `refused`.
    pub left_out: Vec<Op>,
    /// Overlays with a fault that no operation mends, each with a sentence.
    pub overlay_faults: Vec<(String, String)>,
    /// Reason why the overlays have no IPv6 here, in a sentence. IPv4 works without it.
    pub ipv6_fault: Option<String>,
    /// Removed overlays that still have containers.
    pub draining: Vec<Draining>,
    /// Warnings for the operator about a host that is as desired, one sentence each.
    pub warnings: Vec<String>,
    /// Numbers of objects that the host should have, if they were counted.
    pub wanted: WantedObjects,
}

/// Numbers of objects that a host should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedObjects {
    /// VXLAN devices.
    pub devices: usize,
    /// Bridges of Mesos's containers.
    pub bridges: usize,
    /// Routing rules of overlays.
    pub rules: usize,
    /// CNI configurations.
    pub cni_files: usize,
    /// Objects of the peers; `None`: the peers are not known, or there can be no tunnel.
    pub peers: Option<PeerObjectCounts>,
}

/// Numbers of objects that a host should have for its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerObjectCounts {
    /// Neighbours.
    pub neighbours: usize,
    /// FDB entries.
    pub fdb_entries: usize,
    /// Routes in all tables.
    pub routes: usize,
}

/// Part of an overlay that is not desired any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedPart {
    /// The whole overlay.
    Overlay,
    /// The bridge of one containerizer; the overlay itself stays.
    Bridge,
}

/// A removed overlay, or a removed bridge of an overlay, that still has containers. All that
/// they need of the host stays until the last one has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Name of the overlay.
    pub overlay: String,
    /// Removed part of the overlay.
    pub part: RemovedPart,
    /// Containerizer of the containers.
    pub containerizer: Containerizer,
    /// Name of the bridge that the containers are attached to.
    pub bridge: String,
    /// Index of the bridge.
    pub index: u32,
    /// Number of containers.
    pub containers: usize,
    /// Prefixes of the bridge.
    pub subnets: Vec<IpNet>,
    /// Ranges of the overlay, as in the rules that still exist.
    pub ranges: Vec<IpNet>,
}

impl Draining {
    /// Returns whether the whole overlay is removed.
    pub fn is_removed(&self) -> bool {
        self.part == RemovedPart::Overlay
    }
}

impl fmt::Display for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draining {
            overlay, bridge, ..
        } = self;
        match self.part {
            RemovedPart::Overlay => write!(f, "overlay {overlay} was removed")?,
            RemovedPart::Bridge => write!(f, "overlay {overlay} no longer uses bridge {bridge}")?,
        }
        let (containers, use_it, their) = match self.containers {
            1 => ("1 container".to_owned(), "uses it", "its"),
            n => (format!("{n} containers"), "use it", "their"),
        };
        write!(
            f,
            ", but {containers} on {bridge} still {use_it}: bridge, rules and routes stay until {their} end"
        )
    }
}
