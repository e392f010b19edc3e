//! Values of the log: a master that reads one writes the same bytes again.

use bytes::Bytes;
use overlay_core::proto::State;
use prost::Message;

use crate::fixture;
use crate::master::Player;
use crate::scripts;

/// Checks that `made` is the fixture `name`, and that a master with `config` that reads the
/// fixture writes it again as it is.
fn check(name: &str, config: &str, made: &Bytes) {
    fixture::check_bytes(name, made);
    let recorded = fixture::bytes(name);
    assert_eq!(
        State::decode(recorded.clone()).unwrap().encode_to_vec(),
        recorded,
        "{name}: decoded and encoded"
    );
    let mut player = Player::new(config, recorded.clone());
    // A request that changes nothing is written, too.
    player.request("POST", "agents/delete", r#"{"agents": ["10.0.0.99"]}"#);
    player.log = Bytes::new();
    player.stored();
    assert_eq!(player.log, recorded, "{name}: read and written by a master");
}

#[test]
fn ipv4_is_stored_as_ever() {
    check("state-v4.hex", scripts::V4, &scripts::v4().log);
}

#[test]
fn ipv6_is_stored_as_ever() {
    check("state-v6.hex", scripts::V6, &scripts::v6().log);
}

#[test]
fn both_families_and_all_that_was_changed_are_stored_as_ever() {
    let (_, made) = scripts::dual();
    check("state-dual.hex", scripts::DUAL, &made);
    let state = State::decode(made).unwrap();
    let networks = state.networks.unwrap();
    assert!(
        networks
            .overlays
            .iter()
            .any(|overlay| overlay.removed.is_some() && overlay.in_file())
    );
    assert!(
        networks
            .overlays
            .iter()
            .any(|overlay| overlay.removed.is_none())
    );
    assert_eq!(state.former.len(), 2, "agents whose leases ended");
}
