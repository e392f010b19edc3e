//! The allocations of all agents and the networks that they are made from.
//!
//! The ledger is ahead of the replicated log: changes are made at once, and
//! [`Ledger::take_delta`] hands what the log lacks to the next write.
//!
//! # Invariants
//!
//! All fields are private, and every operation keeps these:
//!
//! 1. No address or subnet belongs to two agents.
//! 2. The allocator's used addresses and subnets are those of the records.
//! 3. A record has at least one overlay, and its encoded forms describe its allocation in the
//!    present networks.
//! 4. An agent whose record differs from the latest delta is in the next delta.
//! 5. An overlay that is not in force drains until no record has it, and is then forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;

use super::bridges::AllocatedBridges;
use super::draining::DrainHolders;
use super::encoded::EncodedAgents;
use super::networks::{Networks, SubnetsByOverlay, subnets_by_overlay};
use super::reclaimed::ReclaimedAllocations;
use super::record::{AgentRecord, EncodedAgent, RecordContent};
use super::recovery::Recovery;
use super::trust::Trust;
use crate::allocation::allocator::{Allocation, AllocationRequest, Allocator, Capacity, Exhausted};
use crate::proto;
use crate::proto::internal::UpdateAgentOverlaysMessage;

mod delta;
mod network_change;
#[cfg(test)]
mod tests;

pub use delta::Delta;
pub use network_change::Removal;

/// The agents that have registered in this term, by address.
pub type RegisteredAgents = BTreeMap<Ipv4Addr, RegisteredAgent>;

/// Lists of overlays, by agent.
pub type AgentLists = BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>;

/// An agent that has registered in this term, and gets what it requests when the networks
/// change.
#[derive(Clone, Copy, Debug)]
pub struct RegisteredAgent {
    /// The latest request.
    pub requested: AllocationRequest,
    /// The link to the agent is up.
    pub is_connected: bool,
    /// The agent accepts unsolicited lists, or waits for an answer.
    pub accepts_list: bool,
    /// Trust in the agent if it has no allocation yet.
    pub trust: Trust,
    /// The agent has not shown that it receives messages, so its registration may be forged.
    pub is_unproven: bool,
}

/// The allocations of all agents, with the networks in force.
#[derive(Debug)]
pub struct Ledger {
    networks: Arc<Networks>,
    allocator: Allocator,
    records: BTreeMap<Ipv4Addr, AgentRecord>,
    /// Encoded records. Those of agents in `uncommitted` are stale.
    encoded: EncodedAgents,
    /// The agents whose trust is provisional.
    provisional: BTreeSet<Ipv4Addr>,
    drain_holders: DrainHolders,
    reclaimed: ReclaimedAllocations,
    uncommitted: Uncommitted,
    committed: Committed,
}

/// Changes since the latest delta.
#[derive(Debug)]
struct Uncommitted {
    agents: BTreeSet<Ipv4Addr>,
    networks: bool,
}

/// The state that is known to be in the log.
#[derive(Debug)]
pub struct Committed {
    /// The networks.
    pub networks: Arc<Networks>,
    /// The agents with allocations.
    pub agents: BTreeMap<Ipv4Addr, Arc<EncodedAgent>>,
}

/// The allocation of an agent after its registration.
#[derive(Debug)]
pub struct GrantedAllocation {
    /// The list of overlays for the agent.
    pub list: UpdateAgentOverlaysMessage,
    /// The ranges that had nothing left.
    pub exhausted: Vec<Exhausted>,
    /// The allocation differs from the previous one.
    pub is_new: bool,
}

/// A registration for which ranges have nothing left. Nothing was allocated.
#[derive(Debug)]
pub struct Shortage {
    request: AllocationRequest,
    exhausted: Vec<Exhausted>,
}

/// Overlays that finished draining, and new lists for agents.
#[derive(Debug, Default)]
pub struct DrainOutcome {
    /// The drained overlays. Their ranges are free.
    pub drained: Vec<String>,
    /// New lists for the registered agents, if the networks changed: an overlay of the
    /// configuration may use the free ranges.
    pub lists: Option<AgentLists>,
}

impl Ledger {
    /// Creates the ledger from the recovered state.
    pub fn new(recovery: Recovery) -> Ledger {
        let networks = Arc::new(recovery.networks);
        Ledger {
            committed: Committed {
                networks: networks.clone(),
                agents: recovery.committed,
            },
            drain_holders: DrainHolders::new(&networks, &recovery.records),
            networks,
            allocator: recovery.allocator,
            encoded: EncodedAgents::new(&recovery.records),
            provisional: provisional(&recovery.records),
            records: recovery.records,
            reclaimed: recovery.reclaimed,
            uncommitted: Uncommitted {
                agents: recovery.changed,
                networks: recovery.networks_differ,
            },
        }
    }

    // Views.

    /// Returns the networks in force.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Returns the agents with allocations.
    pub fn agents(&self) -> impl ExactSizeIterator<Item = Ipv4Addr> {
        self.records.keys().copied()
    }

    /// Returns whether an agent has an overlay, or the overlay is one of the networks.
    pub fn is_known(&self, ip: Ipv4Addr, overlay: &str) -> bool {
        let has = |allocation: &Allocation| allocation.overlays.contains_key(overlay);
        self.allocation(ip).is_some_and(has) || self.networks.last_known(overlay).is_some()
    }

    /// Returns the allocation of an agent.
    pub fn allocation(&self, ip: Ipv4Addr) -> Option<&Allocation> {
        self.records
            .get(&ip)
            .map(|record| &record.content.allocation)
    }

    /// Returns the allocations of all agents, in the order of their addresses.
    pub fn allocations(&self) -> impl Iterator<Item = (Ipv4Addr, &Allocation)> {
        let records = self.records.iter();
        records.map(|(ip, record)| (*ip, &record.content.allocation))
    }

    /// Returns whether agents hold subnets of an overlay that is not in force.
    pub fn is_draining(&self, overlay: &str) -> bool {
        self.drain_holders.has(overlay)
    }

    /// Returns the trust in an agent with an allocation.
    pub fn trust(&self, ip: Ipv4Addr) -> Option<Trust> {
        self.records.get(&ip).map(|record| record.content.trust)
    }

    /// Returns what an agent has, as the answer to a registration.
    pub fn present(&self, ip: Ipv4Addr) -> Option<GrantedAllocation> {
        let record = self.records.get(&ip)?;
        let network = &self.networks.network;
        let sent = record.content.describe(network, ip).sent;
        Some(GrantedAllocation {
            list: list(sent, &[], &self.networks),
            exhausted: Vec::new(),
            is_new: false,
        })
    }

    /// Returns what an agent with an allocation requested.
    pub fn requested(&self, ip: Ipv4Addr) -> Option<AllocationRequest> {
        self.records.get(&ip).map(|record| record.content.requested)
    }

    /// Returns the provisional agents.
    pub fn provisional(&self) -> impl ExactSizeIterator<Item = Ipv4Addr> {
        self.provisional.iter().copied()
    }

    /// Finds an agent by its allocation.
    pub fn find(&self, matches: impl Fn(Ipv4Addr, &Allocation) -> bool) -> Option<Ipv4Addr> {
        self.records
            .iter()
            .find(|(ip, record)| matches(**ip, &record.content.allocation))
            .map(|(ip, _)| *ip)
    }

    /// Returns the capacity of an overlay, or of the VTEP ranges for `None`.
    pub fn capacity(&self, overlay: Option<&str>) -> Capacity {
        self.allocator.capacity(overlay)
    }

    /// Returns the state that is known to be in the log.
    pub fn committed(&self) -> &Committed {
        &self.committed
    }

    // Allocation.

    /// Allocates what an agent requests and does not have yet: parts of its reclaimed allocation
    /// first, then those of `held`, which it says that it has.
    ///
    /// # Errors
    /// A range has nothing left. Then nothing was allocated.
    pub fn allocate(
        &mut self,
        ip: Ipv4Addr,
        request: AllocationRequest,
        trust: Trust,
        held: &Allocation,
    ) -> Result<GrantedAllocation, Shortage> {
        let (allocation, outcome) = self.try_allocate(ip, request, held);
        match outcome {
            Ok(exhausted) if exhausted.is_empty() => {
                Ok(self.grant(ip, request, trust, allocation, exhausted))
            }
            Ok(exhausted) => {
                let before = self.allocation(ip).cloned().unwrap_or_default();
                self.allocator.release(&allocation.without(&before));
                Err(Shortage { request, exhausted })
            }
            Err(exhausted) => Err(Shortage {
                request,
                exhausted: vec![exhausted],
            }),
        }
    }

    /// Allocates as [`allocate`](Self::allocate), without the overlays whose ranges have
    /// nothing left.
    ///
    /// # Errors
    /// The agent has no VTEP address, and none is left. Then nothing was allocated.
    pub fn allocate_available(
        &mut self,
        ip: Ipv4Addr,
        request: AllocationRequest,
        trust: Trust,
        held: &Allocation,
    ) -> Result<GrantedAllocation, Exhausted> {
        let (allocation, outcome) = self.try_allocate(ip, request, held);
        outcome.map(|exhausted| self.grant(ip, request, trust, allocation, exhausted))
    }

    /// Allocates what an agent requests and does not have yet, without storing it. Returns the
    /// new allocation, which the caller has to store or to release.
    fn try_allocate(
        &mut self,
        ip: Ipv4Addr,
        request: AllocationRequest,
        held: &Allocation,
    ) -> (Allocation, Result<Vec<Exhausted>, Exhausted>) {
        let mut allocation = self.allocation(ip).cloned().unwrap_or_default();
        let reclaimed = self.reclaimed.get(ip);
        let preferred = reclaimed.map(|reclaimed| reclaimed.or(held));
        let preferred = preferred.as_ref().unwrap_or(held);
        let network = &self.networks.network;
        let outcome =
            self.allocator
                .allocate_preferring(network, request, &mut allocation, preferred);
        (allocation, outcome)
    }

    /// Stores the allocation of an agent that registers.
    fn grant(
        &mut self,
        ip: Ipv4Addr,
        request: AllocationRequest,
        trust: Trust,
        allocation: Allocation,
        exhausted: Vec<Exhausted>,
    ) -> GrantedAllocation {
        let (overlays, is_new) = if allocation.overlays.is_empty() {
            (Vec::new(), false)
        } else {
            self.put_record(ip, request, trust, allocation)
        };
        GrantedAllocation {
            list: list(overlays, &exhausted, &self.networks),
            exhausted,
            is_new,
        }
    }

    /// Makes or updates the record of an agent. Returns the overlays for the agent, and
    /// whether its allocation differs from the previous one.
    fn put_record(
        &mut self,
        ip: Ipv4Addr,
        requested: AllocationRequest,
        trust: Trust,
        allocation: Allocation,
    ) -> (Vec<proto::AgentOverlayInfo>, bool) {
        let network = &self.networks.network;
        let bridges =
            self.bridges_before(ip, &allocation)
                .with_requested(network, &allocation, requested);
        let known = self.records.get(&ip);
        let inactive = known.map(|record| record.content.inactive.clone());
        let content = RecordContent {
            allocation,
            bridges,
            requested,
            trust,
            inactive: inactive.unwrap_or_default(),
        };
        let before = known.map(|record| &record.encoded);
        let (record, sent) = AgentRecord::new(network, ip, content, before);
        let is_new = match self.records.get_mut(&ip) {
            // The encoded forms contain allocation and bridges, so these are equal, too.
            Some(known) if Arc::ptr_eq(&known.encoded, &record.encoded) => {
                debug_assert_eq!(
                    known.content.allocation, record.content.allocation,
                    "not all is encoded"
                );
                debug_assert_eq!(
                    known.content.bridges, record.content.bridges,
                    "not all is encoded"
                );
                known.content.requested = requested;
                false
            }
            known => {
                let is_new =
                    known.is_none_or(|known| known.content.allocation != record.content.allocation);
                self.records.insert(ip, record);
                self.uncommitted.agents.insert(ip);
                self.note_trust(ip, trust);
                is_new
            }
        };
        (sent, is_new)
    }

    /// Returns the bridges that an agent that registers had before, in its record or, if it has
    /// none, in the subnets that it was granted again.
    fn bridges_before(&self, ip: Ipv4Addr, granted: &Allocation) -> AllocatedBridges {
        match self.records.get(&ip) {
            Some(record) => record.content.bridges.clone(),
            None => self.reclaimed.bridges(ip, granted),
        }
    }

    /// Changes the trust in an agent. Returns `false` if the agent has no allocation, or its
    /// trust is the same.
    pub fn set_trust(&mut self, ip: Ipv4Addr, trust: Trust) -> bool {
        let Some(record) = self.records.get_mut(&ip) else {
            return false;
        };
        if record.content.trust == trust {
            return false;
        }
        record.content.trust = trust;
        record.renew(&self.networks.network, ip);
        self.uncommitted.agents.insert(ip);
        self.note_trust(ip, trust);
        true
    }

    fn note_trust(&mut self, ip: Ipv4Addr, trust: Trust) {
        match trust {
            Trust::Provisional => self.provisional.insert(ip),
            Trust::Legacy | Trust::Confirmed => self.provisional.remove(&ip),
        };
    }

    /// Chooses agents whose reclaimed allocations would make room in one of the exhausted
    /// ranges for the agent at `ip`. Returns that range and the agents. Earlier candidates are
    /// preferred, and no more are chosen than needed.
    pub fn choose_reclaim<'a>(
        &self,
        ip: Ipv4Addr,
        shortage: &'a Shortage,
        candidates: &[Ipv4Addr],
    ) -> Option<(&'a Exhausted, Vec<Ipv4Addr>)> {
        let none = Allocation::default();
        let allocation = self.allocation(ip).unwrap_or(&none);
        let candidates: Vec<_> = candidates
            .iter()
            .filter(|candidate| **candidate != ip)
            .filter_map(|candidate| Some((*candidate, self.allocation(*candidate)?)))
            .collect();
        let allocations: Vec<_> = candidates.iter().map(|(_, other)| *other).collect();
        shortage.exhausted.iter().find_map(|exhausted| {
            let chosen = self.allocator.choose_reclaim(
                &self.networks.network,
                shortage.request,
                allocation,
                exhausted,
                &allocations,
            )?;
            let agents = chosen.into_iter().map(|index| candidates[index].0);
            Some((exhausted, agents.collect()))
        })
    }

    // Release.

    /// Deletes an agent: frees and forgets its allocation. `registered` are the agents that
    /// have registered, for new lists.
    pub fn delete(
        &mut self,
        ip: Ipv4Addr,
        registered: impl FnOnce() -> RegisteredAgents,
    ) -> DrainOutcome {
        self.take_reclaimed(ip);
        if self.remove_record(ip).is_none() {
            return DrainOutcome::default();
        }
        self.finish_draining(registered)
    }

    /// Reclaims the allocation of an agent: frees it, and remembers it in case the agent
    /// returns. `registered` are the agents that have registered, for new lists.
    pub fn reclaim(
        &mut self,
        ip: Ipv4Addr,
        registered: impl FnOnce() -> RegisteredAgents,
    ) -> DrainOutcome {
        let Some(record) = self.remove_record(ip) else {
            return DrainOutcome::default();
        };
        let agent_info = Bytes::copy_from_slice(&record.encoded.agent_info);
        let RecordContent {
            allocation,
            bridges,
            ..
        } = record.content;
        self.reclaimed.add(ip, allocation, bridges, agent_info);
        self.finish_draining(registered)
    }

    /// Returns the reclaimed allocation of an agent and forgets it.
    pub fn take_reclaimed(&mut self, ip: Ipv4Addr) -> Option<Allocation> {
        let allocation = self.reclaimed.remove(ip)?;
        self.uncommitted.agents.insert(ip);
        Some(allocation)
    }

    /// Returns whether an agent has a reclaimed allocation.
    pub fn has_reclaimed(&self, ip: Ipv4Addr) -> bool {
        self.reclaimed.get(ip).is_some()
    }

    /// Returns the removed overlays (at `revision` or before) whose subnets an agent holds and
    /// does not use any more. `uses` says which overlays the agent uses.
    pub fn released_overlays(
        &self,
        ip: Ipv4Addr,
        revision: u64,
        uses: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let record = self.records.get(&ip);
        let inactive = record
            .into_iter()
            .flat_map(|record| &record.content.inactive);
        let names = inactive.map(|overlay| overlay.info.name.as_str());
        let is_released = |name: &&str| {
            let removed = self.networks.removed_in_revision(name);
            removed.is_some_and(|removed| removed <= revision) && !uses(name)
        };
        names.filter(is_released).map(str::to_owned).collect()
    }

    /// Releases an agent's subnets of overlays that are not in force. `registered` are the
    /// agents that have registered, for new lists.
    pub fn release_overlays(
        &mut self,
        ip: Ipv4Addr,
        overlays: &[String],
        registered: impl FnOnce() -> RegisteredAgents,
    ) -> DrainOutcome {
        let Some(record) = self.records.get_mut(&ip) else {
            return DrainOutcome::default();
        };
        let is_released = |name: &String| overlays.contains(name);
        let inactive = std::mem::take(&mut record.content.inactive);
        let (released, inactive): (Vec<_>, Vec<_>) = inactive
            .into_iter()
            .partition(|overlay| is_released(&overlay.info.name));
        record.content.inactive = inactive;
        for overlay in &released {
            record
                .content
                .allocation
                .overlays
                .remove(&overlay.info.name);
            record.content.bridges.remove(&overlay.info.name);
            self.drain_holders.remove(ip, &overlay.info.name);
        }
        if record.content.allocation.overlays.is_empty() {
            // A VTEP without an overlay is of no use.
            self.remove_record(ip);
        } else {
            record.renew(&self.networks.network, ip);
            self.uncommitted.agents.insert(ip);
        }
        self.finish_draining(registered)
    }

    /// Removes the record of an agent and frees its allocation.
    fn remove_record(&mut self, ip: Ipv4Addr) -> Option<AgentRecord> {
        let record = self.records.remove(&ip)?;
        self.allocator.release(&record.content.allocation);
        self.drain_holders.remove_agent(ip);
        self.provisional.remove(&ip);
        self.uncommitted.agents.insert(ip);
        Some(record)
    }
}

/// Makes the list of overlays for an agent.
fn list(
    overlays: Vec<proto::AgentOverlayInfo>,
    exhausted: &[Exhausted],
    networks: &Networks,
) -> UpdateAgentOverlaysMessage {
    UpdateAgentOverlaysMessage {
        overlays,
        problems: exhausted.iter().map(ToString::to_string).collect(),
        revision: Some(networks.revision),
        ..Default::default()
    }
}

/// Returns the provisional agents.
fn provisional(records: &BTreeMap<Ipv4Addr, AgentRecord>) -> BTreeSet<Ipv4Addr> {
    let provisional = records
        .iter()
        .filter(|(_, record)| record.content.trust == Trust::Provisional);
    provisional.map(|(ip, _)| *ip).collect()
}

/// Returns the subnets that agents have, by overlay.
fn subnets(records: &BTreeMap<Ipv4Addr, AgentRecord>) -> SubnetsByOverlay {
    let allocations = records
        .iter()
        .map(|(ip, record)| (*ip, &record.content.allocation));
    subnets_by_overlay(allocations)
}
