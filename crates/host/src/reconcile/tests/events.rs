//! Reactions to events.

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
