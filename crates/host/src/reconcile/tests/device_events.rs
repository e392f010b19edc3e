//! Reactions to events of network devices, bridges and the underlay.

use std::collections::BTreeSet;

use overlay_core::host_api::desired::ContainerTable;
use overlay_core::host_api::usage::Containerizer;

use super::super::tests::*;
use super::events::{assert_reactions, change, changed_route, expected, nexthop_event, removed};
use Reaction::{Ignore, QuickCheck, Reconcile};

const INDEX: u32 = 7;

fn link(index: u32, name: &str, up: bool) -> Event {
    let kind = DeviceKind::Other("bridge".into());
    Event {
        subject: Subject::Link(Link {
            index,
            name: name.into(),
            kind,
            tunnel: Tunnel::default(),
            mac: mac(9),
            mtu: 1500,
            up,
        }),
        change: Change::Present,
    }
}

#[test]
fn a_bridge_of_mesos_must_exist_be_up_and_have_its_addresses() {
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
            // A bridge that could not be created before exists now.
            (Reconcile, link(22, "m-other", true)),
            (Ignore, link(23, "m-foreign", true)),
            (Reconcile, address(20, "9.0.1.1/25", true)),
            (Reconcile, address(20, "fd01:b::1/81", true)),
            (Ignore, address(20, "9.0.1.1/25", false)),
            // Other addresses are left to the next full comparison.
            (Ignore, address(20, "9.0.1.9/25", true)),
            (Ignore, address(20, "9.0.1.9/25", false)),
            (Ignore, address(21, "9.0.1.1/25", true)),
        ],
    );
}

#[test]
fn tentative_addresses_of_dockers_bridges_need_a_reconciliation() {
    let mut expected = super::events::expected();
    expected.add_docker_bridge("d-dcos", Some(30));
    expected.add_docker_bridge("d-other", None);
    let waits = |index, tentative, gone| {
        let net = net("fd01:b::1:8000:0:1/81");
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
            // Docker removes and creates them.
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
fn a_port_that_leaves_a_draining_bridge_needs_a_reconciliation() {
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
        &Default::default(),
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

/// The CNI configurations depend on the underlay's MTU even if another program manages the data
/// plane.
#[test]
fn the_underlay_must_be_as_measured() {
    let eth0 = Underlay::of_device(2, "eth0", 1500);
    let link = |index, mtu, gone| {
        let kind = DeviceKind::Other("hardware".into());
        Event {
            subject: Subject::Link(Link {
                index,
                name: "eth0".into(),
                kind,
                tunnel: Tunnel::default(),
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
        let expected = ExpectedState::new(
            &desired,
            Some(INDEX),
            Some(&eth0),
            &[],
            &Default::default(),
            None,
        );
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
        let unknown =
            ExpectedState::new(&desired, Some(INDEX), None, &[], &Default::default(), None);
        assert_reactions(&unknown, &[(Ignore, link(2, 1400, false))]);
    }
}

#[test]
fn the_device_must_match_in_every_property() {
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
                tunnel: Tunnel::default(),
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
    // Without a configured MTU the one of the underlay counts, or the kernel's choice.
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().mtu = None;
    let eth0 = Underlay::of_device(2, "eth0", 1400);
    let fitted = ExpectedState::new(
        &desired,
        Some(INDEX),
        Some(&eth0),
        &[],
        &Default::default(),
        None,
    );
    let of = |mtu| vxlan(Some(1024), 64000, false, mtu, false);
    assert_reactions(
        &fitted,
        &[
            (Ignore, of(1350)),
            (Reconcile, of(1351)),
            (Reconcile, of(1450)),
        ],
    );
    let unknown = ExpectedState::new(&desired, Some(INDEX), None, &[], &Default::default(), None);
    assert_reactions(&unknown, &[(Ignore, of(1350)), (Ignore, of(1450))]);
}

#[test]
fn a_device_that_looks_like_a_former_vtep_needs_a_reconciliation() {
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
                tunnel: Tunnel::default(),
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

/// The last event of an object counts, so different objects must have different identities.
#[test]
fn objects_are_told_apart() {
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
    // Objects of these kinds have no identity.
    let several = [
        changed_route("9.0.2.0/24", "44.128.0.2", |_| {}),
        Event {
            subject: Subject::Rule(Rule {
                from: net("9.0.0.0/8"),
                priority: 1,
                table: 42,
                protocol: PROTOCOL,
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

#[test]
fn ports_that_leave_and_ways_to_peers_need_a_look() {
    let mut expected = {
        let eth0 = Underlay::of_device(2, "eth0", 1500);
        let surroundings = Surroundings::default();
        let agent = Desired {
            underlay_ip: Some([10, 0, 0, 1].into()),
            ..desired(&[2])
        };
        ExpectedState::new(&agent, Some(INDEX), Some(&eth0), &[], &surroundings, None)
    };
    expected.add_mesos_bridge("m-dcos", Some(20), BTreeSet::new());
    expected.add_docker_bridge("d-dcos", Some(21));
    let present = |subject| Event {
        subject,
        change: Change::Present,
    };
    let gone = |subject| Event {
        subject,
        change: Change::Gone,
    };
    let port = |bridge| Subject::Port { bridge };
    let automatic = |dst: &str| Subject::AutomaticRoute { dst: net(dst) };
    let down = |index| {
        let mut event = link(index, "eth0", false);
        if let Subject::Link(link) = &mut event.subject {
            link.mtu = 1500;
        }
        event
    };
    let route = |dst: &str| changed_route(dst, "10.0.0.254", |route| route.protocol = 4);
    let other_device = |mut event: Event| {
        if let Subject::Route { index, .. } = &mut event.subject {
            *index = Some(2);
        }
        event
    };
    let address = |index, text: &str| Subject::Address {
        index,
        net: net(text),
        tentative: false,
    };
    for (clue, event) in [
        (Some(Clue::Ports), gone(port(20))),
        (Some(Clue::Ports), gone(port(21))),
        (None, present(port(20))),
        (None, gone(port(22))),
        // Peer 2 is 10.0.0.2.
        (Some(Clue::Underlay), present(automatic("10.0.0.0/24"))),
        (Some(Clue::Underlay), gone(automatic("10.0.0.2/32"))),
        (Some(Clue::Underlay), gone(automatic("0.0.0.0/0"))),
        (None, present(automatic("10.0.0.3/32"))),
        (None, present(automatic("::/0"))),
        (Some(Clue::Underlay), other_device(route("10.0.0.2/32"))),
        (None, other_device(route("10.0.1.0/24"))),
        (Some(Clue::Underlay), gone(address(2, "10.0.0.1/24"))),
        (None, present(address(2, "192.168.0.1/24"))),
        (None, present(address(2, "fd99::1/64"))),
        (Some(Clue::Underlay), down(2)),
        (None, down(3)),
        (Some(Clue::Underlay), present(Subject::ForeignRule)),
    ] {
        assert_eq!(expected.clue(&event), clue, "{event:?}");
        let least = clue.map_or(Ignore, |_| QuickCheck);
        assert!(expected.reaction(&event) >= least, "{event:?}");
    }
}

/// Routes in the configured table are no ways to peers, nor do rules for it lead to them.
#[test]
fn rules_and_routes_of_other_tables_need_a_look() {
    for (table, other) in [(42, 1042), (1042, 42)] {
        let agent = Desired {
            container_table: ContainerTable(table),
            ..desired(&[2])
        };
        let expected =
            ExpectedState::new(&agent, Some(INDEX), None, &[], &Default::default(), None);
        let rule = |table| {
            let rule = Rule {
                from: net("10.0.0.1/32"),
                priority: 100,
                table,
                protocol: 3,
            };
            Event {
                subject: Subject::Rule(rule),
                change: Change::Present,
            }
        };
        let route = |table| {
            let change = |route: &mut Route| {
                route.table = table;
                route.protocol = 4;
            };
            let mut event = changed_route("10.0.0.2/32", "10.0.0.254", change);
            if let Subject::Route { index, .. } = &mut event.subject {
                *index = Some(2);
            }
            event
        };
        for event in [rule(table), route(table)] {
            assert_eq!(expected.clue(&event), None, "{event:?}");
        }
        for event in [rule(other), rule(77), route(other), route(254)] {
            assert_eq!(expected.clue(&event), Some(Clue::Underlay), "{event:?}");
        }
    }
}

/// The kernel creates a device, and removes it when it cannot be set up.
#[test]
fn events_of_a_failed_attempt_are_expected() {
    let create = |expected: &mut ExpectedState| {
        expected.add_failed_device("vtep1024");
        expected.add_failed_device("m-dcos");
        expected.add_mesos_bridge("m-dcos", None, BTreeSet::new());
    };
    let mut failed = ExpectedState::new(&desired(&[2]), None, None, &[], &Default::default(), None);
    create(&mut failed);
    assert_reactions(
        &failed,
        &[
            (Ignore, removed(link(30, "vtep1024", true))),
            (Ignore, removed(link(31, "m-dcos", true))),
            // Somebody else creates it.
            (Reconcile, link(32, "vtep1024", true)),
            (Reconcile, link(33, "m-dcos", true)),
        ],
    );
}
