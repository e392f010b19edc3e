//! Serialized messages. The first byte selects the type. The bounded decoder decodes what the
//! decoder alone decodes, or refuses it; a message that was decoded is decoded again after it was
//! encoded, in parts as well, and has no more elements than its limits say.

use overlay_core::proto::State;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, PeersReceivedMessage,
    RegisterAgentMessage, RegistrationChallengeMessage, RegistrationRefusedMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::mesos::MasterInfo;
use overlay_core::protocol::limits;
use overlay_core::protocol::peer_list_codec::{PEERS, pack, unpack};
use overlay_core::protocol::wire_limits::{Counter, Limits, Refusal, complete_fields, decode};
use prost::{Message, Name};

/// Limits that short inputs exceed.
const FEW: Limits = Limits {
    bytes: 1000,
    elements: 5,
    inner_elements: 5,
};

pub(crate) fn run(data: &[u8]) {
    let [which, body @ ..] = data else { return };
    let elements = |outer: usize, inner: usize| (outer, inner);
    match which % 11 {
        0 => check::<RegisterAgentMessage>(body, |registration| {
            elements(registration.holds.len(), 0)
        }),
        1 => check::<UpdateAgentOverlaysMessage>(body, |list| {
            let sentences = list.problems.len() + list.notices.len();
            elements(list.overlays.len() + sentences, 0)
        }),
        2 => check::<AgentRegisteredMessage>(body, |report| {
            let texts = report.host_errors.len() + report.draining.len() + report.networks.len();
            elements(report.overlays.len() + texts, 0)
        }),
        3 => check::<AgentRegisteredAcknowledgement>(body, |_| elements(0, 0)),
        4 => check::<RegistrationRefusedMessage>(body, |_| elements(0, 0)),
        5 => check::<PeersReceivedMessage>(body, |_| elements(0, 0)),
        6 => check::<RegistrationChallengeMessage>(body, |_| elements(0, 0)),
        7 => check::<MasterInfo>(body, |_| elements(0, 0)),
        8 => check::<State>(body, |state| {
            let agents = state.agents.iter().chain(&state.former);
            let of_agents: usize = agents.map(|agent| agent.overlays.len()).sum();
            let network = state.network.as_ref().map_or(0, |n| n.overlays.len());
            let stored = state.networks.as_ref().map_or(0, |n| n.overlays.len());
            let outer = state.agents.len() + state.former.len();
            elements(outer, of_agents + network + stored)
        }),
        9 => check::<UpdatePeersMessage>(body, |list| {
            let subnets = list.peers.iter().map(|peer| peer.subnets.len()).sum();
            elements(list.peers.len() + list.removed.len(), subnets)
        }),
        _ => unpacks(body),
    }
}

/// Checks a message of type `M`. `elements` returns the numbers of its elements, outer and inner.
fn check<M: Message + Name + Default + PartialEq>(
    body: &[u8],
    elements: impl Fn(&M) -> (usize, usize),
) {
    let name = M::full_name();
    let plain = M::decode(body);
    match decode::<M>(&name, body, FEW) {
        Ok(message) => {
            let (outer, inner) = elements(&message);
            assert!(outer <= FEW.elements && inner <= FEW.inner_elements);
            assert!(body.len() <= FEW.bytes);
            assert!(plain.as_ref() == Ok(&message));
        }
        Err(Refusal::Malformed(error)) => assert_eq!(plain.as_ref().err(), Some(&error)),
        Err(_) => {}
    }
    let Ok(message) = plain else { return };
    // No normal message is refused.
    let body = message.encode_to_vec();
    let (outer, inner) = elements(&message);
    let exact = Limits {
        bytes: body.len(),
        elements: outer,
        inner_elements: inner,
    };
    assert!(decode::<M>(&name, body.as_slice(), exact) == Ok(message));
    let mut counter = Counter::new(&name, exact);
    let (mut rest, mut length) = (body.as_slice(), 0);
    while length < rest.len() {
        length += 1;
        let complete = complete_fields(&rest[..length]);
        if complete > 0 {
            assert_eq!(counter.add(&rest[..complete]), Ok(()));
            (rest, length) = (&rest[complete..], 0);
        }
    }
    assert!(rest.is_empty(), "a normal message ends in half a field");
}

/// Checks that a list of peers is unpacked to what was packed.
fn unpacks(body: &[u8]) {
    let _ = unpack(body);
    let Ok(message) = limits::decode::<UpdatePeersMessage>(body) else {
        return;
    };
    let mut encoded = Vec::new();
    prost::encoding::message::encode_repeated(PEERS, &message.peers, &mut encoded);
    let packed = pack([encoded.as_slice()].into_iter());
    assert!(unpack(&packed).as_ref() == Ok(&message.peers));
}
