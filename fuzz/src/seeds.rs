//! Seeds of the corpus: realistic sequences of the project's own messages, so that a search need not
//! discover the format of a registration.

use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, Peer, PeerSubnet, PeersReceivedMessage,
    PeersVersion, RegisterAgentMessage, RegistrationRefusedMessage, UpdateAgentOverlaysMessage,
    UpdatePeersMessage,
};
use overlay_core::proto::{AgentInfo, State, agent_overlay_info};
use overlay_core::protocol::messages::{NAMES, Named};
use overlay_core::protocol::peer_list_codec::{PEERS, pack};
use prost::Message;

use crate::session::IN_SESSION;
use crate::{agent, steps};

type Steps = Vec<(u8, u8, Vec<u8>)>;

/// Returns the generated seeds by target and name.
pub fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        (
            "master",
            "agents_register",
            steps::write(&agents_register()),
        ),
        ("master", "endpoints", steps::write(&endpoints())),
        ("master", "log_is_lost", steps::write(&log_is_lost())),
        ("master", "in_session", steps::write(&master_in_session())),
        ("agent", "in_session", steps::write(&agent_in_session())),
        ("agent", "registers", steps::write(&registers())),
        ("agent", "peers", steps::write(&peers())),
        ("agent", "refused", steps::write(&refused())),
        ("state", "two_agents", state(&["10.0.0.1", "10.0.0.2"])),
        ("state", "empty", Vec::new()),
        ("abi", "master", steps::write(&abi())),
        ("wire", "overlays", wire(1, &agent::overlays())),
        ("wire", "report", wire(2, &report())),
        (
            "wire",
            "state",
            [&[8][..], &state(&["10.0.0.1", "10.0.0.2"])].concat(),
        ),
        ("wire", "peers", wire(9, &list())),
        ("wire", "packed", wire(10, &list())),
    ]
}

/// Encodes a message as the bytes of a step.
fn message<M: Named>(message: &M) -> Vec<u8> {
    let which = NAMES
        .iter()
        .position(|name| *name == M::NAME)
        .unwrap_or_default();
    let mut bytes = vec![which as u8];
    bytes.extend(message.encode_to_vec());
    bytes
}

/// Encodes a message as an input of the target `wire`.
fn wire<M: Message>(which: u8, message: &M) -> Vec<u8> {
    [&[which][..], &message.encode_to_vec()].concat()
}

/// Encodes a message that is part of a session.
fn in_session<M: Named>(sent: &M) -> Vec<u8> {
    let mut bytes = message(sent);
    bytes[0] |= IN_SESSION;
    bytes
}

fn lead() -> Steps {
    vec![(2, 1, Vec::new()), (3, 0, Vec::new())]
}

fn version(epoch: u64, version: u64) -> PeersVersion {
    PeersVersion {
        epoch: Some(epoch),
        version: Some(version),
        digest: None,
    }
}

fn report() -> AgentRegisteredMessage {
    let mut report = AgentRegisteredMessage {
        overlays: agent::overlays().overlays,
        ..Default::default()
    };
    for overlay in &mut report.overlays {
        overlay.state = Some(agent_overlay_info::State {
            status: Some(1),
            error: None,
        });
    }
    report
}

fn agents_register() -> Steps {
    let mut steps = lead();
    let register = RegisterAgentMessage {
        peers: Some(version(0, 0)),
        vtep_ip: Some("44.128.0.3".into()),
        holds: vec![PeerSubnet {
            overlay: "dcos".into(),
            subnet: Some("9.0.3.0/24".into()),
            subnet6: None,
        }],
        ..RegisterAgentMessage::default()
    };
    steps.extend([
        (7, 1, Vec::new()),
        (4, 0, Vec::new()),
        (0, 2, message(&register)),
        (4, 0, Vec::new()),
        (0, 1, message(&report())),
        (6, 10, Vec::new()),
        (
            0,
            1,
            message(&PeersReceivedMessage {
                version: version(1, 1),
                ..Default::default()
            }),
        ),
        (5, 2, Vec::new()),
    ]);
    steps
}

/// Two agents, one of which has a session, in which others interfere.
fn master_in_session() -> Steps {
    let mut steps = lead();
    let received = PeersReceivedMessage {
        version: version(1, 1),
        ..Default::default()
    };
    steps.extend([
        (7, 1, Vec::new()),
        (4, 0, Vec::new()),
        (7, 2, vec![1 << 6]),
        (4, 0, Vec::new()),
        (0, 1, message(&report())),
        (0, 1, in_session(&report())),
        (0, 1, message(&received)),
        (0, 1, in_session(&received)),
        (7, 1, vec![1 << 6]),
        (7, 1, Vec::new()),
        (5, 1, Vec::new()),
        (7, 1, Vec::new()),
    ]);
    steps
}

fn endpoints() -> Steps {
    let mut steps = agents_register();
    let request = |method: u8, path: &str, query: &str, body: &str| {
        (
            1,
            method,
            format!("{path}\0{query}\0application/json\0{body}").into_bytes(),
        )
    };
    steps.extend([
        request(0, "/overlay-master/state", "jsonp=cb", ""),
        request(0, "/overlay-master/overlays", "", ""),
        request(0, "/overlay-master/health", "standby=ok", ""),
        request(0, "/overlay-master/metrics", "", ""),
        request(2, "/overlay-master/agents/delete", "", r#"{"agents":["10.0.0.2"],"force":true}"#),
        (4, 0, Vec::new()),
        request(2, "/overlay-master/agents/reclaim", "", "{}"),
        request(
            2,
            "/overlay-master/overlays",
            "",
            r#"{"name":"new","subnet":"12.0.0.0/24","prefix":28,"subnet6":"fd01:c::/64","prefix6":67}"#,
        ),
        (4, 0, Vec::new()),
        request(3, "/overlay-master/overlays/dcos", "", r#"{"subnet":"9.0.0.0/23","prefix":27}"#),
        (4, 0, Vec::new()),
        request(4, "/overlay-master/overlays/web", "", r#"{"force":true}"#),
        (4, 0, Vec::new()),
    ]);
    steps
}

fn log_is_lost() -> Steps {
    let mut steps = agents_register();
    steps.extend([
        (7, 3, Vec::new()),
        (4, 2, Vec::new()),
        (3, 130, Vec::new()),
        (6, 50, Vec::new()),
        (3, 200, state(&["10.0.0.1"])),
        (7, 4, vec![1]),
        (4, 3, Vec::new()),
        (2, 0, Vec::new()),
    ]);
    steps
}

fn registers() -> Steps {
    vec![
        (0, 0, message(&agent::overlays())),
        (3, 0, Vec::new()),
        (4, 0, Vec::new()),
        (0, 0, message(&AgentRegisteredAcknowledgement::default())),
        (1, 0, b"/overlay-agent/overlay\0jsonp=cb\0*/*\0".to_vec()),
        (7, 0, b"dcos".to_vec()),
        (5, 0, Vec::new()),
        (6, 20, Vec::new()),
    ]
}

/// A master that confirms, and others in its name.
fn agent_in_session() -> Steps {
    let acknowledgement = AgentRegisteredAcknowledgement::default();
    vec![
        (6, 1, Vec::new()),
        (0, 0, message(&agent::overlays())),
        (9, 1, Vec::new()),
        (0, 0, in_session(&agent::overlays())),
        (0, 0, message(&UpdateAgentOverlaysMessage::default())),
        (3, 0, Vec::new()),
        (4, 0, Vec::new()),
        (0, 0, message(&acknowledgement)),
        (0, 0, in_session(&acknowledgement)),
        (6, 255, Vec::new()),
        (2, 255, Vec::new()),
        (2, 0, Vec::new()),
        (6, 1, Vec::new()),
        (0, 0, message(&agent::overlays())),
        (6, 20, Vec::new()),
    ]
}

fn peer(n: u8) -> Peer {
    Peer {
        ip: format!("10.0.0.{n}"),
        vni: 1024,
        vtep_ip: format!("44.128.0.{n}"),
        vtep_ip6: Some(format!("fd01:a::{n}")),
        vtep_mac: format!("70:b3:d5:80:00:0{n}"),
        subnets: vec![PeerSubnet {
            overlay: "dcos".into(),
            subnet: Some(format!("9.0.{n}.0/24")),
            subnet6: Some(format!("fd01:b:0:0:{n}::/80")),
        }],
    }
}

/// Returns a list of two peers.
fn list() -> UpdatePeersMessage {
    UpdatePeersMessage {
        version: version(1, 3),
        peers: vec![peer(3), peer(4)],
        ..Default::default()
    }
}

fn peers() -> Steps {
    let list = list();
    let delta = UpdatePeersMessage {
        since: None,
        packed: None,
        version: version(1, 4),
        base: Some(3),
        peers: vec![peer(5)],
        removed: vec!["10.0.0.3".into()],
        ..Default::default()
    };
    let mut one = Vec::new();
    prost::encoding::message::encode(PEERS, &peer(6), &mut one);
    let rest = UpdatePeersMessage {
        version: version(1, 5),
        base: Some(4),
        packed: Some(pack([one.as_slice()].into_iter())),
        ..Default::default()
    };
    let mut steps = registers();
    steps.extend([
        (0, 0, message(&list)),
        (3, 0, Vec::new()),
        (0, 0, message(&delta)),
        (0, 0, message(&rest)),
        (3, 200, b"dcos".to_vec()),
    ]);
    steps
}

fn refused() -> Steps {
    let refusal = RegistrationRefusedMessage {
        reason: "no such network".into(),
        ..Default::default()
    };
    vec![
        (0, 0, message(&refusal)),
        (6, 30, Vec::new()),
        (2, 255, Vec::new()),
        (8, 1, b"x".to_vec()),
    ]
}

/// Returns a value of the log with these agents.
fn state(ips: &[&str]) -> Vec<u8> {
    let agents = ips.iter().zip(1..).map(|(ip, n): (&&str, u8)| {
        let mut overlays = agent::overlays().overlays;
        for overlay in &mut overlays {
            overlay.subnet = Some(format!("9.0.0.{}/28", 16 * n));
            overlay.subnet6 = Some(format!("fd01:b:0:0:{:x}000::/67", 2 * n));
            overlay.info.subnet = Some("9.0.0.0/24".into());
            overlay.info.prefix = Some(28);
            overlay.info.prefix6 = Some(67);
            (overlay.mesos_bridge, overlay.docker_bridge) = (None, None);
            if let Some(vxlan) = &mut overlay.backend.vxlan {
                vxlan.vtep_ip = format!("44.128.0.{n}/28");
                vxlan.vtep_ip6 = Some(format!("fd01:a::{n}/125"));
                vxlan.vtep_mac = format!("70:b3:d5:80:00:0{n}");
            }
        }
        AgentInfo {
            ip: (*ip).to_owned(),
            overlays,
            configuration_attempts: None,
            ..Default::default()
        }
    });
    State {
        agents: agents.collect(),
        ..State::default()
    }
    .encode_to_vec()
}

fn abi() -> Steps {
    let named = |message: &[u8], name: &str| {
        [
            b"overlay-agent@10.0.0.1:5051\0",
            name.as_bytes(),
            b"\0",
            message,
        ]
        .concat()
    };
    let register = RegisterAgentMessage::default().encode_to_vec();
    vec![
        (3, 0, Vec::new()),
        (0, 0, named(&register, RegisterAgentMessage::NAME)),
        (4, 0, Vec::new()),
        (1, 0, b"/overlay-master/state\0cb\0".to_vec()),
        (5, 0, b"overlay-agent@10.0.0.1:5051".to_vec()),
        (6, 100, Vec::new()),
        (7, 0, Vec::new()),
        (2, 0, b"{\"address\":{}}".to_vec()),
    ]
}
