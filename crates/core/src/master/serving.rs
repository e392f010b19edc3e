//! The leading master at work: registrations, reports, deletions, and the writes
//! between a change and its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Held, Writer, WrittenBatch};
use super::changes::{Pushed, holders};
use super::encoded::EncodedAgents;
use super::metrics::Outbox;
use super::networks::Networks;
use super::peers::{Form, Peers};
use super::pending::Registration;
use super::reclaimed::ReclaimedAllocations;
use super::record::{AgentRecord, EncodedAgent, ask_of, describe, encode_state};
use super::recovery::Recovery;
use super::sessions::Sessions;
use crate::allocation::allocator::{Allocation, AllocationRequest, Allocator, Capacity};
use crate::proto;
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, PeersVersion, RegisterAgentMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage,
};
use crate::protocol::views;
use crate::{Effect, Io, Level, Time, Upid};

/// What is at hand besides the state of a lead.
pub struct Context<'a> {
    /// Who registered.
    pub sessions: &'a mut Sessions,
    /// Who writes the log.
    pub writer: &'a mut Writer,
    /// After how long without contact what an agent holds may be given to others.
    pub lease: Option<Duration>,
    /// Where effects go.
    pub out: &'a mut Outbox,
}

/// The state of one lead.
#[derive(Debug)]
pub struct Serving {
    /// What is in force, ahead of the log if [`Batch::networks`] says so.
    pub(super) networks: Arc<Networks>,
    /// The same as the log has it.
    pub(super) shown: Arc<Networks>,
    pub(super) allocator: Allocator,
    /// Memory, ahead of the log by what [`Batch::changed`] names.
    pub(super) records: BTreeMap<Ipv4Addr, AgentRecord>,
    /// The records as they are written, but for what [`Batch::changed`] names.
    pub(super) encoded: EncodedAgents,
    /// Who holds something of overlays that are not in force.
    pub(super) holders: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    /// The log, as far as it is known to be written.
    pub(super) stored: BTreeMap<Ipv4Addr, Arc<EncodedAgent>>,
    pub(super) gathering: Batch,
    pub(super) pushed: Pushed,
    /// What agents held whose leases ended, ahead of the log like the records.
    pub(super) former: ReclaimedAllocations,
    pub(super) peers: Peers,
}

impl Serving {
    /// Begins to serve what the log held. Agents that registered with this process
    /// before are told of their peers anew.
    pub fn new(cx: &mut Context<'_>, recovery: Recovery, epoch: u64) -> Serving {
        let entries = recovery.stored.iter().map(|(ip, entry)| (*ip, entry));
        let mut peers = Peers::new(epoch, entries);
        for (ip, session) in cx.sessions.iter() {
            if let Some(form) = session.wants_peers.filter(|_| session.connected) {
                peers.join(
                    cx.out.now(),
                    ip,
                    session.pid.clone(),
                    PeersVersion::default(),
                    form,
                );
            }
        }
        let networks = Arc::new(recovery.networks);
        Serving {
            shown: networks.clone(),
            holders: holders(&networks, &recovery.records),
            networks,
            allocator: recovery.allocator,
            encoded: EncodedAgents::new(&recovery.records),
            records: recovery.records,
            stored: recovery.stored,
            gathering: Batch {
                changed: recovery.changed,
                networks: recovery.other_network,
                held: Held::default(),
            },
            pushed: Pushed::default(),
            former: recovery.former,
            peers,
        }
    }

    /// The agents that hold something.
    pub fn agents(&self) -> impl ExactSizeIterator<Item = Ipv4Addr> {
        self.records.keys().copied()
    }

    /// How many agents have not acknowledged the newest peers.
    pub fn peers_behind(&self) -> usize {
        self.peers.behind()
    }

    /// The names of the overlays, in order.
    pub fn overlays(&self) -> impl Iterator<Item = &str> {
        self.networks
            .network
            .overlays
            .iter()
            .map(|overlay| overlay.name.as_str())
    }

    /// How much is left of an overlay's subnets; `None`: of the VTEPs.
    pub fn capacity(&self, overlay: Option<&str>) -> Capacity {
        self.allocator.capacity(overlay)
    }

    /// The history of peers.
    pub fn peers(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn due(&self) -> Option<Time> {
        self.peers.due().into_iter().chain(self.pushed.due()).min()
    }

    /// What is due by now.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        if !self.gathering.held.registrations.is_empty() || cx.writer.is_to_answer_any() {
            self.peers.more_are_coming(cx.out.now());
        }
        self.peers.tick(cx.out);
        self.pushed.tick(cx.out, cx.sessions);
    }

    /// Whether the answer to this agent's registration goes with the next write.
    pub fn is_being_answered(&self, ip: Ipv4Addr) -> bool {
        self.gathering.held.registrations.contains_key(&ip)
    }

    /// An agent registers: it gets what it asks for and does not hold yet, and is
    /// answered as soon as the log has it.
    pub fn register(&mut self, cx: &mut Context<'_>, registration: Registration) {
        let Registration { ip, from, message } = &registration;
        let requested = ask_of(&message.network_config);
        let (allocation, lacking) = match self.complete(cx, *ip, requested) {
            Ok(complete) => complete,
            Err(exhausted) => {
                cx.out.counters.exhausted(&exhausted);
                let reason = exhausted.to_string();
                cx.out.warn("refused", || {
                    format!("The registration of {from} is refused: {reason}")
                });
                cx.out.send(from, &RegistrationRefusedMessage { reason });
                return;
            }
        };
        lacking
            .iter()
            .for_each(|exhausted| cx.out.counters.exhausted(exhausted));
        let problems: Vec<_> = lacking.iter().map(ToString::to_string).collect();
        for problem in &problems {
            cx.out.warn("lacking", || {
                format!("{from} does not get all that it should: {problem}")
            });
        }
        // Agents also register to refresh what the master knows. The connection is
        // not to be broken for that: the Mesos master talks over it, too.
        let reconnect = cx
            .sessions
            .of(from)
            .is_some_and(|(_, session)| session.unconfirmed);
        cx.out.push(Effect::Io(Io::Link {
            to: from.clone(),
            reconnect,
        }));
        cx.sessions
            .register(cx.out.now(), *ip, from, form(message), requested);
        if let Some((_, session)) = cx.sessions.of(from).filter(|_| !problems.is_empty()) {
            session.erred(cx.out.now(), &problems.join("; "));
        }
        self.welcome_back(cx, *ip, &allocation, &lacking);
        // The answer to this is the list.
        self.gathering.held.pushes.remove(ip);
        self.pushed.forget(*ip);
        let overlays = self.update_record(cx, *ip, allocation, requested);
        let answer = UpdateAgentOverlaysMessage {
            overlays,
            problems,
            revision: Some(self.networks.revision),
            ..Default::default()
        };
        match self.held_for(cx.writer, &[*ip]) {
            Some(held) => _ = held.registrations.insert(*ip, (registration, answer)),
            None => self.answer(cx, &registration, &answer),
        }
    }

    /// Makes memory say what the agent holds; returns what the agent is told.
    fn update_record(
        &mut self,
        cx: &mut Context<'_>,
        ip: Ipv4Addr,
        allocation: Allocation,
        requested: AllocationRequest,
    ) -> Vec<proto::AgentOverlayInfo> {
        if allocation.overlays.is_empty() {
            // It holds nothing, so there is nothing to keep.
            return Vec::new();
        }
        let known = self.records.get_mut(&ip);
        let orphans = known
            .as_ref()
            .map(|record| record.orphans.clone())
            .unwrap_or_default();
        let description = describe(&self.networks.network, ip, &allocation, requested, &orphans);
        let before = known.as_ref().map(|record| &record.entry);
        let entry = EncodedAgent::renewed(before, &description.stored, description.sent.iter());
        match known {
            // What is stored of it is all that it holds.
            Some(record) if Arc::ptr_eq(&record.entry, &entry) => record.requested = requested,
            known => {
                if known.is_none_or(|record| record.allocation != allocation) {
                    cx.out.log(
                        Level::Info,
                        format!("Giving agent {ip} {}", summary(&allocation)),
                    );
                }
                self.gathering.changed.insert(ip);
                self.records.insert(
                    ip,
                    AgentRecord {
                        allocation,
                        requested,
                        orphans,
                        entry,
                    },
                );
            }
        }
        description.sent
    }

    /// What to answer when the latest change of these agents, or of the networks, is in
    /// the log; `None`: it is.
    pub(super) fn held_for<'a>(
        &'a mut self,
        writer: &'a mut Writer,
        ips: &[Ipv4Addr],
    ) -> Option<&'a mut Held> {
        // A change of the networks is part of what everybody is told.
        if self.gathering.networks || ips.iter().any(|ip| self.gathering.changed.contains(ip)) {
            return Some(&mut self.gathering.held);
        }
        writer.held_for(ips)
    }

    /// The log has what the agent is told.
    fn answer(
        &mut self,
        cx: &mut Context<'_>,
        to: &Registration,
        update: &UpdateAgentOverlaysMessage,
    ) {
        // A newer registration from another pid has an answer of its own.
        let Some(session) = cx
            .sessions
            .get(to.ip)
            .filter(|session| *session.pid == to.from)
        else {
            return;
        };
        let (notices, pid) = (session.notices.clone(), session.pid.clone());
        // A list of a write before this one is not to be sent again.
        self.pushed.forget(to.ip);
        cx.out.send(
            &to.from,
            &UpdateAgentOverlaysMessage {
                notices,
                ..update.clone()
            },
        );
        let connected = session.connected;
        cx.sessions.told(to.ip, update.revision());
        match to.message.peers.zip(form(&to.message)) {
            Some((has, form)) if connected => self.peers.join(cx.out.now(), to.ip, pid, has, form),
            _ => self.peers.leave(to.ip),
        }
    }

    /// An agent reports how it fares.
    pub fn agent_registered(
        &mut self,
        cx: &mut Context<'_>,
        from: &Upid,
        report: AgentRegisteredMessage,
    ) {
        let Some((ip, session)) = cx.sessions.of(from) else {
            cx.out.counters.reports.dropped += 1;
            cx.out.warn("unregistered", || {
                format!("{from} reports its overlays but is not registered; dropped, it will register again")
            });
            return;
        };
        let overlays = report.overlays.iter().filter_map(|overlay| {
            let failed = overlay
                .state
                .as_ref()
                .filter(|state| state.status() == Status::Failed)?;
            Some(format!(
                "overlay {} failed: {}",
                overlay.info.name,
                failed.error()
            ))
        });
        let errors: Vec<_> = overlays.chain(report.host_errors.iter().cloned()).collect();
        if !errors.is_empty() {
            let errors = errors.join("; ");
            session.erred(cx.out.now(), &errors);
            cx.out
                .warn("agent's errors", || format!("Agent {ip} reports: {errors}"));
        }
        self.pushed.forget(ip);
        cx.out.send(from, &AgentRegisteredAcknowledgement {});
        self.let_go(cx, ip, &report);
        cx.sessions.report(from, report);
    }

    /// Writes what is gathered, unless a write is under way.
    pub fn flush(&mut self, cx: &mut Context<'_>) {
        if !self.gathering.is_due() || cx.writer.is_busy() {
            return;
        }
        let Batch {
            changed,
            networks,
            held,
        } = std::mem::take(&mut self.gathering);
        self.encoded.update(&self.records, &changed);
        debug_assert!(
            self.encoded.is_of(&self.records),
            "a change of the records was not noted"
        );
        let state = encode_state(&self.networks, &self.encoded, &self.former);
        let entry = |ip| self.records.get(&ip).map(|record| record.entry.clone());
        let entries = changed.into_iter().map(|ip| (ip, entry(ip))).collect();
        let networks = networks.then(|| self.networks.clone());
        cx.writer.write(
            cx.out,
            WrittenBatch {
                entries,
                networks,
                held,
            },
            state,
        );
    }

    /// A batch is in the log: what waited for it is released.
    pub fn stored(&mut self, cx: &mut Context<'_>, batch: WrittenBatch) {
        if let Some(networks) = batch.networks {
            self.shown = networks;
        }
        for (ip, entry) in batch.entries {
            self.peers.changed(cx.out.now(), ip, entry.as_ref());
            match entry {
                Some(entry) => _ = self.stored.insert(ip, entry),
                None => _ = self.stored.remove(&ip),
            }
        }
        for (registration, update) in batch.held.registrations.into_values() {
            self.answer(cx, &registration, &update);
        }
        self.pushed.send(cx.out, cx.sessions, batch.held.pushes);
        for gone in batch.held.gone {
            self.gone(cx, &gone);
        }
        for deletion in batch.held.deletions {
            self.deleted(cx, &deletion);
        }
        for changed in batch.held.changes {
            self.answer_change(cx, changed);
        }
    }

    /// What waits for writes that did not begin.
    pub fn into_held(self) -> Held {
        self.gathering.held
    }

    /// The state as the log has it, with what the agents reported.
    pub fn state_json(&self, now: Time, sessions: &Sessions) -> Vec<u8> {
        let agents = self.stored.iter().map(|(ip, entry)| {
            let session = sessions.get(*ip);
            let presence = session
                .map(|session| session.presence(now))
                .unwrap_or_default();
            let state = move |name: &str| session.and_then(|session| session.state(name));
            views::Agent::new(*ip, &entry.shown, presence, state)
        });
        views::state(
            &self.shown.network.wire,
            |overlay| self.capacity(overlay),
            agents,
        )
    }
}

/// How an agent wants to be told of its peers, if it does.
fn form(message: &RegisterAgentMessage) -> Option<Form> {
    message.peers.map(|_| {
        if message.unpacks_peers() {
            Form::Packed
        } else {
            Form::Plain
        }
    })
}

/// What an agent holds, for the log.
pub fn summary(allocation: &Allocation) -> String {
    let vtep = allocation
        .vtep
        .iter()
        .flatten()
        .map(|net| format!("VTEP {}", net.addr()));
    let subnets = allocation.overlays.iter().flat_map(|(name, nets)| {
        nets.iter()
            .flatten()
            .map(|net| format!("{net} of {name}"))
            .collect::<Vec<_>>()
    });
    vtep.chain(subnets).collect::<Vec<_>>().join(", ")
}
