//! A master with a replicated log, whose invariants are asserted after each input.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto;
use overlay_core::proto::internal::{RegistrationChallengeMessage, UpdateAgentOverlaysMessage};
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Machine, StoreOutcome, Time, Upid};
use prost::Message;

use crate::sessions::WithSessions;

/// Configuration with ranges that a few agents exhaust.
const CONFIG: &str = r#"{"replicated_log_timeout": "20secs", "agent_lease": "5secs", "network": {
    "vtep_subnet": "44.128.0.0/28", "vtep_subnet6": "fd01:a::/125", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 28, "subnet6": "fd01:b::/64", "prefix6": 67},
                 {"name": "web", "subnet": "10.0.0.0/24", "prefix": 27},
                 {"name": "off", "subnet": "11.0.0.0/24", "prefix": 27, "enabled": false}]}}"#;

/// Result of a read of the log.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// The state in the log.
    Log,
    /// The read fails.
    Error,
    /// Bytes that replace the state in the log.
    Garbage(Vec<u8>),
}

/// Time after which a master gives up a write without an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the pid of an agent.
pub fn agent(number: u8, port: u16) -> Upid {
    format!("overlay-agent@10.0.0.{number}:{port}")
        .parse()
        .unwrap()
}

/// A master, its log, and the state that its invariants are compared with.
pub struct CheckedMaster {
    /// The machine.
    pub master: WithSessions<Master>,
    now: Time,
    /// The master is the elected one.
    pub is_leading: bool,
    /// Value of the replicated log.
    pub log: Bytes,
    /// The state that was read from the log, or is known to be written to it.
    committed: proto::State,
    /// Number of reads under way.
    fetches: u32,
    /// A write or a read failed since the log was opened.
    is_torn: bool,
    /// The log was opened anew for the latest read.
    reopened: bool,
    /// Number and state of the write under way.
    writing: Option<(u64, Bytes)>,
    /// Beginning of the latest write.
    writing_since: Time,
    requests: u64,
    /// Requests without an answer.
    pub unanswered: BTreeSet<RequestId>,
    /// Status of the latest answer.
    pub status: u16,
    /// Latest token of each agent.
    pub tokens: BTreeMap<Upid, Bytes>,
}

fn master_pid() -> Upid {
    "overlay-master@10.0.0.250:5050".parse().unwrap()
}

impl CheckedMaster {
    /// Makes a master that does not lead, with an empty log.
    pub fn new(seed: u64) -> CheckedMaster {
        CheckedMaster {
            master: WithSessions::new(
                Master::new(
                    parse("master.json", CONFIG).unwrap().config,
                    master_pid(),
                    seed,
                ),
                master_pid(),
            ),
            now: Time::default(),
            is_leading: false,
            log: Bytes::new(),
            committed: proto::State::default(),
            fetches: 0,
            is_torn: false,
            reopened: false,
            writing: None,
            writing_since: Time::default(),
            requests: 0,
            unanswered: BTreeSet::new(),
            status: 0,
            tokens: BTreeMap::new(),
        }
    }

    /// Delivers a message.
    pub fn message<M: Named>(&mut self, from: Upid, message: &M) {
        let body = message.encode_to_vec().into();
        self.input(Input::Message {
            from,
            name: M::NAME.to_owned(),
            body,
        });
    }

    /// Makes an HTTP request.
    pub fn request(
        &mut self,
        method: &str,
        path: String,
        query: Option<(String, String)>,
        body: Vec<u8>,
    ) {
        let (method, query) = (method.to_owned(), query.into_iter().collect());
        self.send_request(Request {
            id: RequestId(0),
            method,
            path,
            query,
            accept: None,
            headers: Default::default(),
            body: body.into(),
        });
    }

    /// Makes an HTTP request. Its id is replaced by an unused one.
    pub fn send_request(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.unanswered.insert(id);
        self.input(Input::Request(Request { id, ..request }));
    }

    /// Ends a read of the log, if one is under way.
    pub fn fetched(&mut self, fetched: Fetched) {
        if self.fetches == 0 {
            return;
        }
        self.fetches -= 1;
        let result = match fetched {
            Fetched::Log => {
                self.committed = proto::State::decode(self.log.clone()).unwrap_or_default();
                Ok(self.log.clone())
            }
            Fetched::Error => {
                self.is_torn = true;
                Err("no quorum".to_owned())
            }
            Fetched::Garbage(bytes) => {
                self.log = bytes.into();
                self.committed = proto::State::decode(self.log.clone()).unwrap_or_default();
                Ok(self.log.clone())
            }
        };
        self.is_torn &= result.is_err() || !self.reopened;
        self.input(Input::Fetched(result));
    }

    /// Ends the write under way, if there is one. `written` is whether the log has the state
    /// after an unknown outcome.
    pub fn stored(&mut self, outcome: StoreOutcome, written: bool) {
        let Some((number, state)) = self.writing.take() else {
            return;
        };
        let is_stored = outcome == StoreOutcome::Stored;
        let is_given_up = self.now >= self.writing_since + WRITE_TIMEOUT;
        self.is_torn |= !is_given_up && matches!(outcome, StoreOutcome::Failed(_));
        if is_stored || (written && outcome != StoreOutcome::Superseded) {
            self.log = state;
        }
        if is_stored {
            self.committed = proto::State::decode(self.log.clone()).unwrap();
        }
        self.input(Input::Stored { number, outcome });
    }

    /// Lets time pass. The master gets its timeouts.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
            let next = self.master.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline must not stay after it was met"
            );
        }
        self.now = end;
    }

    /// Delivers an input, and asserts the invariants of its effects.
    pub fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        while let Some(effect) = self.master.poll_effect() {
            match effect {
                Effect::Io(Io::Respond { id, response }) => {
                    assert!(self.unanswered.remove(&id), "{id:?} answered twice");
                    // An error does not quote a whole request.
                    assert!(
                        response.status < 400 || response.body.len() < 4_000,
                        "{response:?}"
                    );
                    self.status = response.status;
                }
                Effect::Fetch { reopen } => {
                    assert!(
                        reopen || !self.is_torn,
                        "reads on behind a write that failed"
                    );
                    self.reopened = reopen;
                    assert!(self.is_leading, "a standby reads the log");
                    self.fetches += 1;
                }
                Effect::Io(Io::Store { number, state }) => {
                    assert!(self.is_leading, "a standby writes the log");
                    // A write without an answer is given up, and lost here.
                    if self.now >= self.writing_since + WRITE_TIMEOUT {
                        self.writing = None;
                    }
                    assert_eq!(self.writing, None, "two writes at a time");
                    self.writing_since = self.now;
                    assert_disjoint(&proto::State::decode(state.clone()).unwrap());
                    self.writing = Some((number, state));
                }
                Effect::Io(Io::Send { to, name, body, .. })
                    if name == UpdateAgentOverlaysMessage::NAME =>
                {
                    self.assert_list_committed(
                        &to,
                        &UpdateAgentOverlaysMessage::decode(body).unwrap(),
                    );
                }
                Effect::Io(Io::Send { to, name, body, .. })
                    if name == RegistrationChallengeMessage::NAME =>
                {
                    let challenge = RegistrationChallengeMessage::decode(body).unwrap();
                    self.tokens.insert(to, challenge.token);
                }
                Effect::Log(_, line) => {
                    assert!(
                        !line.contains(char::is_control) && line.len() < 10_000,
                        "{line}"
                    );
                }
                _ => {}
            }
        }
    }

    /// Asserts that the log has the list that an agent is sent.
    fn assert_list_committed(&self, to: &Upid, update: &UpdateAgentOverlaysMessage) {
        let ip = to.address.ip().to_string();
        let stored = self.committed.agents.iter().find(|agent| agent.ip == ip);
        for sent in &update.overlays {
            let stored = stored
                .and_then(|agent| {
                    agent
                        .overlays
                        .iter()
                        .find(|overlay| overlay.info.name == sent.info.name)
                })
                .unwrap_or_else(|| panic!("{to} is sent {sent:?}, which is not in the log"));
            assert!(
                sent.subnet.is_none() || sent.subnet == stored.subnet,
                "{to}: {sent:?}"
            );
            assert!(
                sent.subnet6.is_none() || sent.subnet6 == stored.subnet6,
                "{to}: {sent:?}"
            );
            let address = |overlay: &proto::AgentOverlayInfo| {
                overlay.backend.vxlan.clone().map(|v| v.vtep_ip)
            };
            assert_eq!(address(sent), address(stored));
            assert_ne!(sent.info.enabled, Some(false));
        }
    }
}

/// Asserts that no two agents have a subnet, a VTEP address or a MAC in common. MACs of overlays
/// that are not in force are not compared: they are as they were in the log, and no agent is
/// sent them.
pub fn assert_disjoint(state: &proto::State) {
    let names: BTreeSet<_> = state
        .network
        .iter()
        .flat_map(|network| &network.overlays)
        .map(|info| info.name.as_str())
        .collect();
    let mut nets: Vec<IpNet> = Vec::new();
    let mut macs = BTreeSet::new();
    for agent in &state.agents {
        let mut own = BTreeSet::new();
        for overlay in &agent.overlays {
            own.extend(
                [&overlay.subnet, &overlay.subnet6]
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            // A log of another program may have none.
            let Some(vxlan) = &overlay.backend.vxlan else {
                continue;
            };
            for vtep in [Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref()]
                .into_iter()
                .flatten()
            {
                // The prefix length may be absent as well.
                let address = vtep.split('/').next().unwrap_or_default();
                own.insert(IpNet::from(address.parse::<std::net::IpAddr>().unwrap()).to_string());
            }
        }
        let mut in_force = agent
            .overlays
            .iter()
            .filter(|overlay| names.contains(overlay.info.name.as_str()));
        if let Some(vxlan) = in_force.find_map(|overlay| overlay.backend.vxlan.as_ref()) {
            assert!(
                macs.insert(vxlan.vtep_mac.clone()),
                "two agents have {}",
                vxlan.vtep_mac
            );
        }
        nets.extend(own.iter().map(|net| net.parse::<IpNet>().unwrap()));
    }
    nets.sort();
    for pair in nets.windows(2) {
        assert!(
            !pair[0].contains(&pair[1]) && !pair[1].contains(&pair[0]),
            "{} and {}",
            pair[0],
            pair[1]
        );
    }
}
