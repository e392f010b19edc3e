//! Which events are a reason for a pass.

use std::collections::BTreeSet;

use super::super::tests::*;

const INDEX: u32 = 7;

fn watched() -> Watched {
    Watched::new(&desired(&[2]), Some(INDEX), None, &[], None)
}

fn meaning(event: &Event) -> Meaning {
    watched().meaning(event)
}

fn vtep_event(change: impl FnOnce(&mut u32, &mut String, &mut Mac, &mut bool)) -> Event {
    let (mut index, mut name, mut address, mut up) = (INDEX, "vtep1024".to_owned(), mac(1), true);
    change(&mut index, &mut name, &mut address, &mut up);
    let kind = DeviceKind::Vxlan {
        vni: Some(1024),
        port: 64000,
        learning: false,
    };
    Event::Link {
        index,
        name,
        kind,
        mac: address,
        mtu: 1450,
        up,
        gone: false,
    }
}

fn route_event(table: u32, dst: &str, via: &str, index: u32, gone: bool) -> Event {
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
    Event::Route {
        index: Some(index),
        route,
        gone,
    }
}

/// The nexthop object of the `n`th agent.
fn nexthop_event(n: u8, via: u8, protocol: u8, index: u32, gone: bool) -> Event {
    let address = |n| Ipv4Addr::new(44, 128, 0, n);
    let via = Some(address(via).into());
    Event::Nexthop {
        id: nexthop_id(address(n)),
        index: Some(index),
        via,
        protocol,
        gone,
    }
}

#[test]
fn what_is_as_desired_means_nothing() {
    let neighbour = Neighbour {
        mac: Some(mac(2)),
        permanent: true,
    };
    let entry = FdbEntry {
        permanent: true,
        plain: true,
    };
    for event in [
        vtep_event(|_, _, _, _| {}),
        Event::Address {
            index: INDEX,
            net: net("44.128.0.1/20"),
            tentative: false,
            gone: false,
        },
        Event::Address {
            index: INDEX,
            net: net("44.128.0.9/20"),
            tentative: false,
            gone: true,
        },
        Event::Address {
            index: 9,
            net: net("44.128.0.1/20"),
            tentative: false,
            gone: true,
        },
        Event::Neighbour {
            index: INDEX,
            ip: ip("44.128.0.2"),
            neighbour,
            gone: false,
        },
        Event::Neighbour {
            index: INDEX,
            ip: ip("44.128.0.3"),
            neighbour,
            gone: true,
        },
        Event::Neighbour {
            index: 9,
            ip: ip("44.128.0.2"),
            neighbour,
            gone: true,
        },
        Event::Fdb {
            index: INDEX,
            mac: mac(2),
            dst: ip("10.0.0.2"),
            entry,
            gone: false,
        },
        route_event(MAIN_TABLE, "9.0.2.0/24", "44.128.0.2", INDEX, false),
        route_event(MAIN_TABLE, "9.0.3.0/24", "44.128.0.2", INDEX, true),
        route_event(MAIN_TABLE, "192.168.0.0/24", "44.128.0.2", 9, false),
        Event::Rule {
            rule: Rule {
                from: net("9.0.0.0/8"),
                priority: 32765,
            },
            gone: false,
        },
        Event::Rule {
            rule: Rule {
                from: net("8.0.0.0/8"),
                priority: 32765,
            },
            gone: true,
        },
        Event::Port {
            master: 9,
            gone: true,
        },
        nexthop_event(2, 2, PROTOCOL, INDEX, false),
        nexthop_event(3, 3, PROTOCOL, INDEX, true),
        nexthop_event(3, 3, 4, INDEX, false),
    ] {
        assert_eq!(meaning(&event), Meaning::Nothing, "{event:?}");
    }
}

#[test]
fn what_is_not_as_desired_means_a_pass() {
    let neighbour = |n| Neighbour {
        mac: Some(mac(n)),
        permanent: true,
    };
    let entry = FdbEntry {
        permanent: true,
        plain: true,
    };
    for event in [
        vtep_event(|index, _, _, _| *index = 8),
        vtep_event(|_, name, _, _| *name = "other".into()),
        vtep_event(|_, _, address, _| *address = mac(9)),
        vtep_event(|_, _, _, up| *up = false),
        Event::Address {
            index: INDEX,
            net: net("44.128.0.1/20"),
            tentative: false,
            gone: true,
        },
        Event::Address {
            index: INDEX,
            net: net("44.128.0.9/20"),
            tentative: false,
            gone: false,
        },
        Event::Neighbour {
            index: INDEX,
            ip: ip("44.128.0.2"),
            neighbour: neighbour(2),
            gone: true,
        },
        Event::Neighbour {
            index: INDEX,
            ip: ip("44.128.0.2"),
            neighbour: neighbour(3),
            gone: false,
        },
        Event::Neighbour {
            index: INDEX,
            ip: ip("44.128.0.3"),
            neighbour: neighbour(3),
            gone: false,
        },
        Event::Fdb {
            index: INDEX,
            mac: mac(2),
            dst: ip("10.0.0.9"),
            entry,
            gone: false,
        },
        Event::Fdb {
            index: INDEX,
            mac: mac(2),
            dst: ip("10.0.0.2"),
            entry,
            gone: true,
        },
        route_event(MAIN_TABLE, "9.0.2.0/24", "44.128.0.2", INDEX, true),
        route_event(MAIN_TABLE, "9.0.2.0/24", "44.128.0.3", INDEX, false),
        // Over another device, in the place of ours.
        route_event(MAIN_TABLE, "9.0.2.0/24", "44.128.0.2", 9, false),
        route_event(MAIN_TABLE, "9.0.3.0/24", "44.128.0.2", INDEX, false),
        route_event(42, "10.0.0.2/32", "44.128.0.2", INDEX, true),
        Event::Rule {
            rule: Rule {
                from: net("9.0.0.0/8"),
                priority: 32765,
            },
            gone: true,
        },
        Event::Rule {
            rule: Rule {
                from: net("9.0.0.0/8"),
                priority: 40000,
            },
            gone: false,
        },
        Event::Rule {
            rule: Rule {
                from: net("8.0.0.0/8"),
                priority: 32765,
            },
            gone: false,
        },
        nexthop_event(2, 2, PROTOCOL, INDEX, true),
        nexthop_event(2, 9, PROTOCOL, INDEX, false),
        nexthop_event(2, 2, PROTOCOL, 9, false),
        nexthop_event(2, 2, 4, INDEX, false),
        nexthop_event(3, 3, PROTOCOL, INDEX, false),
    ] {
        assert_eq!(meaning(&event), Meaning::Pass, "{event:?}");
    }
    assert_eq!(meaning(&Event::Setting), Meaning::Look);
}

#[test]
fn where_another_program_sees_to_the_data_plane_its_events_mean_nothing() {
    let desired = Desired {
        backend: Backend::External,
        ..desired(&[2])
    };
    let watched = Watched::new(&desired, Some(INDEX), None, &[], None);
    let event = Event::Address {
        index: INDEX,
        net: net("44.128.0.1/20"),
        tentative: false,
        gone: true,
    };
    assert_eq!(watched.meaning(&event), Meaning::Nothing);
}

/// How a kind of event is judged, by name for whoever reads a failure.
fn assert_meanings(watched: &Watched, expected: &[(Meaning, Event)]) {
    for (meaning, event) in expected {
        assert_eq!(watched.meaning(event), *meaning, "{event:?}");
    }
}

use Meaning::{Look, Nothing, Pass};

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
    Event::Route {
        index: Some(INDEX),
        route,
        gone: false,
    }
}

fn gone(event: Event) -> Event {
    match event {
        Event::Route { index, route, .. } => Event::Route {
            index,
            route,
            gone: true,
        },
        Event::Link {
            index,
            name,
            kind,
            mac,
            mtu,
            up,
            ..
        } => Event::Link {
            index,
            name,
            kind,
            mac,
            mtu,
            up,
            gone: true,
        },
        other => panic!("{other:?}"),
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
        Event::Route { route, gone, .. } => Event::Route { index, route, gone },
        other => other,
    };
    assert_meanings(
        &watched(),
        &[
            (Pass, stale(PROTOCOL, true)),
            (Pass, stale(PROTOCOL, false)),
            (Pass, stale(PROTOCOL_BOOT, true)),
            (Nothing, stale(PROTOCOL_BOOT, false)),
            (Nothing, stale(STATIC, true)),
            (Nothing, gone(stale(PROTOCOL, true))),
            (Nothing, elsewhere(Some(9))),
            // Over several devices.
            (Nothing, elsewhere(None)),
        ],
    );
    // No device of ours is not the same as a route over no single device.
    let without = Watched::new(&desired(&[2]), None, None, &[], None);
    assert_meanings(
        &without,
        &[
            (Nothing, elsewhere(None)),
            (Nothing, elsewhere(Some(INDEX))),
        ],
    );
}

/// As long as nobody said who the peers are, what is there of them is not too much.
#[test]
fn what_there_is_of_unknown_peers_means_nothing() {
    let unknown = Desired {
        peers: None,
        ..desired(&[])
    };
    let unknown = Watched::new(&unknown, Some(INDEX), None, &[], Some([].into()));
    let known = Watched::new(&desired(&[]), Some(INDEX), None, &[], Some([].into()));
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
        Event::Neighbour {
            index: INDEX,
            ip: ip("44.128.0.2"),
            neighbour,
            gone: false,
        },
        Event::Fdb {
            index: INDEX,
            mac: mac(2),
            dst: ip("10.0.0.2"),
            entry,
            gone: false,
        },
        nexthop_event(2, 2, PROTOCOL, INDEX, false),
    ] {
        assert_meanings(&known, &[(Pass, event.clone())]);
        assert_meanings(&unknown, &[(Nothing, event)]);
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
            assert_meanings(&watched(), &[(Pass, wrong.clone()), (Nothing, gone(wrong))]);
        }
        // Whoever made it, and whether by a nexthop object.
        for right in [
            changed(|_| {}),
            changed(|route| route.protocol = PROTOCOL_BOOT),
            changed(|route| route.nexthop = Some(9)),
        ] {
            assert_meanings(&watched(), &[(Nothing, right.clone()), (Pass, gone(right))]);
        }
    }
    // Each family has a default metric of its own.
    let v4 = changed_route("9.0.2.0/24", "44.128.0.2", |route| route.metric = 1024);
    let v6 = changed_route("fd01:b:0:0:2::/80", "fd01:a::2", |route| route.metric = 0);
    assert_meanings(&watched(), &[(Pass, v4), (Pass, v6)]);
    // The table of the peers' own addresses is another one.
    let own = |table| {
        changed_route("10.0.0.2/32", "44.128.0.2", move |route| {
            route.table = table
        })
    };
    assert_meanings(
        &watched(),
        &[
            (Nothing, own(42)),
            (Pass, own(MAIN_TABLE)),
            (Pass, gone(own(42))),
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
        Event::Neighbour {
            index: INDEX,
            ip: ip(text),
            neighbour,
            gone,
        }
    };
    let fdb = |n, dst: &str, permanent, plain, gone| {
        let entry = FdbEntry { permanent, plain };
        Event::Fdb {
            index: INDEX,
            mac: mac(n),
            dst: ip(dst),
            entry,
            gone,
        }
    };
    let foreign_index = |event| match event {
        Event::Fdb {
            mac,
            dst,
            entry,
            gone,
            ..
        } => Event::Fdb {
            index: 9,
            mac,
            dst,
            entry,
            gone,
        },
        other => other,
    };
    assert_meanings(
        &watched(),
        &[
            (Nothing, neighbour("44.128.0.3", 3, false, false)),
            (Pass, neighbour("44.128.0.2", 2, false, false)),
            (Nothing, neighbour("fd01:a::2", 2, true, false)),
            (Pass, neighbour("fd01:a::2", 2, true, true)),
            (Pass, neighbour("fd01:a::2", 3, true, false)),
            (Nothing, neighbour("fd01:a::3", 3, false, false)),
            (Pass, neighbour("fd01:a::3", 3, true, false)),
            (Nothing, neighbour("fd01:a::3", 3, true, true)),
            (Nothing, fdb(3, "10.0.0.3", false, true, false)),
            (Pass, fdb(3, "10.0.0.3", true, true, false)),
            (Nothing, fdb(3, "10.0.0.3", true, true, true)),
            (Pass, fdb(2, "10.0.0.2", false, true, false)),
            (Pass, fdb(2, "10.0.0.2", true, false, false)),
            (Pass, fdb(2, "fd00::2", true, true, false)),
            // Of one address there is one destination.
            (Pass, fdb(2, "10.0.0.9", true, true, true)),
            (Nothing, foreign_index(fdb(2, "10.0.0.2", true, true, true))),
            (
                Nothing,
                foreign_index(fdb(3, "10.0.0.3", true, true, false)),
            ),
        ],
    );
}

#[test]
fn rules_have_to_stand_before_that_of_the_main_table() {
    let rule = |from: &str, priority, gone| Event::Rule {
        rule: Rule {
            from: net(from),
            priority,
        },
        gone,
    };
    for from in ["9.0.0.0/8", "fd01:b::/64"] {
        assert_meanings(
            &watched(),
            &[
                (Nothing, rule(from, 0, false)),
                (Pass, rule(from, 0, true)),
                (Nothing, rule(from, 32765, false)),
                (Pass, rule(from, 32765, true)),
                (Pass, rule(from, 32766, false)),
                (Nothing, rule(from, 32766, true)),
                (Pass, rule(from, 32767, false)),
            ],
        );
    }
    // In a family without a tunnel there are none.
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().addresses.truncate(1);
    let v4 = Watched::new(&desired, Some(INDEX), None, &[], None);
    assert_meanings(
        &v4,
        &[
            (Nothing, rule("9.0.0.0/8", 32765, false)),
            (Pass, rule("fd01:b::/64", 32765, false)),
        ],
    );
}

#[test]
fn addresses_of_the_device_are_those_of_the_vtep_in_both_families() {
    let address = |index, text: &str, tentative, gone| {
        let net = net(text);
        Event::Address {
            index,
            net,
            tentative,
            gone,
        }
    };
    assert_meanings(
        &watched(),
        &[
            (Nothing, address(INDEX, "fd01:a::1/64", false, false)),
            (Pass, address(INDEX, "fd01:a::1/64", false, true)),
            (Pass, address(INDEX, "fd01:a::1/80", false, false)),
            (Pass, address(INDEX, "44.128.0.1/16", false, false)),
            (Nothing, address(INDEX, "44.128.0.1/16", false, true)),
            (Nothing, address(9, "44.128.0.9/20", false, false)),
            // Of others than Docker's bridges it does not matter.
            (Nothing, address(INDEX, "fd01:a::1/64", true, false)),
            (Nothing, address(9, "fd01:c::1/64", true, false)),
        ],
    );
}

fn link(index: u32, name: &str, up: bool) -> Event {
    let kind = DeviceKind::Other("bridge".into());
    Event::Link {
        index,
        name: name.into(),
        kind,
        mac: mac(9),
        mtu: 1500,
        up,
        gone: false,
    }
}

#[test]
fn a_bridge_for_containers_has_to_be_there_up_and_with_its_addresses() {
    let mut watched = watched();
    let addresses = ["9.0.1.1/25", "fd01:b::1/81"].map(net);
    watched.watch_bridge("m-dcos", Some(20), addresses.into());
    watched.watch_bridge("m-other", None, addresses.into());
    let address = |index, text: &str, gone| {
        let net = net(text);
        Event::Address {
            index,
            net,
            tentative: false,
            gone,
        }
    };
    assert_meanings(
        &watched,
        &[
            (Nothing, link(20, "m-dcos", true)),
            (Pass, link(20, "m-dcos", false)),
            (Pass, link(21, "m-dcos", true)),
            (Pass, gone(link(20, "m-dcos", true))),
            // One that could not be made before is there.
            (Pass, link(22, "m-other", true)),
            (Nothing, link(23, "m-foreign", true)),
            (Pass, address(20, "9.0.1.1/25", true)),
            (Pass, address(20, "fd01:b::1/81", true)),
            (Nothing, address(20, "9.0.1.1/25", false)),
            // What else there is on it is for a comparison.
            (Nothing, address(20, "9.0.1.9/25", true)),
            (Nothing, address(20, "9.0.1.9/25", false)),
            (Nothing, address(21, "9.0.1.1/25", true)),
        ],
    );
}

#[test]
fn dockers_bridges_are_looked_after_when_they_come_with_addresses_that_wait() {
    let mut watched = watched();
    watched.watch_dockers("d-dcos", Some(30));
    watched.watch_dockers("d-other", None);
    let waits = |index, tentative, gone| {
        let net = net("fd01:b::8000:0:1/81");
        Event::Address {
            index,
            net,
            tentative,
            gone,
        }
    };
    assert_meanings(
        &watched,
        &[
            (Nothing, link(30, "d-dcos", true)),
            (Nothing, link(30, "d-dcos", false)),
            // Docker takes them away, and makes them anew.
            (Nothing, gone(link(30, "d-dcos", true))),
            (Pass, link(31, "d-dcos", true)),
            (Pass, link(32, "d-other", true)),
            (Nothing, gone(link(32, "d-other", true))),
            (Pass, waits(30, true, false)),
            (Nothing, waits(30, true, true)),
            (Nothing, waits(30, false, false)),
            (Nothing, waits(32, true, false)),
        ],
    );
}

#[test]
fn the_last_container_of_what_is_gone_is_waited_for() {
    let draining = |index| Draining {
        overlay: "gone".into(),
        gone: true,
        bridge: "m-gone".into(),
        index,
        containers: 1,
        subnets: Vec::new(),
        ranges: Vec::new(),
    };
    let watched = Watched::new(
        &desired(&[]),
        Some(INDEX),
        None,
        &[draining(40), draining(41)],
        None,
    );
    let port = |master, gone| Event::Port { master, gone };
    assert_meanings(
        &watched,
        &[
            (Pass, port(40, true)),
            (Pass, port(41, true)),
            (Nothing, port(40, false)),
            (Nothing, port(INDEX, true)),
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
        Event::Link {
            index,
            name: "eth0".into(),
            kind,
            mac: mac(9),
            mtu,
            up: true,
            gone,
        }
    };
    for backend in [Backend::Internal, Backend::External] {
        let desired = Desired {
            backend,
            ..desired(&[2])
        };
        let watched = Watched::new(&desired, Some(INDEX), Some(&eth0), &[], None);
        assert_meanings(
            &watched,
            &[
                (Nothing, link(2, 1500, false)),
                (Pass, link(2, 1499, false)),
                (Pass, link(2, 9000, false)),
                (Pass, link(2, 1500, true)),
                (Nothing, link(3, 1400, false)),
                (Look, Event::Setting),
            ],
        );
        let unknown = Watched::new(&desired, Some(INDEX), None, &[], None);
        assert_meanings(&unknown, &[(Nothing, link(2, 1400, false))]);
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
        Event::Link {
            index: INDEX,
            name,
            kind,
            mac: mac(1),
            mtu,
            up: true,
            gone,
        }
    };
    let right = vxlan(Some(1024), 64000, false, 1450, false);
    assert_meanings(
        &watched(),
        &[
            (Nothing, right),
            (Pass, vxlan(Some(1024), 64000, false, 1450, true)),
            (Pass, vxlan(Some(1024), 64000, false, 1449, false)),
            (Pass, vxlan(Some(1024), 64000, true, 1450, false)),
            (Pass, vxlan(Some(1025), 64000, false, 1450, false)),
            (Pass, vxlan(Some(1024), 4789, false, 1450, false)),
            (Pass, vxlan(None, 64000, false, 1450, false)),
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
    let fitted = Watched::new(&desired, Some(INDEX), Some(&eth0), &[], None);
    let of = |mtu| vxlan(Some(1024), 64000, false, mtu, false);
    assert_meanings(
        &fitted,
        &[(Nothing, of(1350)), (Pass, of(1351)), (Pass, of(1450))],
    );
    let unknown = Watched::new(&desired, Some(INDEX), None, &[], None);
    assert_meanings(&unknown, &[(Nothing, of(1350)), (Nothing, of(1450))]);
}

#[test]
fn a_device_that_looks_like_a_former_one_of_ours_goes() {
    let vxlan = |name: &str, vni, port| {
        let kind = DeviceKind::Vxlan {
            vni,
            port,
            learning: false,
        };
        Event::Link {
            index: 50,
            name: name.into(),
            kind,
            mac: mac(9),
            mtu: 1450,
            up: true,
            gone: false,
        }
    };
    assert_meanings(
        &watched(),
        &[
            (Pass, vxlan("vtep7", Some(7), 64000)),
            (Nothing, gone(vxlan("vtep7", Some(7), 64000))),
            (Nothing, vxlan("vtep7", Some(8), 64000)),
            (Nothing, vxlan("vtep7", Some(7), 4789)),
            (Nothing, vxlan("vtep7", None, 64000)),
            (Nothing, vxlan("vxlan7", Some(7), 64000)),
            (Nothing, link(51, "vtep7", true)),
        ],
    );
}

#[test]
fn nexthop_objects_are_compared_where_there_is_a_device() {
    let watched = watched();
    let over_none = |n, gone| match nexthop_event(n, n, PROTOCOL, INDEX, gone) {
        Event::Nexthop {
            id,
            via,
            protocol,
            gone,
            ..
        } => Event::Nexthop {
            id,
            index: None,
            via,
            protocol,
            gone,
        },
        other => other,
    };
    assert_meanings(
        &watched,
        &[
            (Pass, over_none(2, false)),
            (Nothing, nexthop_event(3, 3, 4, INDEX, true)),
        ],
    );
    // Without a device an object over no device is not the right one either.
    let without = Watched::new(&desired(&[2]), None, None, &[], None);
    assert_meanings(&without, &[(Pass, over_none(2, false))]);
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
        Event::Address {
            index,
            net,
            tentative: false,
            gone,
        }
    };
    let of_ip = |index, text: &str| Event::Neighbour {
        index,
        ip: ip(text),
        neighbour,
        gone: true,
    };
    let of_mac = |index, n| Event::Fdb {
        index,
        mac: mac(n),
        dst: ip("10.0.0.2"),
        entry,
        gone: false,
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
        Event::Rule {
            rule: Rule {
                from: net("9.0.0.0/8"),
                priority: 1,
            },
            gone: true,
        },
        Event::Port {
            master: 7,
            gone: true,
        },
        Event::Setting,
    ];
    assert!(several.iter().all(|event| event.object().is_none()));
}

/// The short way of a change of peers: only from one list that is known to another, and
/// only if nothing else changes.
mod short_way {
    use super::*;
    use overlay_core::host_api::desired::{Checksum, Firewall};

    fn change(from: &Desired, to: &Desired) -> Option<(u32, Vec<String>)> {
        let mut watched = Watched::new(from, Some(INDEX), None, &[], None);
        let (index, ops) = watched.change_peers(from, to)?;
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
            peers: Some(peers.collect()),
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
        other.peers = Some((3..103).map(super::peer).chain([super::peer(2)]).collect());
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
        for watched in [
            Watched::new(&from, None, None, &[], None),
            Watched::default(),
        ] {
            let mut watched = watched;
            assert_eq!(watched.change_peers(&from, &to), None);
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
            doubled.peers.as_mut().unwrap().insert(address, three);
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
        lame.peers.as_mut().unwrap().insert(address, three);
        assert_eq!(change(&desired(&[2]), &lame), None);
    }

    /// Something that is refused leaves behind what events are compared with as it was.
    #[test]
    fn changes_what_events_are_compared_with_only_if_it_is_taken() {
        let (from, to) = (desired(&[2]), desired(&[2, 3]));
        let three = changed_route("9.0.3.0/24", "44.128.0.3", |_| {});
        let mut watched = Watched::new(&from, Some(INDEX), None, &[], None);
        assert_eq!(
            watched.change_peers(
                &from,
                &Desired {
                    fit_mtu: true,
                    ..to.clone()
                }
            ),
            None
        );
        assert_meanings(&watched, &[(Pass, three.clone())]);
        assert!(watched.change_peers(&from, &to).is_some());
        assert_meanings(
            &watched,
            &[(Nothing, three.clone()), (Pass, gone(three.clone()))],
        );
        assert!(watched.change_peers(&to, &from).is_some());
        assert_meanings(&watched, &[(Pass, three)]);
    }
}
