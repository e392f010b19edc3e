//! Reactions to events.

use std::collections::BTreeSet;

use overlay_core::host_api::usage::Containerizer;

use super::super::tests::*;

const INDEX: u32 = 7;

fn expected() -> ExpectedState {
    ExpectedState::new(&desired(&[2]), Some(INDEX), None, &[], None)
}

fn reaction(event: &Event) -> Reaction {
    expected().reaction(event)
}

fn present(subject: Subject) -> Event {
    Event {
        subject,
        change: Change::Present,
    }
}

fn gone(subject: Subject) -> Event {
    Event {
        subject,
        change: Change::Gone,
    }
}

/// The VXLAN device as desired, but for a change.
fn vtep(change: impl FnOnce(&mut Link)) -> Subject {
    let mut link = Link {
        index: INDEX,
        name: "vtep1024".to_owned(),
        kind: DeviceKind::Vxlan {
            vni: Some(1024),
            port: 64000,
            learning: false,
        },
        mac: mac(1),
        mtu: 1450,
        up: true,
    };
    change(&mut link);
    Subject::Link(link)
}

fn address(index: u32, text: &str) -> Subject {
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
    let expected = ExpectedState::new(&desired, Some(INDEX), None, &[], None);
    let event = gone(address(INDEX, "44.128.0.1/20"));
    assert_eq!(expected.reaction(&event), Reaction::Ignore);
}

/// Compares the reactions to events.
fn assert_reactions(expected: &ExpectedState, reactions: &[(Reaction, Event)]) {
    for (reaction, event) in reactions {
        assert_eq!(expected.reaction(event), *reaction, "{event:?}");
    }
}

use Reaction::{Ignore, QuickCheck, Reconcile};

/// A route over our device as ours are, but for what `change` does to it.
fn changed_route(dst: &str, via: &str, change: impl FnOnce(&mut Route)) -> Event {
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

fn removed(event: Event) -> Event {
    Event {
        change: Change::Gone,
        ..event
    }
}

fn change(gone: bool) -> Change {
    match gone {
        true => Change::Gone,
        false => Change::Present,
    }
}

fn nexthop_event(n: u8, via: u8, protocol: u8, index: u32, gone: bool) -> Event {
    Event {
        subject: nexthop(n, via, protocol, index),
        change: change(gone),
    }
}

/// A route to nobody that we know is an operator's unless its origin says that it is ours.
#[test]
fn routes_of_others_over_the_device_mean_nothing() {
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
            // Over several devices.
            (Ignore, elsewhere(None)),
        ],
    );
    // No device of ours is not the same as a route over no single device.
    let without = ExpectedState::new(&desired(&[2]), None, None, &[], None);
    assert_reactions(
        &without,
        &[(Ignore, elsewhere(None)), (Ignore, elsewhere(Some(INDEX)))],
    );
}

/// As long as nobody said who the peers are, what is there of them is not too much.
#[test]
fn what_there_is_of_unknown_peers_means_nothing() {
    let unknown = Desired {
        peers: None,
        ..desired(&[])
    };
    let unknown = ExpectedState::new(&unknown, Some(INDEX), None, &[], Some([].into()));
    let known = ExpectedState::new(&desired(&[]), Some(INDEX), None, &[], Some([].into()));
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
fn a_route_in_the_place_of_ours_has_to_be_ours_in_everything() {
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
            // What was not right has to be made right, and is not missed when it goes.
            assert_reactions(
                &expected(),
                &[(Reconcile, wrong.clone()), (Ignore, removed(wrong))],
            );
        }
        // Whoever made it, and whether by a nexthop object.
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
    // Each family has a default metric of its own.
    let v4 = changed_route("9.0.2.0/24", "44.128.0.2", |route| route.metric = 1024);
    let v6 = changed_route("fd01:b:0:0:2::/80", "fd01:a::2", |route| route.metric = 0);
    assert_reactions(&expected(), &[(Reconcile, v4), (Reconcile, v6)]);
    // The table of the peers' own addresses is another one.
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
fn neighbours_and_entries_that_nobody_set_mean_nothing_unless_they_are_a_peers() {
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
            // Of one address there is one destination.
            (Reconcile, fdb(2, "10.0.0.9", true, true, true)),
            (Ignore, foreign_index(fdb(2, "10.0.0.2", true, true, true))),
            (Ignore, foreign_index(fdb(3, "10.0.0.3", true, true, false))),
        ],
    );
}

#[test]
fn rules_have_to_stand_before_that_of_the_main_table() {
    let rule = |from: &str, priority, gone| Event {
        subject: Subject::Rule(Rule {
            from: net(from),
            priority,
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
    // In a family without a tunnel there are none.
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().addresses.truncate(1);
    let v4 = ExpectedState::new(&desired, Some(INDEX), None, &[], None);
    assert_reactions(
        &v4,
        &[
            (Ignore, rule("9.0.0.0/8", 32765, false)),
            (Reconcile, rule("fd01:b::/64", 32765, false)),
        ],
    );
}

#[test]
fn addresses_of_the_device_are_those_of_the_vtep_in_both_families() {
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
            (Ignore, address(9, "44.128.0.9/20", false, false)),
            // Of others than Docker's bridges it does not matter.
            (Ignore, address(INDEX, "fd01:a::1/64", true, false)),
            (Ignore, address(9, "fd01:c::1/64", true, false)),
        ],
    );
}

fn link(index: u32, name: &str, up: bool) -> Event {
    let kind = DeviceKind::Other("bridge".into());
    Event {
        subject: Subject::Link(Link {
            index,
            name: name.into(),
            kind,
            mac: mac(9),
            mtu: 1500,
            up,
        }),
        change: Change::Present,
    }
}

#[test]
fn a_bridge_for_containers_has_to_be_there_up_and_with_its_addresses() {
    let mut expected = super::events::expected();
    let addresses = ["9.0.1.1/25", "fd01:b::1/81"].map(net);
    expected.add_mesos_bridge("m-dcos", Some(20), addresses.into());
    expected.add_mesos_bridge("m-other", None, addresses.into());
    let address = |index, text: &str, gone| {
        let net = net(text);
        Event {
            subject: Subject::Address {
                index,
                net,
                tentative: false,
            },
            change: change(gone),
        }
    };
    assert_reactions(
        &expected,
        &[
            (Ignore, link(20, "m-dcos", true)),
            (Reconcile, link(20, "m-dcos", false)),
            (Reconcile, link(21, "m-dcos", true)),
            (Reconcile, removed(link(20, "m-dcos", true))),
            // One that could not be made before is there.
            (Reconcile, link(22, "m-other", true)),
            (Ignore, link(23, "m-foreign", true)),
            (Reconcile, address(20, "9.0.1.1/25", true)),
            (Reconcile, address(20, "fd01:b::1/81", true)),
            (Ignore, address(20, "9.0.1.1/25", false)),
            // What else there is on it is for a comparison.
            (Ignore, address(20, "9.0.1.9/25", true)),
            (Ignore, address(20, "9.0.1.9/25", false)),
            (Ignore, address(21, "9.0.1.1/25", true)),
        ],
    );
}

#[test]
fn dockers_bridges_are_looked_after_when_they_come_with_addresses_that_wait() {
    let mut expected = super::events::expected();
    expected.add_docker_bridge("d-dcos", Some(30));
    expected.add_docker_bridge("d-other", None);
    let waits = |index, tentative, gone| {
        let net = net("fd01:b::8000:0:1/81");
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
        &expected,
        &[
            (Ignore, link(30, "d-dcos", true)),
            (Ignore, link(30, "d-dcos", false)),
            // Docker takes them away, and makes them anew.
            (Ignore, removed(link(30, "d-dcos", true))),
            (Reconcile, link(31, "d-dcos", true)),
            (Reconcile, link(32, "d-other", true)),
            (Ignore, removed(link(32, "d-other", true))),
            (Reconcile, waits(30, true, false)),
            (Ignore, waits(30, true, true)),
            (Ignore, waits(30, false, false)),
            (Ignore, waits(32, true, false)),
        ],
    );
}

#[test]
fn the_last_container_of_what_is_gone_is_waited_for() {
    let draining = |index| Draining {
        overlay: "gone".into(),
        part: RemovedPart::Overlay,
        containerizer: Containerizer::Mesos,
        bridge: "m-gone".into(),
        index,
        containers: 1,
        subnets: Vec::new(),
        ranges: Vec::new(),
    };
    let expected = ExpectedState::new(
        &desired(&[]),
        Some(INDEX),
        None,
        &[draining(40), draining(41)],
        None,
    );
    let port = |bridge, gone| Event {
        subject: Subject::Port { bridge },
        change: change(gone),
    };
    assert_reactions(
        &expected,
        &[
            (Reconcile, port(40, true)),
            (Reconcile, port(41, true)),
            (Ignore, port(40, false)),
            (Ignore, port(INDEX, true)),
        ],
    );
}

/// Also where another program sees to the data plane: the files depend on it.
#[test]
fn the_underlay_has_to_be_as_it_was_measured() {
    let eth0 = Underlay {
        index: 2,
        device: "eth0".into(),
        mtu: 1500,
    };
    let link = |index, mtu, gone| {
        let kind = DeviceKind::Other("hardware".into());
        Event {
            subject: Subject::Link(Link {
                index,
                name: "eth0".into(),
                kind,
                mac: mac(9),
                mtu,
                up: true,
            }),
            change: change(gone),
        }
    };
    for backend in [Backend::Internal, Backend::External] {
        let desired = Desired {
            backend,
            ..desired(&[2])
        };
        let expected = ExpectedState::new(&desired, Some(INDEX), Some(&eth0), &[], None);
        assert_reactions(
            &expected,
            &[
                (Ignore, link(2, 1500, false)),
                (Reconcile, link(2, 1499, false)),
                (Reconcile, link(2, 9000, false)),
                (Reconcile, link(2, 1500, true)),
                (Ignore, link(3, 1400, false)),
                (
                    QuickCheck,
                    Event {
                        subject: Subject::Setting,
                        change: Change::Present,
                    },
                ),
            ],
        );
        let unknown = ExpectedState::new(&desired, Some(INDEX), None, &[], None);
        assert_reactions(&unknown, &[(Ignore, link(2, 1400, false))]);
    }
}

#[test]
fn the_device_has_to_be_as_it_was_made() {
    let vxlan = |vni, port, learning, mtu, gone| {
        let kind = DeviceKind::Vxlan {
            vni,
            port,
            learning,
        };
        let name = "vtep1024".to_owned();
        Event {
            subject: Subject::Link(Link {
                index: INDEX,
                name,
                kind,
                mac: mac(1),
                mtu,
                up: true,
            }),
            change: change(gone),
        }
    };
    let right = vxlan(Some(1024), 64000, false, 1450, false);
    assert_reactions(
        &expected(),
        &[
            (Ignore, right),
            (Reconcile, vxlan(Some(1024), 64000, false, 1450, true)),
            (Reconcile, vxlan(Some(1024), 64000, false, 1449, false)),
            (Reconcile, vxlan(Some(1024), 64000, true, 1450, false)),
            (Reconcile, vxlan(Some(1025), 64000, false, 1450, false)),
            (Reconcile, vxlan(Some(1024), 4789, false, 1450, false)),
            (Reconcile, vxlan(None, 64000, false, 1450, false)),
        ],
    );
    // An MTU that nobody set is that of the underlay, or the kernel's choice.
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().mtu = None;
    let eth0 = Underlay {
        index: 2,
        device: "eth0".into(),
        mtu: 1400,
    };
    let fitted = ExpectedState::new(&desired, Some(INDEX), Some(&eth0), &[], None);
    let of = |mtu| vxlan(Some(1024), 64000, false, mtu, false);
    assert_reactions(
        &fitted,
        &[
            (Ignore, of(1350)),
            (Reconcile, of(1351)),
            (Reconcile, of(1450)),
        ],
    );
    let unknown = ExpectedState::new(&desired, Some(INDEX), None, &[], None);
    assert_reactions(&unknown, &[(Ignore, of(1350)), (Ignore, of(1450))]);
}

#[test]
fn a_device_that_looks_like_a_former_one_of_ours_goes() {
    let vxlan = |name: &str, vni, port| {
        let kind = DeviceKind::Vxlan {
            vni,
            port,
            learning: false,
        };
        Event {
            subject: Subject::Link(Link {
                index: 50,
                name: name.into(),
                kind,
                mac: mac(9),
                mtu: 1450,
                up: true,
            }),
            change: Change::Present,
        }
    };
    assert_reactions(
        &expected(),
        &[
            (Reconcile, vxlan("vtep7", Some(7), 64000)),
            (Ignore, removed(vxlan("vtep7", Some(7), 64000))),
            (Ignore, vxlan("vtep7", Some(8), 64000)),
            (Ignore, vxlan("vtep7", Some(7), 4789)),
            (Ignore, vxlan("vtep7", None, 64000)),
            (Ignore, vxlan("vxlan7", Some(7), 64000)),
            (Ignore, link(51, "vtep7", true)),
        ],
    );
}

#[test]
fn nexthop_objects_are_compared_where_there_is_a_device() {
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
    // Without a device an object over no device is not the right one either.
    let without = ExpectedState::new(&desired(&[2]), None, None, &[], None);
    assert_reactions(&without, &[(Reconcile, over_none(2, false))]);
}

/// What an event says last of an object counts, and of nothing else.
#[test]
fn events_of_different_things_are_about_different_objects() {
    let neighbour = Neighbour {
        mac: Some(mac(2)),
        permanent: true,
    };
    let entry = FdbEntry {
        permanent: true,
        plain: true,
    };
    let address = |index, text: &str, gone| {
        let net = net(text);
        Event {
            subject: Subject::Address {
                index,
                net,
                tentative: false,
            },
            change: change(gone),
        }
    };
    let of_ip = |index, text: &str| Event {
        subject: Subject::Neighbour {
            index,
            ip: ip(text),
            neighbour,
        },
        change: Change::Gone,
    };
    let of_mac = |index, n| Event {
        subject: Subject::Fdb {
            index,
            mac: mac(n),
            dst: ip("10.0.0.2"),
            entry,
        },
        change: Change::Present,
    };
    let different = [
        link(7, "m-dcos", true),
        link(8, "m-dcos", true),
        address(7, "9.0.1.1/25", false),
        address(7, "9.0.1.1/26", false),
        address(8, "9.0.1.1/25", false),
        of_ip(7, "44.128.0.2"),
        of_ip(7, "fd01:a::2"),
        of_ip(8, "44.128.0.2"),
        of_mac(7, 2),
        of_mac(7, 3),
        of_mac(8, 2),
        nexthop_event(2, 2, PROTOCOL, INDEX, false),
        nexthop_event(3, 2, PROTOCOL, INDEX, false),
    ];
    let objects: BTreeSet<Object> = different.iter().filter_map(Event::object).collect();
    assert_eq!(objects.len(), different.len(), "{objects:?}");
    assert_eq!(
        address(7, "9.0.1.1/25", true).object(),
        address(7, "9.0.1.1/25", false).object()
    );
    // Of these there may be several that an event does not tell apart.
    let several = [
        changed_route("9.0.2.0/24", "44.128.0.2", |_| {}),
        Event {
            subject: Subject::Rule(Rule {
                from: net("9.0.0.0/8"),
                priority: 1,
            }),
            change: Change::Gone,
        },
        Event {
            subject: Subject::Port { bridge: 7 },
            change: Change::Gone,
        },
        Event {
            subject: Subject::Setting,
            change: Change::Present,
        },
    ];
    assert!(several.iter().all(|event| event.object().is_none()));
}

/// The short way of a change of peers: only from one list that is known to another, and
/// only if nothing else changes.
mod short_way {
    use super::*;
    use overlay_core::host_api::desired::{Checksum, Firewall};

    fn change(from: &Desired, to: &Desired) -> Option<(u32, Vec<String>)> {
        let mut expected = ExpectedState::new(from, Some(INDEX), None, &[], None);
        let (index, ops) = expected.change_peers(from, to)?;
        Some((index, ops.iter().map(Op::to_string).collect()))
    }

    /// `desired` with so many peers more than agent 2.
    fn crowd(count: u16) -> Desired {
        let peer = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let peer = Peer {
                vtep_ips: vec![Ipv4Addr::new(44, 128, high + 1, low).into()],
                vtep_mac: Mac([0x70, 0xb3, 0xd5, 0x80, high + 1, low]),
                subnets: vec![net(&format!("9.{}.{low}.0/24", high + 1))],
            };
            (Ipv4Addr::new(10, 0, high + 1, low), Arc::new(peer))
        };
        let peers = [super::peer(2)].into_iter().chain((0..count).map(peer));
        Desired {
            peers: Some(Arc::new(peers.collect())),
            ..desired(&[])
        }
    }

    #[test]
    fn takes_what_one_peer_takes_in_both_families() {
        let come = [
            "add neighbour 44.128.0.3 lladdr 70:b3:d5:80:00:03 permanent dev vtep1024",
            "add neighbour fd01:a::3 lladdr 70:b3:d5:80:00:03 permanent dev vtep1024",
            "add FDB entry 70:b3:d5:80:00:03 dst 10.0.0.3 self permanent dev vtep1024",
            "add route 10.0.0.3/32 via 44.128.0.3 table 42 dev vtep1024",
            "add route 9.0.3.0/24 via 44.128.0.3 dev vtep1024",
            "add route fd01:b:0:0:3::/80 via fd01:a::3 dev vtep1024",
        ];
        let (index, ops) = change(&desired(&[2]), &desired(&[2, 3])).unwrap();
        assert_eq!(index, INDEX);
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        assert_eq!(sorted(ops), sorted(come.map(str::to_owned).to_vec()));
        let (_, ops) = change(&desired(&[2, 3]), &desired(&[2])).unwrap();
        assert_eq!(ops.len(), come.len());
        assert!(
            ops.iter()
                .all(|op| op.starts_with("remove ") && !op.contains("44.128.0.2")),
            "{ops:?}"
        );
    }

    #[test]
    fn is_for_a_hundred_peers_in_each_direction_and_no_more() {
        for (count, ops) in [(100, Some(400)), (101, None)] {
            let there = change(&crowd(0), &crowd(count)).map(|(_, ops)| ops.len());
            let back = change(&crowd(count), &crowd(0)).map(|(_, ops)| ops.len());
            assert_eq!((there, back), (ops, ops), "{count}");
        }
        // As many go as come.
        let mut other = crowd(0);
        other.peers = Some(Arc::new(
            (3..103).map(super::peer).chain([super::peer(2)]).collect(),
        ));
        assert!(change(&crowd(100), &other).is_some());
    }

    #[test]
    fn is_not_for_anything_else_that_changes() {
        let (from, to) = (desired(&[2]), desired(&[2, 3]));
        assert!(change(&from, &to).is_some());
        let changes: [fn(&mut Desired); 12] = [
            |desired| desired.cni.dir = "/other".into(),
            |desired| desired.cni.data_dir = Some("/other".into()),
            |desired| desired.backend = Backend::External,
            |desired| desired.firewall = Firewall::Nftables,
            |desired| desired.own = Some(Ipv4Addr::LOCALHOST),
            |desired| desired.fit_mtu = true,
            |desired| desired.tx_checksum = Checksum::Off,
            |desired| desired.removal = Removal::Thorough,
            |desired| desired.vtep.as_mut().unwrap().mtu = None,
            |desired| desired.vtep = None,
            |desired| desired.overlays.get_mut("dcos").unwrap().mtu = 1400,
            |desired| desired.peers = None,
        ];
        for (n, change_one) in changes.iter().enumerate() {
            let mut other = to.clone();
            change_one(&mut other);
            assert_eq!(change(&from, &other), None, "change {n}");
            let mut other = from.clone();
            change_one(&mut other);
            assert_eq!(change(&other, &to), None, "change {n} the other way round");
        }
        assert_eq!(
            change(&from, &from),
            None,
            "nothing at all is for a pass, which reports"
        );
        // The host itself is no peer of it.
        assert_eq!(change(&from, &desired(&[1, 2])), None);
    }

    #[test]
    fn is_not_for_a_host_without_a_device() {
        let (from, to) = (desired(&[2]), desired(&[2, 3]));
        for expected in [
            ExpectedState::new(&from, None, None, &[], None),
            ExpectedState::default(),
        ] {
            let mut expected = expected;
            assert_eq!(expected.change_peers(&from, &to), None);
        }
    }

    /// Two peers that claim the same are for a comparison, which knows all of them.
    #[test]
    fn is_not_for_peers_that_claim_what_others_have() {
        let claims: [fn(&mut Peer); 5] = [
            |three| three.vtep_mac = mac(2),
            |three| three.vtep_ips[0] = ip("44.128.0.2"),
            |three| three.vtep_ips[1] = ip("fd01:a::2"),
            |three| three.subnets[0] = net("9.0.2.0/24"),
            |three| three.subnets[1] = net("fd01:b:0:0:2::/80"),
        ];
        let unique = desired(&[2, 3]);
        let doubled_by = |claim: fn(&mut Peer)| {
            let mut doubled = unique.clone();
            let (address, mut three) = peer(3);
            claim(Arc::make_mut(&mut three));
            doubled.peers_mut().insert(address, three);
            doubled
        };
        for claim in claims {
            let doubled = doubled_by(claim);
            assert_eq!(change(&desired(&[2]), &doubled), None, "comes");
            // What is left is the other one's.
            assert_eq!(change(&doubled, &desired(&[2])), None, "goes");
            assert_eq!(
                change(&doubled, &desired(&[3])),
                None,
                "is what it was, and the other one goes"
            );
        }
        // Both come at once.
        assert_eq!(change(&desired(&[]), &doubled_by(claims[0])), None);
        // Nor for one that cannot be had.
        let mut lame = unique.clone();
        let (address, mut three) = peer(3);
        Arc::make_mut(&mut three).vtep_ips.truncate(1);
        lame.peers_mut().insert(address, three);
        assert_eq!(change(&desired(&[2]), &lame), None);
    }

    /// Something that is refused leaves behind what events are compared with as it was.
    #[test]
    fn changes_what_events_are_compared_with_only_if_it_is_taken() {
        let (from, to) = (desired(&[2]), desired(&[2, 3]));
        let three = changed_route("9.0.3.0/24", "44.128.0.3", |_| {});
        let mut expected = ExpectedState::new(&from, Some(INDEX), None, &[], None);
        assert_eq!(
            expected.change_peers(
                &from,
                &Desired {
                    fit_mtu: true,
                    ..to.clone()
                }
            ),
            None
        );
        assert_reactions(&expected, &[(Reconcile, three.clone())]);
        assert!(expected.change_peers(&from, &to).is_some());
        assert_reactions(
            &expected,
            &[(Ignore, three.clone()), (Reconcile, removed(three.clone()))],
        );
        assert!(expected.change_peers(&to, &from).is_some());
        assert_reactions(&expected, &[(Reconcile, three)]);
    }
}
