//! The bridges that agents have been allocated.
//!
//! An agent gets the bridges that it requests today, and its record keeps those that it ever got
//! together with the subnets. C++ masters keep them as well, and add none to an overlay that the
//! agent has: an agent that wants a bridge again finds it in the record only.

use litemap::LiteMap;

use crate::allocation::allocator::{Allocation, AllocationRequest};
use crate::config::Network;
use crate::config::overlay::Definition;
use crate::proto;

/// The bridges of one agent in one overlay. Each is a half of every subnet that the agent has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridges {
    /// The bridge of the Mesos containerizer.
    pub mesos: bool,
    /// The bridge of Docker.
    pub docker: bool,
}

impl Bridges {
    /// Returns the bridges that an agent requests.
    pub fn requested(request: AllocationRequest) -> Bridges {
        Bridges {
            mesos: request.mesos_bridge,
            docker: request.docker_bridge,
        }
    }

    /// Reads the bridges of a stored overlay. Without a subnet there is none.
    fn stored(overlay: &proto::AgentOverlayInfo) -> Bridges {
        let has_subnet = overlay.subnet.is_some() || overlay.subnet6.is_some();
        Bridges {
            mesos: has_subnet && overlay.mesos_bridge.is_some(),
            docker: has_subnet && overlay.docker_bridge.is_some(),
        }
    }

    fn or(self, other: Bridges) -> Bridges {
        Bridges {
            mesos: self.mesos || other.mesos,
            docker: self.docker || other.docker,
        }
    }
}

/// The bridges of one agent by overlay, of all overlays of which it has subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatedBridges(LiteMap<String, Bridges>);

impl AllocatedBridges {
    /// Reads the bridges from the overlays of a stored agent.
    pub fn stored(overlays: &[proto::AgentOverlayInfo]) -> AllocatedBridges {
        let mut bridges = LiteMap::with_capacity(overlays.len());
        for overlay in overlays {
            bridges.insert(overlay.info.name.clone(), Bridges::stored(overlay));
        }
        AllocatedBridges(bridges)
    }

    /// Returns the bridges of an overlay.
    pub fn of(&self, overlay: &str) -> Bridges {
        self.0.get(overlay).copied().unwrap_or_default()
    }

    /// Forgets the bridges of an overlay whose subnets the agent released.
    pub fn remove(&mut self, overlay: &str) {
        self.0.remove(overlay);
    }

    /// Returns the bridges of the overlays whose names match.
    pub fn only(&self, matches: impl Fn(&str) -> bool) -> AllocatedBridges {
        let bridges = self.0.iter().filter(|(name, _)| matches(name));
        AllocatedBridges(
            bridges
                .map(|(name, bridges)| (name.clone(), *bridges))
                .collect(),
        )
    }

    /// Returns the bridges after a request: those that the agent had, as far as it still has the
    /// overlay, and those that it requests where it uses a subnet.
    pub fn with_requested(
        &self,
        network: &Network,
        allocation: &Allocation,
        request: AllocationRequest,
    ) -> AllocatedBridges {
        let mut bridges = LiteMap::with_capacity(allocation.overlays.len());
        for (name, nets) in &allocation.overlays {
            let overlay = network.overlay(name).map(Definition::config);
            let families = overlay.and_then(|overlay| request.requested_families(overlay));
            let uses_subnet = families.is_some_and(|families| !nets.only(families).is_empty());
            let before = self.of(name);
            let now = match uses_subnet {
                true => before.or(Bridges::requested(request)),
                false => before,
            };
            bridges.insert(name.clone(), now);
        }
        AllocatedBridges(bridges)
    }
}
