//! The agents that have registered since this process started.
//!
//! Their allocations are in the replicated log. Their pids, links and reports are here, in
//! memory only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::agent_address;
use super::confirmed::SenderProof;
use super::peers::ListForm;
use super::pending::Registration;
use super::trust::Trust;
use crate::allocation::allocator::AllocationRequest;
use crate::proto::agent_overlay_info::State;
use crate::proto::internal::AgentRegisteredMessage;
use crate::protocol::reports::MAX_SENTENCE;
use crate::protocol::views::{LastError as LastErrorView, Presence};
use crate::util::line::cut;
use crate::{Time, Upid};

/// An agent that has registered.
#[derive(Debug)]
pub struct Session {
    /// Pid at the latest registration.
    pub pid: Arc<Upid>,
    /// Number of the latest registration, counted over all agents.
    pub serial: u64,
    /// The link to the agent has not been reported as broken.
    pub is_connected: bool,
    /// The agent has not shown that it receives what it is sent. Anybody may have sent its
    /// registration, so the link proves nothing.
    pub is_unproven: bool,
    /// Time of the latest change of `is_connected` or of the pid.
    pub connection_changed_at: Time,
    /// The agent was sent a list, and has not reported since. If it registers again, the
    /// connection to it may be dead.
    pub is_list_unconfirmed: bool,
    /// The agent registered in this term and still has its allocation.
    pub has_allocation_this_term: bool,
    /// Form of the lists of peers; `None` if the agent does not take them.
    pub peer_list_form: Option<ListForm>,
    /// The agent reports revisions of the networks.
    pub reports_revisions: bool,
    /// The addresses and subnets that the agent requests.
    pub requested: AllocationRequest,
    /// Authentication of the latest registration.
    pub proof: SenderProof,
    /// Time of the latest registration.
    pub registered_at: Time,
    /// Time of the latest new connection that a registration caused; `None`: never.
    pub reconnected_at: Option<Time>,
    /// Revision of the networks of the latest list that the agent was sent in this term.
    pub last_revision_sent: Option<u64>,
    /// States of the overlays, by the latest report.
    states: OverlayStates,
    /// Errors of the host beyond one overlay, by the latest report.
    pub host_errors: Vec<String>,
    /// Networks of the host's own devices, by the latest report.
    pub host_networks: Box<[IpNet]>,
    /// The most recent error, even if it was resolved since. It is boxed because few agents
    /// have one.
    pub last_error: Option<Box<LastError>>,
    /// Sentences that go with every list until the agent reports.
    pub notices: Vec<String>,
    /// Release of the agent's module; `None`: it is of another implementation, or older than
    /// this field.
    pub release: Option<Box<str>>,
}

/// States of an agent's overlays, by name. Almost all agents share one value.
type OverlayStates = Arc<[(String, State)]>;

/// An error of an agent.
#[derive(Debug)]
pub struct LastError {
    /// Time of the latest report of the error.
    pub at: Time,
    /// The error, as one line.
    pub text: String,
}

/// The sessions of all agents, by underlay address.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<Ipv4Addr, Session>,
    /// Number of registrations.
    serial: u64,
    /// States of the latest report of any agent, to be shared.
    latest_states: OverlayStates,
    /// Times of the latest contact with agents that have allocations, in this term: their
    /// latest message, or the end of their link.
    contacts: BTreeMap<Ipv4Addr, Time>,
    /// Time at which this master began to serve in this term. Messages before it were not
    /// handled.
    serving_since: Option<Time>,
}

impl Sessions {
    /// Records a registration. It replaces the session of another process at the same address.
    pub fn register(
        &mut self,
        now: Time,
        registration: &Registration,
        peer_list_form: Option<ListForm>,
        requested: AllocationRequest,
    ) {
        let Registration {
            ip,
            from: pid,
            message,
            proof,
        } = registration;
        self.serial += 1;
        let session = self.sessions.entry(*ip).or_insert_with(|| Session {
            pid: Arc::new(pid.clone()),
            serial: 0,
            is_connected: true,
            is_unproven: false,
            connection_changed_at: now,
            is_list_unconfirmed: false,
            has_allocation_this_term: true,
            peer_list_form,
            reports_revisions: false,
            requested,
            proof: SenderProof::None,
            registered_at: now,
            reconnected_at: None,
            last_revision_sent: None,
            states: OverlayStates::default(),
            host_errors: Vec::new(),
            host_networks: Box::default(),
            last_error: None,
            notices: Vec::new(),
            release: None,
        });
        if *session.pid != *pid || !session.is_connected {
            session.connection_changed_at = now;
        }
        if *session.pid != *pid {
            session.states = OverlayStates::default();
            session.host_errors.clear();
            session.host_networks = Box::default();
            session.pid = Arc::new(pid.clone());
        }
        session.is_list_unconfirmed = false;
        session.serial = self.serial;
        session.is_connected = true;
        session.has_allocation_this_term = true;
        session.peer_list_form = peer_list_form;
        // The process may be one of an earlier release.
        session.reports_revisions = false;
        session.requested = requested;
        session.proof = proof.clone();
        session.registered_at = now;
        session.release = message.release.as_deref().map(Box::from);
    }

    /// Returns the session of the agent at this address.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Session> {
        self.sessions.get(&ip)
    }

    /// Returns whether the agent at this address is there, as far as is known: the link to it is
    /// up, and it has shown that it receives what it is sent.
    pub fn is_connected(&self, ip: Ipv4Addr) -> bool {
        self.get(ip)
            .is_some_and(|session| session.is_connected && !session.is_unproven)
    }

    /// Returns the address and the session of a process, unless another process at the same
    /// address has registered since.
    pub fn find(&mut self, pid: &Upid) -> Option<(Ipv4Addr, &mut Session)> {
        let ip = agent_address(pid)?;
        self.sessions
            .get_mut(&ip)
            .filter(|session| *session.pid == *pid)
            .map(|session| (ip, session))
    }

    /// Begins a term, in which no agent has registered yet.
    pub fn begin_term(&mut self) {
        self.contacts.clear();
        self.serving_since = None;
        for session in self.sessions.values_mut() {
            session.has_allocation_this_term = false;
            session.last_revision_sent = None;
        }
    }

    /// Records that the log has been read. Only the first time in a term counts.
    pub fn begin_serving(&mut self, now: Time) {
        self.serving_since.get_or_insert(now);
    }

    /// Records a contact with an agent that has an allocation.
    pub fn record_contact(&mut self, ip: Ipv4Addr, now: Time) {
        self.contacts.insert(ip, now);
    }

    /// Returns the time of the latest contact with an agent in this term, or the time at which
    /// the master began to serve if that is later. For a connected agent this time is in the
    /// past, too.
    pub fn last_contact(&self, ip: Ipv4Addr) -> Time {
        self.contacts
            .get(&ip)
            .copied()
            .max(self.serving_since)
            .unwrap_or_default()
    }

    /// Forgets the contact with an agent that has no allocation any more.
    pub fn forget_contact(&mut self, ip: Ipv4Addr) {
        self.contacts.remove(&ip);
    }

    /// Records whether the agent at this address has shown that it receives what it is sent.
    pub fn set_unproven(&mut self, ip: Ipv4Addr, is_unproven: bool) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.is_unproven = is_unproven;
        }
    }

    /// Sets the notices for an agent that has registered.
    pub fn set_notices(&mut self, ip: Ipv4Addr, notices: Vec<String>) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.notices = notices;
        }
    }

    /// Ends the registration of an agent that loses its allocation. Its session stays until
    /// that is in the log.
    pub fn end_registration(&mut self, ip: Ipv4Addr) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.has_allocation_this_term = false;
        }
    }

    /// Records that an agent was sent a list of the networks of this revision.
    pub fn record_list_sent(&mut self, ip: Ipv4Addr, revision: u64) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.is_list_unconfirmed = true;
            session.last_revision_sent = Some(revision);
        }
    }

    /// Returns all sessions, with the addresses of the agents.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Session)> {
        self.sessions.iter().map(|(ip, session)| (*ip, session))
    }

    /// Records an error of an agent.
    pub fn set_last_error(&mut self, ip: Ipv4Addr, now: Time, text: &str) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.set_last_error(now, text);
        }
    }

    /// Returns the networks of an agent's host.
    pub fn host_networks(&self, ip: Ipv4Addr) -> Option<&[IpNet]> {
        self.get(ip).map(|session| &*session.host_networks)
    }

    /// Sets the networks of an agent's host.
    pub fn set_host_networks(&mut self, ip: Ipv4Addr, networks: Box<[IpNet]>) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.host_networks = networks;
        }
    }

    /// Records the report of an agent.
    pub fn record_report(&mut self, pid: &Upid, message: AgentRegisteredMessage) {
        let states: Vec<_> = message
            .overlays
            .into_iter()
            .filter_map(|overlay| Some((overlay.info.name, overlay.state?)))
            .collect();
        if *self.latest_states != *states {
            self.latest_states = states.into();
        }
        let states = self.latest_states.clone();
        let Some((_, session)) = self.find(pid) else {
            return;
        };
        session.states = states;
        session.is_list_unconfirmed = false;
        session.notices = Vec::new();
        session.reports_revisions = message.revision.is_some();
        session.host_errors = message.host_errors;
    }

    /// Removes the session of an agent.
    pub fn remove(&mut self, ip: Ipv4Addr) {
        self.sessions.remove(&ip);
    }
}

impl Session {
    /// Returns the trust in the agent if it has no allocation.
    pub fn trust(&self) -> Trust {
        match self.proof {
            SenderProof::None => Trust::Provisional,
            SenderProof::Token | SenderProof::Key(_) => Trust::Confirmed,
        }
    }

    /// Returns whether the agent accepts unsolicited lists. Agents of the predecessor do not.
    pub fn supports_push(&self) -> bool {
        self.peer_list_form.is_some() || self.reports_revisions
    }

    /// Returns the state of an overlay by the latest report.
    pub fn state(&self, overlay: &str) -> Option<&State> {
        self.states
            .iter()
            .rev()
            .find(|(name, _)| name == overlay)
            .map(|(_, state)| state)
    }

    /// Returns the state of an overlay, which is probably at this position of the latest report.
    pub fn state_near(&self, position: usize, overlay: &str) -> Option<&State> {
        match self.states.get(position) {
            Some((name, state)) if name == overlay => Some(state),
            _ => self.state(overlay),
        }
    }

    /// Records that the link to the agent broke.
    pub fn disconnect(&mut self, now: Time) {
        if std::mem::take(&mut self.is_connected) {
            self.connection_changed_at = now;
        }
    }

    /// Records an error of the agent, which is shortened.
    pub fn set_last_error(&mut self, now: Time, text: &str) {
        let mut text = text.to_owned();
        cut(&mut text, MAX_SENTENCE);
        self.last_error = Some(Box::new(LastError { at: now, text }));
    }

    /// Returns the connection and the errors of the agent, as endpoints show them. `age` returns
    /// what stands for a time.
    pub fn presence(&self, age: impl Fn(Time) -> u64) -> Presence<'_> {
        let last_error = self.last_error.as_ref().map(|last| LastErrorView {
            error: &last.text,
            seconds_ago: age(last.at),
        });
        Presence {
            connected: self.is_connected,
            since_seconds: Some(age(self.connection_changed_at)),
            host_errors: &self.host_errors,
            last_error,
            lease_ends_in_seconds: None,
            authentication: Some(self.proof.to_string()),
            release: self.release.as_deref(),
        }
    }
}
