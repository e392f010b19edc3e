//! Tests of the history of peers: versions, deltas, tombstones and digests.

use super::*;
use crate::master::peers::samples::{addresses, agent, agents};
use crate::protocol::peer_list_codec::unpack;

const MAX: u32 = MAX_TOMBSTONES as u32;

fn history() -> PeerHistory {
    PeerHistory::new(7, std::iter::empty())
}

/// Adds the agent at address `number`.
fn add(history: &mut PeerHistory, number: u32) -> bool {
    history.update(number.into(), Some(&agent(number)))
}

/// Removes the agent at address `number`.
fn remove(history: &mut PeerHistory, number: u32) -> bool {
    history.update(number.into(), None)
}

fn encoded(history: &mut PeerHistory, base: Option<u64>, form: ListForm) -> EncodedMessage {
    let key = history.message_key(base, None, form);
    history.message(key)
}

/// Returns the message for an agent that has `base`.
fn since(history: &mut PeerHistory, base: u64) -> UpdatePeersMessage {
    let message = encoded(history, Some(base), ListForm::Plain);
    UpdatePeersMessage::decode(message.bytes).unwrap()
}

#[test]
fn a_delta_has_the_latest_change_of_each_agent() {
    let mut history = history();
    add(&mut history, 1);
    add(&mut history, 2);
    let base = history.version;
    remove(&mut history, 1);
    add(&mut history, 3);
    remove(&mut history, 3);
    add(&mut history, 1);
    let delta = since(&mut history, base);
    assert_eq!(delta.base, Some(base));
    assert_eq!(addresses(&delta), ["0.0.0.1"]);
    assert_eq!(delta.removed, ["0.0.0.3"]);
}

#[test]
fn an_equal_state_is_no_change() {
    let mut history = history();
    assert!(add(&mut history, 1));
    let version = history.version;
    assert!(!add(&mut history, 1));
    assert!(!remove(&mut history, 2));
    assert_eq!(history.version, version);
}

#[test]
fn the_oldest_departures_are_forgotten() {
    let mut history = history();
    for number in 0..MAX + 2 {
        add(&mut history, number);
    }
    add(&mut history, u32::MAX);
    let base = history.version;
    for number in 0..MAX {
        remove(&mut history, number);
    }
    assert_eq!(since(&mut history, base).removed.len(), MAX_TOMBSTONES);
    remove(&mut history, MAX);
    remove(&mut history, MAX + 1);
    for forgotten in [base, base + 1] {
        let snapshot = since(&mut history, forgotten);
        assert_eq!(
            (snapshot.base, snapshot.peers.len(), snapshot.removed.len()),
            (None, 1, 0),
            "a departure after it is forgotten"
        );
    }
    assert_eq!(since(&mut history, base + 2).removed.len(), MAX_TOMBSTONES);
    assert_eq!(
        (history.peers.len(), history.changes.len()),
        (MAX_TOMBSTONES + 1, MAX_TOMBSTONES + 1)
    );
}

#[test]
fn an_agent_that_comes_back_is_no_departure_any_more() {
    let mut history = history();
    add(&mut history, 0);
    let base = history.version;
    remove(&mut history, 0);
    add(&mut history, 0);
    for number in 1..=MAX {
        add(&mut history, number);
        remove(&mut history, number);
    }
    let delta = since(&mut history, base);
    assert_eq!(
        (delta.base, delta.removed.len(), delta.peers.len()),
        (Some(base), MAX_TOMBSTONES, 1)
    );
    add(&mut history, u32::MAX);
    remove(&mut history, u32::MAX);
    let snapshot = since(&mut history, base);
    assert_eq!(snapshot.base, None);
    assert_eq!(addresses(&snapshot), ["0.0.0.0"]);
    assert_eq!(history.tombstones.len(), MAX_TOMBSTONES);
}

#[test]
fn the_digest_depends_on_the_list_and_not_on_its_history() {
    let agents = agents(1..4);
    let other = PeerHistory::new(8, agents.iter().map(|(ip, agent)| (*ip, agent)));
    let digest = |history: &mut PeerHistory| since(history, 0).version.digest;
    let expected = Some(other.digest);
    let mut history = history();
    for number in [3, 2, 4] {
        add(&mut history, number);
    }
    history.update(1.into(), Some(&agent(9)));
    assert_ne!(digest(&mut history), expected);
    remove(&mut history, 4);
    assert_ne!(digest(&mut history), expected);
    history.update(1.into(), Some(&agent(1)));
    assert_eq!(digest(&mut history), expected);
    remove(&mut history, 2);
    add(&mut history, 2);
    assert_eq!(digest(&mut history), expected);
}

#[test]
fn a_packed_list_has_the_same_peers() {
    let mut history = history();
    (0..5000).for_each(|number| {
        add(&mut history, number);
    });
    let plain = encoded(&mut history, None, ListForm::Plain);
    let packed = encoded(&mut history, None, ListForm::Packed);
    let (long, short) = (plain.bytes.len(), packed.bytes.len());
    assert!(short < long / 3, "{long} and {short} bytes");
    assert!(packed.is_long, "it is delivered like the plain one");
    let plain = UpdatePeersMessage::decode(plain.bytes).unwrap();
    let packed = UpdatePeersMessage::decode(packed.bytes).unwrap();
    assert_eq!((plain.packed, packed.peers.len()), (None, 0));
    assert_eq!((plain.version, plain.base), (packed.version, packed.base));
    assert_eq!(unpack(&packed.packed.unwrap()).unwrap(), plain.peers);
    // Short messages are not packed.
    let base = Some(history.version);
    add(&mut history, 6000);
    let delta = encoded(&mut history, base, ListForm::Packed);
    assert!(!delta.is_long);
    let delta = UpdatePeersMessage::decode(delta.bytes).unwrap();
    assert_eq!((delta.packed, delta.peers.len()), (None, 1));
}

#[test]
fn agents_that_are_too_far_behind_share_the_snapshot() {
    let mut history = history();
    for number in 0..=MAX {
        add(&mut history, number);
        remove(&mut history, number);
    }
    let messages: Vec<_> = [None, Some(1), Some(2)]
        .into_iter()
        .map(|base| encoded(&mut history, base, ListForm::Plain).bytes.as_ptr())
        .collect();
    assert_eq!(messages, [messages[0]; 3]);
}

#[test]
fn a_snapshot_has_no_alias() {
    let mut history = history();
    let alias = Some(ForeignVersion {
        epoch: 6,
        version: 3,
        digest: history.digest,
    });
    let since = |history: &mut PeerHistory| {
        let key = history.message_key(Some(1), alias, ListForm::Plain);
        let message = UpdatePeersMessage::decode(history.message(key).bytes).unwrap();
        (message.base, message.since.map(|since| since.version()))
    };
    assert_eq!(since(&mut history), (Some(1), Some(3)));
    for number in 0..=MAX {
        add(&mut history, number);
        remove(&mut history, number);
    }
    assert_eq!(since(&mut history), (None, None), "version 1 is forgotten");
}
