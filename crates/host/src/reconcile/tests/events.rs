//! Reactions to events.

use std::collections::BTreeSet;

use super::super::observed::ForeignRoute;
use super::super::tests::*;

const INDEX: u32 = 7;

pub(super) fn expected() -> ExpectedState {
    ExpectedState::new(
        &desired(&[2]),
        Some(INDEX),
        None,
        &[],
        &Default::default(),
        None,
    )
}

/// Returns the expected state of agent 1 with peer 2, beside routes of others and these over the
/// VTEP.
pub(super) fn expected_beside(routes: &[ForeignRoute], on_vtep: BTreeSet<Route>) -> ExpectedState {
    let surroundings = Surroundings {
        routes: routes.iter().cloned().collect(),
        on_vtep,
        ..Surroundings::default()
    };
    ExpectedState::new(&desired(&[2]), Some(INDEX), None, &[], &surroundings, None)
}

fn reaction(event: &Event) -> Reaction {
    expected().reaction(event)
}

pub(super) fn present(subject: Subject) -> Event {
    Event {
        subject,
        change: Change::Present,
    }
}

pub(super) fn gone(subject: Subject) -> Event {
    Event {
        subject,
        change: Change::Gone,
    }
}

/// Desired VXLAN device, after a change of its properties.
fn vtep(change: impl FnOnce(&mut Link)) -> Subject {
    let mut link = Link {
        index: INDEX,
        name: "vtep1024".to_owned(),
        kind: DeviceKind::Vxlan {
            vni: Some(1024),
            port: 64000,
            learning: false,
        },
        tunnel: Tunnel::default(),
        mac: mac(1),
        mtu: 1450,
        up: true,
    };
    change(&mut link);
    Subject::Link(link)
}

pub(super) fn address(index: u32, text: &str) -> Subject {
    Subject::Address {
        index,
        net: net(text),
        tentative: false,
    }
}

fn neighbour(index: u32, ip_text: &str, n: u8) -> Subject {
    Subject::Neighbour {
        index,
        ip: ip(ip_text),
        neighbour: Neighbour {
            mac: Some(mac(n)),
            permanent: true,
        },
    }
}

fn fdb(dst: &str) -> Subject {
    Subject::Fdb {
        index: INDEX,
        mac: mac(2),
        dst: ip(dst),
        entry: FdbEntry {
            permanent: true,
            plain: true,
        },
    }
}

fn route(table: u32, dst: &str, via: &str, index: u32) -> Subject {
    let (dst, via) = (net(dst), Some(ip(via)));
    let route = Route {
        table,
        dst,
        via,
        metric: 0,
        protocol: PROTOCOL,
        plain: true,
        nexthop: None,
    };
    Subject::Route {
        index: Some(index),
        route,
    }
}

/// The nexthop object of the `n`th agent.
fn nexthop(n: u8, via: u8, protocol: u8, index: u32) -> Subject {
    let address = |n| Ipv4Addr::new(44, 128, 0, n);
    Subject::Nexthop {
        id: nexthop_id(address(n)),
        nexthop: NexthopEvent {
            index: Some(index),
            via: Some(address(via).into()),
            protocol,
        },
    }
}

fn rule(from: &str, priority: u32) -> Subject {
    Subject::Rule(Rule {
        from: net(from),
        priority,
        table: 42,
        protocol: PROTOCOL,
    })
}

#[test]
fn objects_as_desired_and_foreign_ones_are_ignored() {
    for event in [
        present(vtep(|_| {})),
        present(address(INDEX, "44.128.0.1/20")),
        gone(address(INDEX, "44.128.0.9/20")),
        gone(address(9, "44.128.0.1/20")),
        present(neighbour(INDEX, "44.128.0.2", 2)),
        gone(neighbour(INDEX, "44.128.0.3", 2)),
        gone(neighbour(9, "44.128.0.2", 2)),
        present(fdb("10.0.0.2")),
        present(route(MAIN_TABLE, "9.0.2.0/24", "44.128.0.2", INDEX)),
        gone(route(MAIN_TABLE, "9.0.3.0/24", "44.128.0.2", INDEX)),
        present(route(MAIN_TABLE, "192.168.0.0/24", "44.128.0.2", 9)),
        present(rule("9.0.0.0/8", 32765)),
        gone(rule("8.0.0.0/8", 32765)),
        gone(Subject::Port { bridge: 9 }),
        present(nexthop(2, 2, PROTOCOL, INDEX)),
        gone(nexthop(3, 3, PROTOCOL, INDEX)),
        present(nexthop(3, 3, 4, INDEX)),
    ] {
        assert_eq!(reaction(&event), Reaction::Ignore, "{event:?}");
    }
}

#[test]
fn differences_ask_for_a_reconciliation() {
    for event in [
        present(vtep(|link| link.index = 8)),
        present(vtep(|link| link.name = "other".into())),
        present(vtep(|link| link.mac = mac(9))),
        present(vtep(|link| link.up = false)),
        gone(address(INDEX, "44.128.0.1/20")),
        present(address(INDEX, "44.128.0.9/20")),
        gone(neighbour(INDEX, "44.128.0.2", 2)),
        present(neighbour(INDEX, "44.128.0.2", 3)),
        present(neighbour(INDEX, "44.128.0.3", 3)),
        present(fdb("10.0.0.9")),
        gone(fdb("10.0.0.2")),
        gone(route(MAIN_TABLE, "9.0.2.0/24", "44.128.0.2", INDEX)),
        present(route(MAIN_TABLE, "9.0.2.0/24", "44.128.0.3", INDEX)),
        // A route over another device that has replaced ours.
        present(route(MAIN_TABLE, "9.0.2.0/24", "44.128.0.2", 9)),
        present(route(MAIN_TABLE, "9.0.3.0/24", "44.128.0.2", INDEX)),
        gone(route(42, "10.0.0.2/32", "44.128.0.2", INDEX)),
        gone(rule("9.0.0.0/8", 32765)),
        present(rule("9.0.0.0/8", 40000)),
        present(rule("8.0.0.0/8", 32765)),
        gone(nexthop(2, 2, PROTOCOL, INDEX)),
        present(nexthop(2, 9, PROTOCOL, INDEX)),
        present(nexthop(2, 2, PROTOCOL, 9)),
        present(nexthop(2, 2, 4, INDEX)),
        present(nexthop(3, 3, PROTOCOL, INDEX)),
    ] {
        assert_eq!(reaction(&event), Reaction::Reconcile, "{event:?}");
    }
    assert_eq!(reaction(&present(Subject::Setting)), Reaction::QuickCheck);
}

#[test]
fn events_of_a_data_plane_that_another_program_manages_are_ignored() {
    let desired = Desired {
        backend: Backend::External,
        ..desired(&[2])
    };
    let expected = ExpectedState::new(&desired, Some(INDEX), None, &[], &Default::default(), None);
    let event = gone(address(INDEX, "44.128.0.1/20"));
    assert_eq!(expected.reaction(&event), Reaction::Ignore);
}

/// Compares the reactions to events.
pub(super) fn assert_reactions(expected: &ExpectedState, reactions: &[(Reaction, Event)]) {
    for (reaction, event) in reactions {
        assert_eq!(expected.reaction(event), *reaction, "{event:?}");
    }
}

use Reaction::{Ignore, Reconcile};

/// Event about one of our routes, after a change of its properties.
pub(super) fn changed_route(dst: &str, via: &str, change: impl FnOnce(&mut Route)) -> Event {
    let (dst, via) = (net(dst), ip(via));
    let metric = if via.is_ipv4() { 0 } else { 1024 };
    let (table, protocol) = (MAIN_TABLE, PROTOCOL);
    let mut route = Route {
        table,
        dst,
        via: Some(via),
        metric,
        protocol,
        plain: true,
        nexthop: None,
    };
    change(&mut route);
    Event {
        subject: Subject::Route {
            index: Some(INDEX),
            route,
        },
        change: Change::Present,
    }
}

pub(super) fn removed(event: Event) -> Event {
    Event {
        change: Change::Gone,
        ..event
    }
}

pub(super) fn change(gone: bool) -> Change {
    match gone {
        true => Change::Gone,
        false => Change::Present,
    }
}

pub(super) fn nexthop_event(n: u8, via: u8, protocol: u8, index: u32, gone: bool) -> Event {
    Event {
        subject: nexthop(n, via, protocol, index),
        change: change(gone),
    }
}

/// A route to an unknown destination is an operator's unless its origin says that it is ours.
#[test]
fn an_operators_routes_over_the_device_are_ignored() {
    const STATIC: u8 = 4;
    let stale = |protocol, via: bool| {
        changed_route("9.0.3.0/24", "44.128.0.3", |route| {
            route.protocol = protocol;
            route.via = route.via.filter(|_| via);
        })
    };
    let elsewhere = |index| match stale(PROTOCOL, true) {
        Event {
            subject: Subject::Route { route, .. },
            change,
        } => Event {
            subject: Subject::Route { index, route },
            change,
        },
        other => other,
    };
    assert_reactions(
        &expected(),
        &[
            (Reconcile, stale(PROTOCOL, true)),
            (Reconcile, stale(PROTOCOL, false)),
            (Reconcile, stale(PROTOCOL_BOOT, true)),
            (Ignore, stale(PROTOCOL_BOOT, false)),
            (Ignore, stale(STATIC, true)),
            (Ignore, removed(stale(PROTOCOL, true))),
            (Ignore, elsewhere(Some(9))),
            // A route over several devices.
            (Ignore, elsewhere(None)),
        ],
    );
    // A route without a single device does not match an absent VTEP.
    let without = ExpectedState::new(&desired(&[2]), None, None, &[], &Default::default(), None);
    assert_reactions(
        &without,
        &[(Ignore, elsewhere(None)), (Ignore, elsewhere(Some(INDEX)))],
    );
}

/// Existing objects of peers stay as long as the peers are unknown.
#[test]
fn objects_of_unknown_peers_are_ignored() {
    let unknown = Desired {
        peers: None,
        ..desired(&[])
    };
    let unknown = ExpectedState::new(
        &unknown,
        Some(INDEX),
        None,
        &[],
        &Default::default(),
        Some([].into()),
    );
    let known = ExpectedState::new(
        &desired(&[]),
        Some(INDEX),
        None,
        &[],
        &Default::default(),
        Some([].into()),
    );
    let neighbour = Neighbour {
        mac: Some(mac(2)),
        permanent: true,
    };
    let entry = FdbEntry {
        permanent: true,
        plain: true,
    };
    for event in [
        changed_route("9.0.2.0/24", "44.128.0.2", |_| {}),
        changed_route("fd01:b:0:0:2::/80", "fd01:a::2", |_| {}),
        Event {
            subject: Subject::Neighbour {
                index: INDEX,
                ip: ip("44.128.0.2"),
                neighbour,
            },
            change: Change::Present,
        },
        Event {
            subject: Subject::Fdb {
                index: INDEX,
                mac: mac(2),
                dst: ip("10.0.0.2"),
                entry,
            },
            change: Change::Present,
        },
        nexthop_event(2, 2, PROTOCOL, INDEX, false),
    ] {
        assert_reactions(&known, &[(Reconcile, event.clone())]);
        assert_reactions(&unknown, &[(Ignore, event)]);
    }
}

#[test]
fn a_route_to_a_peer_must_match_in_every_property() {
    for (dst, via, other) in [
        ("9.0.2.0/24", "44.128.0.2", "44.128.0.3"),
        ("fd01:b:0:0:2::/80", "fd01:a::2", "fd01:a::3"),
    ] {
        let changed = |change: fn(&mut Route)| changed_route(dst, via, change);
        let wrong = [
            changed(|route| route.metric += 1),
            changed(|route| route.plain = false),
            changed(|route| route.via = None),
            changed_route(dst, other, |_| {}),
        ];
        for wrong in wrong {
            // A wrong route has to be repaired; its removal does not matter.
            assert_reactions(
                &expected(),
                &[(Reconcile, wrong.clone()), (Ignore, removed(wrong))],
            );
        }
        // Neither origin nor nexthop object matter.
        for right in [
            changed(|_| {}),
            changed(|route| route.protocol = PROTOCOL_BOOT),
            changed(|route| route.nexthop = Some(9)),
        ] {
            assert_reactions(
                &expected(),
                &[(Ignore, right.clone()), (Reconcile, removed(right))],
            );
        }
    }
    // The families have different default metrics.
    let v4 = changed_route("9.0.2.0/24", "44.128.0.2", |route| route.metric = 1024);
    let v6 = changed_route("fd01:b:0:0:2::/80", "fd01:a::2", |route| route.metric = 0);
    assert_reactions(&expected(), &[(Reconcile, v4), (Reconcile, v6)]);
    // Routes to the peers' own addresses belong in another table.
    let own = |table| {
        changed_route("10.0.0.2/32", "44.128.0.2", move |route| {
            route.table = table
        })
    };
    assert_reactions(
        &expected(),
        &[
            (Ignore, own(42)),
            (Reconcile, own(MAIN_TABLE)),
            (Reconcile, removed(own(42))),
        ],
    );
}

#[test]
fn learned_entries_matter_only_in_the_place_of_a_peers() {
    let neighbour = |text: &str, n, permanent, gone| {
        let neighbour = Neighbour {
            mac: Some(mac(n)),
            permanent,
        };
        Event {
            subject: Subject::Neighbour {
                index: INDEX,
                ip: ip(text),
                neighbour,
            },
            change: change(gone),
        }
    };
    let fdb = |n, dst: &str, permanent, plain, gone| {
        let entry = FdbEntry { permanent, plain };
        Event {
            subject: Subject::Fdb {
                index: INDEX,
                mac: mac(n),
                dst: ip(dst),
                entry,
            },
            change: change(gone),
        }
    };
    let foreign_index = |event| match event {
        Event {
            subject: Subject::Fdb {
                mac, dst, entry, ..
            },
            change,
        } => Event {
            subject: Subject::Fdb {
                index: 9,
                mac,
                dst,
                entry,
            },
            change,
        },
        other => other,
    };
    assert_reactions(
        &expected(),
        &[
            (Ignore, neighbour("44.128.0.3", 3, false, false)),
            (Reconcile, neighbour("44.128.0.2", 2, false, false)),
            (Ignore, neighbour("fd01:a::2", 2, true, false)),
            (Reconcile, neighbour("fd01:a::2", 2, true, true)),
            (Reconcile, neighbour("fd01:a::2", 3, true, false)),
            (Ignore, neighbour("fd01:a::3", 3, false, false)),
            (Reconcile, neighbour("fd01:a::3", 3, true, false)),
            (Ignore, neighbour("fd01:a::3", 3, true, true)),
            (Ignore, fdb(3, "10.0.0.3", false, true, false)),
            (Reconcile, fdb(3, "10.0.0.3", true, true, false)),
            (Ignore, fdb(3, "10.0.0.3", true, true, true)),
            (Reconcile, fdb(2, "10.0.0.2", false, true, false)),
            (Reconcile, fdb(2, "10.0.0.2", true, false, false)),
            (Reconcile, fdb(2, "fd00::2", true, true, false)),
            // An address has only one destination.
            (Reconcile, fdb(2, "10.0.0.9", true, true, true)),
            (Ignore, foreign_index(fdb(2, "10.0.0.2", true, true, true))),
            (Ignore, foreign_index(fdb(3, "10.0.0.3", true, true, false))),
        ],
    );
}

#[test]
fn rules_must_precede_the_one_of_the_main_table() {
    let rule = |from: &str, priority, gone| Event {
        subject: Subject::Rule(Rule {
            from: net(from),
            priority,
            table: 42,
            protocol: PROTOCOL,
        }),
        change: change(gone),
    };
    for from in ["9.0.0.0/8", "fd01:b::/64"] {
        assert_reactions(
            &expected(),
            &[
                (Ignore, rule(from, 0, false)),
                (Reconcile, rule(from, 0, true)),
                (Ignore, rule(from, 32765, false)),
                (Reconcile, rule(from, 32765, true)),
                (Reconcile, rule(from, 32766, false)),
                (Ignore, rule(from, 32766, true)),
                (Reconcile, rule(from, 32767, false)),
            ],
        );
    }
    // A family without a tunnel has no rules.
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().addresses.truncate(1);
    let v4 = ExpectedState::new(&desired, Some(INDEX), None, &[], &Default::default(), None);
    assert_reactions(
        &v4,
        &[
            (Ignore, rule("9.0.0.0/8", 32765, false)),
            (Reconcile, rule("fd01:b::/64", 32765, false)),
        ],
    );
}

#[test]
fn the_device_must_have_the_addresses_of_the_vtep() {
    let address = |index, text: &str, tentative, gone| {
        let net = net(text);
        Event {
            subject: Subject::Address {
                index,
                net,
                tentative,
            },
            change: change(gone),
        }
    };
    assert_reactions(
        &expected(),
        &[
            (Ignore, address(INDEX, "fd01:a::1/64", false, false)),
            (Reconcile, address(INDEX, "fd01:a::1/64", false, true)),
            (Reconcile, address(INDEX, "fd01:a::1/80", false, false)),
            (Reconcile, address(INDEX, "44.128.0.1/16", false, false)),
            (Ignore, address(INDEX, "44.128.0.1/16", false, true)),
            // Of another device: it collides with the VTEP.
            (Reconcile, address(9, "44.128.0.9/20", false, false)),
            // Duplicate address detection matters only on Docker's bridges.
            (Ignore, address(INDEX, "fd01:a::1/64", true, false)),
            (Ignore, address(9, "fd01:c::1/64", true, false)),
        ],
    );
}

#[test]
fn nexthop_objects_must_be_over_the_device() {
    let expected = super::events::expected();
    let over_none = |n, gone| {
        let mut event = nexthop_event(n, n, PROTOCOL, INDEX, gone);
        if let Subject::Nexthop { nexthop, .. } = &mut event.subject {
            nexthop.index = None;
        }
        event
    };
    assert_reactions(
        &expected,
        &[
            (Reconcile, over_none(2, false)),
            (Ignore, nexthop_event(3, 3, 4, INDEX, true)),
        ],
    );
    // Nor is an object without a device right if there is no VTEP.
    let without = ExpectedState::new(&desired(&[2]), None, None, &[], &Default::default(), None);
    assert_reactions(&without, &[(Reconcile, over_none(2, false))]);
}
