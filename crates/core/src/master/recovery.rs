//! Recovery of the state from the replicated log. The configuration must still contain the
//! addresses and subnets that agents hold.

mod checks;
mod held;
mod stored_agent;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use prost::Message;

use super::bridges::AllocatedBridges;
use super::networks::{Networks, Note, SubnetsByOverlay, differences, subnets_by_overlay};
use super::reclaimed::ReclaimedAllocations;
use super::record::{AgentRecord, EncodedAgent, RecordContent, inactive_overlays};
use super::trust::Trust;
use crate::Level;
use crate::allocation::allocator::{AllocationRequest, Allocator};
use crate::config::Network;
use crate::proto;
use crate::protocol::wire_limits::Refusal;

use checks::{check_fits, check_nothing_is_held_twice};
pub use held::{HeldNetwork, contradiction_of};
use stored_agent::StoredAgent;

/// The recovered state of a master.
#[derive(Debug)]
pub struct Recovery {
    /// The records of all agents, encoded for the networks in force.
    pub records: BTreeMap<Ipv4Addr, AgentRecord>,
    /// The stored agents.
    pub committed: BTreeMap<Ipv4Addr, Arc<EncodedAgent>>,
    /// The agents whose record differs from the log.
    pub changed: BTreeSet<Ipv4Addr>,
    /// The free addresses and subnets.
    pub allocator: Allocator,
    /// The networks in force.
    pub networks: Networks,
    /// The networks in force differ from those in the log.
    pub networks_differ: bool,
    /// The allocations of agents whose leases ended.
    pub reclaimed: ReclaimedAllocations,
    /// Lines for the operator.
    pub notes: Vec<Note>,
}

/// Recovers the state from the log.
///
/// # Errors
/// The state is damaged, or contradicts the configuration. The error is a sentence with the
/// remedy.
pub fn recover(configured: &Arc<Network>, state: proto::State) -> Result<Recovery, String> {
    let mut agents = BTreeMap::new();
    for info in state.agents {
        let agent = StoredAgent::read(configured, info)?;
        if let Some(agent) = agents.insert(agent.ip, agent) {
            return Err(damaged(&format!("agent {} is in it twice", agent.ip)));
        }
    }
    let allocations = agents.values().map(|agent| (agent.ip, &agent.allocation));
    let subnets = subnets_by_overlay(allocations);
    let (networks, mut notes) = Networks::from_log(configured, state.networks, &subnets)
        .map_err(|problem| contradiction(&problem))?;
    let held: Vec<_> = agents.values().flat_map(StoredAgent::held).collect();
    held.iter()
        .try_for_each(|held| check_fits(&networks, &subnets, held))?;
    check_nothing_is_held_twice(held)?;
    notes.extend(inactive_notes(&networks, &subnets));
    let differences = state
        .network
        .map(|before| differences(&before, &networks.network.to_wire()))
        .unwrap_or_default();
    notes.extend((!differences.is_empty()).then(|| differences_note(&differences)));

    let mut recovery = Recovery {
        records: BTreeMap::new(),
        committed: BTreeMap::new(),
        changed: BTreeSet::new(),
        allocator: Allocator::new(&networks.network),
        networks_differ: !differences.is_empty(),
        reclaimed: reclaimed(configured, state.former),
        networks,
        notes,
    };
    for agent in agents.into_values() {
        recovery.add(agent)?;
    }
    Ok(recovery)
}

/// Reads the reclaimed allocations. Damaged ones are skipped: they only serve to give agents
/// their former subnets again.
fn reclaimed(configured: &Network, agents: Vec<proto::AgentInfo>) -> ReclaimedAllocations {
    let mut reclaimed = ReclaimedAllocations::default();
    for agent in agents
        .into_iter()
        .filter_map(|info| StoredAgent::read(configured, info).ok())
    {
        let encoded = agent.info.encode_to_vec().into();
        let bridges = AllocatedBridges::stored(&agent.info.overlays);
        reclaimed.add(agent.ip, agent.allocation, bridges, encoded);
    }
    reclaimed
}

fn differences_note(differences: &[String]) -> Note {
    Note {
        level: Level::Warning,
        text: format!(
            "The network is not what the last leader wrote: {}. If nobody changed the configuration, the masters \
             have different ones; give all of them the same.",
            differences.join("; ")
        ),
    }
}

impl Recovery {
    /// Adds an agent.
    fn add(&mut self, agent: StoredAgent) -> Result<(), String> {
        let StoredAgent {
            ip,
            info,
            allocation,
        } = agent;
        let network = &self.networks.network;
        if allocation.overlays.is_empty() {
            // C++ masters store agents without overlays. These have no VTEP, either.
            return Ok(());
        }
        self.allocator
            .reserve(&allocation)
            .map_err(|net| damaged(&format!("{net} of agent {ip} is not free")))?;
        let is_enabled = |overlay: &&proto::AgentOverlayInfo| {
            let definition = network.overlay(&overlay.info.name);
            definition.is_some_and(|definition| definition.config().enabled)
        };
        let sent = info.overlays.iter().filter(is_enabled);
        // Overlays that the agent does not get now may be from an earlier, different request.
        let requested = if sent.clone().next().is_some() {
            guess_request(sent.clone())
        } else {
            guess_request(info.overlays.iter())
        };
        let stored = EncodedAgent::renew(None, &info, sent);
        let content = RecordContent {
            allocation,
            bridges: AllocatedBridges::stored(&info.overlays),
            requested,
            trust: Trust::stored(&info),
            inactive: inactive_overlays(network, &info.overlays),
        };
        let (record, _) = AgentRecord::new(network, ip, content, Some(&stored));
        if !Arc::ptr_eq(&stored, &record.encoded) {
            self.changed.insert(ip);
        }
        self.committed.insert(ip, stored);
        self.records.insert(ip, record);
        Ok(())
    }
}

/// Guesses the request of an agent from its overlays in the log. Its next registration has the
/// actual request.
fn guess_request<'a>(
    overlays: impl Iterator<Item = &'a proto::AgentOverlayInfo> + Clone,
) -> AllocationRequest {
    AllocationRequest {
        allocate_subnet: overlays
            .clone()
            .any(|overlay| overlay.subnet.is_some() || overlay.subnet6.is_some()),
        mesos_bridge: overlays
            .clone()
            .any(|overlay| overlay.mesos_bridge.is_some()),
        docker_bridge: overlays
            .clone()
            .any(|overlay| overlay.docker_bridge.is_some()),
        enable_ipv6: true,
    }
}

/// Returns notes on overlays that are not in force, but whose subnets agents still have.
fn inactive_notes(networks: &Networks, subnets: &SubnetsByOverlay) -> Vec<Note> {
    let is_inactive = |(name, _): &(&String, &Vec<_>)| networks.overlay(name).is_none();
    let note = |(name, agents): (&String, &Vec<_>)| {
        let agents = agents.len();
        if networks.removed_in_revision(name).is_some() {
            return Note {
                level: Level::Info,
                text: format!(
                    "Overlay {name} was removed and is still draining; agents that have to release it: {agents}"
                ),
            };
        }
        let problem = match networks.conflict(name) {
            Some(_) => "is left out",
            None => "is not in the configuration any more",
        };
        Note {
            level: Level::Warning,
            text: format!(
                "Overlay {name} {problem}. Its subnets stay reserved for their agents ({agents}), which do not get \
                 them, until the agents are deleted, or the overlay with DELETE /overlay-master/overlays/{name}"
            ),
        }
    };
    subnets.iter().filter(is_inactive).map(note).collect()
}

fn contradiction(problem: &str) -> String {
    format!("The configuration contradicts the stored allocations: {problem}.")
}

fn damaged(problem: &str) -> String {
    format!(
        "The state in the replicated log is damaged: {problem}. Put a good copy of overlay_replicated_log in \
         its place on all masters, or remove it on all of them (then every agent gets new addresses)."
    )
}

/// Returns the sentence for a state that is not a protobuf.
pub fn undecodable(error: &Refusal) -> String {
    damaged(&format!("it cannot be decoded ({error})"))
}
