//! Routes of others.

use std::collections::BTreeSet;

use super::super::observed::ForeignRoute;
use super::events::{expected_beside, gone, present};
use super::*;
use overlay_core::host_api::desired::ContainerTable;
use overlay_core::host_api::problem::Problem;

const STATIC: u8 = 4;
const KERNEL: u8 = 2;

/// A route of another device.
fn foreign(dst: &str, via: Option<&str>, metric: u32, protocol: u8) -> ForeignRoute {
    ForeignRoute {
        route: Route {
            dst: net(dst),
            via: via.map(ip),
            ..route("192.0.2.1", metric, protocol)
        },
        device: Some("eth0".into()),
    }
}

fn beside(mut observed: Observed, routes: &[ForeignRoute]) -> Observed {
    observed.kernel.as_mut().unwrap().foreign_routes = routes.iter().cloned().collect();
    observed
}

fn routes(lines: &[String]) -> Vec<&str> {
    let routes = lines.iter().map(String::as_str);
    routes.filter(|line| line.contains(" route ")).collect()
}

#[test]
fn no_route_of_ours_takes_the_place_of_another_one() {
    for (dst, found, told) in [
        (
            "9.0.2.0/24",
            foreign("9.0.2.0/24", None, 0, KERNEL),
            "9.0.2.0/24 dev eth0 proto kernel",
        ),
        (
            "9.0.2.0/24",
            foreign("9.0.2.0/24", Some("192.0.2.1"), 100, 16),
            "9.0.2.0/24 via 192.0.2.1 dev eth0 proto dhcp metric 100",
        ),
        (
            "fd01:b:0:0:2::/80",
            foreign("fd01:b:0:0:2::/80", Some("fe80::1"), 1024, STATIC),
            "fd01:b:0:0:2::/80 via fe80::1 dev eth0 proto static metric 1024",
        ),
        (
            "9.0.2.0/24",
            ForeignRoute {
                device: None,
                ..foreign("9.0.2.0/24", None, 0, 77)
            },
            "9.0.2.0/24 proto 77",
        ),
    ] {
        let desired = desired(&[2, 3]);
        let mut observed = beside(bare(), std::slice::from_ref(&found));
        let first = plan(&desired, &observed);
        let lines = lines(&first);
        assert!(
            !lines.iter().any(|line| line.contains(dst)),
            "{dst}: {lines:?}"
        );
        assert_eq!(routes(&lines).len(), 5, "{lines:?}");
        let problem = format!(
            "cannot add route {dst}: peer 10.0.0.2 has this subnet, but the route \"{told}\" is not ours, and stays; \
             remove it, or give the overlay another range"
        );
        assert_eq!(Problem::texts(&first.problems), [problem.as_str()]);
        assert_eq!(first.peer_problems, 1);
        apply(&first, &mut observed);
        assert_eq!(plan(&desired, &observed).ops, []);
        // A host on which ours came first gives way.
        let late = beside(converged(&desired), &[found]);
        let removed = plan(&desired, &late);
        let lines = super::lines(&removed);
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with(&format!("remove route {dst} via ")),
            "{lines:?}"
        );
        assert_eq!(Problem::texts(&removed.problems), [problem]);
    }
}

/// The removal of a route that the predecessor made into a range of former days is no news.
#[test]
fn the_removal_of_a_former_route_is_expected() {
    let former = Route {
        dst: net("10.64.3.0/24"),
        protocol: PROTOCOL_BOOT,
        ..route("44.128.0.2", 0, PROTOCOL_BOOT)
    };
    let surroundings = Surroundings {
        on_vtep: [former].into(),
        former_ranges: vec![net("10.64.0.0/16")],
        ..Surroundings::default()
    };
    let expected = ExpectedState::new(&desired(&[2]), Some(7), None, &[], &surroundings, None);
    let event = gone(Subject::Route {
        index: Some(7),
        route: former,
    });
    assert_eq!(expected.reaction(&event), Reaction::Ignore);
}

/// The bridge of a former subnet has it until its last container has ended.
#[test]
fn a_bridge_that_has_a_peers_subnet_is_told_by_name() {
    let on_bridge = |dst| ForeignRoute {
        device: Some("m-dcos".into()),
        ..foreign(dst, None, 0, KERNEL)
    };
    for (dst, told) in [
        (
            "9.0.2.0/24",
            "cannot add route 9.0.2.0/24: peer 10.0.0.2 has this subnet, but bridge m-dcos of this host still has \
             containers of subnet 9.0.2.0/24; end them",
        ),
        (
            "9.0.2.0/25",
            "a part of subnet 9.0.2.0/24 of peer 10.0.0.2 cannot be reached: bridge m-dcos of this host still has \
             containers of subnet 9.0.2.0/25; end them",
        ),
    ] {
        let desired = desired(&[2]);
        let observed = beside(bare(), &[on_bridge(dst)]);
        assert_eq!(Problem::texts(&plan(&desired, &observed).problems), [told]);
        let mut expected = expected_beside(&[on_bridge(dst)], BTreeSet::new());
        expected.add_mesos_bridge("m-dcos", Some(20), BTreeSet::new());
        let mut gateway: IpNet = net(dst);
        gateway = IpNet::new(ip("9.0.2.1"), gateway.prefix_len()).unwrap();
        let event = gone(Subject::Address {
            index: 20,
            net: gateway,
            tentative: false,
        });
        assert_eq!(expected.reaction(&event), Reaction::Reconcile);
    }
}

#[test]
fn a_peers_own_address_has_another_route_already() {
    let mut found = foreign("10.0.0.2/32", Some("192.0.2.1"), 0, STATIC);
    found.route.table = 42;
    let plan = plan(&desired(&[2]), &beside(bare(), &[found]));
    assert_eq!(
        Problem::texts(&plan.problems),
        [
            "containers of this host do not reach peer 10.0.0.2 itself through the tunnel: the route \"10.0.0.2/32 \
             via 192.0.2.1 dev eth0 proto static table 42\" is not ours, and stays"
        ]
    );
    assert!(!lines(&plan).iter().any(|line| line.contains("table 42 ")));
}

#[test]
fn a_route_into_a_part_of_a_subnet_is_reported() {
    let desired = desired(&[2]);
    let inner = foreign("9.0.2.128/25", None, 0, STATIC);
    // What contains subnets of peers, or lies beside them, takes nothing from them.
    let around = ["9.0.0.0/16", "9.0.3.0/24", "0.0.0.0/0"];
    let around = around.map(|dst| foreign(dst, None, 0, STATIC));
    let observed = beside(converged(&desired), &around);
    assert_eq!(plan(&desired, &observed), Plan::default());
    let plan = plan(&desired, &beside(observed, &[inner]));
    assert_eq!(plan.ops, []);
    assert_eq!(
        Problem::texts(&plan.problems),
        [
            "a part of subnet 9.0.2.0/24 of peer 10.0.0.2 cannot be reached: the route \"9.0.2.128/25 dev eth0 proto \
             static\" is not ours, and stays; remove it, or give the overlay another range"
        ]
    );
}

#[test]
fn an_operators_route_over_the_vtep_stays() {
    let desired = desired(&[2]);
    let mut observed = converged(&desired);
    let theirs = route("44.128.0.9", 0, STATIC);
    let routes = &mut device(&mut observed).routes;
    routes.retain(|route| route.dst != theirs.dst);
    routes.insert(theirs);
    let first = plan(&desired, &observed);
    assert_eq!(first.ops, []);
    let problem = &Problem::texts(&first.problems)[0];
    assert!(problem.contains("via 44.128.0.9 dev vtep1024 proto static\" is not ours"));
    // One that says the same as ours is as good, and nobody removes it with the peer.
    let routes = &mut device(&mut observed).routes;
    routes.remove(&theirs);
    routes.insert(route("44.128.0.2", 0, STATIC));
    assert_eq!(plan(&desired, &observed), Plan::default());
    let left = lines(&plan(&super::desired(&[]), &observed));
    assert!(
        !left.iter().any(|line| line.contains("9.0.2.0/24")),
        "{left:?}"
    );
}

#[test]
fn an_unmarked_route_is_the_predecessors_only_within_an_overlay() {
    let desired = desired(&[2]);
    let with = |dst: &str| {
        let mut observed = converged(&desired);
        device(&mut observed).routes.insert(Route {
            dst: net(dst),
            ..route("44.128.0.2", 0, PROTOCOL_BOOT)
        });
        lines(&plan(&desired, &observed))
    };
    assert_eq!(
        with("9.0.7.0/24"),
        ["remove route 9.0.7.0/24 via 44.128.0.2 dev vtep1024"]
    );
    assert_eq!(with("192.0.2.0/24"), [""; 0]);
    // An overlay that was removed while the predecessor did not run has a rule still.
    let mut observed = converged(&desired);
    observed.kernel.as_mut().unwrap().rules.insert(Rule {
        from: net("192.0.2.0/24"),
        priority: 32765,
        table: 42,
        protocol: PROTOCOL,
    });
    device(&mut observed).routes.insert(Route {
        dst: net("192.0.2.0/26"),
        ..route("44.128.0.2", 0, PROTOCOL_BOOT)
    });
    let lines = lines(&plan(&desired, &observed));
    assert!(lines.contains(&"remove route 192.0.2.0/26 via 44.128.0.2 dev vtep1024".to_owned()));
}

#[test]
fn a_change_of_a_peer_replaces_no_route_of_others() {
    let (from, to) = (desired(&[2]), desired(&[2, 3]));
    let new = foreign("9.0.3.0/24", None, 0, STATIC);
    let mut beside = expected_beside(&[new], BTreeSet::new());
    assert_eq!(beside.change_peers(&from, &to), None);
    // A route that is as good as ours is removed by its owner only.
    let theirs = route("44.128.0.2", 0, STATIC);
    let mut beside = expected_beside(&[], [theirs].into());
    assert_eq!(beside.change_peers(&from, &desired(&[])), None);
    let mut alone = expected_beside(&[], BTreeSet::new());
    let (_, ops) = alone.change_peers(&from, &to).unwrap();
    let replaces = |op: &Op| matches!(op, Op::SetRoute(_, NewRoute { replaces, .. }) if *replaces);
    assert!(!ops.iter().any(replaces), "{ops:?}");
}

#[test]
fn events_of_others_routes_count_where_ours_are() {
    let event = |dst: &str| Subject::Route {
        index: Some(2),
        route: foreign(dst, None, 0, STATIC).route,
    };
    let alone = expected_beside(&[], BTreeSet::new());
    let found = foreign("9.0.2.0/24", None, 0, STATIC);
    let inner = foreign("9.0.2.128/25", None, 0, STATIC);
    for (expected, dst, appears, disappears) in [
        (&alone, "9.0.2.0/24", Reaction::Reconcile, Reaction::Ignore),
        (&alone, "9.0.2.8/29", Reaction::Reconcile, Reaction::Ignore),
        (&alone, "9.0.3.0/24", Reaction::Ignore, Reaction::Ignore),
        (&alone, "9.0.0.0/16", Reaction::Ignore, Reaction::Ignore),
        (
            &expected_beside(&[found], BTreeSet::new()),
            "9.0.2.0/24",
            Reaction::Ignore,
            Reaction::Reconcile,
        ),
        (
            &expected_beside(&[inner], BTreeSet::new()),
            "9.0.2.128/25",
            Reaction::Ignore,
            Reaction::Reconcile,
        ),
    ] {
        assert_eq!(expected.reaction(&present(event(dst))), appears, "{dst}");
        assert_eq!(expected.reaction(&gone(event(dst))), disappears, "{dst}");
    }
}

#[test]
fn events_of_others_addresses_count_within_the_overlays() {
    let event = |net: &str| super::events::address(2, net);
    let alone = expected_beside(&[], BTreeSet::new());
    for (net, appears) in [
        ("9.0.2.7/25", Reaction::Reconcile),
        ("9.0.0.1/4", Reaction::Reconcile),
        ("44.128.0.9/32", Reaction::Reconcile),
        ("fd01:b::7/128", Reaction::Reconcile),
        ("192.168.1.7/24", Reaction::Ignore),
        // An address of a bridge of ours.
        ("9.0.1.1/25", Reaction::Ignore),
    ] {
        assert_eq!(alone.reaction(&present(event(net))), appears, "{net}");
        assert_eq!(alone.reaction(&gone(event(net))), Reaction::Ignore, "{net}");
    }
}

/// A rule of somebody else, for our table.
fn their_rule(from: &str, protocol: u8) -> Rule {
    Rule {
        from: net(from),
        priority: 1000,
        table: 42,
        protocol,
    }
}

#[test]
fn rules_of_others_stay() {
    let desired = desired(&[2]);
    let with = |rule| {
        let mut observed = converged(&desired);
        observed.kernel.as_mut().unwrap().rules.insert(rule);
        plan(&desired, &observed)
    };
    let found = with(their_rule("192.168.5.0/24", STATIC));
    assert_eq!(found.ops, []);
    assert_eq!(
        found.warnings,
        [
            "the rule \"from 192.168.5.0/24 lookup 42\" (priority 1000) of this host is not ours, and stays: its \
             packets follow our routes to peers, too; have it use another table, or set container_table of the \
             agent's configuration to one"
        ]
    );
    // Without a mark it may be the predecessor's, if it is about an overlay.
    assert_eq!(with(their_rule("192.168.5.0/24", PROTOCOL_BOOT)).ops, []);
    assert_eq!(
        lines(&with(their_rule("192.168.5.0/24", PROTOCOL))).len(),
        1
    );
    // A rule like ours is as good, whoever made it.
    assert_eq!(with(their_rule("9.0.0.0/8", STATIC)), Plan::default());
    let late = Rule {
        priority: 40000,
        ..their_rule("9.0.0.0/8", PROTOCOL_BOOT)
    };
    assert_eq!(
        lines(&with(late)),
        ["remove rule from 9.0.0.0/8 lookup 42 priority 40000"]
    );
    let late = Rule {
        protocol: STATIC,
        ..late
    };
    assert_eq!(with(late).ops, []);
}

#[test]
fn a_rule_of_a_former_overlay_is_known_by_its_bridge_and_cleanup_takes_all_unmarked_ones() {
    let mut observed = converged(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    kernel.rules.insert(their_rule("8.0.0.0/8", PROTOCOL_BOOT));
    kernel.rules.insert(their_rule("7.0.0.0/8", PROTOCOL_BOOT));
    kernel.rules.insert(their_rule("6.0.0.0/8", STATIC));
    let leftover = Leftover {
        addresses: [net("8.0.1.1/25")].into(),
        ..Leftover::default()
    };
    kernel.bridges.insert("m-old".into(), leftover);
    let removed = |removal| {
        let desired = Desired {
            removal,
            ..desired(&[2])
        };
        let lines = lines(&plan(&desired, &observed));
        lines.iter().filter(|line| line.contains("rule")).count()
    };
    assert_eq!(removed(Removal::Careful), 1);
    assert_eq!(removed(Removal::Thorough), 2);
    // An operator's bridge is not proved to be ours by an operator's rule.
    let mut observed = converged(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    kernel.rules.insert(their_rule("192.168.1.0/24", STATIC));
    let lan = Leftover {
        addresses: [net("192.168.1.1/24")].into(),
        ..Leftover::default()
    };
    kernel.bridges.insert("m-lan".into(), lan);
    assert_eq!(plan(&desired(&[2]), &observed).ops, []);
}

#[test]
fn another_table_takes_the_place_of_the_first_one() {
    let before = desired(&[2]);
    let after = Desired {
        container_table: ContainerTable(1042),
        ..desired(&[2])
    };
    let mut observed = converged(&before);
    let moved = plan(&after, &observed);
    let mut lines = lines(&moved);
    lines.sort();
    assert_eq!(
        lines,
        [
            "add route 10.0.0.2/32 via 44.128.0.2 table 1042 dev vtep1024",
            "add rule from 9.0.0.0/8 lookup 1042",
            "add rule from fd01:b::/64 lookup 1042",
            "remove route 10.0.0.2/32 via 44.128.0.2 table 42 dev vtep1024",
            "remove rule from 9.0.0.0/8 lookup 42 priority 32765",
            "remove rule from fd01:b::/64 lookup 42 priority 32765",
        ]
    );
    apply(&moved, &mut observed);
    assert_eq!(plan(&after, &observed), Plan::default());
    assert_eq!(observed, converged(&after));
}

#[test]
fn a_wide_route_of_others_in_our_table_is_reported() {
    let mut found = foreign("0.0.0.0/0", Some("192.0.2.1"), 0, STATIC);
    found.route.table = 42;
    let desired = desired(&[2]);
    let mut aside = found.clone();
    aside.route.dst = net("192.168.8.0/24");
    let with_aside = beside(converged(&desired), &[aside]);
    assert_eq!(plan(&desired, &with_aside), Plan::default());
    let plan = plan(&desired, &beside(converged(&desired), &[found]));
    assert_eq!(plan.ops, []);
    assert_eq!(
        Problem::texts(&plan.problems),
        [
            "containers' packets follow the route \"0.0.0.0/0 via 192.0.2.1 dev eth0 proto static table 42\", which is \
             not ours, and stays: remove it, or set container_table of the agent's configuration to an unused table"
        ]
    );
}

#[test]
fn events_of_others_rules_are_ignored() {
    let expected = expected_beside(&[], BTreeSet::new());
    for (rule, reaction) in [
        (their_rule("192.168.5.0/24", STATIC), Reaction::Ignore),
        (
            their_rule("192.168.5.0/24", PROTOCOL_BOOT),
            Reaction::Ignore,
        ),
        (their_rule("192.168.5.0/24", PROTOCOL), Reaction::Reconcile),
        (
            Rule {
                table: 43,
                ..their_rule("9.0.0.0/8", STATIC)
            },
            Reaction::Ignore,
        ),
    ] {
        assert_eq!(expected.reaction(&present(Subject::Rule(rule))), reaction);
    }
}
