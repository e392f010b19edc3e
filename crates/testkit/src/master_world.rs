//! A master with a log, who holds it to what it promises after each step.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto;
use overlay_core::proto::internal::UpdateAgentOverlaysMessage;
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Machine, StoreOutcome, Time, Upid};
use prost::Message;

/// Pools so small that they run out.
const CONFIG: &str = r#"{"replicated_log_timeout": "20secs", "agent_lease": "5secs", "network": {
    "vtep_subnet": "44.128.0.0/28", "vtep_subnet6": "fd01:a::/125", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 28, "subnet6": "fd01:b::/64", "prefix6": 67},
                 {"name": "web", "subnet": "10.0.0.0/24", "prefix": 27},
                 {"name": "off", "subnet": "11.0.0.0/24", "prefix": 27, "enabled": false}]}}"#;

/// What reading the log gives.
#[derive(Clone, Debug)]
pub enum Fetched {
    Log,
    Error,
    /// This is what the log holds.
    Garbage(Vec<u8>),
}

/// An agent's pid.
pub fn agent(number: u8, port: u16) -> Upid {
    format!("overlay-agent@10.0.0.{number}:{port}")
        .parse()
        .unwrap()
}

/// A master, its log, and what it promised so far.
pub struct World {
    pub master: Master,
    now: Time,
    pub leads: bool,
    pub log: Bytes,
    /// What was read from the log or is known to be written to it.
    known: proto::State,
    /// Reads that are not answered.
    fetches: u32,
    writing: Option<(u64, Bytes)>,
    requests: u64,
    pub unanswered: BTreeSet<RequestId>,
    /// The status of the last answer.
    pub status: u16,
}

fn me() -> Upid {
    "overlay-master@10.0.0.250:5050".parse().unwrap()
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            master: Master::new(parse("master.json", CONFIG).unwrap().config, me(), seed),
            now: Time::default(),
            leads: false,
            log: Bytes::new(),
            known: proto::State::default(),
            fetches: 0,
            writing: None,
            requests: 0,
            unanswered: BTreeSet::new(),
            status: 0,
        }
    }

    pub fn message<M: Named>(&mut self, from: Upid, message: &M) {
        let body = message.encode_to_vec().into();
        self.input(Input::Message {
            from,
            name: M::NAME.to_owned(),
            body,
        });
    }

    pub fn request(
        &mut self,
        method: &str,
        path: String,
        query: Option<(String, String)>,
        body: Vec<u8>,
    ) {
        let (method, query) = (method.to_owned(), query.into_iter().collect());
        self.ask(Request {
            id: RequestId(0),
            method,
            path,
            query,
            accept: None,
            body: body.into(),
        });
    }

    /// The same, whatever id it has.
    pub fn ask(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.unanswered.insert(id);
        self.input(Input::Request(Request { id, ..request }));
    }

    pub fn fetched(&mut self, fetched: Fetched) {
        if self.fetches == 0 {
            return;
        }
        self.fetches -= 1;
        let result = match fetched {
            Fetched::Log => {
                self.known = proto::State::decode(self.log.clone()).unwrap_or_default();
                Ok(self.log.clone())
            }
            Fetched::Error => Err("no quorum".to_owned()),
            Fetched::Garbage(bytes) => {
                self.log = bytes.into();
                self.known = proto::State::decode(self.log.clone()).unwrap_or_default();
                Ok(self.log.clone())
            }
        };
        self.input(Input::Fetched(result));
    }

    pub fn stored(&mut self, outcome: StoreOutcome, written: bool) {
        let Some((number, state)) = self.writing.take() else {
            return;
        };
        let sure = outcome == StoreOutcome::Stored;
        if sure || (written && outcome != StoreOutcome::Superseded) {
            self.log = state;
        }
        if sure {
            self.known = proto::State::decode(self.log.clone()).unwrap();
        }
        self.input(Input::Stored { number, outcome });
    }

    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
            let next = self.master.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline that was met stays"
            );
        }
        self.now = end;
    }

    pub fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        while let Some(effect) = self.master.poll_effect() {
            match effect {
                Effect::Io(Io::Respond { id, response }) => {
                    assert!(self.unanswered.remove(&id), "{id:?} answered twice");
                    // An error is a sentence, not what somebody sent.
                    assert!(
                        response.status < 400 || response.body.len() < 4_000,
                        "{response:?}"
                    );
                    self.status = response.status;
                }
                Effect::Fetch => {
                    assert!(self.leads, "a standby reads the log");
                    self.fetches += 1;
                }
                Effect::Io(Io::Store { number, state }) => {
                    assert!(self.leads, "a standby writes the log");
                    assert_eq!(self.writing, None, "two writes at a time");
                    nobody_shares(&proto::State::decode(state.clone()).unwrap());
                    self.writing = Some((number, state));
                }
                Effect::Io(Io::Send { to, name, body })
                    if name == UpdateAgentOverlaysMessage::NAME =>
                {
                    self.told(&to, &UpdateAgentOverlaysMessage::decode(body).unwrap());
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

    /// What an agent is told is in the log.
    fn told(&self, to: &Upid, update: &UpdateAgentOverlaysMessage) {
        let ip = to.address.ip().to_string();
        let stored = self.known.agents.iter().find(|agent| agent.ip == ip);
        for told in &update.overlays {
            let stored = stored
                .and_then(|agent| {
                    agent
                        .overlays
                        .iter()
                        .find(|overlay| overlay.info.name == told.info.name)
                })
                .unwrap_or_else(|| panic!("{to} is told of {told:?}, which is not in the log"));
            assert!(
                told.subnet.is_none() || told.subnet == stored.subnet,
                "{to}: {told:?}"
            );
            assert!(
                told.subnet6.is_none() || told.subnet6 == stored.subnet6,
                "{to}: {told:?}"
            );
            let address = |overlay: &proto::AgentOverlayInfo| {
                overlay.backend.vxlan.clone().map(|v| v.vtep_ip)
            };
            assert_eq!(address(told), address(stored));
            assert_ne!(told.info.enabled, Some(false));
        }
    }
}

/// No two agents have a subnet or a VTEP address or a MAC in common. (What stands with an
/// overlay that is not in force is as it was found, and nobody is told of it: a MAC there may
/// be any.)
pub fn nobody_shares(state: &proto::State) {
    let in_force: BTreeSet<_> = state
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
            // A foreign log may lack it.
            let Some(vxlan) = &overlay.backend.vxlan else {
                continue;
            };
            for vtep in [Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref()]
                .into_iter()
                .flatten()
            {
                // With its prefix length, which a foreign log may lack, too.
                let address = vtep.split('/').next().unwrap_or_default();
                own.insert(IpNet::from(address.parse::<std::net::IpAddr>().unwrap()).to_string());
            }
        }
        let mut told = agent
            .overlays
            .iter()
            .filter(|overlay| in_force.contains(overlay.info.name.as_str()));
        if let Some(vxlan) = told.find_map(|overlay| overlay.backend.vxlan.as_ref()) {
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
