//! Forged messages of masters.

use fastrand::Rng;
use overlay_core::proto::AgentOverlayInfo;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, Peer, PeerSubnet, PeersVersion, RegistrationChallengeMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use prost::Message;

use super::to_master::{revision, version};
use super::{Public, session_fields};
use crate::cluster::Process;

/// Returns a random message of a master to `receiver`.
pub fn message(
    random: &mut Rng,
    public: &Public<'_>,
    receiver: &Process,
) -> (&'static str, Vec<u8>) {
    match random.u8(0..12) {
        0..4 => {
            let message = overlays(random, public, receiver);
            (UpdateAgentOverlaysMessage::NAME, message.encode_to_vec())
        }
        4..8 => {
            let message = peers(random, public);
            (UpdatePeersMessage::NAME, message.encode_to_vec())
        }
        8 => {
            let message = RegistrationRefusedMessage {
                reason: "forged".to_owned(),
                ..Default::default()
            };
            (RegistrationRefusedMessage::NAME, message.encode_to_vec())
        }
        9 => (AgentRegisteredAcknowledgement::NAME, Vec::new()),
        _ => {
            let message = challenge(random);
            (RegistrationChallengeMessage::NAME, message.encode_to_vec())
        }
    }
}

fn challenge(random: &mut Rng) -> RegistrationChallengeMessage {
    let length = if random.u8(0..6) > 0 {
        24
    } else {
        random.usize(0..64)
    };
    RegistrationChallengeMessage {
        token: session_fields::guess(random, length),
        answers: session_fields::number(random),
        ..Default::default()
    }
}

fn overlays(
    random: &mut Rng,
    public: &Public<'_>,
    receiver: &Process,
) -> UpdateAgentOverlaysMessage {
    let agents = &public.log.agents;
    let victim = match random.u8(0..4) {
        0 => agents.get(&receiver.ip()),
        _ => agents.values().nth(random.usize(0..agents.len().max(1))),
    };
    let mut overlays = victim
        .map(|agent| agent.overlays.clone())
        .unwrap_or_default();
    match random.u8(0..5) {
        0 => overlays.clear(),
        1 => overlays.truncate(1),
        2 => overlays
            .iter_mut()
            .for_each(|overlay| poison(random, overlay)),
        _ => {}
    }
    UpdateAgentOverlaysMessage {
        overlays,
        revision: revision(random, public),
        notices: match random.u8(0..4) {
            0 => vec!["forged".to_owned()],
            _ => Vec::new(),
        },
        ..Default::default()
    }
}

/// Changes the subnets and addresses of an overlay.
fn poison(random: &mut Rng, overlay: &mut AgentOverlayInfo) {
    overlay.subnet = overlay.subnet.take().map(|_| subnet(random));
    if let Some(vxlan) = &mut overlay.backend.vxlan {
        let poisoned = ["10.0.1.1/1", "44.128.0.77/20", "10.0.2.1/32", "x"];
        vxlan.vtep_ip = poisoned[random.usize(0..poisoned.len())].to_owned();
    }
}

fn subnet(random: &mut Rng) -> String {
    match random.u8(0..4) {
        0 => "0.0.0.0/1".to_owned(),
        1 => "10.0.1.1/32".to_owned(),
        _ => format!("9.{}.{}.0/24", random.u8(..), random.u8(..)),
    }
}

fn peers(random: &mut Rng, public: &Public<'_>) -> UpdatePeersMessage {
    let peers = public.log.peers.iter().map(|(ip, peer)| Peer {
        ip: ip.clone(),
        vni: 1024,
        vtep_ip: peer.vtep_ips[0].to_string(),
        vtep_mac: peer.vtep_mac.to_string(),
        subnets: vec![PeerSubnet {
            overlay: "dcos".to_owned(),
            subnet: Some(subnet(random)),
            subnet6: None,
        }],
        ..Default::default()
    });
    let mut peers: Vec<Peer> = peers.collect();
    if random.u8(0..3) == 0 {
        peers.clear();
    }
    let to = version(random);
    let is_delta = random.bool();
    let removed = public.log.peers.keys().take(usize::from(is_delta)).cloned();
    UpdatePeersMessage {
        version: PeersVersion {
            version: Some(to.version() | 1 << 20),
            ..to
        },
        base: is_delta.then(|| random.u64(0..20)),
        since: random.bool().then(|| version(random)),
        removed: removed.collect(),
        peers,
        packed: match random.u8(0..6) {
            0 => Some(session_fields::guess(random, 40)),
            _ => None,
        },
        ..Default::default()
    }
}
