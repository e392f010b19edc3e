//! Registrations and reports of agents.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::IpNet;

use super::{AnswerTime, Leadership, MasterParts, leases, provisional, registered_agents};
use crate::allocation::allocator::{Allocation, AllocationRequest, Exhausted};
use crate::master::answers::AnsweredRegistration;
use crate::master::confirmed::SenderProof;
use crate::master::hosts::{find_overlap, taken_ranges};
use crate::master::ledger::GrantedAllocation;
use crate::master::notices;
use crate::master::peers::{ListForm, Subscription};
use crate::master::pending::Registration;
use crate::master::trust::Trust;
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage,
};
use crate::protocol::reports::{MAX_NETWORKS, bound_report};
use crate::{Effect, Io, Level, Upid};

/// Shortest time between two new connections to an agent.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(5);

impl Leadership {
    /// Allocates what a registering agent requests and does not have yet. The answer is sent as
    /// soon as the log has the allocation.
    pub fn register(&mut self, parts: &mut MasterParts<'_>, registration: Registration) {
        let ip = registration.ip;
        let trust = match self.trust_of(parts, &registration) {
            Ok(trust) => trust,
            Err(reason) => return drop_registration(parts, &registration.from, &reason),
        };
        if trust == Trust::Confirmed && self.ledger.trust(ip) == Some(Trust::Provisional) {
            self.forget_provisional(parts, ip);
        }
        let held = match self.held_by(parts, &registration) {
            Ok(held) => held,
            Err(reason) => return postpone(parts, &registration, reason),
        };
        let Registration { from, message, .. } = &registration;
        let is_on_trial = registration.proof == SenderProof::None && self.is_on_trial(parts, ip);
        let request = match self.ledger.requested(ip).filter(|_| is_on_trial) {
            Some(present) => present,
            None => AllocationRequest::from_network_config(&message.network_config),
        };
        // Who is on trial gets what the agent has, and nothing is allocated.
        let granted = match self.ledger.present(ip).filter(|_| is_on_trial) {
            Some(present) => Ok(present),
            None => self.allocate(parts, ip, request, trust, &held),
        };
        let granted = match granted {
            Ok(granted) => granted,
            Err(exhausted) => return refuse(parts, from, &exhausted),
        };
        report_exhausted(parts, from, &granted);
        let reconnect = needs_reconnect(parts, from);
        parts.out.push(Effect::Io(Io::Link {
            to: from.clone(),
            reconnect,
        }));
        let (now, form) = (parts.out.now(), list_form(message));
        parts.sessions.register(now, &registration, form, request);
        let is_unproven = is_on_trial || trust == Trust::Provisional;
        parts.sessions.set_unproven(ip, is_unproven);
        if let Some((_, session)) = parts.sessions.find(from).filter(|_| reconnect) {
            session.reconnected_at = Some(now);
        }
        self.prolong_provisional(now, ip);
        if registration.proof == SenderProof::None
            && provisional::returns_epoch(message.peers.as_ref(), self.peers.epoch())
        {
            self.accept(parts, ip);
        }
        let problems = &granted.list.problems;
        if let Some((_, session)) = parts.sessions.find(from).filter(|_| !problems.is_empty()) {
            session.set_last_error(parts.out.now(), &problems.join("; "));
        }
        self.tell_held(parts, ip, &held);
        self.notify_reclaimed(parts, ip, &granted.exhausted);
        if let Some(allocation) = self.ledger.allocation(ip).filter(|_| granted.is_new) {
            parts
                .out
                .log(Level::Info, format!("Giving agent {ip} {allocation}"));
        }
        // The answer replaces a list that was or would be sent.
        self.answers.pushes.remove(&ip);
        self.pushes.remove(ip);
        match self.answer_time(parts.writer, ip) {
            AnswerTime::AfterWrite(answers) => {
                let answer = granted.list;
                let answered = AnsweredRegistration {
                    registration,
                    answer,
                };
                answers.registrations.insert(ip, answered);
            }
            AnswerTime::Now => self.answer(parts, &registration, &granted.list),
        }
    }

    /// Allocates what an agent requests. Where a range has nothing left, allocations of agents
    /// whose leases ended are reclaimed.
    fn allocate(
        &mut self,
        parts: &mut MasterParts<'_>,
        ip: Ipv4Addr,
        request: AllocationRequest,
        trust: Trust,
        held: &Allocation,
    ) -> Result<GrantedAllocation, Exhausted> {
        loop {
            let shortage = match self.ledger.allocate(ip, request, trust, held) {
                Ok(granted) => return Ok(granted),
                Err(shortage) => shortage,
            };
            let mut candidates: Vec<_> = self.ledger.provisional().collect();
            if trust == Trust::Provisional {
                candidates.clear();
            }
            candidates.extend(leases(parts, &self.answers).ended(self.ledger.agents()));
            let Some((exhausted, agents)) = self.ledger.choose_reclaim(ip, &shortage, &candidates)
            else {
                return self.ledger.allocate_available(ip, request, trust, held);
            };
            for other in agents {
                let reason = format!("agent {ip} needs it: {}", exhausted.reason());
                match self.ledger.trust(other) {
                    Some(Trust::Provisional) => self.end_provisional(parts, other, &reason),
                    _ => self.reclaim(parts, other, &reason),
                }
            }
        }
    }

    /// Notifies an agent whose allocation was reclaimed of its new allocation.
    fn notify_reclaimed(
        &mut self,
        parts: &mut MasterParts<'_>,
        ip: Ipv4Addr,
        exhausted: &[Exhausted],
    ) {
        // An agent that gets nothing now may get its former subnets at its next registration.
        if self.ledger.allocation(ip).is_none() {
            return;
        }
        let Some(before) = self.ledger.take_reclaimed(ip) else {
            return;
        };
        let notice = notices::reallocated(&self.ledger, ip, &before, exhausted);
        parts.out.log(
            Level::Info,
            format!("Agent {ip} has returned and gets this notice: {notice}"),
        );
        parts.sessions.set_notices(ip, vec![notice]);
    }

    /// Answers a registration, once the log has the allocation.
    pub(super) fn answer(
        &mut self,
        parts: &mut MasterParts<'_>,
        to: &Registration,
        answer: &UpdateAgentOverlaysMessage,
    ) {
        // A newer registration from another process at this address has its own answer.
        let Some(session) = parts
            .sessions
            .get(to.ip)
            .filter(|session| *session.pid == to.from)
        else {
            return;
        };
        let (notices, pid) = (session.notices.clone(), session.pid.clone());
        let connected = session.is_connected;
        let mut list = UpdateAgentOverlaysMessage {
            notices,
            ..answer.clone()
        };
        if session.proof == SenderProof::None {
            provisional::add_echo(&mut list, parts.confirmed.tokens(), &pid);
        }
        // A list of an earlier write must not be sent again.
        self.pushes.remove(to.ip);
        parts.out.send(&to.from, &list);
        parts.sessions.record_list_sent(to.ip, answer.revision());
        match to.message.peers.zip(list_form(&to.message)) {
            Some((version, form)) if connected => {
                let subscription = Subscription { pid, version, form };
                self.peers.subscribe(parts.out.now(), to.ip, subscription);
            }
            _ => self.peers.unsubscribe(to.ip),
        }
    }

    /// Handles the report of an agent: the state of its overlays, its errors, and the removed
    /// overlays that it still uses.
    pub fn handle_report(
        &mut self,
        parts: &mut MasterParts<'_>,
        from: &Upid,
        mut report: AgentRegisteredMessage,
        proof: &SenderProof,
    ) {
        if *proof == SenderProof::None && !self.examine_legacy_report(parts, from, &report) {
            return;
        }
        let Some((ip, session)) = parts.sessions.find(from) else {
            parts.out.counters.reports.dropped += 1;
            parts.out.warn("unregistered", || {
                format!("{from} reports its overlays but is not registered; dropped, it will register again")
            });
            return;
        };
        let unknown = bound_report(&mut report, |name| self.ledger.is_known(ip, name));
        if unknown > 0 {
            parts.out.warn("unknown overlays", || {
                format!("Agent {ip} reports overlays that it does not have; left out: {unknown}")
            });
        }
        let errors = errors(&report);
        if !errors.is_empty() {
            session.set_last_error(parts.out.now(), &errors);
            parts
                .out
                .warn("agent's errors", || format!("Agent {ip} reports: {errors}"));
        }
        self.pushes.remove(ip);
        parts
            .out
            .send(from, &AgentRegisteredAcknowledgement::default());
        // Anybody may have sent a report outside of a session, so nothing is released by it.
        if *proof != SenderProof::None {
            self.release_drained(parts, ip, &report);
        }
        if *proof != SenderProof::None {
            self.record_networks(parts, ip, &report.networks);
        }
        parts.sessions.record_report(from, report);
    }

    /// Records the networks of an agent's host, and warns if ranges of the overlays or VTEPs
    /// overlap new ones.
    fn record_networks(&mut self, parts: &mut MasterParts<'_>, ip: Ipv4Addr, networks: &[String]) {
        let networks = networks.iter().take(MAX_NETWORKS);
        let networks = networks.filter_map(|net| net.parse::<IpNet>().ok());
        let networks: Box<[IpNet]> = networks.map(|net| net.trunc()).collect();
        if parts.sessions.host_networks(ip) == Some(&*networks) {
            return;
        }
        for range in taken_ranges(&self.ledger) {
            if let Some(net) = find_overlap(&networks, range.net) {
                parts.out.warn("network of a host", || {
                    format!(
                        "The host of agent {ip} has the network {net}, which overlaps {}, the range of {}: it does \
                         not reach one of both; give {} a range without hosts",
                        range.net, range.owner, range.owner
                    )
                });
            }
        }
        parts.sessions.set_host_networks(ip, networks);
    }

    /// Examines a report outside of a session. Returns `false` if it must be dropped.
    fn examine_legacy_report(
        &mut self,
        parts: &mut MasterParts<'_>,
        from: &Upid,
        report: &AgentRegisteredMessage,
    ) -> bool {
        let Some((ip, _)) = parts.sessions.find(from) else {
            return true;
        };
        if provisional::returns_echo(report, parts.confirmed.tokens(), from) {
            self.accept(parts, ip);
        }
        let is_on_trial = self.is_on_trial(parts, ip);
        if is_on_trial {
            parts.out.counters.reports.dropped += 1;
            parts.out.warn("on trial", || {
                format!(
                    "Dropped a report of {from}: it is not part of a session, and agent {ip} has \
                     confirmed a registration before"
                )
            });
        }
        !is_on_trial
    }

    /// Releases the agent's subnets of removed overlays that the agent no longer uses, by its
    /// report.
    fn release_drained(
        &mut self,
        parts: &mut MasterParts<'_>,
        ip: Ipv4Addr,
        report: &AgentRegisteredMessage,
    ) {
        let last_revision = parts
            .sessions
            .get(ip)
            .and_then(|session| session.last_revision_sent);
        // A report from before the first list of this term is out of date.
        let Some(revision) = report.revision.filter(|revision| {
            last_revision.is_some_and(|last_revision| *revision <= last_revision)
        }) else {
            return;
        };
        let uses = |name: &str| {
            let overlays = report.overlays.iter().map(|overlay| &overlay.info.name);
            overlays.chain(&report.draining).any(|used| used == name)
        };
        let released = self.ledger.released_overlays(ip, revision, uses);
        if released.is_empty() {
            return;
        }
        let registered = || registered_agents(parts.sessions, &self.answers);
        let outcome = self.ledger.release_overlays(ip, &released, registered);
        for name in released {
            parts.out.log(
                Level::Info,
                format!("Agent {ip} has released overlay {name}"),
            );
        }
        self.handle_drain_outcome(parts, outcome);
    }
}

/// Returns whether a registration needs a new connection, since the agent has not reported after
/// the latest list. Agents also register to refresh what the master knows. That must not break
/// the connection, which the Mesos master uses as well.
fn needs_reconnect(parts: &mut MasterParts<'_>, from: &Upid) -> bool {
    let now = parts.out.now();
    parts.sessions.find(from).is_some_and(|(_, session)| {
        let is_recent = |at| now.since(at) < RECONNECT_INTERVAL;
        session.is_list_unconfirmed && !session.reconnected_at.is_some_and(is_recent)
    })
}

/// Drops a registration that is not served.
fn drop_registration(parts: &mut MasterParts<'_>, from: &Upid, reason: &str) {
    parts.out.counters.registers.dropped += 1;
    parts.out.warn("not served", || {
        format!("The registration of {from} is dropped: {reason}")
    });
}

/// Refuses a registration for now. An agent of an earlier release knows no refusals, and registers
/// again as well.
fn postpone(parts: &mut MasterParts<'_>, registration: &Registration, reason: String) {
    drop_registration(parts, &registration.from, &reason);
    if registration.proof != SenderProof::None {
        let session = None;
        let refusal = RegistrationRefusedMessage { reason, session };
        parts.out.send(&registration.from, &refusal);
    }
}

/// Refuses a registration for which there is no VTEP address.
fn refuse(parts: &mut MasterParts<'_>, from: &Upid, exhausted: &Exhausted) {
    parts.out.counters.exhausted(exhausted);
    let reason = exhausted.to_string();
    parts.out.warn("refused", || {
        format!("The registration of {from} is refused: {reason}")
    });
    parts.out.send(
        from,
        &RegistrationRefusedMessage {
            reason,
            session: None,
        },
    );
}

/// Counts the exhausted ranges of an allocation and warns of them.
fn report_exhausted(parts: &mut MasterParts<'_>, from: &Upid, granted: &GrantedAllocation) {
    for exhausted in &granted.exhausted {
        parts.out.counters.exhausted(exhausted);
    }
    for problem in &granted.list.problems {
        parts.out.warn("lacking", || {
            format!("{from} does not get everything that it requests: {problem}")
        });
    }
}

/// Returns the form in which an agent takes lists of peers, if it takes them.
fn list_form(message: &RegisterAgentMessage) -> Option<ListForm> {
    message.peers.map(|_| {
        if message.unpacks_peers() {
            ListForm::Packed
        } else {
            ListForm::Plain
        }
    })
}

/// Returns the errors of a report in one sentence.
fn errors(report: &AgentRegisteredMessage) -> String {
    let overlays = report.overlays.iter().filter_map(|overlay| {
        let state = overlay.state.as_ref();
        let failed = state.filter(|state| state.status() == Status::Failed)?;
        let name = &overlay.info.name;
        Some(format!("overlay {name} failed: {}", failed.error()))
    });
    let errors = overlays.chain(report.host_errors.iter().cloned());
    errors.collect::<Vec<_>>().join("; ")
}
