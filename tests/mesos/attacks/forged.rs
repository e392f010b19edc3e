//! Messages that blind senders make up.

use overlay_core::proto::agent_overlay_info::State;
use overlay_core::proto::agent_overlay_info::state::Status;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage, Peer, PeerSubnet,
    PeersReceivedMessage, PeersVersion, RegisterAgentMessage, RegistrationChallengeMessage,
    RegistrationRefusedMessage, Session, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::messages::Named;
use overlay_core::{AGENT_ID, MASTER_ID};
use testkit::blind::encode;

/// Field number of the session in every message.
const SESSION: u32 = 150;

/// Returns the entry of an overlay `dcos`.
fn overlay(range: &str, subnet: &str, vtep: &str) -> AgentOverlayInfo {
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_ip: vtep.into(),
        vtep_mac: "70:b3:d5:80:00:99".into(),
        ..Default::default()
    };
    AgentOverlayInfo {
        info: OverlayInfo {
            name: "dcos".into(),
            subnet: Some(range.into()),
            prefix: Some(24),
            enabled: Some(true),
            ..Default::default()
        },
        subnet: Some(subnet.into()),
        mesos_bridge: Some(BridgeInfo {
            name: "m-dcos".into(),
            ip: Some(subnet.into()),
            ip6: None,
        }),
        backend: BackendInfo { vxlan: Some(vxlan) },
        ..Default::default()
    }
}

fn overlays(overlays: Vec<AgentOverlayInfo>) -> UpdateAgentOverlaysMessage {
    UpdateAgentOverlaysMessage {
        overlays,
        revision: Some(1 << 40),
        ..Default::default()
    }
}

/// Returns a complete list of peers: one at `ip`, with these subnets.
fn peers(number: u64, ip: &str, subnets: &[&str]) -> UpdatePeersMessage {
    let subnet = |subnet: &&str| PeerSubnet {
        overlay: "dcos".into(),
        subnet: Some((*subnet).into()),
        subnet6: None,
    };
    let peer = Peer {
        ip: ip.into(),
        vni: 1024,
        vtep_ip: "44.128.0.99".into(),
        vtep_ip6: None,
        vtep_mac: "70:b3:d5:80:00:63".into(),
        subnets: subnets.iter().map(subnet).collect(),
    };
    UpdatePeersMessage {
        // Every message begins an epoch of its own, so none is an old one.
        version: version(1 + number),
        peers: vec![peer],
        ..Default::default()
    }
}

fn version(epoch: u64) -> PeersVersion {
    PeersVersion {
        epoch: Some(epoch),
        version: Some(1 << 40),
        digest: None,
    }
}

/// Returns message number `number` as it is on the wire. Every other one has a guessed secret.
fn forge<M: Named>(from: &str, to: &str, number: u64, message: &M) -> Vec<u8> {
    let mut body = message.encode_to_vec();
    if number % 2 == 1 {
        let length = if to == AGENT_ID { 16 } else { 24 };
        let session = Session {
            secret: Some(vec![7; length].into()),
            sequence: Some(number),
            mac: None,
        };
        prost::encoding::message::encode(SESSION, &session, &mut body);
    }
    encode(from, to, M::NAME, &body)
}

/// Returns message number `number` to an agent. Most contain what would cut it off: addresses of
/// the master, the underlay, or routes to everything. Some contain nothing unusual.
pub fn to_agent(from: &str, master: &str, number: u64) -> Vec<u8> {
    match number % 11 {
        0 => {
            let list = vec![overlay("9.0.0.0/8", "9.9.9.0/24", "44.128.0.99/20")];
            forge(from, AGENT_ID, number, &overlays(list))
        }
        1 => forge(from, AGENT_ID, number, &overlays(Vec::new())),
        2 => {
            let peers = peers(number, "10.77.9.9", &["9.9.9.0/24"]);
            forge(from, AGENT_ID, number, &peers)
        }
        3 => forge(
            from,
            AGENT_ID,
            number,
            &AgentRegisteredAcknowledgement::default(),
        ),
        4 => {
            let refused = RegistrationRefusedMessage {
                reason: "because".into(),
                ..Default::default()
            };
            forge(from, AGENT_ID, number, &refused)
        }
        5 => {
            let challenge = RegistrationChallengeMessage {
                token: vec![7; 24].into(),
                answers: number,
                ..Default::default()
            };
            forge(from, AGENT_ID, number, &challenge)
        }
        _ => absurd_to_agent(from, master, number),
    }
}

/// Returns message number `number` to an agent, with values that no master would send.
pub fn absurd_to_agent(from: &str, master: &str, number: u64) -> Vec<u8> {
    let of_master = format!("{master}/1");
    let list = |overlay| forge(from, AGENT_ID, number, &overlays(vec![overlay]));
    let peers =
        |ip: &str, subnets: &[&str]| forge(from, AGENT_ID, number, &peers(number, ip, subnets));
    match number % 5 {
        0 => list(overlay("9.0.0.0/8", "9.0.0.0/24", &of_master)),
        1 => list(overlay("0.0.0.0/1", "10.77.0.0/16", "44.128.0.99/1")),
        2 => peers("10.77.9.9", &["0.0.0.0/1", "128.0.0.0/1"]),
        3 => peers("10.77.9.9", &[&format!("{master}/32"), "10.77.0.0/16"]),
        _ => peers(master, &["0.0.0.0/1"]),
    }
}

/// Returns a registration of an agent that wants subnets: every other one as this release sends it,
/// with a nonce, and the others as earlier ones do.
pub fn registration(number: u64) -> RegisterAgentMessage {
    let nonce = number.is_multiple_of(2).then(|| vec![7; 16].into());
    RegisterAgentMessage {
        network_config: AgentNetworkConfig {
            docker_bridge: Some(false),
            ..Default::default()
        },
        peers: Some(PeersVersion::default()),
        unpacks_peers: Some(true),
        nonce,
        ..Default::default()
    }
}

/// Returns a registration of an agent that gives up its subnets.
pub fn without_subnets(number: u64) -> RegisterAgentMessage {
    let mut message = registration(number);
    message.network_config.allocate_subnet = Some(false);
    message.network_config.mesos_bridge = Some(false);
    message
}

/// Returns a report of an agent that has let go of everything up to a revision.
pub fn report(revision: u64) -> AgentRegisteredMessage {
    let mut dcos = overlay("9.0.0.0/8", "9.0.0.0/24", "44.128.0.1/20");
    dcos.state = Some(State {
        status: Some(Status::Failed.into()),
        error: Some("nothing works".into()),
    });
    AgentRegisteredMessage {
        overlays: vec![dcos],
        revision: Some(revision),
        ..Default::default()
    }
}

/// Returns message number `number` of a victim to the master. Every revision up to 40 is guessed.
pub fn of_victim(victim: &str, other_port: &str, number: u64) -> Vec<u8> {
    let round = number / 7;
    let from_victim = |report| forge(victim, MASTER_ID, number, &report);
    match number % 7 {
        0 => forge(victim, MASTER_ID, number, &without_subnets(round)),
        1 => forge(victim, MASTER_ID, number, &registration(round)),
        2 => forge(other_port, MASTER_ID, number, &registration(round)),
        3 => from_victim(report(round % 40)),
        4 => from_victim(report(u64::MAX)),
        5 => {
            let received = PeersReceivedMessage {
                version: version(number),
                ..Default::default()
            };
            forge(victim, MASTER_ID, number, &received)
        }
        _ => forge(other_port, MASTER_ID, number, &report(round % 40)),
    }
}
