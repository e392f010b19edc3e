//! When the tools are asked, and when a glance at the kernel is enough.

use std::sync::Arc;
use std::time::Instant;

use super::super::tests::*;
use super::super::tools::Tools;
use super::super::{Choice, Firewall, Glance, LIFETIME};

fn glance(generation: u32, wanted: Wanted) -> Glance {
    let (choice, sets, uplinks) = (Choice::Auto, BTreeMap::new(), BTreeSet::new());
    Glance {
        wanted,
        choice,
        generation,
        sets,
        uplinks,
    }
}

#[test]
fn the_same_sight_is_the_same_firewall_for_a_minute() {
    let now = Instant::now();
    let old = now.checked_sub(LIFETIME).unwrap();
    let (seen, wanted) = (glance(7, Wanted::default()), Wanted::of(&desired()));
    let settled = |since| {
        let mut firewall = Firewall::default();
        firewall.settle(Some(seen.clone()), since, &Tools::default());
        firewall
    };
    let firewall = settled(now);
    assert!(firewall.is_settled(Some(&seen)));
    assert!(
        !settled(old).is_settled(Some(&seen)),
        "that was a minute ago"
    );
    assert!(!firewall.is_settled(None), "nothing can be seen any more");
    assert!(
        !Firewall::default().is_settled(None),
        "nothing was ever seen"
    );
    for changed in [
        glance(8, Wanted::default()),
        glance(7, wanted),
        Glance {
            choice: Choice::Nftables,
            ..seen.clone()
        },
        Glance {
            sets: [("overlay".to_owned(), right_set())].into(),
            ..seen.clone()
        },
        Glance {
            uplinks: ["eth1".to_owned()].into(),
            ..seen.clone()
        },
    ] {
        assert!(!firewall.is_settled(Some(&changed)), "{changed:?}");
    }
}

/// The kernel does not count the changes of its old tables.
#[test]
fn old_tables_are_read_as_long_as_something_is_wanted_of_them() {
    let mut legacy = Tools::default();
    legacy.is_legacy = true;
    let mut firewall = Firewall::default();
    for (wanted, tools, enough) in [
        (Wanted::of(&desired()), &legacy, false),
        (Wanted::default(), &legacy, true),
        (Wanted::of(&desired()), &Tools::default(), true),
    ] {
        let seen = glance(7, wanted);
        firewall.settle(Some(seen.clone()), Instant::now(), tools);
        assert_eq!(firewall.is_settled(Some(&seen)), enough);
    }
    firewall.settle(None, Instant::now(), &Tools::default());
    assert!(
        !firewall.is_settled(Some(&glance(7, Wanted::of(&desired())))),
        "something had to be done"
    );
}

#[test]
fn tools_are_looked_for_once_a_minute() {
    let start = Instant::now();
    let first = Arc::new(Tools::default());
    let mut firewall = Firewall {
        tools: Some((first.clone(), start)),
        ..Firewall::default()
    };
    let before = start + LIFETIME.saturating_sub(std::time::Duration::from_nanos(1));
    assert!(Arc::ptr_eq(&firewall.tools(before), &first));
    let second = firewall.tools(start + LIFETIME);
    assert!(!Arc::ptr_eq(&second, &first));
    assert!(Arc::ptr_eq(&firewall.tools(start + LIFETIME), &second));
}

#[test]
fn whoever_wants_no_firewall_gets_none() {
    let none = Desired {
        firewall: Choice::None,
        ..desired()
    };
    let mut firewall = Firewall::default();
    assert!(!firewall.look(&none));
    assert!(
        firewall.tools.is_none(),
        "not even the tools are looked for"
    );
}
