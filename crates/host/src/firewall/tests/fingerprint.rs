//! Tests of the fingerprint: when the tools have to be run, and when reading the kernel is
//! enough.

use std::sync::Arc;
use std::time::Instant;

use super::super::tests::*;
use super::super::tools::Tools;
use super::super::{Choice, Fingerprint, Firewall, LIFETIME};

fn fingerprint(generation: u32, desired: FirewallDesired) -> Fingerprint {
    let (choice, sets, uplinks) = (Choice::Auto, BTreeMap::new(), BTreeSet::new());
    Fingerprint {
        desired,
        choice,
        generation,
        sets,
        uplinks,
    }
}

#[test]
fn same_fingerprint_means_in_sync_for_a_minute() {
    let now = Instant::now();
    let old = now.checked_sub(LIFETIME).unwrap();
    let (known, desired) = (
        fingerprint(7, FirewallDesired::default()),
        FirewallDesired::from_host(&desired()),
    );
    let recorded = |since| {
        let mut firewall = Firewall::default();
        firewall.record_in_sync(Some(known.clone()), since, &Tools::default());
        firewall
    };
    let firewall = recorded(now);
    assert!(firewall.is_in_sync(Some(&known)));
    assert!(
        !recorded(old).is_in_sync(Some(&known)),
        "it is a minute old"
    );
    assert!(
        !firewall.is_in_sync(None),
        "there is no fingerprint any more"
    );
    assert!(
        !Firewall::default().is_in_sync(None),
        "nothing was recorded"
    );
    for changed in [
        fingerprint(8, FirewallDesired::default()),
        fingerprint(7, desired),
        Fingerprint {
            choice: Choice::Nftables,
            ..known.clone()
        },
        Fingerprint {
            sets: [("overlay".to_owned(), desired_set())].into(),
            ..known.clone()
        },
        Fingerprint {
            uplinks: ["eth1".to_owned()].into(),
            ..known.clone()
        },
    ] {
        assert!(!firewall.is_in_sync(Some(&changed)), "{changed:?}");
    }
}

/// The generation of nf_tables does not change with the legacy tables.
#[test]
fn legacy_tables_are_always_read_if_rules_are_desired() {
    let mut legacy = Tools::default();
    legacy.is_legacy = true;
    let mut firewall = Firewall::default();
    for (desired, tools, is_enough) in [
        (FirewallDesired::from_host(&desired()), &legacy, false),
        (FirewallDesired::default(), &legacy, true),
        (
            FirewallDesired::from_host(&desired()),
            &Tools::default(),
            true,
        ),
    ] {
        let known = fingerprint(7, desired);
        firewall.record_in_sync(Some(known.clone()), Instant::now(), tools);
        assert_eq!(firewall.is_in_sync(Some(&known)), is_enough);
    }
    firewall.record_in_sync(None, Instant::now(), &Tools::default());
    assert!(
        !firewall.is_in_sync(Some(&fingerprint(
            7,
            FirewallDesired::from_host(&desired())
        ))),
        "there were differences"
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
fn disabled_firewall_is_not_checked() {
    let none = Desired {
        firewall: Choice::None,
        ..desired()
    };
    let mut firewall = Firewall::default();
    assert!(!firewall.quick_check(&none));
    assert!(firewall.tools.is_none(), "the tools were looked for");
}

/// An operation that failed in the last reconciliation does not ask for the next one; any
/// other does.
#[test]
fn failed_operations_do_not_ask_for_a_reconciliation() {
    let destroy = |name: &str| Op::DestroySet(name.to_owned());
    let firewall = Firewall {
        failed: vec![destroy("overlay"), destroy("overlay6")],
        ..Firewall::default()
    };
    assert!(!firewall.has_new(&[]));
    assert!(!firewall.has_new(&[destroy("overlay6"), destroy("overlay")]));
    assert!(firewall.has_new(&[destroy("overlay"), Op::DeleteTable]));
    assert!(Firewall::default().has_new(&[destroy("overlay")]));
}
