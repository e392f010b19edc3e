use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> DomainName {
    parse_name(text).unwrap()
}

fn a(owner: &str, last: u8) -> Record {
    Record {
        owner: name(owner),
        data: Data::A(Ipv4Addr::new(9, 0, 0, last)),
    }
}

fn zones() -> Zones {
    let mut zones = Zones::default();
    for apex in ["d", "sub.d", "9.in-addr.arpa"] {
        let soa = Soa::new(name("ns.d"), name("hostmaster.d"), Serial(0));
        zones.insert(name(apex), soa, time(0));
    }
    zones.set_knowledge(Knowledge::Complete);
    zones
}

fn time(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn add(zones: &mut Zones, records: &[Record]) -> bool {
    let batch = Batch {
        added: records.to_vec(),
        removed: Vec::new(),
    };
    zones.apply(batch, time(0))
}

fn take(zones: &mut Zones, records: &[Record]) -> bool {
    let batch = Batch {
        added: Vec::new(),
        removed: records.to_vec(),
    };
    zones.apply(batch, time(0))
}

fn zone<'a>(zones: &'a Zones, apex: &str) -> &'a Zone {
    zones.zone(name(apex).as_slice()).unwrap()
}

fn find<'a>(zones: &'a Zones, text: &str) -> Lookup<'a> {
    let name = name(text);
    zones
        .zone_of(name.as_slice())
        .unwrap()
        .find(name.as_slice())
}

#[test]
fn a_name_is_in_the_zone_with_the_longest_apex() {
    let zones = zones();
    let apex = |text: &str| {
        let zone = zones.zone_of(name(text).as_slice());
        zone.map(|zone| zone.apex().to_string())
    };
    assert_eq!(apex("x.d").as_deref(), Some("d"));
    assert_eq!(apex("d").as_deref(), Some("d"));
    assert_eq!(apex("x.y.sub.d").as_deref(), Some("sub.d"));
    assert_eq!(apex("xsub.d").as_deref(), Some("d"));
    assert_eq!(apex("e"), None);
    assert_eq!(apex("."), None);
}

/// The length of a label can be a digit: in `\x31…` a suffix of the bytes is no suffix of the name.
#[test]
fn a_zone_begins_at_a_label() {
    let mut zones = Zones::default();
    let long = "x".repeat(usize::from(b'1'));
    let soa = Soa::new(name("ns.d"), name("h.d"), Serial(0));
    zones.insert(name(&long), soa, time(0));
    let inside_a_label = format!("a1{long}");
    assert!(zones.zone_of(name(&inside_a_label).as_slice()).is_none());
    assert!(
        zones
            .zone_of(name(&format!("a.{long}")).as_slice())
            .is_some()
    );
}

#[test]
fn names_between_others_exist_without_records() {
    let mut zones = zones();
    assert_eq!(find(&zones, "d"), Lookup::Name(&[]));
    assert_eq!(find(&zones, "b.c.d"), Lookup::NoName);
    add(&mut zones, &[a("a.b.c.d", 1), a("x.c.d", 2)]);
    assert_eq!(find(&zones, "b.c.d"), Lookup::Name(&[]));
    assert_eq!(find(&zones, "c.d"), Lookup::Name(&[]));
    assert_eq!(find(&zones, "z.c.d"), Lookup::NoName);
    take(&mut zones, &[a("a.b.c.d", 1)]);
    assert_eq!(find(&zones, "b.c.d"), Lookup::NoName);
    assert_eq!(find(&zones, "c.d"), Lookup::Name(&[]));
    take(&mut zones, &[a("x.c.d", 2)]);
    assert_eq!(find(&zones, "c.d"), Lookup::NoName);
    assert_eq!(find(&zones, "d"), Lookup::Name(&[]));
    assert!(zone(&zones, "d").is_empty());
}

#[test]
fn a_record_stays_while_somebody_claims_it() {
    let mut zones = zones();
    assert!(add(&mut zones, &[a("x.d", 1), a("x.d", 1), a("x.d", 2)]));
    assert!(!take(&mut zones, &[a("x.d", 1)]));
    assert_eq!(zone(&zones, "d").len(), 2);
    assert!(take(&mut zones, &[a("x.d", 1)]));
    assert_eq!(find(&zones, "x.d"), Lookup::Name(&[a("x.d", 2).data]));
    assert!(!take(
        &mut zones,
        &[a("x.d", 9), a("y.d", 9), a("elsewhere", 1)]
    ));
}

#[test]
fn changes_lead_from_serial_to_serial() {
    let mut zones = zones();
    let first = zone(&zones, "d").soa().serial;
    add(&mut zones, &[a("x.d", 1)]);
    let second = zone(&zones, "d").soa().serial;
    let batch = Batch {
        removed: vec![a("x.d", 1), a("z.d", 1)],
        added: vec![a("y.d", 1), a("z.d", 1)],
    };
    zones.apply(batch, time(0));
    let zone = zone(&zones, "d");
    assert!(second > first && zone.soa().serial > second);
    let changes = zone.changes_since(first).unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0].from, changes[0].to), (first, second));
    assert_eq!(changes[1].removed, [a("x.d", 1)]);
    assert_eq!(changes[1].added, [a("y.d", 1)], "z.d came and went");
    assert_eq!(zone.changes_since(second).unwrap().len(), 1);
    assert_eq!(zone.changes_since(zone.soa().serial), Some(Vec::new()));
    assert_eq!(zone.changes_since(Serial(first.0.wrapping_sub(1))), None);
    let other = zones.zone(name("sub.d").as_slice()).unwrap();
    assert_eq!(other.soa().serial, first, "a zone without changes");
}

#[test]
fn a_change_that_changes_nothing_has_no_serial() {
    let mut zones = zones();
    let before = zone(&zones, "d").soa().serial;
    let batch = Batch {
        removed: vec![a("z.d", 1)],
        added: vec![a("z.d", 1)],
    };
    assert!(!zones.apply(batch, time(0)));
    assert_eq!(zone(&zones, "d").soa().serial, before);
}

/// A new process begins with the clock's serial, which is at least that of the process before it:
/// batches are at least one unit apart.
#[test]
fn serials_follow_the_clock_and_never_go_back() {
    let mut zones = zones();
    let at = |zones: &Zones| zone(zones, "d").soa().serial;
    let change = |number: u8| Batch {
        removed: Vec::new(),
        added: vec![a("x.d", number)],
    };
    zones.apply(change(1), time(1_000_000));
    assert_eq!(at(&zones), Serial(10_000));
    zones.apply(change(2), time(1_000_050));
    assert_eq!(at(&zones), Serial(10_001));
    zones.apply(change(3), time(10));
    assert_eq!(at(&zones), Serial(10_002), "the clock went back");
    let soa = Soa::new(name("ns.d"), name("h.d"), Serial(20_000));
    zones.insert(name("d"), soa, time(1_000_100));
    assert_eq!(at(&zones), Serial(20_001), "the snapshot's serial is later");
    let soa = Soa::new(name("ns.d"), name("h.d"), Serial(u32::MAX));
    zones.insert(name("e"), soa, time(0));
    assert_eq!(zone(&zones, "e").soa().serial, Serial(0), "it wraps");
}

#[test]
fn the_journal_is_bounded() {
    let mut journal = Journal::new(1000);
    for serial in 0..1000 {
        journal.push(Change {
            from: Serial(serial),
            to: Serial(serial + 1),
            removed: vec![a("x.d", 1)],
            added: Vec::new(),
        });
    }
    let kept = (0..1000).filter(|serial| journal.since(Serial(*serial)).is_some());
    let kept: Vec<u32> = kept.collect();
    assert!((2..20).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last(), Some(&999));
}

#[test]
fn a_clone_keeps_what_it_has() {
    let mut zones = zones();
    add(&mut zones, &[a("x.d", 1)]);
    let before = zone(&zones, "d").clone();
    add(&mut zones, &[a("y.d", 1)]);
    take(&mut zones, &[a("x.d", 1)]);
    let x = name("x.d");
    assert_eq!(
        before.records().collect::<Vec<_>>(),
        [(&x, &a("x.d", 1).data)]
    );
}

#[test]
fn zones_come_and_go() {
    let mut zones = zones();
    add(&mut zones, &[a("x.d", 1), a("x.sub.d", 1)]);
    zones.remove(name("d").as_slice());
    assert!(zones.zone_of(name("x.d").as_slice()).is_none());
    assert_eq!(find(&zones, "x.sub.d"), Lookup::Name(&[a("x", 1).data]));
}

#[test]
fn age_is_that_of_the_last_knowledge() {
    let mut zones = Zones::default();
    assert_eq!(zones.age(time(5)), None);
    zones.set_knowledge(Knowledge::Complete);
    assert_eq!(zones.age(time(5)), Some(Duration::ZERO));
    zones.set_knowledge(Knowledge::Since(time(3)));
    assert_eq!(zones.age(time(5)), Some(Duration::from_millis(2)));
    assert_eq!(zones.age(time(1)), Some(Duration::ZERO));
}

proptest! {
    /// Whatever batches come: the records are those with claims, the names are those with records
    /// and the ones between, and the changes lead from each serial to the present records.
    #[test]
    fn a_zone_is_what_its_claims_say(
        batches in prop::collection::vec(prop::collection::vec((any::<bool>(), 0..4_usize, 0..3_u8), 0..6), 0..40),
    ) {
        let owners = ["x.d", "a.x.d", "b.a.x.d", "y.sub.d"];
        let mut zones = zones();
        let mut claims: BTreeMap<Record, u32> = BTreeMap::new();
        let mut history = Vec::new();
        for batch in batches {
            let (d, records) = (zone(&zones, "d"), zone(&zones, "d").records());
            let records: BTreeSet<(String, Data)> = records.map(|(o, d)| (o.to_string(), d.clone())).collect();
            history.push((d.soa().serial, records));
            let mut changes = Batch::default();
            for (is_claim, owner, last) in batch {
                let record = a(owners[owner], last);
                if is_claim {
                    *claims.entry(record.clone()).or_default() += 1;
                    changes.added.push(record);
                } else if let Some(count) = claims.get_mut(&record).filter(|count| **count > 0) {
                    *count -= 1;
                    changes.removed.push(record);
                }
            }
            zones.apply(changes, time(0));
        }
        claims.retain(|_, count| *count > 0);
        for owner in owners {
            let expected: Vec<Data> = claims.keys().filter(|r| r.owner == name(owner)).map(|r| r.data.clone()).collect();
            let exists = claims.keys().any(|r| r.owner.to_string().ends_with(owner));
            let expected = if exists { Lookup::Name(&expected) } else { Lookup::NoName };
            prop_assert_eq!(find(&zones, owner), expected, "{}", owner);
        }
        let zone = zone(&zones, "d");
        let now: BTreeSet<(String, Data)> = zone.records().map(|(o, d)| (o.to_string(), d.clone())).collect();
        prop_assert_eq!(zone.len(), now.len());
        for (serial, mut records) in history {
            for change in zone.changes_since(serial).unwrap() {
                for record in &change.removed {
                    prop_assert!(records.remove(&(record.owner.to_string(), record.data.clone())));
                }
                for record in &change.added {
                    prop_assert!(records.insert((record.owner.to_string(), record.data.clone())));
                }
            }
            prop_assert_eq!(&records, &now);
        }
    }
}
