//! Which events are a reason for a pass.

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
