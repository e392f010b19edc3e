//! Changes of the networks, and their consequences for the allocations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::{AgentLists, DrainOutcome, Ledger, RegisteredAgent, RegisteredAgents};
use super::{list, provisional, subnets};
use crate::allocation::allocator::{Allocation, AllocationRequest, Allocator, Capacity, DualStack};
use crate::config::Network;
use crate::master::draining::DrainHolders;
use crate::master::networks::{Change, Networks, Refusal, describe as describe_overlay};
use crate::master::record::{AgentRecord, RecordContent, inactive_overlays};
use crate::master::trust::Trust;
use crate::proto;

/// The way in which the subnets of a removed overlay are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Each agent keeps its subnets until it reports that it does not use them any more.
    Drain,
    /// All subnets are free at once, for agents that will never be back.
    Force,
}

/// A change of the networks that was made.
#[derive(Debug)]
pub struct NetworkChange {
    /// The change in one sentence, for the log.
    pub summary: String,
    /// The new lists of the registered agents.
    pub lists: AgentLists,
}

/// Draft of the ledger with other networks.
struct Draft {
    networks: Networks,
    allocator: Allocator,
    records: BTreeMap<Ipv4Addr, AgentRecord>,
    /// The agents whose records are new, changed or gone.
    changed: BTreeSet<Ipv4Addr>,
    lists: AgentLists,
}

impl Ledger {
    /// Adds, changes or removes an overlay. `removal` matters to a removal only. Returns `None`
    /// if nothing would change.
    ///
    /// # Errors
    /// The change contradicts other overlays or present allocations. Then nothing changed.
    pub fn change_networks(
        &mut self,
        change: &Change,
        removal: Removal,
        registered: &RegisteredAgents,
    ) -> Result<Option<NetworkChange>, Refusal> {
        let draft = self.draft(change, removal, registered)?;
        Ok(draft.map(|draft| NetworkChange {
            summary: self.summary(change, removal, &draft),
            lists: self.adopt(draft),
        }))
    }

    /// Forgets the overlays that no agent has any more. Their ranges are free, so that an
    /// overlay of the configuration may take their place.
    pub(super) fn finish_draining(
        &mut self,
        registered: impl FnOnce() -> RegisteredAgents,
    ) -> DrainOutcome {
        let drained = self.drain_holders.take_drained();
        if drained.is_empty() {
            return DrainOutcome::default();
        }
        let networks = self.networks.after_release(&subnets(&self.records));
        let mut lists = None;
        if networks.revision != self.networks.revision {
            let draft = Draft::new(
                networks,
                self.records.clone(),
                BTreeSet::new(),
                &registered(),
            );
            lists = Some(self.adopt(draft));
        } else if networks != *self.networks {
            self.networks = Arc::new(networks);
            self.uncommitted.networks = true;
        }
        DrainOutcome { drained, lists }
    }

    /// Drafts the ledger after a change. Returns `None` if nothing would change.
    ///
    /// A removal by force first takes the subnets of the overlay from all agents. If any agent
    /// had one, there is a change even if [`Networks::changed`] finds none or refuses it:
    /// * the overlay was removed before, and was only draining until now;
    /// * the overlay exists only because agents have subnets of it.
    ///
    /// Every other change is made if the range has room for the registered agents, or at least
    /// for as many as before.
    fn draft(
        &self,
        change: &Change,
        removal: Removal,
        registered: &RegisteredAgents,
    ) -> Result<Option<Draft>, Refusal> {
        let name = change.name();
        let by_force = removal == Removal::Force && matches!(change, Change::Remove(_));
        let mut records = self.records.clone();
        let mut taken = BTreeSet::new();
        if by_force {
            for (ip, record) in &mut records {
                if record.content.allocation.overlays.remove(name).is_some() {
                    taken.insert(*ip);
                }
            }
        }
        let subnets = subnets(&records);
        let networks = match self.networks.changed(change, &subnets) {
            Ok(Some(networks)) => networks,
            Ok(None) | Err(_) if !taken.is_empty() => self.networks.after_release(&subnets),
            Ok(None) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let draft = Draft::new(networks, records, taken, registered);
        if !by_force {
            self.check_room(name, &draft, registered)?;
        }
        Ok(Some(draft))
    }

    /// Refuses a draft in which more registered agents lack a subnet of the overlay than now.
    fn check_room(
        &self,
        name: &str,
        draft: &Draft,
        registered: &RegisteredAgents,
    ) -> Result<(), Refusal> {
        let Some(overlay) = draft.networks.overlay(name) else {
            return Ok(());
        };
        let config = overlay.config();
        let before = shortfall(
            name,
            &self.networks,
            &self.records,
            registered,
            &self.allocator,
        );
        let after = shortfall(
            name,
            &draft.networks,
            &draft.records,
            registered,
            &draft.allocator,
        );
        for (range, before, after) in [
            (config.v4, before.v4, after.v4),
            (config.v6, before.v6, after.v6),
        ] {
            let Some(range) = range.filter(|_| after > before) else {
                continue;
            };
            return Err(Refusal {
                status: 409,
                sentence: format!(
                    "Overlay {name} would be too small: {after} of the registered agents would get no /{} of {}; \
                     give a larger range or a longer prefix.",
                    range.prefix, range.net
                ),
            });
        }
        Ok(())
    }

    /// Describes a change for the log.
    fn summary(&self, change: &Change, removal: Removal, draft: &Draft) -> String {
        let name = change.name();
        let revision = draft.networks.revision;
        let after = draft
            .networks
            .overlay(name)
            .map(|overlay| describe_overlay(overlay.info()))
            .unwrap_or_default();
        let before = self
            .networks
            .last_known(name)
            .map(describe_overlay)
            .unwrap_or_default();
        // Only the name of a removed overlay may be known.
        let removed = if before.is_empty() {
            name.to_owned()
        } else {
            format!("{name}, {before}")
        };
        let holders = |records: &BTreeMap<_, AgentRecord>| {
            records
                .values()
                .filter(|record| record.content.allocation.overlays.contains_key(name))
                .count()
        };
        match (change, removal) {
            (Change::Add(_), _) => format!("Adding overlay {name}, {after} (revision {revision})"),
            (Change::Replace(_), _) => {
                format!("Changing overlay {name} from {before} to {after} (revision {revision})")
            }
            (Change::ResetToFile(_), _) => format!(
                "Overlay {name} is as in the configuration again, {after} (revision {revision})"
            ),
            (Change::Remove(_), Removal::Force) => format!(
                "Removing overlay {removed}, by force: the subnets of {} agents are free at once \
                 (revision {revision})",
                holders(&self.records)
            ),
            (Change::Remove(_), Removal::Drain) => format!(
                "Removing overlay {removed}; agents that have to release it: {} (revision {revision})",
                holders(&draft.records)
            ),
        }
    }

    /// Adopts a draft. Returns the new lists of the registered agents.
    fn adopt(&mut self, draft: Draft) -> AgentLists {
        let Draft {
            networks,
            allocator,
            records,
            changed,
            lists,
        } = draft;
        self.networks = Arc::new(networks);
        self.allocator = allocator;
        self.records = records;
        self.provisional = provisional(&self.records);
        self.drain_holders = DrainHolders::new(&self.networks, &self.records);
        self.uncommitted.agents.extend(changed);
        self.uncommitted.networks = true;
        lists
    }
}

impl Draft {
    /// Drafts the allocations in other networks. Agents keep their subnets of overlays that
    /// are not in force any more; registered agents get what they request and lack.
    /// `changed` are the agents whose `records` were changed for the draft.
    fn new(
        networks: Networks,
        mut records: BTreeMap<Ipv4Addr, AgentRecord>,
        changed: BTreeSet<Ipv4Addr>,
        registered: &RegisteredAgents,
    ) -> Draft {
        let mut allocator = Allocator::new(&networks.network);
        records.retain(|_, record| !record.content.allocation.overlays.is_empty());
        for record in records.values() {
            let reserved = allocator.reserve(&record.content.allocation);
            debug_assert!(reserved.is_ok(), "{reserved:?} belongs to two agents");
        }
        let ips: BTreeSet<_> = records.keys().chain(registered.keys()).copied().collect();
        let mut draft = Draft {
            networks,
            allocator,
            records,
            changed,
            lists: AgentLists::new(),
        };
        for ip in ips {
            draft.update_agent(ip, registered.get(&ip));
        }
        draft
    }

    /// Updates the record of an agent to the drafted networks. The agent has an allocation or
    /// has registered.
    fn update_agent(&mut self, ip: Ipv4Addr, registered: Option<&RegisteredAgent>) {
        let record = self.records.get(&ip);
        let Some(requested) = registered
            .map(|agent| agent.requested)
            .or(record.map(|record| record.content.requested))
        else {
            return;
        };
        let network = &self.networks.network;
        let mut allocation = record
            .map(|record| record.content.allocation.clone())
            .unwrap_or_default();
        let mut exhausted = Vec::new();
        // Somebody else may have registered in the name of an agent that has confirmed before.
        let is_confirmed = record.is_some_and(|record| record.content.trust == Trust::Confirmed);
        if registered.is_some_and(|agent| !(agent.is_unproven && is_confirmed)) {
            exhausted = self
                .allocator
                .allocate_missing(network, requested, &mut allocation)
                .unwrap_or_else(|vtep| vec![vtep]);
        }
        let trust = record.map(|record| record.content.trust);
        let trust = trust.or(registered.map(|agent| agent.trust));
        let trust = trust.unwrap_or_default();
        let (record, sent) = renewed(network, ip, allocation, requested, trust, record).unzip();
        if registered.is_some_and(|agent| agent.accepts_list) {
            let list = list(sent.unwrap_or_default(), &exhausted, &self.networks);
            self.lists.insert(ip, list);
        }
        let Some(record) = record else { return };
        let before = self.records.get(&ip);
        if before.is_none_or(|before| before.encoded != record.encoded) {
            self.changed.insert(ip);
        }
        self.records.insert(ip, record);
    }
}

/// Makes a record of the allocation for other networks, and the list of overlays for the agent.
/// Returns `None` if the allocation is empty.
fn renewed(
    network: &Network,
    ip: Ipv4Addr,
    allocation: Allocation,
    requested: AllocationRequest,
    trust: Trust,
    before: Option<&AgentRecord>,
) -> Option<(AgentRecord, Vec<proto::AgentOverlayInfo>)> {
    if allocation.overlays.is_empty() {
        return None;
    }
    let mut inactive = before
        .map(|record| inactive_overlays(network, &record.encoded.decode().overlays))
        .unwrap_or_default();
    inactive.retain(|overlay| allocation.overlays.contains_key(&overlay.info.name));
    let bridges = before.map(|record| record.content.bridges.clone());
    let bridges = bridges
        .unwrap_or_default()
        .with_requested(network, &allocation, requested);
    let content = RecordContent {
        allocation,
        bridges,
        requested,
        trust,
        inactive,
    };
    let before = before.map(|record| &record.encoded);
    Some(AgentRecord::new(network, ip, content, before))
}

/// Returns the number of agents that should have a subnet of an overlay, have none, and find no
/// free one.
fn shortfall(
    name: &str,
    networks: &Networks,
    records: &BTreeMap<Ipv4Addr, AgentRecord>,
    registered: &RegisteredAgents,
    allocator: &Allocator,
) -> DualStack<u128> {
    let mut missing = DualStack::<u128>::default();
    let Some(overlay) = networks.overlay(name) else {
        return missing;
    };
    let newcomers = registered
        .iter()
        .filter(|(ip, agent)| agent.is_connected && !records.contains_key(ip))
        .map(|(_, agent)| (agent.requested, None));
    let agents = records.values().map(|record| {
        (
            record.content.requested,
            record.content.allocation.overlays.get(name),
        )
    });
    for (requested, nets) in agents.chain(newcomers) {
        let Some(families) = requested.requested_families(overlay.config()) else {
            continue;
        };
        missing.v4 += u128::from(families.v4 && nets.is_none_or(|nets| nets.v4.is_none()));
        missing.v6 += u128::from(families.v6 && nets.is_none_or(|nets| nets.v6.is_none()));
    }
    let Capacity { free, free6, .. } = allocator.capacity(Some(name));
    DualStack {
        v4: missing.v4.saturating_sub(free.unwrap_or(0)),
        v6: missing.v6.saturating_sub(free6.unwrap_or(0)),
    }
}
