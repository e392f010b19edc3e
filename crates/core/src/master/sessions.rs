//! The agents that registered since this process started. What they hold is in the
//! log; who they are at present is here, in memory only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::peers::Form;
use crate::allocation::allocator::AllocationRequest;
use crate::proto::agent_overlay_info::State;
use crate::proto::internal::AgentRegisteredMessage;
use crate::protocol::views::{LastError as LastErrorShown, Presence};
use crate::{Time, Upid};

/// One agent that registered.
#[derive(Debug)]
pub struct Session {
    /// Its pid at its latest registration.
    pub pid: Arc<Upid>,
    /// Tells one registration from another.
    pub serial: u64,
    /// Whether its link is up, as far as we know.
    pub connected: bool,
    /// Since when that is so.
    pub since: Time,
    /// It was answered, and has not said anything since that it would say only after
    /// that answer: if it asks again, the connection to it may be a dead one.
    pub unconfirmed: bool,
    /// It registered in this lead.
    pub is_current: bool,
    /// How it wants to be told about its peers, if it does.
    pub wants_peers: Option<Form>,
    /// It reports revisions of networks.
    pub knows_revisions: bool,
    /// What it asks for.
    pub requested: AllocationRequest,
    /// The revision of the networks that the latest list was made from that it was
    /// sent in this lead.
    pub told: Option<u64>,
    /// How it fares with its overlays, as it reported last.
    states: States,
    /// What is not right with its host beyond one overlay, as it reported last.
    pub host_errors: Vec<String>,
    /// The latest that was not right with it, right again or not. (Few ever have one.)
    pub last_error: Option<Box<LastError>>,
    /// What it is to be told with its list, until it has reported after that.
    pub notices: Vec<String>,
}

/// How an agent fares with its overlays, by name. Almost all fare alike.
type States = Arc<[(String, State)]>;

/// What was not right with an agent.
#[derive(Debug)]
pub struct LastError {
    /// When it was heard of last.
    pub at: Time,
    /// What, as one line.
    pub text: String,
}

/// How much of an error is kept, in characters: agents say what they like.
const LONGEST_ERROR: usize = 1000;

/// All of them, by underlay address.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<Ipv4Addr, Session>,
    serial: u64,
    /// What was reported last, by anybody.
    states: States,
    /// When agents that hold something were heard of last in this lead: their latest
    /// message, or the end of their link.
    contacts: BTreeMap<Ipv4Addr, Time>,
    /// When this lead began to serve: before that nobody could be heard of.
    serves_since: Option<Time>,
}

/// The key of an agent: its IPv4 address.
pub fn key(pid: &Upid) -> Option<Ipv4Addr> {
    match pid.address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

impl Sessions {
    /// An agent registers. Another pid at the same address is replaced: the newer
    /// registration wins.
    pub fn register(
        &mut self,
        now: Time,
        ip: Ipv4Addr,
        pid: &Upid,
        wants_peers: Option<Form>,
        requested: AllocationRequest,
    ) {
        self.serial += 1;
        let session = self.sessions.entry(ip).or_insert_with(|| Session {
            pid: Arc::new(pid.clone()),
            serial: 0,
            connected: true,
            since: now,
            unconfirmed: false,
            is_current: true,
            wants_peers,
            knows_revisions: false,
            requested,
            told: None,
            states: States::default(),
            host_errors: Vec::new(),
            last_error: None,
            notices: Vec::new(),
        });
        if *session.pid != *pid || !session.connected {
            session.since = now;
        }
        if *session.pid != *pid {
            session.states = States::default();
            session.host_errors.clear();
            session.pid = Arc::new(pid.clone());
        }
        session.unconfirmed = false;
        session.serial = self.serial;
        session.connected = true;
        session.is_current = true;
        session.wants_peers = wants_peers;
        // Another release may be at work since.
        session.knows_revisions = false;
        session.requested = requested;
    }

    /// The session of the agent at this address.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Session> {
        self.sessions.get(&ip)
    }

    /// Whether the link to the agent at this address is up, as far as we know.
    pub fn is_connected(&self, ip: Ipv4Addr) -> bool {
        self.get(ip).is_some_and(|session| session.connected)
    }

    /// The session of exactly this process.
    pub fn of(&mut self, pid: &Upid) -> Option<(Ipv4Addr, &mut Session)> {
        let ip = key(pid)?;
        self.sessions
            .get_mut(&ip)
            .filter(|session| *session.pid == *pid)
            .map(|session| (ip, session))
    }

    /// A lead begins: nobody has registered in it yet.
    pub fn begin_lead(&mut self) {
        self.contacts.clear();
        self.serves_since = None;
        for session in self.sessions.values_mut() {
            session.is_current = false;
            session.told = None;
        }
    }

    /// The log is read, for the first time in this lead or once more.
    pub fn begin_serving(&mut self, now: Time) {
        self.serves_since.get_or_insert(now);
    }

    /// An agent that holds something is heard of.
    pub fn heard_of(&mut self, ip: Ipv4Addr, now: Time) {
        self.contacts.insert(ip, now);
    }

    /// When an agent was heard of last; of one that was not in this lead, when the lead
    /// began to serve. (Of one that is connected, that is past.)
    pub fn contact(&self, ip: Ipv4Addr) -> Time {
        self.contacts
            .get(&ip)
            .copied()
            .max(self.serves_since)
            .unwrap_or_default()
    }

    /// An agent holds nothing any more.
    pub fn forget_contact(&mut self, ip: Ipv4Addr) {
        self.contacts.remove(&ip);
    }

    /// An agent that registered is to be told this.
    pub fn set_notices(&mut self, ip: Ipv4Addr, notices: Vec<String>) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.notices = notices;
        }
    }

    /// An agent is taken out of the log: it has to register anew to be one again.
    pub fn retire(&mut self, ip: Ipv4Addr) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.is_current = false;
        }
    }

    /// The agent at this address was sent a list that was made from the networks of
    /// this revision.
    pub fn told(&mut self, ip: Ipv4Addr, revision: u64) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.unconfirmed = true;
            session.told = Some(revision);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Session)> {
        self.sessions.iter().map(|(ip, session)| (*ip, session))
    }

    /// Takes what an agent reports.
    pub fn report(&mut self, pid: &Upid, message: AgentRegisteredMessage) {
        let states = message.overlays.into_iter();
        let states = states.filter_map(|overlay| Some((overlay.info.name, overlay.state?)));
        let states: Vec<_> = states.collect();
        if *self.states != *states {
            self.states = states.into();
        }
        let states = self.states.clone();
        let Some((_, session)) = self.of(pid) else {
            return;
        };
        session.states = states;
        session.unconfirmed = false;
        session.notices = Vec::new();
        session.knows_revisions = message.revision.is_some();
        session.host_errors = message.host_errors;
    }

    /// Forgets an agent.
    pub fn remove(&mut self, ip: Ipv4Addr) {
        self.sessions.remove(&ip);
    }
}

impl Session {
    /// Whether it takes a list that it did not ask for: a predecessor's agent does not.
    pub fn takes_news(&self) -> bool {
        self.wants_peers.is_some() || self.knows_revisions
    }

    /// How it fares with this overlay.
    pub fn state(&self, overlay: &str) -> Option<&State> {
        self.states
            .iter()
            .rev()
            .find(|(name, _)| name == overlay)
            .map(|(_, state)| state)
    }

    /// Its link broke.
    pub fn disconnect(&mut self, now: Time) {
        if std::mem::take(&mut self.connected) {
            self.since = now;
        }
    }

    /// Something is not right with it.
    pub fn erred(&mut self, now: Time, text: &str) {
        let text = text.chars().take(LONGEST_ERROR).collect();
        self.last_error = Some(Box::new(LastError { at: now, text }));
    }

    /// How the agent is, as endpoints show it.
    pub fn presence(&self, now: Time) -> Presence<'_> {
        let last_error = self.last_error.as_ref().map(|last| LastErrorShown {
            error: &last.text,
            seconds_ago: now.since(last.at).as_secs(),
        });
        Presence {
            connected: self.connected,
            since_seconds: Some(now.since(self.since).as_secs()),
            host_errors: &self.host_errors,
            last_error,
        }
    }
}
