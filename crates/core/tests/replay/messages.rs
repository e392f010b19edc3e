//! Encoded messages, one of each kind, with every field set.

use std::fmt::Debug;

use bytes::Bytes;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage, Peer, PeerSubnet,
    PeersReceivedMessage, PeersVersion, RegisterAgentMessage, RegistrationChallengeMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::mesos::MasterInfo;
use overlay_core::proto::{
    AgentInfo, AgentOverlayInfo, BackendInfo, BridgeInfo, NetworkConfig, OverlayInfo, State,
    StoredNetworks, StoredOverlay, VxLanInfo, agent_overlay_info,
};
use overlay_core::protocol::messages::{NAMES, Named};
use overlay_core::protocol::peer_list_codec::{PEERS, pack, unpack};
use prost::Message;

use crate::fixture;

/// Checks that `message` is what the fixture says, and is written as it.
fn check<M: Message + Default + PartialEq + Debug>(name: &str, message: &M) {
    let file = format!("messages/{name}.hex");
    fixture::check_bytes(&file, &message.encode_to_vec());
    let recorded = fixture::bytes(&file);
    let read = M::decode(recorded.clone()).unwrap();
    assert_eq!(read, *message, "{name}: left is what is read");
    assert_eq!(
        read.encode_to_vec(),
        recorded,
        "{name}: read and written again"
    );
}

/// [`check`] of a message that processes exchange; returns its full name.
fn exchanged<M: Named + PartialEq + Debug>(message: &M) -> &'static str {
    check(M::NAME.rsplit('.').next().unwrap(), message);
    M::NAME
}

/// A version of the list of peers.
pub fn version(epoch: u64, version: u64) -> PeersVersion {
    PeersVersion {
        epoch: Some(epoch),
        version: Some(version),
        digest: Some(0x0123_4567_89ab_cdef),
    }
}

/// The peer at 10.0.0.`n`.
pub fn peer(n: u8) -> Peer {
    Peer {
        ip: format!("10.0.0.{n}"),
        vni: 1024,
        vtep_ip: format!("44.128.0.{n}"),
        vtep_ip6: Some(format!("fd01:a::{n:x}")),
        vtep_mac: format!("70:b3:d5:80:00:{n:02x}"),
        subnets: vec![PeerSubnet {
            overlay: "dcos".into(),
            subnet: Some(format!("9.0.{n}.0/24")),
            subnet6: Some(format!("fd01:b:0:0:{n:x}::/80")),
        }],
    }
}

/// Peers, compressed.
pub fn packed(peers: &[Peer]) -> Bytes {
    let mut encoded = Vec::new();
    prost::encoding::message::encode_repeated(PEERS, peers, &mut encoded);
    pack(encoded.chunks(100))
}

/// An overlay with all that may be said of it.
pub fn overlay_info() -> OverlayInfo {
    OverlayInfo {
        name: "dcos".into(),
        subnet: Some("9.0.0.0/8".into()),
        prefix: Some(24),
        subnet6: Some("fd01:b::/64".into()),
        prefix6: Some(80),
        enabled: Some(true),
    }
}

/// The share of the agent at 10.0.0.2 in [`overlay_info`].
pub fn agent_overlay() -> AgentOverlayInfo {
    let bridge = |name: &str, ip: &str, ip6: &str| {
        Some(BridgeInfo {
            name: name.into(),
            ip: Some(ip.into()),
            ip6: Some(ip6.into()),
        })
    };
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_ip: "44.128.0.2/20".into(),
        vtep_mac: "70:b3:d5:80:00:02".into(),
        vtep_ip6: Some("fd01:a::2/64".into()),
        vtep_mtu: Some(1450),
    };
    AgentOverlayInfo {
        info: overlay_info(),
        subnet: Some("9.0.2.0/24".into()),
        mesos_bridge: bridge("m-dcos", "9.0.2.0/25", "fd01:b:0:0:2::/81"),
        docker_bridge: bridge("d-dcos", "9.0.2.128/25", "fd01:b:0:0:2:8000::/81"),
        backend: BackendInfo { vxlan: Some(vxlan) },
        state: None,
        subnet6: Some("fd01:b:0:0:2::/80".into()),
        ..Default::default()
    }
}

/// [`agent_overlay`] with what became of it.
pub fn reported(status: i32, error: Option<&str>) -> AgentOverlayInfo {
    let state = agent_overlay_info::State {
        status: Some(status),
        error: error.map(str::to_owned),
    };
    AgentOverlayInfo {
        state: Some(state),
        ..agent_overlay()
    }
}

#[test]
fn messages_are_read_and_written_as_ever() {
    let network_config = AgentNetworkConfig {
        allocate_subnet: Some(false),
        mesos_bridge: Some(false),
        docker_bridge: Some(false),
        overlay_mtu: Some(1400),
        command_timeout: Some(20_000),
        enable_ipv6: Some(false),
    };
    let update_peers = UpdatePeersMessage {
        version: version(7, 9),
        base: Some(8),
        peers: vec![peer(3), peer(200)],
        removed: vec!["10.0.0.4".into(), "10.0.0.5".into()],
        since: Some(version(6, 300)),
        packed: Some(packed(&[peer(6)])),
        ..Default::default()
    };
    let names = [
        exchanged(&RegisterAgentMessage {
            network_config,
            peers: Some(version(7, 8)),
            unpacks_peers: Some(true),
            ..Default::default()
        }),
        exchanged(&UpdateAgentOverlaysMessage {
            overlays: vec![agent_overlay()],
            problems: vec!["no room".into(), "in dcos".into()],
            revision: Some(300),
            notices: vec!["was given back".into()],
            ..Default::default()
        }),
        exchanged(&AgentRegisteredMessage {
            overlays: vec![
                reported(1, None),
                reported(2, Some("no bridge")),
                reported(3, None),
            ],
            host_errors: vec!["no device".into()],
            draining: vec!["web".into()],
            revision: Some(4),
            ..Default::default()
        }),
        exchanged(&AgentRegisteredAcknowledgement::default()),
        exchanged(&RegistrationChallengeMessage {
            token: vec![7; 24].into(),
            answers: 300,
            ..Default::default()
        }),
        exchanged(&RegistrationRefusedMessage {
            reason: "no such network".into(),
            ..Default::default()
        }),
        exchanged(&update_peers),
        exchanged(&PeersReceivedMessage {
            version: version(7, 9),
            ..Default::default()
        }),
    ];
    assert_eq!(names, NAMES, "one of each kind");
}

#[test]
fn values_of_the_log_are_read_and_written_as_ever() {
    let stored = |info, removed, in_file| StoredOverlay {
        info,
        removed,
        in_file,
    };
    let off = OverlayInfo {
        name: "off".into(),
        enabled: Some(false),
        ..OverlayInfo::default()
    };
    let network = NetworkConfig {
        vtep_subnet: "44.128.0.0/20".into(),
        vtep_mac_oui: "70:B3:D5:00:00:00".into(),
        overlays: vec![overlay_info(), off.clone()],
        vtep_subnet6: Some("fd01:a::/64".into()),
        vtep_mtu: Some(1450),
    };
    let info = |ip: &str| AgentInfo {
        ip: ip.into(),
        overlays: vec![agent_overlay(), agent_overlay()],
        configuration_attempts: Some(3),
        ..Default::default()
    };
    let networks = StoredNetworks {
        revision: Some(300),
        overlays: vec![
            stored(overlay_info(), None, Some(true)),
            stored(off, Some(299), Some(false)),
        ],
    };
    let state = State {
        network: Some(network),
        agents: vec![info("10.0.0.2"), info("10.0.0.3")],
        networks: Some(networks),
        former: vec![info("10.0.0.4")],
    };
    check("State", &state);
    check("State-empty", &State::default());
}

#[test]
fn leaders_are_read_as_mesos_writes_them() {
    let info = MasterInfo {
        id: "0d2e".into(),
        ip: 0x0100_000a,
        port: 5050,
        pid: Some("master@10.0.0.1:5050".into()),
        hostname: Some("m1.example".into()),
    };
    check("MasterInfo", &info);
}

#[test]
fn lists_of_peers_are_packed_as_ever() {
    let peers: Vec<Peer> = (0..=255).map(peer).collect();
    fixture::check_bytes("messages/packed-peers.hex", &packed(&peers));
    assert_eq!(
        unpack(&fixture::bytes("messages/packed-peers.hex")).unwrap(),
        peers
    );
}
