//! Forged messages of agents.

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::Upid;
use overlay_core::proto::agent_overlay_info::State;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeerSubnet, PeersReceivedMessage, PeersVersion,
    RegisterAgentMessage,
};
use overlay_core::protocol::messages::Named;
use prost::Message;

use super::{Public, session_fields};

/// Returns a random message in the name of the agent `from`.
pub fn message(random: &mut Rng, public: &Public<'_>, from: &Upid) -> (&'static str, Vec<u8>) {
    match random.u8(0..10) {
        0..5 => {
            let nonce = nonce(random);
            let message = registration(random, nonce);
            (RegisterAgentMessage::NAME, message.encode_to_vec())
        }
        5..8 => {
            let message = report(random, public, from);
            (AgentRegisteredMessage::NAME, message.encode_to_vec())
        }
        _ => {
            let version = version(random);
            let message = PeersReceivedMessage {
                version,
                ..Default::default()
            };
            (PeersReceivedMessage::NAME, message.encode_to_vec())
        }
    }
}

fn nonce(random: &mut Rng) -> Option<Bytes> {
    let length = match random.u8(0..6) {
        0 => random.usize(0..64),
        _ => 16,
    };
    (random.u8(0..3) > 0).then(|| session_fields::guess(random, length))
}

/// Returns a registration with this nonce.
pub fn registration(random: &mut Rng, nonce: Option<Bytes>) -> RegisterAgentMessage {
    let claims = &mut random.clone();
    RegisterAgentMessage {
        network_config: AgentNetworkConfig {
            allocate_subnet: Some(random.bool()),
            mesos_bridge: Some(random.bool()),
            docker_bridge: Some(random.bool()),
            enable_ipv6: Some(random.bool()),
            ..Default::default()
        },
        peers: (random.u8(0..3) > 0).then(|| version(random)),
        unpacks_peers: Some(random.bool()),
        nonce,
        vtep_ip: claims
            .bool()
            .then(|| format!("44.128.0.{}", claims.u8(0..20))),
        holds: (0..claims.usize(0..2)).map(|_| claim(claims)).collect(),
        ..Default::default()
    }
}

/// Returns a subnet that an agent may have.
fn claim(random: &mut Rng) -> PeerSubnet {
    let overlay = ["dcos", "web", "both", "few"][random.usize(0..4)];
    let net = [0, 64, 128, 224][random.usize(0..4)];
    PeerSubnet {
        overlay: overlay.to_owned(),
        subnet: Some(format!("9.{net}.{}.0/24", random.u8(0..20))),
        subnet6: None,
    }
}

fn report(random: &mut Rng, public: &Public<'_>, from: &Upid) -> AgentRegisteredMessage {
    let ip = from.address.ip().to_string();
    let agents = &public.log.agents;
    let agent = match random.u8(0..5) {
        0 => agents.values().nth(random.usize(0..agents.len().max(1))),
        1 => None,
        _ => agents.get(&ip),
    };
    let mut overlays = agent
        .map(|agent| agent.overlays.clone())
        .unwrap_or_default();
    overlays.retain(|_| random.u8(0..4) > 0);
    for overlay in &mut overlays {
        overlay.state = Some(State {
            status: Some(random.i32(0..5)),
            error: random.bool().then(|| "forged".to_owned()),
        });
        overlay.echo = echo(random);
    }
    let names = overlays.iter().map(|overlay| overlay.info.name.clone());
    let draining = names.filter(|_| random.u8(0..4) == 0).collect();
    AgentRegisteredMessage {
        overlays,
        host_errors: match random.u8(0..6) {
            0 => vec!["forged".to_owned(); 3],
            _ => Vec::new(),
        },
        draining,
        revision: revision(random, public),
        ..Default::default()
    }
}

fn echo(random: &mut Rng) -> Option<Bytes> {
    let length = [8, 16, 16, 24, 32][random.usize(0..5)];
    random.bool().then(|| session_fields::guess(random, length))
}

/// Returns a guessed revision of the networks. The present one is public.
pub fn revision(random: &mut Rng, public: &Public<'_>) -> Option<u64> {
    let networks = public.log.state.networks.as_ref();
    let present = networks.map_or(0, |networks| networks.revision());
    match random.u8(0..8) {
        0 => None,
        1 => Some(0),
        2 => Some(present + 1),
        3 => Some(u64::MAX),
        _ => Some(present),
    }
}

/// Returns a guessed position in the history of peers.
pub fn version(random: &mut Rng) -> PeersVersion {
    PeersVersion {
        epoch: Some(match random.u8(0..4) {
            0 => 0,
            1 => 1,
            _ => random.u64(..),
        }),
        version: Some(match random.u8(0..4) {
            0 => u64::MAX,
            _ => random.u64(0..20),
        }),
        digest: random.bool().then(|| random.u64(..)),
    }
}
