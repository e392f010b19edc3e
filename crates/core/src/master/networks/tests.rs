//! Tests of how file and stored networks meet: the lines of docs/networks.md.

use super::super::networks::*;
use super::super::recovery::{Recovery, recover};
use crate::config::master::{parse, parse_definition};
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
    parse_definition("body", text, None).unwrap()
}

fn changed(text: &str) -> StoredOverlay {
    StoredOverlay {
        info: definition(text).info,
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

/// The same with a subnet of each family; its VTEP has IPv4 only.
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

/// What is in force, and what the operator reads.
fn meet(file: &Arc<Network>, log: State) -> (Vec<String>, Vec<String>) {
    let Recovery {
        networks, notes, ..
    } = recover(file, log).unwrap();
    let in_force = networks.network.wire.overlays.iter();
    let in_force = in_force
        .map(|info| format!("{} {}", info.name, show(info)))
        .collect();
    (
        in_force,
        notes
            .into_iter()
            .map(|(level, note)| format!("{level:?}: {note}"))
            .collect(),
    )
}

#[track_caller]
fn check(overlays: &str, log: State, in_force: &[&str], notes: &[&str]) {
    let (is, said) = meet(&file(overlays), log);
    assert_eq!(is, in_force);
    assert_eq!(said.len(), notes.len(), "{said:?}");
    for (said, note) in said.iter().zip(notes) {
        assert!(said.starts_with(note), "{said}\n{note}");
    }
}

#[test]
fn what_was_never_changed_is_as_in_the_file() {
    check(
        WEB,
        log(vec![], vec![agent(1, "web", "9.1.0.0/24")]),
        &["web 9.1.0.0/16 in /24"],
        &[],
    );
}

#[test]
fn what_was_changed_is_as_in_the_log() {
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
           /26) with /overlay-master/overlays/web; change the configuration, or hand the overlay back",
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
fn what_was_removed_stays_away() {
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
        &["Info: Overlay web was removed and is still draining; agents that have not let go: 1"],
    );
    // Nobody holds any: it goes with the next change, unless a file had it.
    for (in_file, left) in [(true, vec!["web"]), (false, vec![])] {
        let recovery = recover(&file(""), log(vec![removed(WEB, in_file)], vec![])).unwrap();
        let settled = recovery.networks.settled(&Held::new());
        assert_eq!(
            settled.stored.iter().map(Stored::name).collect::<Vec<_>>(),
            left
        );
        assert_eq!(settled.revision, 3);
    }
}

#[test]
fn a_new_overlay_of_the_file_yields() {
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
            "Error: Overlay new of the configuration is left out: its range 9.1.128.0/17 overlaps 9.1.0.0/16 of the \
           removed and still draining (agents: 1, among them 10.0.0.1) overlay web",
            "Info: Overlay web was removed",
        ],
    );
    let networks = recover(&file(new), drains()).unwrap().networks;
    assert_eq!(networks.standing("new", false), Some(Standing::LeftOut));
    let settled = networks.settled(&Held::new());
    assert_eq!(
        (settled.standing("new", false), settled.revision),
        (Some(Standing::Active), 4)
    );
}

#[test]
fn what_the_file_lost_stays_reserved() {
    check(
        "",
        log(vec![], vec![agent(1, "web", "9.1.0.0/24")]),
        &[],
        &["Warning: Overlay web is not in the configuration any more; 1 agents keep their subnets"],
    );
}

#[test]
fn contradictions_are_as_before() {
    let held = || log(vec![], vec![agent(1, "web", "9.1.1.0/24")]);
    for (overlays, says) in [
        (
            r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 25}"#,
            "prefix length 25",
        ),
        (
            r#"{"name": "web", "subnet": "9.1.0.0/24", "prefix": 24}"#,
            "outside its subnet 9.1.0.0/24",
        ),
        (
            r#"{"name": "web", "subnet": "9.2.0.0/16", "prefix": 24}"#,
            "outside its subnet 9.2.0.0/16",
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

#[test]
fn another_leaders_network_is_told() {
    let before = NetworkConfig {
        overlays: vec![definition(WEB).info],
        ..file("").wire.clone()
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

/// A predecessor led meanwhile, and kept or dropped what it does not know.
#[test]
fn an_older_master_may_have_led_meanwhile() {
    // It went by its file, which the log's change contradicts since.
    let other = r#"{"name": "web", "subnet": "9.2.0.0/16", "prefix": 24}"#;
    check(
        WEB,
        log(vec![changed(other)], vec![agent(1, "web", "9.1.0.0/24")]),
        &["web 9.1.0.0/16 in /24"],
        &[
            "Error: Overlay web was changed while the cluster ran (9.2.0.0/16 in /24), but agents hold subnets \
           outside of that: an older master must have led meanwhile.",
        ],
    );
    // It gave out what was removed: that drains once more.
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
    // It dropped that the prefix was changed; the agents' subnets tell.
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

#[test]
fn a_change_back_and_forth_leaves_what_was() {
    let held = Held::new();
    let (start, _) = Networks::from_log(&file(WEB), None, &held).unwrap();
    assert_eq!(
        start.to_wire(),
        None,
        "a log that nobody changed stays as it is"
    );
    let disabled =
        definition(r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "enabled": false}"#);
    let change =
        |networks: &Networks, change: Change| networks.changed(&change, &held).unwrap().unwrap();
    let off = change(&start, Change::Replace(disabled));
    assert_eq!(off.standing("web", false), Some(Standing::Disabled));
    let gone = change(&off, Change::Remove("web".into()));
    assert_eq!(gone.standing("web", false), Some(Standing::Removed));
    let back = change(&gone, Change::HandBack("web".into()));
    assert_eq!((back.network == start.network, back.revision), (true, 3));
    assert_eq!(
        back.to_wire(),
        Some(StoredNetworks {
            revision: Some(3),
            overlays: vec![]
        })
    );
    assert_eq!(
        back.changed(&Change::HandBack("web".into()), &held),
        Ok(None)
    );
}

const DUAL: &str = r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "subnet6": "fd01:c::/64", "prefix6": 80}"#;

/// What `WEB` is in IPv4, with other IPv6.
fn with_v6(subnet6: &str, prefix6: u8) -> String {
    format!(
        r#"{{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "subnet6": "{subnet6}", "prefix6": {prefix6}}}"#
    )
}

#[test]
fn an_older_master_may_have_given_out_ipv6_meanwhile() {
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
    // Neither can hold it: that is as if it had never been changed, and about what was changed.
    let error = recover(&file(DUAL), log(vec![changed(&moved)], held("fd01:e::/80"))).unwrap_err();
    assert!(
        error.contains("fd01:e::/80 of overlay web, which lies outside its subnet fd01:d::/64"),
        "{error}"
    );
    // It dropped that a prefix was changed.
    let mixed = |other: &str| {
        vec![
            held("fd01:c::/80").remove(0),
            dual_agent(2, "web", "9.1.1.0/24", other),
        ]
    };
    check(DUAL, log(vec![], mixed("fd01:c:0:0:1::/96")), &[both], &[]);
    let error = recover(&file(DUAL), log(vec![], mixed("fd01:d::/96"))).unwrap_err();
    assert!(error.contains("outside its subnet fd01:c::/64"), "{error}");
    let error = recover(&file(DUAL), log(vec![], held("fd01:c::/96"))).unwrap_err();
    assert!(error.contains("have the prefix length 80"), "{error}");
}

#[test]
fn a_new_overlay_of_the_file_yields_in_ipv6() {
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

/// `10.0.0.<n>` holds these of overlay web.
fn held(all: &[(u8, &str, Option<&str>)]) -> Held {
    let nets = |(n, v4, v6): &(u8, &str, Option<&str>)| {
        let nets = DualStackNet {
            v4: Some(v4.parse().unwrap()),
            v6: v6.map(|net| net.parse().unwrap()),
        };
        (Ipv4Addr::new(10, 0, 0, *n), nets)
    };
    Held::from([("web".to_owned(), all.iter().map(nets).collect())])
}

#[test]
fn an_overlay_is_handed_back_if_all_subnets_of_either_family_have_the_files_length() {
    let hand_back = |overlay: &str, held: &Held| {
        let (networks, _) = Networks::from_log(&file(DUAL), None, held).unwrap();
        let networks = networks
            .changed(&Change::Replace(definition(overlay)), held)
            .unwrap()
            .expect("it is another one");
        networks
            .changed(&Change::HandBack("web".into()), held)
            .map(|networks| networks.is_some())
    };
    let wider = with_v6("fd01:c::/60", 96);
    let conflict = |holds: &str| {
        let sentence =
            format!("Agent 10.0.0.2 holds {holds} of overlay web, and a configuration knows one");
        move |refusal: &Refusal| refusal.status == 409 && refusal.sentence.starts_with(&sentence)
    };
    let first = (1, "9.1.0.0/24", Some("fd01:c::/80"));
    assert_eq!(hand_back(&wider, &Held::new()), Ok(true));
    assert_eq!(hand_back(&wider, &held(&[first])), Ok(true));
    assert_eq!(
        hand_back(&wider, &held(&[first, (2, "9.1.1.0/24", None)])),
        Ok(true)
    );
    let of_another_length = held(&[first, (2, "9.1.1.0/24", Some("fd01:c:0:0:1::/96"))]);
    assert!(
        hand_back(&wider, &of_another_length)
            .is_err_and(|refusal| conflict("fd01:c:0:0:1::/96")(&refusal))
    );
    let of_another_length = held(&[first, (2, "9.1.1.0/25", Some("fd01:c:0:0:1::/80"))]);
    assert!(
        hand_back(&wider, &of_another_length)
            .is_err_and(|refusal| conflict("9.1.1.0/25")(&refusal))
    );
    // Of the file's length, and outside of its range.
    let outside = held(&[(1, "9.1.0.0/24", Some("fd01:c:0:1::/80"))]);
    let refusal = hand_back(&wider, &outside).unwrap_err();
    assert!(
        refusal
            .sentence
            .contains("holds fd01:c:0:1::/80, which would not be in its range"),
        "{refusal:?}"
    );
}

/// What an earlier leader's file had is remembered, whatever is made of it by one whose
/// file has it not.
#[test]
fn the_files_of_all_leaders_count() {
    let nobody = Held::new();
    let change =
        |networks: &Networks, change: Change| networks.changed(&change, &nobody).unwrap().unwrap();
    let next = |networks: &Networks, overlays: &str| {
        Networks::from_log(&file(overlays), networks.to_wire(), &nobody)
            .unwrap()
            .0
    };
    let (start, _) = Networks::from_log(&file(DUAL), None, &nobody).unwrap();
    let changed = change(
        &start,
        Change::Replace(definition(&with_v6("fd01:c::/64", 88))),
    );
    let elsewhere = next(&changed, "");
    let again = change(
        &elsewhere,
        Change::Replace(definition(&with_v6("fd01:c::/64", 96))),
    );
    let gone = change(&next(&again, ""), Change::Remove("web".into()));
    assert_eq!(
        next(&gone, "").standing("web", false),
        Some(Standing::Removed)
    );
    assert_eq!(
        next(&gone, DUAL).standing("web", false),
        Some(Standing::Removed)
    );
    // No file ever had this one.
    let new = definition(r#"{"name": "new", "subnet": "9.2.0.0/16", "prefix": 24}"#);
    let added = change(&gone, Change::Add(new));
    let gone = change(&added, Change::Remove("new".into()));
    assert_eq!((gone.standing("new", false), gone.revision), (None, 5));
    assert_eq!(gone.standing("web", false), Some(Standing::Removed));
}

#[test]
fn a_removed_overlay_can_be_added_again_as_it_was() {
    let (start, _) = Networks::from_log(&file(""), None, &Held::new()).unwrap();
    let held = held(&[(1, "9.1.0.0/24", Some("fd01:c::/80"))]);
    let change = |networks: &Networks, change: Change| networks.changed(&change, &held).unwrap();
    let added = change(&start, Change::Add(definition(DUAL))).unwrap();
    assert_eq!(
        change(&added, Change::Add(definition(DUAL))),
        None,
        "it is there"
    );
    let draining = change(&added, Change::Remove("web".into())).unwrap();
    assert_eq!(draining.standing("web", true), Some(Standing::Draining));
    let again = change(&draining, Change::Add(definition(DUAL))).expect("it was removed");
    assert_eq!(
        (again.standing("web", true), again.removed("web")),
        (Some(Standing::Active), None)
    );
    assert_eq!(again.revision, 3);
}
