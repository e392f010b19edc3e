//! The agent: messages of its master and of others, requests, and reports of its host, in any order.
//! The desired state of the host must not contain objects of others, and the agent must register
//! with a new leader at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::agent::Agent;
use overlay_core::config::AgentConfig;
use overlay_core::config::overlay::is_overlay_name;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::proto::agent_overlay_info::state::Status;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage,
    RegistrationChallengeMessage, UpdateAgentOverlaysMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::{NAMES, Named};
use overlay_core::protocol::session::join;
use overlay_core::{
    Effect, EngineReport, HostReport, Input, Io, MASTER_ID, Machine, StoreOutcome, Time, Upid,
};
use prost::Message;

use crate::is_line;
use crate::session::{IN_SESSION, Secret};
use crate::steps;
use crate::steps::{Asked, Step};

pub(crate) fn run(data: &[u8]) {
    let mut world = World::new();
    world.input(Input::Leader(Some(pid("master", 1))));
    for step in steps::read(data) {
        world.happens(&step);
    }
    world.registers();
}

fn pid(id: &str, host: u8) -> Upid {
    Upid::new(
        id,
        format!("10.0.0.{host}:5050").parse().expect("an address"),
    )
}

/// An agent and its unfinished orders.
struct World {
    agent: Agent,
    now: Time,
    /// Orders to host and engine without a report.
    host: Option<u64>,
    engine: Option<u64>,
    requests: u64,
    answers: u64,
    reported: Option<AgentRegisteredMessage>,
    /// Latest registration, and its receiver.
    registered: Option<(Upid, RegisterAgentMessage)>,
    /// The masters' parts of the sessions.
    sessions: BTreeMap<Upid, Secret>,
}

impl World {
    fn new() -> World {
        let me = "overlay-agent@10.0.0.2:5051".parse().expect("a pid");
        World {
            agent: Agent::new(AgentConfig::new("/cni"), me, 1),
            now: Time::default(),
            host: None,
            engine: None,
            requests: 0,
            answers: 0,
            reported: None,
            registered: None,
            sessions: BTreeMap::new(),
        }
    }

    fn input(&mut self, input: Input) {
        self.agent.handle(self.now, input);
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Io(Io::Respond { id, response }) => {
                    self.answers += 1;
                    assert_eq!(
                        id,
                        RequestId(self.answers),
                        "answered twice, or not in turn"
                    );
                    assert!(
                        response.status < 400 || response.body.len() < 4_000,
                        "{response:?}"
                    );
                }
                Effect::Log(_, line) => assert!(is_line(&line), "{line}"),
                Effect::ApplyHost {
                    generation,
                    desired,
                } => {
                    is_ours(&desired);
                    self.host = Some(generation);
                }
                Effect::ApplyEngine {
                    generation,
                    networks,
                } => {
                    let mut names = networks.networks.keys();
                    assert!(names.all(|name| is_overlay_name(name)), "{networks:?}");
                    self.engine = Some(generation);
                }
                Effect::Io(Io::Send {
                    to,
                    name,
                    body,
                    session,
                }) => {
                    assert_eq!(to.id, MASTER_ID);
                    if name == RegisterAgentMessage::NAME {
                        self.learn(to, join(&body, &session));
                    }
                    if name == AgentRegisteredMessage::NAME {
                        self.reported =
                            Some(AgentRegisteredMessage::decode(body).expect("its own words"));
                    }
                }
                Effect::Io(Io::Link { to, .. }) => assert_eq!(to.id, MASTER_ID),
                Effect::Fetch { .. } | Effect::Io(Io::Store { .. }) => {
                    panic!("an agent has no log")
                }
            }
        }
        assert_eq!(self.answers, self.requests, "a request without an answer");
    }

    /// Learns the nonce of a registration.
    fn learn(&mut self, to: Upid, registration: Bytes) {
        let message = RegisterAgentMessage::decode(registration).expect("its own words");
        if let Some(nonce) = &message.nonce {
            self.sessions.entry(to.clone()).or_default().learn(nonce);
        }
        self.registered = Some((to, message));
    }

    /// Sends a message of a master, as part of the session with it or not.
    fn send(&mut self, from: Upid, name: &str, body: Vec<u8>, is_in_session: bool) {
        let session = self.sessions.get_mut(&from).filter(|_| is_in_session);
        let body = match session {
            Some(session) => session.seal(body),
            None => body.into(),
        };
        let name = name.to_owned();
        self.input(Input::Message { from, name, body });
    }

    fn message<M: Named>(&mut self, from: Upid, message: &M) {
        self.send(from, M::NAME, message.encode_to_vec(), true);
    }

    /// Answers the latest registration with a challenge.
    fn challenge(&mut self, token: u8) {
        let Some((master, registration)) = self.registered.clone() else {
            return;
        };
        let answers = registration.session.unwrap_or_default().sequence();
        let challenge = RegistrationChallengeMessage {
            token: vec![token; 24].into(),
            answers,
            session: None,
        };
        self.message(master, &challenge);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.input(Input::Timeout);
        let next = self.agent.poll_timeout();
        assert!(
            next.is_none_or(|next| next > self.now),
            "a deadline that was met stays"
        );
    }

    fn happens(&mut self, step: &Step<'_>) {
        let Step {
            kind,
            argument,
            bytes,
        } = *step;
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match kind % 10 {
            0 => {
                let [which, body @ ..] = bytes else { return };
                let name = NAMES
                    .get(usize::from(which & !IN_SESSION))
                    .map_or("unheard.of", |name| *name);
                let from = pid(MASTER_ID, if argument < 224 { 1 } else { 9 });
                self.send(from, name, body.to_vec(), which & IN_SESSION != 0);
            }
            1 => {
                let Asked {
                    method,
                    path,
                    query,
                    accept,
                    body,
                } = steps::asked(step);
                self.requests += 1;
                let (id, method) = (RequestId(self.requests), method.to_owned());
                let query = query.into_iter().collect();
                self.input(Input::Request(Request {
                    id,
                    method,
                    path,
                    query,
                    accept,
                    headers: Default::default(),
                    body: body.into(),
                }));
            }
            2 => self.input(Input::Leader((argument < 224).then(|| pid("master", 1)))),
            3 => self.host_done(if argument < 128 {
                BTreeMap::new()
            } else {
                [(text(), text())].into()
            }),
            4 => self.engine_done((argument >= 128).then(text)),
            5 => self.input(Input::Exited(pid(
                MASTER_ID,
                if argument < 224 { 1 } else { 9 },
            ))),
            6 => self.wait(Duration::from_millis(u64::from(argument) * 100)),
            7 => self.input(Input::Usage([(text(), Default::default())].into())),
            8 => {
                // Inputs that an agent does not expect: answers of a log, and reports of other orders.
                self.input(Input::Fetched(Ok(bytes.to_vec().into())));
                self.input(Input::Stored {
                    number: argument.into(),
                    outcome: StoreOutcome::Superseded,
                });
                let generation = argument.into();
                self.input(Input::HostDone(HostReport {
                    generation,
                    host: vec![Problem::new(ProblemKind::Operation, text(), text())],
                    ..Default::default()
                }));
            }
            _ => self.challenge(argument),
        }
    }

    /// Reports that the host is configured, or failed for some overlays.
    fn host_done(&mut self, overlays: BTreeMap<String, String>) {
        let Some(generation) = self.host.take() else {
            return;
        };
        self.input(Input::HostDone(HostReport {
            generation,
            overlays,
            ..HostReport::default()
        }));
    }

    fn engine_done(&mut self, engine: Option<String>) {
        let Some(generation) = self.engine.take() else {
            return;
        };
        self.input(Input::EngineDone(EngineReport {
            generation,
            engine,
            ..EngineReport::default()
        }));
    }

    /// Asserts that the agent registers: a new leader sends an overlay, host and engine succeed, and
    /// the agent reports it.
    fn registers(&mut self) {
        self.input(Input::Leader(Some(pid("master", 7))));
        self.wait(Duration::from_secs(1));
        self.challenge(7);
        for _ in 0..20 {
            // The agent repeats its registration.
            self.message(pid(MASTER_ID, 7), &overlays());
            // Orders of before, and those that follow.
            self.host_done(BTreeMap::new());
            self.host_done(BTreeMap::new());
            self.engine_done(None);
            self.engine_done(None);
            self.message(
                pid(MASTER_ID, 7),
                &AgentRegisteredAcknowledgement::default(),
            );
            self.wait(Duration::from_secs(61));
        }
        let reported = self.reported.take().expect("it does not report");
        let states: Vec<_> = reported
            .overlays
            .iter()
            .map(|overlay| overlay.state.clone())
            .collect();
        let statuses: Vec<_> = states
            .iter()
            .flatten()
            .map(|state| state.status())
            .collect();
        assert_eq!(statuses, [Status::Ok], "{reported:?}");
    }
}

/// Asserts that a desired state contains no objects of others on the host.
fn is_ours(desired: &Desired) {
    if let Some(vtep) = &desired.vtep {
        assert_eq!(vtep.name, format!("vtep{}", vtep.vni));
        assert!(vtep.mac.0[0] & 1 == 0, "{vtep:?}");
    }
    for (name, overlay) in &desired.overlays {
        assert!(is_overlay_name(name), "{name:?}");
        for (bridge, prefix) in [
            (&overlay.mesos_bridge, "m-"),
            (&overlay.docker_bridge, "d-"),
        ] {
            assert!(
                bridge
                    .iter()
                    .all(|bridge| bridge.name == format!("{prefix}{name}")),
                "{bridge:?}"
            );
        }
    }
    for (ip, peer) in desired.peers.iter().flat_map(|peers| peers.iter()) {
        let is_prefix = |net: &ipnet::IpNet| net.prefix_len() > 0 && net.trunc() == *net;
        assert!(peer.subnets.iter().all(is_prefix), "{ip}: {peer:?}");
        assert!(
            peer.vtep_mac.0[0] & 1 == 0 && !peer.vtep_ips.is_empty(),
            "{ip}: {peer:?}"
        );
    }
}

/// Returns a master's list with one overlay.
pub(crate) fn overlays() -> UpdateAgentOverlaysMessage {
    let bridge = |name: &str, ip: &str| {
        Some(BridgeInfo {
            name: name.into(),
            ip: Some(ip.into()),
            ip6: None,
        })
    };
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_ip: "44.128.0.2/20".into(),
        vtep_mac: "70:b3:d5:80:00:02".into(),
        vtep_ip6: Some("fd01:a::2/64".into()),
        vtep_mtu: None,
    };
    let info = OverlayInfo {
        name: "dcos".into(),
        subnet: Some("9.0.0.0/8".into()),
        prefix: Some(24),
        subnet6: Some("fd01:b::/64".into()),
        prefix6: Some(80),
        enabled: None,
    };
    let overlay = AgentOverlayInfo {
        info,
        subnet: Some("9.0.2.0/24".into()),
        subnet6: Some("fd01:b:0:0:2::/80".into()),
        mesos_bridge: bridge("m-dcos", "9.0.2.0/25"),
        docker_bridge: bridge("d-dcos", "9.0.2.128/25"),
        backend: BackendInfo { vxlan: Some(vxlan) },
        state: None,
        ..Default::default()
    };
    UpdateAgentOverlaysMessage {
        overlays: vec![overlay],
        ..UpdateAgentOverlaysMessage::default()
    }
}
