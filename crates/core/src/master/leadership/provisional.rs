//! Agents of earlier releases: the trust in them, and the provisional ones.
//!
//! They do not answer challenges. But they return what they were sent: C++ modules the unknown
//! fields of their overlays, and mesos-overlay 0.1 the epoch of their peers. Until then the
//! allocation of such an agent is provisional.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;

use super::{Leadership, MasterParts, registered_agents};
use crate::config::authentication::Confirmation;
use crate::master::answers::Departure;
use crate::master::confirmed::SenderProof;
use crate::master::pending::Registration;
use crate::master::trust::Trust;
use crate::proto::internal::{AgentRegisteredMessage, PeersVersion, UpdateAgentOverlaysMessage};
use crate::protocol::session::secrets::{TokenIssuer, equal};
use crate::{Level, Time, Upid};

/// Largest number of provisional agents: so few that they do not matter in a range of any
/// size, and that a cluster of earlier releases still starts within minutes.
const LIMIT: usize = 64;
/// Time after the latest registration after which a provisional allocation ends. Agents of
/// earlier releases try again after 10 minutes at most.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Time after the latest registration after which a provisional agent makes room for another
/// one. Agents show that they received their list within seconds.
const PROBATION: Duration = Duration::from_secs(30);
/// Shortest time between two provisional agents that make room: each costs a connection.
const REPLACEMENT: Duration = Duration::from_millis(500);
/// Shortest time between two registrations of an agent that are handled. Agents wait longer, so
/// more are repetitions.
const REPETITION: Duration = Duration::from_millis(100);

impl Leadership {
    /// Returns the trust that the allocation for a registration has.
    ///
    /// # Errors
    /// Why the registration is not served. The text continues a sentence.
    pub(super) fn trust_of(
        &mut self,
        parts: &mut MasterParts<'_>,
        registration: &Registration,
    ) -> Result<Trust, String> {
        if registration.proof != SenderProof::None {
            return Ok(Trust::Confirmed);
        }
        let now = parts.out.now();
        let is_repetition = parts.sessions.get(registration.ip).is_some_and(|session| {
            *session.pid == registration.from
                && session.has_allocation_this_term
                && now.since(session.registered_at) < REPETITION
        });
        if is_repetition {
            return Err("it repeats the one before".to_owned());
        }
        match self.ledger.trust(registration.ip) {
            Some(Trust::Confirmed) if self.is_optional(parts) => Ok(Trust::Legacy),
            Some(trust) => Ok(trust),
            None if is_of_masters_host(registration, parts.confirmed.me()) => Err(
                "its address is that of this master, whose agent confirms its registration"
                    .to_owned(),
            ),
            None if self.has_provisional_room(parts) => Ok(Trust::Provisional),
            None => Err(format!(
                "{LIMIT} agents of earlier releases have not shown yet that they receive what is \
                 sent to them, and no more are admitted"
            )),
        }
    }

    /// Returns whether there is room for one more provisional agent. If there is none, one that
    /// is gone or that has shown nothing for a while makes room, so that made-up ones do not keep
    /// others out for long.
    fn has_provisional_room(&mut self, parts: &mut MasterParts<'_>) -> bool {
        if self.ledger.provisional().len() < LIMIT {
            return true;
        }
        let now = parts.out.now();
        let is_early = |at| now.since(at) < REPLACEMENT;
        if self.provisional_replaced.is_some_and(is_early) {
            return false;
        }
        let sessions = &parts.sessions;
        let useless = self.ledger.provisional().find(|ip| {
            let session = sessions.get(*ip);
            session.is_none_or(|session| {
                !session.is_connected || now.since(session.registered_at) >= PROBATION
            })
        });
        let Some(ip) = useless else { return false };
        self.provisional_replaced = Some(now);
        self.end_provisional(parts, ip, "another one registers");
        true
    }

    fn is_optional(&self, parts: &MasterParts<'_>) -> bool {
        parts.confirmed.authentication().confirmation == Confirmation::Optional
    }

    /// Returns whether messages outside of a session are on trial: the agent has confirmed
    /// before, and may have gone back to an earlier release since. It gets what it has, and has
    /// to show first that it received that.
    pub fn is_on_trial(&self, parts: &MasterParts<'_>, ip: Ipv4Addr) -> bool {
        self.ledger.trust(ip) == Some(Trust::Confirmed) && !self.is_optional(parts)
    }

    /// Ends the trial, or that an agent is provisional: it has shown that it receives what is
    /// sent to it.
    pub(super) fn accept(&mut self, parts: &mut MasterParts<'_>, ip: Ipv4Addr) {
        parts.sessions.set_unproven(ip, false);
        if self.ledger.set_trust(ip, Trust::Legacy) {
            let line = format!("Agent {ip}, of an earlier release, has received its overlays");
            parts.out.log(Level::Info, line);
        }
    }

    /// Handles an acknowledgement of peers by an agent of an earlier release.
    pub fn handle_legacy_position(
        &mut self,
        parts: &mut MasterParts<'_>,
        ip: Ipv4Addr,
        version: &PeersVersion,
    ) {
        if returns_epoch(Some(version), self.peers.epoch()) {
            self.accept(parts, ip);
        }
    }

    /// Frees the allocation of a provisional agent.
    pub(super) fn end_provisional(
        &mut self,
        parts: &mut MasterParts<'_>,
        ip: Ipv4Addr,
        reason: &str,
    ) {
        let Some(allocation) = self.ledger.allocation(ip) else {
            return;
        };
        let line = format!(
            "Taking {allocation} from {ip}, which registered as an agent of an earlier release \
             and has not shown that it receives what is sent to it; {reason}"
        );
        parts.out.log(Level::Warning, line);
        self.depart(parts, ip, Departure::Deleted);
    }

    /// Frees the allocation of a provisional agent whose address an agent has confirmed: the
    /// request may have been another one's.
    pub(super) fn forget_provisional(&mut self, parts: &mut MasterParts<'_>, ip: Ipv4Addr) {
        self.answers.registrations.remove(&ip);
        self.answers.pushes.remove(&ip);
        self.pushes.remove(ip);
        self.provisional_until.remove(&ip);
        let registered = || registered_agents(parts.sessions, &self.answers);
        let outcome = self.ledger.delete(ip, registered);
        self.handle_drain_outcome(parts, outcome);
    }

    /// Notes that a provisional agent has registered.
    pub(super) fn prolong_provisional(&mut self, now: Time, ip: Ipv4Addr) {
        if self.ledger.trust(ip) == Some(Trust::Provisional) {
            self.provisional_until.insert(ip, now + LIFETIME);
        }
    }

    /// Frees the provisional allocations that have expired.
    pub(super) fn expire_provisional(&mut self, parts: &mut MasterParts<'_>) {
        let now = parts.out.now();
        let expired: Vec<_> = self
            .provisional_until
            .extract_if(.., |_, until| *until <= now)
            .map(|(ip, _)| ip)
            .collect();
        for ip in expired {
            if self.ledger.trust(ip) == Some(Trust::Provisional) {
                self.end_provisional(parts, ip, "its time is over");
            }
        }
    }
}

/// Adds the bytes that a C++ module returns to a list for an agent of an earlier release.
pub fn add_echo(list: &mut UpdateAgentOverlaysMessage, tokens: &TokenIssuer, pid: &Upid) {
    let echo = Bytes::copy_from_slice(&tokens.echo(pid));
    for overlay in &mut list.overlays {
        overlay.echo = Some(echo.clone());
    }
}

/// Returns whether a report has the bytes that the agent was sent with its list.
pub(super) fn returns_echo(
    report: &AgentRegisteredMessage,
    tokens: &TokenIssuer,
    pid: &Upid,
) -> bool {
    let echo = tokens.echo(pid);
    let echoes = report
        .overlays
        .iter()
        .filter_map(|overlay| overlay.echo.as_deref());
    echoes.into_iter().any(|returned| equal(returned, &echo))
}

/// Returns whether a version has the epoch of this term, which only agents know that were sent
/// a list of peers.
pub(super) fn returns_epoch(version: Option<&PeersVersion>, epoch: u64) -> bool {
    version.is_some_and(|version| equal(&version.epoch().to_be_bytes(), &epoch.to_be_bytes()))
}

/// Returns whether a registration names the address of the master, and another process than the
/// master's own: the agent module in that process may be of an earlier release.
fn is_of_masters_host(registration: &Registration, me: &Upid) -> bool {
    let agent = registration.from.address;
    agent.ip() == me.address.ip() && agent != me.address
}
