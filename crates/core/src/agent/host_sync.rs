//! Reconciliation of the host with what the master assigned.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::assignment::{Assignment, OverlayAssignment};
use super::sync::{Concurrency, DesiredState, Health, Outcome, Target};
use crate::host_api::desired::Vtep;
use crate::proto::AgentOverlayInfo;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::PeerSubnet;
use crate::protocol::limits::MAX_HELD_OVERLAYS;
use crate::protocol::reports::MAX_NETWORKS;
use crate::util::family::Family;
use crate::{HostReport, Time};

impl DesiredState for Assignment {
    type Overlay = OverlayAssignment;

    fn overlays(&self) -> BTreeMap<&str, &OverlayAssignment> {
        let valid = self.overlays.iter().filter(|o| o.overlay.is_ok());
        valid.map(|overlay| (overlay.name(), overlay)).collect()
    }
}

/// Addresses and subnets that an agent holds, as it tells its master.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub vtep_ip: Option<String>,
    pub vtep_ip6: Option<String>,
    pub subnets: Vec<PeerSubnet>,
}

/// The host as a target of reconciliation.
#[derive(Debug)]
pub(super) struct HostSync {
    target: Target<Assignment>,
    /// Sentences about bridges that wait for their last containers, by bridge.
    draining: BTreeMap<String, String>,
    /// Networks of the host's own devices.
    networks: BTreeSet<IpNet>,
}

impl HostSync {
    /// Creates a host whose first attempt has the number after `generation`.
    pub fn new(generation: u64) -> HostSync {
        HostSync {
            target: Target::new(Concurrency::Queue, generation),
            draining: BTreeMap::new(),
            networks: BTreeSet::new(),
        }
    }

    /// Returns the networks of the host's own devices, as many as a master keeps.
    pub fn networks(&self) -> impl Iterator<Item = &IpNet> {
        self.networks.iter().take(MAX_NETWORKS)
    }

    /// Returns the state of attempts and results.
    pub fn target(&self) -> &Target<Assignment> {
        &self.target
    }

    /// Sets what the master assigned. Returns whether it changed.
    pub fn assign(&mut self, assignment: Assignment) -> bool {
        self.target.set_desired(assignment)
    }

    /// Returns what the master assigned; `None`: no master has answered yet.
    pub fn assignment(&self) -> Option<&Assignment> {
        self.target.desired()
    }

    /// Returns the assigned tunnel endpoint.
    pub fn vtep(&self) -> Option<&Vtep> {
        self.assignment()?.vtep.as_ref()
    }

    /// Returns what the agent holds by the latest list of the master.
    pub fn held(&self) -> Held {
        let address = |family: Family| {
            let own = family.find(&self.vtep()?.addresses)?;
            Some(own.addr().to_string())
        };
        let subnets = self.assigned_overlays().filter_map(|assigned| {
            let subnets = &assigned.desired()?.subnets;
            let subnet = |family: Family| family.find(subnets).map(|net| net.to_string());
            (!subnets.is_empty()).then(|| PeerSubnet {
                overlay: assigned.name().to_owned(),
                subnet: subnet(Family::V4),
                subnet6: subnet(Family::V6),
            })
        });
        Held {
            vtep_ip: address(Family::V4),
            vtep_ip6: address(Family::V6),
            subnets: subnets.take(MAX_HELD_OVERLAYS).collect(),
        }
    }

    /// Returns sentences about bridges that wait for their last containers, by bridge.
    pub fn draining(&self) -> &BTreeMap<String, String> {
        &self.draining
    }

    /// Begins an attempt, see [`Target::begin`]. Returns its number.
    pub fn begin(&mut self, now: Time) -> Option<u64> {
        Some(self.target.begin(now)?.generation)
    }

    /// Ends an attempt, see [`Target::complete`].
    pub fn complete(&mut self, now: Time, report: HostReport, random: &mut fastrand::Rng) -> bool {
        let is_ok = report.is_ok();
        let outcome = Outcome {
            generation: report.generation,
            is_ok,
            overlays: report.overlays,
            problems: report.host,
            draining: report.draining_overlays,
        };
        if !self.target.complete(now, outcome, random) {
            return false;
        }
        // A failed attempt may not have seen all bridges.
        if is_ok {
            self.draining.clear();
        }
        self.draining.extend(report.draining_bridges);
        self.networks = report.networks;
        true
    }

    /// Returns whether the host is as the master wants it.
    pub fn is_healthy(&self) -> bool {
        self.target.is_healthy()
            && !self.has_invalid_overlays()
            && self.target.problems().is_empty()
    }

    /// Returns whether the master sent an overlay that no attempt can configure.
    pub fn has_invalid_overlays(&self) -> bool {
        self.assigned_overlays().any(|o| o.overlay.is_err())
    }

    /// Returns the overlays in the master's order.
    pub fn assigned_overlays(&self) -> impl Iterator<Item = &OverlayAssignment> {
        self.assignment().into_iter().flat_map(|a| &a.overlays)
    }

    /// Returns the overlays with their states. After `max_attempts` failures an overlay has
    /// failed; until then it is being configured.
    pub fn overlays(&self, max_attempts: u32) -> Vec<AgentOverlayInfo> {
        let with_state = |assigned: &OverlayAssignment| AgentOverlayInfo {
            state: Some(self.state(assigned, max_attempts)),
            ..assigned.info.clone()
        };
        self.assigned_overlays().map(with_state).collect()
    }

    fn state(&self, assigned: &OverlayAssignment, max_attempts: u32) -> State {
        let health = self.target.health(assigned.name());
        let (status, error) = match &assigned.overlay {
            Err(fault) => (Status::Failed, Some(fault)),
            Ok(_) => health.map_or((Status::Configuring, None), |h| status(h, max_attempts)),
        };
        State {
            status: Some(status.into()),
            error: error.cloned(),
        }
    }
}

fn status(health: &Health, max_attempts: u32) -> (Status, Option<&String>) {
    match &health.last {
        None => (Status::Configuring, None),
        Some(Ok(())) => (Status::Ok, None),
        Some(Err(error)) if health.failures < max_attempts => (Status::Configuring, Some(error)),
        Some(Err(error)) => (Status::Failed, Some(error)),
    }
}
