//! The agents that registered since this process started. What they hold is in the
//! log; who they are at present is here, in memory only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::core::Upid;
use crate::wire::agent_overlay_info::State;
use crate::wire::internal::AgentRegisteredMessage;

/// One agent that registered.
#[derive(Debug)]
pub struct Session {
    /// Its pid at its latest registration.
    pub pid: Upid,
    /// Tells one registration from another.
    pub serial: u64,
    /// Whether its link is up, as far as we know.
    pub connected: bool,
    /// It was answered, and has not said anything since that it would say only after
    /// that answer: if it asks again, the connection to it may be a dead one.
    pub unconfirmed: bool,
    /// Whether it wants to be told about its peers.
    pub wants_peers: bool,
    /// How it fares with its overlays, by name, as it reported last.
    pub states: BTreeMap<String, State>,
    /// What is not right with its host beyond one overlay, as it reported last.
    pub host_errors: Vec<String>,
}

/// All of them, by underlay address.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<Ipv4Addr, Session>,
    serial: u64,
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
    pub fn register(&mut self, ip: Ipv4Addr, pid: &Upid, wants_peers: bool) {
        self.serial += 1;
        let session = self.sessions.entry(ip).or_insert_with(|| Session {
            pid: pid.clone(),
            serial: 0,
            connected: true,
            unconfirmed: false,
            wants_peers,
            states: BTreeMap::new(),
            host_errors: Vec::new(),
        });
        if session.pid != *pid {
            session.states.clear();
            session.host_errors.clear();
        }
        session.pid = pid.clone();
        session.unconfirmed = false;
        session.serial = self.serial;
        session.connected = true;
        session.wants_peers = wants_peers;
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
        self.sessions.get_mut(&ip).filter(|session| session.pid == *pid).map(|session| (ip, session))
    }

    /// The agent at this address is answered.
    pub fn answered(&mut self, ip: Ipv4Addr) {
        if let Some(session) = self.sessions.get_mut(&ip) {
            session.unconfirmed = true;
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Session)> {
        self.sessions.iter().map(|(ip, session)| (*ip, session))
    }

    /// Forgets an agent.
    pub fn remove(&mut self, ip: Ipv4Addr) {
        self.sessions.remove(&ip);
    }
}

impl Session {
    /// Takes what the agent reports.
    pub fn report(&mut self, message: AgentRegisteredMessage) {
        self.unconfirmed = false;
        self.states = message
            .overlays
            .into_iter()
            .filter_map(|overlay| Some((overlay.info.name, overlay.state?)))
            .collect();
        self.host_errors = message.host_errors;
    }
}
