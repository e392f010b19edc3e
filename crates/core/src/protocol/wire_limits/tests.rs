//! Tests of the limits of serialized messages.

use super::*;
use crate::proto::internal::{
    AgentRegisteredMessage, Peer, PeerSubnet, PeersVersion, RegisterAgentMessage,
    UpdatePeersMessage,
};
use crate::proto::{
    AgentInfo, AgentOverlayInfo, NetworkConfig, OverlayInfo, State, StoredNetworks, StoredOverlay,
};

const LIMITS: Limits = Limits {
    bytes: 1000,
    elements: 3,
    inner_elements: 2,
};

/// Decodes a message with [`LIMITS`].
fn check<M: Message + prost::Name + Default + PartialEq>(message: &M) -> Result<(), Refusal> {
    let decoded: M = decode(&M::full_name(), message.encode_to_vec().as_slice(), LIMITS)?;
    assert!(decoded == *message);
    Ok(())
}

fn peers(subnets: &[usize]) -> UpdatePeersMessage {
    let peer = |count: &usize| Peer {
        subnets: vec![PeerSubnet::default(); *count],
        ..Peer::default()
    };
    UpdatePeersMessage {
        peers: subnets.iter().map(peer).collect(),
        ..UpdatePeersMessage::default()
    }
}

#[test]
fn elements_are_counted_over_all_lists() {
    assert_eq!(check(&peers(&[0; 3])), Ok(()));
    assert_eq!(check(&peers(&[0; 4])), Err(Refusal::Elements(3)));
    let mut both = peers(&[0; 2]);
    both.removed = vec![String::new(); 1];
    assert_eq!(check(&both), Ok(()));
    both.removed.push(String::new());
    assert_eq!(check(&both), Err(Refusal::Elements(3)));
    // A field that is a message is no element, however often it occurs.
    let mut twice = both.encode_to_vec();
    twice.truncate(0);
    for _ in 0..10 {
        let version = UpdatePeersMessage {
            version: PeersVersion::default(),
            ..UpdatePeersMessage::default()
        };
        twice.extend(version.encode_to_vec());
    }
    let name = <UpdatePeersMessage as prost::Name>::full_name();
    assert!(decode::<UpdatePeersMessage>(&name, twice.as_slice(), LIMITS).is_ok());
}

#[test]
fn elements_within_elements_are_counted_over_all_of_them() {
    assert_eq!(check(&peers(&[1, 1, 0])), Ok(()));
    assert_eq!(check(&peers(&[1, 1, 1])), Err(Refusal::InnerElements(2)));
    assert_eq!(check(&peers(&[3])), Err(Refusal::InnerElements(2)));
}

#[test]
fn all_lists_of_a_state_are_counted() {
    let overlays = vec![AgentOverlayInfo::default(); 3];
    let agent = AgentInfo {
        overlays,
        ..AgentInfo::default()
    };
    let networks = StoredNetworks {
        overlays: vec![StoredOverlay::default(); 3],
        ..StoredNetworks::default()
    };
    let network = NetworkConfig {
        overlays: vec![OverlayInfo::default(); 3],
        ..NetworkConfig::default()
    };
    for state in [
        State {
            agents: vec![agent.clone()],
            ..State::default()
        },
        State {
            former: vec![agent],
            ..State::default()
        },
        State {
            networks: Some(networks),
            ..State::default()
        },
        State {
            network: Some(network),
            ..State::default()
        },
    ] {
        assert_eq!(check(&state), Err(Refusal::InnerElements(2)), "{state:?}");
    }
}

#[test]
fn bytes_are_counted() {
    let report = |length| AgentRegisteredMessage {
        host_errors: vec!["x".repeat(length)],
        ..AgentRegisteredMessage::default()
    };
    assert_eq!(check(&report(990)), Ok(()));
    assert_eq!(check(&report(1000)), Err(Refusal::Bytes(1000)));
}

#[test]
fn a_message_in_parts_is_counted_as_one() {
    let name = <UpdatePeersMessage as prost::Name>::full_name();
    let mut counter = Counter::new(&name, LIMITS);
    let message = peers(&[1, 1, 0]).encode_to_vec();
    let mut rest = message.as_slice();
    let mut parts = 0;
    while !rest.is_empty() {
        let length = (1..=rest.len())
            .map(|length| complete_fields(&rest[..length]))
            .find(|length| *length > 0);
        let (part, after) = rest.split_at(length.unwrap());
        counter.add(part).unwrap();
        (rest, parts) = (after, parts + 1);
    }
    assert_eq!(parts, 4, "the version and three peers");
    let one_more = peers(&[1]).encode_to_vec();
    assert_eq!(counter.add(&one_more), Err(Refusal::Elements(3)));
}

#[test]
fn groups_are_refused() {
    // Field 9: the beginning of a group, and its end.
    let name = <RegisterAgentMessage as prost::Name>::full_name();
    let group = [9 << 3 | 3, 9 << 3 | 4];
    let decoded = decode::<RegisterAgentMessage>(&name, group.as_slice(), LIMITS);
    assert_eq!(decoded, Err(Refusal::Group));
}

#[test]
fn malformed_messages_are_left_to_the_decoder() {
    let name = <UpdatePeersMessage as prost::Name>::full_name();
    let message = peers(&[1, 1, 0]).encode_to_vec();
    let truncated = &message[..message.len() - 1];
    // A key without a value, lengths that are too long, and a field of another kind.
    let malformed: [&[u8]; 6] = [
        truncated,
        &[0x0a],
        &[
            0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ],
        &[0xb2, 0x06, 0x02, 0x0a, 0x05],
        &[0xb0, 0x06, 0x01],
        &[0xff; 20],
    ];
    for bytes in malformed {
        let decoded = decode::<UpdatePeersMessage>(&name, bytes, LIMITS);
        let expected = UpdatePeersMessage::decode(bytes).unwrap_err();
        assert_eq!(decoded, Err(Refusal::Malformed(expected)), "{bytes:?}");
    }
}

#[test]
fn every_message_that_is_decoded_has_a_table() {
    let known: Vec<_> = SHAPES.iter().map(|(name, _)| *name).collect();
    for name in crate::protocol::messages::NAMES {
        assert!(known.contains(name), "{name}");
    }
    assert!(known.contains(&"mesos.modules.overlay.State"), "{known:?}");
    assert!(known.contains(&"mesos.MasterInfo"), "{known:?}");
}
