//! The agent, told the same things as when it was recorded.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use overlay_core::agent::Agent;
use overlay_core::config::AgentConfig;
use overlay_core::host_api::usage::InUse;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, RegisterAgentMessage, RegistrationChallengeMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, OverlayInfo};
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::session::{Envelope, join, seal};
use overlay_core::{Effect, EngineReport, HostReport, Input, Io, Machine, Time, Upid};
use prost::Message;

use crate::fixture;
use crate::messages::{agent_overlay, overlay_info, packed, peer, version};

/// An agent whose host and engine do what they are asked for, but for one overlay.
struct Player {
    agent: Agent,
    now: Time,
    requests: u64,
    host: u64,
    engine: u64,
    /// Nonce in the latest registration.
    nonce: Bytes,
    /// Messages of the master.
    sent: u64,
    played: String,
}

impl Player {
    fn new() -> Player {
        let agent = Agent::new(
            AgentConfig::new("/cni"),
            "overlay-agent@10.0.0.2:5051".parse().unwrap(),
            1,
        );
        Player {
            agent,
            now: Time::default(),
            requests: 0,
            host: 0,
            engine: 0,
            nonce: Bytes::new(),
            sent: 0,
            played: String::new(),
        }
    }

    /// A message of the master arrives, sealed as one of the session.
    fn message<M: Named>(&mut self, message: &M) {
        let from = "overlay-master@10.0.0.250:5050".parse().unwrap();
        let me = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        self.sent += 1;
        let envelope = Envelope {
            sender: &from,
            receiver: &me,
            name: M::NAME,
            nonce: None,
            token: None,
        };
        let session = seal(&envelope, Some(&self.nonce), self.sent, None);
        let body = join(&message.encode_to_vec().into(), &session);
        self.input(
            M::NAME,
            &body,
            Input::Message {
                from,
                name: M::NAME.to_owned(),
                body: body.clone(),
            },
        );
    }

    fn timer(&mut self) {
        self.now = self
            .agent
            .poll_timeout()
            .expect("a timer is set")
            .max(self.now);
        let title = format!("at {}", self.now);
        self.input(&title, b"", Input::Timeout);
    }

    fn done(&mut self, error: Option<&str>) {
        let overlays = error
            .map(|error| ("dcos".to_owned(), error.to_owned()))
            .into_iter()
            .collect();
        let used = BTreeSet::from(["gone".to_owned()]);
        let report = HostReport {
            generation: self.host,
            overlays,
            draining_overlays: used,
            ..HostReport::default()
        };
        self.input("host done", b"", Input::HostDone(report));
        let report = EngineReport {
            generation: self.engine,
            ..EngineReport::default()
        };
        self.input("engine done", b"", Input::EngineDone(report));
    }

    fn look(&mut self) {
        for (accept, query) in [
            ("*/*", ""),
            ("application/x-protobuf", ""),
            ("*/*", "cb"),
            ("text/html", ""),
        ] {
            self.requests += 1;
            let query = [("jsonp", query)]
                .into_iter()
                .filter(|(_, value)| !value.is_empty());
            let request = Request {
                id: RequestId(self.requests),
                method: "GET".to_owned(),
                path: "/overlay-agent/overlay".to_owned(),
                query: query
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
                accept: Some(accept.to_owned()),
                headers: Default::default(),
                body: Bytes::new(),
            };
            self.input(&format!("GET {accept}"), b"", Input::Request(request));
        }
    }

    fn input(&mut self, title: &str, body: &[u8], input: Input) {
        self.played += &fixture::input(title, body);
        self.agent.handle(self.now, input);
        while let Some(effect) = self.agent.poll_effect() {
            self.played += &fixture::effect(&effect);
            match effect {
                Effect::ApplyHost { generation, .. } => self.host = generation,
                Effect::ApplyEngine { generation, .. } => self.engine = generation,
                Effect::Io(Io::Send { name, body, .. }) if name == RegisterAgentMessage::NAME => {
                    let registration = RegisterAgentMessage::decode(body).unwrap();
                    self.nonce = registration.nonce.unwrap();
                }
                _ => {}
            }
        }
    }
}

/// An overlay of IPv6 alone beside that of both families.
fn overlays() -> Vec<AgentOverlayInfo> {
    let info = OverlayInfo {
        name: "dcos6".into(),
        subnet: None,
        prefix: None,
        ..overlay_info()
    };
    let mut v6 = AgentOverlayInfo {
        info: OverlayInfo {
            subnet6: Some("fd01:c::/64".into()),
            ..info
        },
        subnet: None,
        subnet6: Some("fd01:c:0:0:2::/80".into()),
        ..agent_overlay()
    };
    let bridges = [
        (&mut v6.mesos_bridge, "m-dcos6", "fd01:c:0:0:2::/81"),
        (&mut v6.docker_bridge, "d-dcos6", "fd01:c:0:0:2:8000::/81"),
    ];
    for (bridge, name, ip6) in bridges {
        let bridge = bridge.as_mut().unwrap();
        (bridge.name, bridge.ip, bridge.ip6) = (name.into(), None, Some(ip6.into()));
    }
    vec![agent_overlay(), v6]
}

#[test]
fn an_agent_says_what_was_recorded() {
    let mut player = Player::new();
    let leader = Upid::new("master", "10.0.0.250:5050".parse().unwrap());
    player.input("leader", b"", Input::Leader(Some(leader)));
    player.timer();
    player.message(&RegistrationChallengeMessage {
        token: vec![7; 24].into(),
        answers: 2,
        ..Default::default()
    });
    player.message(&UpdateAgentOverlaysMessage {
        overlays: overlays(),
        problems: vec!["no room in web".into()],
        revision: Some(3),
        notices: vec!["given back".into()],
        ..Default::default()
    });
    player.done(Some("no \"bridge\""));
    player.look();
    player.timer();
    player.done(None);
    player.message(&AgentRegisteredAcknowledgement {
        ..Default::default()
    });
    let list = UpdatePeersMessage {
        version: version(7, 1),
        peers: vec![peer(3), peer(4)],
        packed: Some(packed(&[peer(5)])),
        ..UpdatePeersMessage::default()
    };
    player.message(&list);
    let change = UpdatePeersMessage {
        version: version(7, 3),
        base: Some(1),
        peers: vec![peer(6)],
        removed: vec!["10.0.0.3".into()],
        ..UpdatePeersMessage::default()
    };
    player.message(&change);
    player.message(&UpdatePeersMessage {
        version: version(7, 9),
        base: Some(8),
        ..UpdatePeersMessage::default()
    });
    player.done(None);
    let usage = BTreeMap::from([(
        "dcos".to_owned(),
        InUse {
            v4: 3,
            v6: 2,
            leaked: 0,
        },
    )]);
    player.input("usage", b"", Input::Usage(usage));
    player.look();
    fixture::check("replay/agent.txt", &player.played);
}
