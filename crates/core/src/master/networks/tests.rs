//! Tests of the merge of configuration and log, as docs/networks.md describes it.

mod changes;

use super::super::networks::*;
use super::super::recovery::{Recovery, recover};
use crate::config::master::parse;
use crate::config::overlay::{Definition, parse_request};
use crate::proto::{
    AgentInfo, AgentOverlayInfo, BackendInfo, NetworkConfig, State, StoredNetworks, StoredOverlay,
    VxLanInfo,
};

const WEB: &str = r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24}"#;

fn file(overlays: &str) -> Arc<Network> {
    let text = format!(
        r#"{{"network": {{"vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00",
            "overlays": [{overlays}]}}}}"#
    );
    Arc::new(parse("m", &text).unwrap().config.network)
}

fn definition(text: &str) -> Definition {
    parse_request("body", text, None).unwrap().definition
}

fn changed(text: &str) -> StoredOverlay {
    StoredOverlay {
        info: definition(text).info().clone(),
        ..Default::default()
    }
}

fn removed(text: &str, in_file: bool) -> StoredOverlay {
    StoredOverlay {
        removed: Some(3),
        in_file: Some(in_file),
        ..changed(text)
    }
}

/// Agent `10.0.0.<n>` holds `<overlay>`'s `<subnet>`.
fn agent(n: u8, overlay: &str, subnet: &str) -> AgentInfo {
    let vxlan = VxLanInfo {
        vtep_ip: format!("44.128.0.{n}/20"),
        ..Default::default()
    };
    let overlay = AgentOverlayInfo {
        info: proto::OverlayInfo {
            name: overlay.into(),
            ..Default::default()
        },
        subnet: Some(subnet.into()),
        backend: BackendInfo { vxlan: Some(vxlan) },
        ..Default::default()
    };
    AgentInfo {
        ip: format!("10.0.0.{n}"),
        overlays: vec![overlay],
        ..Default::default()
    }
}

/// Returns an agent with a subnet of each family, and an IPv4 VTEP.
fn dual_agent(n: u8, overlay: &str, subnet: &str, subnet6: &str) -> AgentInfo {
    let mut agent = agent(n, overlay, subnet);
    agent.overlays[0].subnet6 = Some(subnet6.into());
    agent
}

fn log(overlays: Vec<StoredOverlay>, agents: Vec<AgentInfo>) -> State {
    let networks = (!overlays.is_empty()).then_some(StoredNetworks {
        revision: Some(3),
        overlays,
    });
    State {
        agents,
        networks,
        ..Default::default()
    }
}

/// Returns the overlays in force and the notes.
fn merge(file: &Arc<Network>, log: State) -> (Vec<String>, Vec<String>) {
    let Recovery {
        networks, notes, ..
    } = recover(file, log).unwrap();
    let in_force = networks.network.overlays.iter().map(Definition::info);
    let in_force = in_force
        .map(|info| format!("{} {}", info.name, describe(info)))
        .collect();
    (
        in_force,
        notes
            .into_iter()
            .map(|Note { level, text }| format!("{level:?}: {text}"))
            .collect(),
    )
}

#[track_caller]
fn check(overlays: &str, log: State, in_force: &[&str], notes: &[&str]) {
    let (is, said) = merge(&file(overlays), log);
    assert_eq!(is, in_force);
    assert_eq!(said.len(), notes.len(), "{said:?}");
    for (said, note) in said.iter().zip(notes) {
        assert!(said.starts_with(note), "{said}\n{note}");
    }
}

#[test]
fn an_unchanged_overlay_is_as_in_the_configuration() {
    check(
        WEB,
        log(vec![], vec![agent(1, "web", "9.1.0.0/24")]),
        &["web 9.1.0.0/16 in /24"],
        &[],
    );
}

#[test]
fn a_changed_overlay_is_as_in_the_log() {
    let other = r#"{"name": "web", "subnet": "9.2.0.0/16", "prefix": 26}"#;
    check(
        WEB,
        log(vec![changed(WEB)], vec![]),
        &["web 9.1.0.0/16 in /24"],
        &[],
    );
    check(
        WEB,
        log(
            vec![changed(other)],
            vec![agent(1, "web", "9.2.0.0/24"), agent(2, "web", "9.2.1.0/26")],
        ),
        &["web 9.2.0.0/16 in /26"],
        &[
            "Warning: Overlay web is not as in the configuration (9.1.0.0/16 in /24): it was changed (9.2.0.0/16 in \
           /26) with /overlay-master/overlays/web; change the configuration, or reset the overlay to it",
        ],
    );
    check(
        "",
        log(vec![changed(other)], vec![]),
        &["web 9.2.0.0/16 in /26"],
        &[],
    );
}

#[test]
fn a_removed_overlay_stays_removed() {
    check(
        WEB,
        log(vec![removed(WEB, true)], vec![]),
        &[],
        &[
            "Warning: Overlay web is in the configuration, but was removed with /overlay-master/overlays/web",
        ],
    );
    check(
        "",
        log(
            vec![removed(WEB, false)],
            vec![agent(1, "web", "9.1.0.0/24")],
        ),
        &[],
        &["Info: Overlay web was removed and is still draining; agents that have to release it: 1"],
    );
    // No agent holds a subnet: the removal is dropped with the next change, unless a file had it.
    for (in_file, left) in [(true, vec!["web"]), (false, vec![])] {
        let recovery = recover(&file(""), log(vec![removed(WEB, in_file)], vec![])).unwrap();
        let settled = recovery.networks.after_release(&SubnetsByOverlay::new());
        assert_eq!(
            settled
                .overrides
                .iter()
                .map(Override::name)
                .collect::<Vec<_>>(),
            left
        );
        assert_eq!(settled.revision, 3);
    }
}

#[test]
fn a_new_overlay_of_the_configuration_is_left_out_in_a_conflict() {
    let new = r#"{"name": "new", "subnet": "9.1.128.0/17", "prefix": 24}"#;
    check(
        new,
        log(vec![changed(WEB)], vec![]),
        &["web 9.1.0.0/16 in /24"],
        &[
            "Error: Overlay new of the configuration is left out: its range 9.1.128.0/17 overlaps 9.1.0.0/16 of \
           overlay web; give it another range, or remove the other one",
        ],
    );
    let drains = || {
        log(
            vec![removed(WEB, false)],
            vec![agent(1, "web", "9.1.0.0/24")],
        )
    };
    check(
        new,
        drains(),
        &[],
        &[
            "Error: Overlay new of the configuration is left out: its range 9.1.128.0/17 overlaps 9.1.0.0/16 of \
           overlay web, which was removed and still drains (agents: 1, among them 10.0.0.1)",
            "Info: Overlay web was removed",
        ],
    );
    let networks = recover(&file(new), drains()).unwrap().networks;
    assert_eq!(
        networks.overlay_state("new", false),
        Some(OverlayState::LeftOut)
    );
    let settled = networks.after_release(&SubnetsByOverlay::new());
    assert_eq!(
        (settled.overlay_state("new", false), settled.revision),
        (Some(OverlayState::Active), 4)
    );
}

#[test]
fn subnets_of_an_overlay_without_configuration_stay_reserved() {
    check(
        "",
        log(vec![], vec![agent(1, "web", "9.1.0.0/24")]),
        &[],
        &[
            "Warning: Overlay web is not in the configuration any more. Its subnets stay reserved for their agents (1)",
        ],
    );
}

/// An overlay can be left out and have subnets: an operator added the other one while a master
/// with another file led.
#[test]
fn subnets_of_an_overlay_that_is_left_out_stay_reserved() {
    let new = r#"{"name": "new", "subnet": "9.0.0.0/8", "prefix": 24}"#;
    check(
        new,
        log(vec![changed(WEB)], vec![agent(1, "new", "9.2.0.0/24")]),
        &["web 9.1.0.0/16 in /24"],
        &[
            "Error: Overlay new of the configuration is left out: its range 9.0.0.0/8 overlaps",
            "Warning: Overlay new is left out. Its subnets stay reserved for their agents (1)",
        ],
    );
}

#[test]
fn contradictions_are_errors() {
    let held = || log(vec![], vec![agent(1, "web", "9.1.1.0/24")]);
    for (overlays, says) in [
        (
            r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 25}"#,
            "prefix length 25",
        ),
        (
            r#"{"name": "web", "subnet": "9.1.0.0/24", "prefix": 24}"#,
            "outside of its subnet 9.1.0.0/24",
        ),
        (
            r#"{"name": "web", "subnet": "9.2.0.0/16", "prefix": 24}"#,
            "outside of its subnet 9.2.0.0/16",
        ),
    ] {
        let error = recover(&file(overlays), held()).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    let vteps = r#"{"name": "web", "subnet": "44.0.0.0/8", "prefix": 24}"#;
    let error = recover(&file(""), log(vec![changed(vteps)], vec![])).unwrap_err();
    assert!(
        error.contains("its range 44.0.0.0/8 overlaps 44.128.0.0/20 of the VTEPs"),
        "{error}"
    );
}

/// The next revision would be 0, and every agent would ignore it.
#[test]
fn a_revision_that_cannot_grow_is_damage() {
    let state = |revision| State {
        networks: Some(StoredNetworks {
            revision: Some(revision),
            ..StoredNetworks::default()
        }),
        ..State::default()
    };
    let error = recover(&file(WEB), state(u64::MAX)).unwrap_err();
    assert!(error.contains("revision 18446744073709551615"), "{error}");
    assert!(recover(&file(WEB), state(1_000_000)).is_ok());
}

#[test]
fn differences_from_the_last_leader_are_noted() {
    let before = NetworkConfig {
        overlays: vec![definition(WEB).info().clone()],
        ..file("").to_wire()
    };
    let state = State {
        network: Some(before),
        ..Default::default()
    };
    let new = r#"{"name": "new", "subnet": "9.2.0.0/16", "prefix": 24, "enabled": false}"#;
    check(
        new,
        state,
        &["new 9.2.0.0/16 in /24, disabled"],
        &[
            "Warning: The network is not what the last leader wrote: overlay web (9.1.0.0/16 in /24) is not there \
           any more; overlay new (9.2.0.0/16 in /24, disabled) is new.",
        ],
    );
}

/// An older master kept the changes in the log, or dropped them.
#[test]
fn an_older_master_may_have_led_since() {
    // The older master used its file, and assigned subnets that the changed overlay does not contain.
    let other = r#"{"name": "web", "subnet": "9.2.0.0/16", "prefix": 24}"#;
    check(
        WEB,
        log(vec![changed(other)], vec![agent(1, "web", "9.1.0.0/24")]),
        &["web 9.1.0.0/16 in /24"],
        &[
            "Error: Overlay web was changed while the cluster ran (9.2.0.0/16 in /24), but agents hold subnets \
           outside of that, so an older master must have led since.",
        ],
    );
    // The older master assigned subnets of the removed overlay, which drains again.
    let brought_back = log(
        vec![removed(WEB, true)],
        vec![agent(1, "web", "9.1.0.0/24")],
    );
    check(
        WEB,
        brought_back,
        &[],
        &[
            "Warning: Overlay web is in the configuration, but was removed",
            "Info: Overlay web was removed",
        ],
    );
    // The older master dropped the change of the prefix, but the subnets of the agents show it.
    let mixed = vec![agent(1, "web", "9.1.0.0/24"), agent(2, "web", "9.1.1.0/26")];
    check(WEB, log(vec![], mixed), &["web 9.1.0.0/16 in /24"], &[]);
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    for overlays in [
        vec![changed(WEB), changed(WEB)],
        vec![StoredOverlay::default()],
        vec![StoredOverlay {
            removed: Some(1),
            ..StoredOverlay::default()
        }],
        vec![StoredOverlay {
            info: proto::OverlayInfo {
                name: "../x".into(),
                ..changed(WEB).info
            },
            ..changed(WEB)
        }],
        vec![
            changed(WEB),
            changed(r#"{"name": "wob", "subnet": "9.1.0.0/17", "prefix": 24}"#),
        ],
    ] {
        recover(&file(""), log(overlays, vec![])).unwrap_err();
    }
}

const DUAL: &str = r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "subnet6": "fd01:c::/64", "prefix6": 80}"#;

/// Returns an overlay that is `WEB` in IPv4, with an IPv6 range.
fn with_v6(subnet6: &str, prefix6: u8) -> String {
    format!(
        r#"{{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "subnet6": "{subnet6}", "prefix6": {prefix6}}}"#
    )
}

#[test]
fn an_older_master_may_have_assigned_ipv6_since() {
    let both = "web 9.1.0.0/16 in /24, fd01:c::/64 in /80";
    let held = |subnet6| vec![dual_agent(1, "web", "9.1.0.0/24", subnet6)];
    let moved = with_v6("fd01:d::/64", 80);
    check(
        DUAL,
        log(vec![changed(&moved)], held("fd01:c::/80")),
        &[both],
        &["Error: Overlay web was changed"],
    );
    check(
        DUAL,
        log(vec![changed(&moved)], held("fd01:d::/80")),
        &["web 9.1.0.0/16 in /24, fd01:d::/64 in /80"],
        &[
            "Warning: Overlay web is not as in the configuration (9.1.0.0/16 in /24, fd01:c::/64 in /80)",
        ],
    );
    // Neither contains it: the error is about the changed overlay.
    let error = recover(&file(DUAL), log(vec![changed(&moved)], held("fd01:e::/80"))).unwrap_err();
    assert!(
        error.contains("fd01:e::/80 of overlay web, which is outside of its subnet fd01:d::/64"),
        "{error}"
    );
    // The older master dropped the change of a prefix.
    let mixed = |other: &str| {
        vec![
            held("fd01:c::/80").remove(0),
            dual_agent(2, "web", "9.1.1.0/24", other),
        ]
    };
    check(DUAL, log(vec![], mixed("fd01:c:0:0:1::/96")), &[both], &[]);
    let error = recover(&file(DUAL), log(vec![], mixed("fd01:d::/96"))).unwrap_err();
    assert!(
        error.contains("outside of its subnet fd01:c::/64"),
        "{error}"
    );
    let error = recover(&file(DUAL), log(vec![], held("fd01:c::/96"))).unwrap_err();
    assert!(error.contains("have the prefix length 80"), "{error}");
}

#[test]
fn a_new_overlay_is_left_out_in_a_conflict_of_ipv6() {
    let new = r#"{"name": "new", "subnet6": "fd01:c:0:0:8000::/65", "prefix6": 80}"#;
    let left_out = "Error: Overlay new of the configuration is left out: its range fd01:c:0:0:8000::/65 overlaps \
                    fd01:c::/64 of";
    check(
        new,
        log(vec![changed(DUAL)], vec![]),
        &["web 9.1.0.0/16 in /24, fd01:c::/64 in /80"],
        &[left_out],
    );
    let drains = log(
        vec![removed(DUAL, false)],
        vec![dual_agent(1, "web", "9.1.0.0/24", "fd01:c::/80")],
    );
    check(
        new,
        drains,
        &[],
        &[left_out, "Info: Overlay web was removed"],
    );
}
