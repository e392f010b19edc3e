//! The master: messages, requests, answers of the log and other inputs, in any order, from agents
//! with and without sessions. The invariants hold after each step (see `testkit::checked_master`), and the master serves at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay_core::proto::internal::{AgentNetworkConfig, PeersVersion, RegisterAgentMessage};
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::{NAMES, Named};
use overlay_core::{Input, StoreOutcome, Upid};
use prost::Message;
use testkit::checked_master::{CheckedMaster, Fetched, agent};

use crate::session::{IN_SESSION, Secret};
use crate::steps;
use crate::steps::{Asked, Step};

pub(crate) fn run(data: &[u8]) {
    let mut world = World {
        master: CheckedMaster::new(1),
        sessions: BTreeMap::new(),
    };
    for step in steps::read(data) {
        world.happens(&step);
    }
    let World { mut master, .. } = world;
    // In the end reads and writes finish, all requests are answered, and a leader serves, or
    // reports that the log contradicts itself.
    master.is_leading = true;
    master.input(Input::Leader(Some(pid(0))));
    for _ in 0..4 {
        master.fetched(Fetched::Log);
        master.stored(StoreOutcome::Stored, true);
        master.wait(Duration::from_secs(30));
    }
    master.request("GET", "/overlay-master/state".to_owned(), None, Vec::new());
    master.stored(StoreOutcome::Stored, true);
    assert!(
        master.unanswered.is_empty(),
        "never answered: {:?}",
        master.unanswered
    );
    assert!(
        [200, 500, 503].contains(&master.status),
        "{}",
        master.status
    );
}

/// Mesos masters; the first one is in the process of the machine.
fn pid(number: u8) -> Upid {
    Upid::new(
        "master",
        format!("10.0.0.25{}:5050", number % 5)
            .parse()
            .expect("an address"),
    )
}

/// The master, and the agents' parts of the sessions with it.
struct World {
    master: CheckedMaster,
    sessions: BTreeMap<Upid, Secret>,
}

impl World {
    fn happens(&mut self, step: &Step<'_>) {
        let Step {
            kind,
            argument,
            bytes,
        } = *step;
        let master = &mut self.master;
        match kind % 9 {
            // A message: the first byte of the payload selects its type.
            0 => {
                let [which, body @ ..] = bytes else { return };
                let name = NAMES
                    .get(usize::from(which & !IN_SESSION))
                    .map_or("unheard.of", |name| *name);
                let is_in_session = which & IN_SESSION != 0;
                self.message(agent(argument, 5051), name, body.to_vec(), is_in_session);
            }
            1 => request(master, steps::asked(step)),
            2 => {
                let leader = argument.checked_sub(1).map(pid);
                master.is_leading = argument % 5 == 1;
                master.input(Input::Leader(leader));
            }
            3 => master.fetched(match argument {
                0..128 => Fetched::Log,
                128..192 => Fetched::Error,
                _ => Fetched::Garbage(bytes.to_vec()),
            }),
            4 => match argument % 4 {
                0 | 1 => master.stored(StoreOutcome::Stored, true),
                2 => master.stored(StoreOutcome::Superseded, false),
                _ => master.stored(
                    StoreOutcome::Failed("disk full".to_owned()),
                    argument & 4 == 0,
                ),
            },
            5 => master.input(Input::Exited(agent(argument, 5051))),
            6 => master.wait(Duration::from_millis(u64::from(argument) * 100)),
            _ => self.register(argument, bytes),
        }
    }

    /// Sends a message of an agent, as part of its session or not.
    fn message(&mut self, from: Upid, name: &str, body: Vec<u8>, is_in_session: bool) {
        let body = match is_in_session {
            true => self.sessions.entry(from.clone()).or_default().seal(body),
            false => body.into(),
        };
        let name = name.to_owned();
        self.master.input(Input::Message { from, name, body });
    }

    /// Sends a valid registration, and repeats it with the token of a challenge.
    fn register(&mut self, argument: u8, bytes: &[u8]) {
        let flag = |bit: u8| Some(bytes.first().is_none_or(|flags| flags & (1 << bit) == 0));
        let has_session = flag(6) == Some(true);
        let message = RegisterAgentMessage {
            network_config: AgentNetworkConfig {
                allocate_subnet: flag(0),
                mesos_bridge: flag(1),
                docker_bridge: flag(2),
                enable_ipv6: flag(3),
                ..AgentNetworkConfig::default()
            },
            peers: Some(PeersVersion::default()).filter(|_| flag(4) == Some(true)),
            unpacks_peers: flag(5),
            nonce: has_session.then(|| vec![argument; 16].into()),
            ..RegisterAgentMessage::default()
        };
        let from = agent(argument, 5051);
        let (name, body) = (RegisterAgentMessage::NAME, message.encode_to_vec());
        self.message(from.clone(), name, body.clone(), has_session);
        if let Some(token) = self.master.tokens.remove(&from) {
            self.sessions.entry(from.clone()).or_default().learn(&token);
            self.message(from, name, body, has_session);
        }
    }
}

fn request(master: &mut CheckedMaster, asked: Asked) {
    let Asked {
        method,
        path,
        query,
        accept,
        body,
    } = asked;
    let (method, query) = (method.to_owned(), query.into_iter().collect());
    master.send_request(Request {
        id: RequestId(0),
        method,
        path,
        query,
        accept,
        headers: Default::default(),
        body: body.into(),
    });
}
