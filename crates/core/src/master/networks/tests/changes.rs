//! Tests of changes by operators.

use super::*;

#[test]
fn a_reset_leads_to_the_configuration_again() {
    let held = SubnetsByOverlay::new();
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
    assert_eq!(
        off.overlay_state("web", false),
        Some(OverlayState::Disabled)
    );
    let gone = change(&off, Change::Remove("web".into()));
    assert_eq!(
        gone.overlay_state("web", false),
        Some(OverlayState::Removed)
    );
    let back = change(&gone, Change::ResetToFile("web".into()));
    assert_eq!((back.network == start.network, back.revision), (true, 3));
    assert_eq!(
        back.to_wire(),
        Some(StoredNetworks {
            revision: Some(3),
            overlays: vec![]
        })
    );
    assert_eq!(
        back.changed(&Change::ResetToFile("web".into()), &held),
        Ok(None)
    );
}

/// Returns subnets of overlay web that the agents `10.0.0.<n>` hold.
fn held(all: &[(u8, &str, Option<&str>)]) -> SubnetsByOverlay {
    let nets = |(n, v4, v6): &(u8, &str, Option<&str>)| {
        let nets = DualStackNet {
            v4: Some(v4.parse().unwrap()),
            v6: v6.map(|net| net.parse().unwrap()),
        };
        AgentSubnets {
            agent: Ipv4Addr::new(10, 0, 0, *n),
            nets,
        }
    };
    SubnetsByOverlay::from([("web".to_owned(), all.iter().map(nets).collect())])
}

#[test]
fn an_overlay_is_reset_if_all_subnets_have_the_configured_length() {
    let reset = |overlay: &str, held: &SubnetsByOverlay| {
        let (networks, _) = Networks::from_log(&file(DUAL), None, held).unwrap();
        let networks = networks
            .changed(&Change::Replace(definition(overlay)), held)
            .unwrap()
            .expect("it is another one");
        networks
            .changed(&Change::ResetToFile("web".into()), held)
            .map(|networks| networks.is_some())
    };
    let wider = with_v6("fd01:c::/60", 96);
    let conflict = |holds: &str| {
        let sentence =
            format!("Agent 10.0.0.2 holds {holds} of overlay web, and a configuration has one");
        move |refusal: &Refusal| refusal.status == 409 && refusal.sentence.starts_with(&sentence)
    };
    let first = (1, "9.1.0.0/24", Some("fd01:c::/80"));
    assert_eq!(reset(&wider, &SubnetsByOverlay::new()), Ok(true));
    assert_eq!(reset(&wider, &held(&[first])), Ok(true));
    assert_eq!(
        reset(&wider, &held(&[first, (2, "9.1.1.0/24", None)])),
        Ok(true)
    );
    let of_another_length = held(&[first, (2, "9.1.1.0/24", Some("fd01:c:0:0:1::/96"))]);
    assert!(
        reset(&wider, &of_another_length)
            .is_err_and(|refusal| conflict("fd01:c:0:0:1::/96")(&refusal))
    );
    let of_another_length = held(&[first, (2, "9.1.1.0/25", Some("fd01:c:0:0:1::/80"))]);
    assert!(
        reset(&wider, &of_another_length).is_err_and(|refusal| conflict("9.1.1.0/25")(&refusal))
    );
    // The subnet has the configured length, but is outside of the range.
    let outside = held(&[(1, "9.1.0.0/24", Some("fd01:c:0:1::/80"))]);
    let refusal = reset(&wider, &outside).unwrap_err();
    assert!(
        refusal
            .sentence
            .contains("holds fd01:c:0:1::/80, which would not be in its range"),
        "{refusal:?}"
    );
}

/// A removal is remembered if the file of any leader had the overlay.
#[test]
fn the_configurations_of_all_leaders_count() {
    let nobody = SubnetsByOverlay::new();
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
        next(&gone, "").overlay_state("web", false),
        Some(OverlayState::Removed)
    );
    assert_eq!(
        next(&gone, DUAL).overlay_state("web", false),
        Some(OverlayState::Removed)
    );
    // No file ever had this overlay.
    let new = definition(r#"{"name": "new", "subnet": "9.2.0.0/16", "prefix": 24}"#);
    let added = change(&gone, Change::Add(new));
    let gone = change(&added, Change::Remove("new".into()));
    assert_eq!((gone.overlay_state("new", false), gone.revision), (None, 5));
    assert_eq!(
        gone.overlay_state("web", false),
        Some(OverlayState::Removed)
    );
}

#[test]
fn a_removed_overlay_can_be_added_again_as_it_was() {
    let (start, _) = Networks::from_log(&file(""), None, &SubnetsByOverlay::new()).unwrap();
    let held = held(&[(1, "9.1.0.0/24", Some("fd01:c::/80"))]);
    let change = |networks: &Networks, change: Change| networks.changed(&change, &held).unwrap();
    let added = change(&start, Change::Add(definition(DUAL))).unwrap();
    assert_eq!(
        change(&added, Change::Add(definition(DUAL))),
        None,
        "it is there"
    );
    let draining = change(&added, Change::Remove("web".into())).unwrap();
    assert_eq!(
        draining.overlay_state("web", true),
        Some(OverlayState::Draining)
    );
    let again = change(&draining, Change::Add(definition(DUAL))).expect("it was removed");
    assert_eq!(
        (
            again.overlay_state("web", true),
            again.removed_in_revision("web")
        ),
        (Some(OverlayState::Active), None)
    );
    assert_eq!(again.revision, 3);
}

/// Another master's configuration had an IPv6 range, of which agents still hold subnets.
#[test]
fn subnets_of_a_family_that_an_overlay_lacks_now_stay_reserved() {
    let held = held(&[(1, "9.1.0.0/24", Some("fd01:c::/80"))]);
    let (networks, _) = Networks::from_log(&file(WEB), None, &held).unwrap();
    let add = |subnet6: &str| {
        let text = format!(r#"{{"name": "new", "subnet6": "{subnet6}", "prefix6": 80}}"#);
        networks.changed(&Change::Add(definition(&text)), &held)
    };
    assert_eq!(
        add("fd01:c::/64").unwrap_err(),
        Refusal {
            status: 409,
            sentence: "Overlay new cannot be like that: its range fd01:c::/64 overlaps fd01:c::/80 of agent \
                       10.0.0.1, which holds it of overlay web as it was before; give ranges that share no address."
                .to_owned(),
        }
    );
    assert!(add("fd01:d::/64").unwrap().is_some());
    // The overlay itself can have its range back.
    let both = definition(
        r#"{"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "subnet6": "fd01:c::/64", "prefix6": 80}"#,
    );
    let changed = networks.changed(&Change::Replace(both), &held).unwrap();
    assert!(changed.is_some());
}

/// An overlay that was left out contains a subnet that an agent holds of an unknown overlay.
#[test]
fn an_overlay_that_was_left_out_does_not_take_subnets_of_agents() {
    let file = file(&format!(
        r#"{WEB}, {{"name": "late", "subnet": "9.2.0.0/15", "prefix": 24}}"#
    ));
    let moved = changed(r#"{"name": "web", "subnet": "9.2.0.0/16", "prefix": 24}"#);
    let stored = StoredNetworks {
        revision: Some(3),
        overlays: vec![moved],
    };
    let former = held(&[(1, "9.3.0.0/24", None)]).remove("web").unwrap();
    let held = SubnetsByOverlay::from([("old".to_owned(), former)]);
    let (start, _) = Networks::from_log(&file, Some(stored), &held).unwrap();
    assert_eq!(
        start.conflict("late"),
        Some("its range 9.2.0.0/15 overlaps 9.2.0.0/16 of overlay web")
    );
    let reset = |held: &SubnetsByOverlay| {
        let change = Change::ResetToFile("web".into());
        start.changed(&change, held).unwrap().unwrap()
    };
    assert_eq!(
        reset(&held).conflict("late"),
        Some(
            "its range 9.2.0.0/15 overlaps 9.3.0.0/24 of agent 10.0.0.1, which holds it of overlay old as it \
             was before"
        )
    );
    let released = reset(&held).after_release(&SubnetsByOverlay::new());
    assert!(released.overlay("late").is_some(), "nothing is held");
}
