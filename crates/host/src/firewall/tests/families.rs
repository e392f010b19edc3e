//! What holds in each of the two families, and in one without the other.

use super::super::plan::Set;
use super::super::tests::*;
use crate::firewall::wanted::set_name;

/// One overlay, of which this host has subnets of these families.
fn desired_in(families: &[Family]) -> Desired {
    let mut desired = desired();
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    let subnet = |family: &Family| family.pick(net("9.0.1.0/24"), net("fd01:b:0:0:1::/80"));
    overlay.subnets = families.iter().map(subnet).collect();
    desired
}

fn wanted_in(families: &[Family]) -> Wanted {
    Wanted::of(&desired_in(families))
}

/// A host with these rules in both families.
fn host_with(rules: &str) -> Observed {
    let rules = Family::BOTH.map(|family| (family, Ruleset::parse(rules)));
    Observed {
        rules: rules.into(),
        uplinks: ["eth0".to_owned()].into(),
        ..Observed::default()
    }
}

/// Our set as it should be.
fn right(family: Family) -> Set {
    match family {
        Family::V4 => right_set(),
        Family::V6 => {
            let members =
                set(&[("::/1", false), ("8000::/1", false), ("fd01:b::/64", true)]).members;
            Set {
                kind: "hash:net".into(),
                family: 10,
                members,
            }
        }
    }
}

/// Our rule.
fn rule(family: Family) -> String {
    family.pick(
        RULE.to_owned(),
        "-s fd01:b::/64 -m set --match-set overlay6 dst -j MASQUERADE".to_owned(),
    )
}

/// A host that is right in both families.
fn settled() -> Observed {
    let rules = Family::BOTH.map(|family| {
        let rules = FRESH.replacen(
            "COMMIT",
            &format!("-A POSTROUTING {}\nCOMMIT", rule(family)),
            1,
        );
        (family, Ruleset::parse(&rules))
    });
    let sets = Family::BOTH.map(|family| (set_name(family).to_owned(), right(family)));
    Observed {
        rules: rules.into(),
        sets: sets.into(),
        ..host_with(FRESH)
    }
}

/// What is planned for one family, and for none in particular.
fn lines_of(family: Family, plan: &Plan) -> Vec<String> {
    let other = family.pick(["overlay6", "ip6tables"], ["overlay:", "iptables "]);
    let lines = lines(plan).into_iter();
    lines
        .filter(|line| !other.iter().any(|word| line.contains(word)))
        .collect()
}

#[test]
fn a_fresh_host_gets_a_set_and_a_rule_in_each_family_that_it_has_subnets_of() {
    let v6 = [
        "write ipset overlay6: ::/1 8000::/1 fd01:b::/64 nomatch".to_owned(),
        format!(
            "change a rule: ip6tables -t nat -A POSTROUTING {}",
            rule(Family::V6)
        ),
    ];
    let v4 = [
        "write ipset overlay: 0.0.0.0/1 9.0.0.0/8 nomatch 128.0.0.0/1".to_owned(),
        format!("change a rule: iptables -t nat -A POSTROUTING {RULE}"),
    ];
    let planned = |families: &[Family]| {
        lines(&plan(
            &wanted_in(families),
            Nat::Iptables,
            &host_with(FRESH),
        ))
    };
    assert_eq!(planned(&[Family::V6]), v6);
    assert_eq!(planned(&[Family::V4]), v4);
    assert_eq!(planned(&Family::BOTH), [v4, v6].concat());
    assert_eq!(planned(&[]), [""; 0]);
}

#[test]
fn what_is_right_in_both_families_stays_and_goes_family_by_family() {
    let observed = settled();
    assert_eq!(
        plan(&wanted_in(&Family::BOTH), Nat::Iptables, &observed),
        Plan::default()
    );
    for (stays, goes) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let (tool, set) = goes.pick(("iptables", "overlay"), ("ip6tables", "overlay6"));
        assert_eq!(
            lines(&plan(&wanted_in(&[stays]), Nat::Iptables, &observed)),
            [
                format!("change a rule: {tool} -t nat -D POSTROUTING {}", rule(goes)),
                format!("destroy ipset {set}")
            ]
        );
    }
}

/// What is somebody else's in one family is no matter of the other one.
#[test]
fn a_problem_of_one_family_holds_up_nothing_in_the_other() {
    for (bad, good) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let number = bad.pick(2, 10);
        let members = set(&[(bad.pick("10.0.0.0/8", "fd77::/16"), false)]).members;
        let foreign = Set {
            kind: "hash:net".into(),
            family: number,
            members,
        };
        let other_kind = Set {
            kind: "hash:ip".into(),
            ..right(bad)
        };
        let other_family = Set {
            family: good.pick(2, 10),
            ..right(bad)
        };
        for found in [foreign, other_kind, other_family] {
            let mut observed = host_with(FRESH);
            observed.sets.insert(set_name(bad).to_owned(), found);
            let plan = plan(&wanted_in(&Family::BOTH), Nat::Iptables, &observed);
            assert_eq!(
                plan.problems
                    .iter()
                    .map(|(family, _)| *family)
                    .collect::<Vec<_>>(),
                [bad]
            );
            assert_eq!(lines_of(bad, &plan), [""; 0]);
            assert_eq!(plan.ops.len(), 2, "{plan:?}");
            // And it stays when nothing is wanted any more.
            assert_eq!(
                super::plan(&Wanted::default(), Nat::Iptables, &observed),
                Plan::default()
            );
        }
    }
}

/// A set without what makes it ours is ours if our rules use it.
#[test]
fn a_set_that_our_rules_use_is_ours() {
    for family in Family::BOTH {
        let mut observed = settled();
        let members = set(&[(family.pick("10.0.0.0/8", "fd77::/16"), true)]).members;
        observed.sets.get_mut(set_name(family)).unwrap().members = members;
        let with = plan(&wanted_in(&Family::BOTH), Nat::Iptables, &observed);
        let members = right(family).members;
        assert_eq!(
            with.ops,
            [Op::WriteSet {
                family,
                members,
                exists: true
            }]
        );
        assert_eq!(with.problems, []);
        let without = lines_of(family, &plan(&Wanted::default(), Nat::Iptables, &observed));
        assert_eq!(
            without.last(),
            Some(&format!("destroy ipset {}", set_name(family)))
        );
        // An empty one nobody misses, and it is not ours to destroy.
        let mut empty = host_with(FRESH);
        empty.sets.insert(
            set_name(family).to_owned(),
            Set {
                members: BTreeMap::new(),
                ..right(family)
            },
        );
        let members = right(family).members;
        let with = plan(&wanted_in(&[family]), Nat::Iptables, &empty);
        assert_eq!(
            with.ops[0],
            Op::WriteSet {
                family,
                members,
                exists: true
            }
        );
        assert_eq!(
            plan(&Wanted::default(), Nat::Iptables, &empty),
            Plan::default()
        );
    }
}

#[test]
fn what_an_interrupted_swap_left_goes_first() {
    for (family, name) in [
        (Family::V4, "mesos-overlay-new"),
        (Family::V6, "mesos-overlay6-new"),
    ] {
        for wanted in [
            wanted_in(&[family]),
            wanted_in(&Family::BOTH),
            Wanted::default(),
        ] {
            let mut observed = host_with(FRESH);
            observed.sets.insert(name.to_owned(), right(family));
            let lines = lines_of(family, &plan(&wanted, Nat::Iptables, &observed));
            assert_eq!(lines[0], format!("destroy ipset {name}"));
        }
    }
    let names: Vec<&str> = sets::names().collect();
    assert_eq!(
        names,
        [
            "overlay",
            "mesos-overlay-new",
            "overlay6",
            "mesos-overlay6-new"
        ]
    );
}

#[test]
fn scripts_of_ipv6_make_sets_of_ipv6() {
    let members = right(Family::V6).members;
    assert_eq!(
        sets::script(Family::V6, &members, true),
        "create mesos-overlay6-new hash:net family inet6 counters\nadd mesos-overlay6-new ::/1\n\
         add mesos-overlay6-new 8000::/1\nadd mesos-overlay6-new fd01:b::/64 nomatch\n\
         swap mesos-overlay6-new overlay6\ndestroy mesos-overlay6-new\n"
    );
}

#[test]
fn a_table_of_nftables_holds_the_families_that_there_are() {
    let script = |families: &[Family]| nftables::Table::of(&wanted_in(families)).unwrap().script();
    let (v4, v6) = (
        "ip saddr @overlay ip daddr != @overlay masquerade\n",
        "ip6 saddr @overlay6 ip6 daddr != @overlay6 masquerade\n",
    );
    let set4 = "set overlay { type ipv4_addr; flags interval; elements = { 9.0.0.0/8 }; }\n";
    let set6 = "set overlay6 { type ipv6_addr; flags interval; elements = { fd01:b::/64 }; }\n";
    for (families, expected, missing) in [
        (&[Family::V4][..], vec![set4, v4], vec![set6, v6]),
        (&[Family::V6], vec![set6, v6], vec![set4, v4]),
        (&Family::BOTH, vec![set4, set6, v4, v6], vec![]),
    ] {
        let script = script(families);
        assert!(
            expected.iter().all(|line| script.contains(line)),
            "{script}"
        );
        assert!(
            !missing.iter().any(|line| script.contains(line)),
            "{script}"
        );
    }
    assert_eq!(nftables::Table::of(&wanted_in(&[])), None);
}

/// What `nft` says of a table for IPv6, with more in it.
fn listed(more: &str) -> nftables::Table {
    let matched = |op: &str, field: &str| {
        format!(
            r#"{{"match": {{"op": "{op}", "left": {{"payload": {{"protocol": "ip6", "field": "{field}"}}}},
            "right": "@overlay6"}}}}"#
        )
    };
    let text = format!(
        r#"{{"nftables": [{{"table": {{"family": "inet", "name": "mesos_overlay"}}}},
        {{"set": {{"name": "overlay6", "type": "ipv6_addr", "flags": ["interval"],
            "elem": [{{"prefix": {{"addr": "fd01:b::", "len": 64}}}}]}}}},
        {{"chain": {{"name": "postrouting", "type": "nat", "hook": "postrouting", "prio": 100,
            "policy": "accept"}}}},
        {{"rule": {{"chain": "postrouting", "expr": [{}, {}, {{"masquerade": null}}]}}}}{more}]}}"#,
        matched("==", "saddr"),
        matched("!=", "daddr"),
    );
    nftables::Table::parse(&text).unwrap()
}

#[test]
fn a_table_with_anything_more_or_less_is_written_anew() {
    let wanted = wanted_in(&[Family::V6]);
    let table = nftables::Table::of(&wanted).unwrap();
    assert_eq!(listed(""), table);
    for more in [
        r#", {"map": {"name": "more"}}"#,
        r#", {"rule": {"chain": "postrouting", "expr": [{"accept": null}]}}"#,
        r#", {"chain": {"name": "more"}}"#,
        r#", {"set": {"name": "more", "type": "ipv4_addr", "flags": ["interval"]}}"#,
        r#", {"set": {"name": "more", "type": "ipv4_addr"}}"#,
    ] {
        let observed = Observed {
            table: Some(listed(more)),
            ..host_with(FRESH)
        };
        assert_eq!(
            plan(&wanted, Nat::Nftables, &observed).ops,
            [Op::WriteTable(table.clone())],
            "{more}"
        );
        assert_eq!(
            plan(&Wanted::default(), Nat::Nftables, &observed).ops,
            [Op::DeleteTable],
            "{more}"
        );
    }
    // A family that comes or goes changes the table.
    for families in [&[Family::V4][..], &Family::BOTH] {
        let wanted = wanted_in(families);
        let observed = Observed {
            table: Some(table.clone()),
            ..host_with(FRESH)
        };
        let table = nftables::Table::of(&wanted).unwrap();
        assert_eq!(
            plan(&wanted, Nat::Nftables, &observed).ops,
            [Op::WriteTable(table)]
        );
    }
}

const DROPPING: &str = "*filter\n:FORWARD DROP [0:0]\n";

/// The lines for the table `filter` of one family.
fn filter_lines(family: Family, wanted: &Wanted, observed: &Observed) -> Vec<String> {
    let plan = plan(wanted, Nat::Nftables, observed);
    let lines = plan.ops.into_iter().filter_map(|op| match op {
        Op::Rule {
            family: of,
            table: "filter",
            line,
        } if of == family => Some(line),
        _ => None,
    });
    lines.collect()
}

/// Also where masquerading is written with nftables, and in IPv6 as in IPv4.
#[test]
fn the_way_is_opened_in_the_families_that_containers_have() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let (wanted, observed) = (wanted_in(&[family]), host_with(DROPPING));
        let lines = filter_lines(family, &wanted, &observed);
        let after = restore(DROPPING, &lines);
        assert!(
            after.contains("-A MESOS-OVERLAY-TO -o m-dcos -j ACCEPT\n"),
            "{after}"
        );
        assert!(
            after.contains("-A MESOS-OVERLAY-OUT -i m-dcos -o eth0 -j ACCEPT\n"),
            "{after}"
        );
        assert_eq!(filter_lines(family, &wanted, &host_with(&after)), [""; 0]);
        assert_eq!(filter_lines(other, &wanted, &observed), [""; 0]);
        // What was opened for the other one is closed.
        assert!(!filter_lines(other, &wanted, &host_with(&after)).is_empty());
    }
}

/// A way to the outside by a device of ours is none.
#[test]
fn the_outside_is_not_behind_our_own_devices() {
    let mut observed = host_with(DROPPING);
    observed.uplinks = ["eth0", "d-dcos", "m-dcos", "vtep1024"]
        .map(str::to_owned)
        .into();
    let lines = filter_lines(Family::V4, &wanted_in(&[Family::V4]), &observed);
    let out: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("-i m-dcos -o "))
        .collect();
    assert_eq!(out, ["-A MESOS-OVERLAY-OUT -i m-dcos -o eth0 -j ACCEPT"]);
}

/// Rules of somebody who moved, doubled or half removed what is ours.
#[test]
fn one_jump_stands_where_it_has_to() {
    let wanted = wanted_in(&[Family::V4]);
    let head = "*filter\n:FORWARD ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n";
    let host = host_with(head);
    let right = restore(head, &filter_lines(Family::V4, &wanted, &host));
    let ours: String = right
        .lines()
        .filter(|line| line.contains("MESOS-OVERLAY") && !line.contains(JUMP))
        .fold(String::new(), |all, line| format!("{all}{line}\n"));
    let jump = format!("-A DOCKER-USER {JUMP}\n");
    let (own, end) = (
        "-A DOCKER-USER -s 9.0.1.9/32 -j DROP\n",
        "-A DOCKER-USER -j RETURN\n",
    );
    let expected = format!("{own}{jump}{end}");
    let decides = "-A DOCKER-USER -j DROP\n";
    for found in [
        [own, end, &jump, ""],
        [own, &jump, &jump, end],
        [&jump, own, &jump, end],
        [&jump, own, end, &jump],
        [own, &jump, end, &jump],
    ] {
        let before = format!("{head}{ours}{}", found.concat());
        let after = restore(
            &before,
            &filter_lines(Family::V4, &wanted, &host_with(&before)),
        );
        assert!(after.contains(&expected), "{before}\n{after}");
        assert_eq!(after.matches(&jump).count(), 1, "{after}");
        assert_settled(&wanted, &after);
    }
    // An operator's last word stays the last.
    let before = format!("{head}{ours}{decides}{jump}");
    let after = restore(
        &before,
        &filter_lines(Family::V4, &wanted, &host_with(&before)),
    );
    assert!(after.contains(&format!("{jump}{decides}")), "{after}");
    // Where it stands early enough it stays.
    assert_settled(&wanted, &format!("{head}{ours}{jump}{own}{end}"));
}

/// Each of our chains goes, whatever is left of them.
#[test]
fn chains_that_nobody_needs_go() {
    for chain in ["MESOS-OVERLAY", "MESOS-OVERLAY-TO", "MESOS-OVERLAY-OUT"] {
        let before = format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n:{chain} - [0:0]\n-A {chain} -o lo -j ACCEPT\n"
        );
        for wanted in [Wanted::default(), wanted_in(&[Family::V4])] {
            let lines = filter_lines(Family::V4, &wanted, &host_with(&before));
            assert_eq!(lines, [format!("-F {chain}"), format!("-X {chain}")]);
        }
    }
}

#[test]
fn the_predecessors_hole_is_closed_in_its_family() {
    let filter = "*filter\n:FORWARD ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n\
                  -A FORWARD -j DOCKER-USER\n-A DOCKER-ISOLATION-STAGE-2 -j RETURN\n\
                  -A DOCKER-ISOLATION-STAGE-2 -j RETURN\n";
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let with = format!(
            "{filter}*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING {}\n",
            rule(family)
        );
        let observed = host_with(&with);
        let removals = |of| {
            let lines = filter_lines(of, &wanted_in(&Family::BOTH), &observed);
            lines
                .iter()
                .filter(|line| line.starts_with("-D DOCKER-ISOLATION-STAGE-2"))
                .count()
        };
        assert_eq!((removals(family), removals(other)), (1, 0));
    }
}

#[test]
fn what_is_wanted_follows_from_subnets_and_bridges() {
    let both = wanted_in(&Family::BOTH);
    assert_eq!(both.ranges, [net("9.0.0.0/8"), net("fd01:b::/64")].into());
    assert_eq!(wanted_in(&[Family::V6]).ranges, [net("fd01:b::/64")].into());
    let devices = |desired: &Desired| Vec::from_iter(Wanted::of(desired).devices);
    let mut desired = desired_in(&Family::BOTH);
    assert_eq!(devices(&desired), ["d-dcos", "m-dcos", "vtep1024"]);
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    overlay.ranges.push(net("::/0"));
    overlay.docker_bridge = None;
    assert_eq!(devices(&desired), ["m-dcos", "vtep1024"]);
    assert!(!Wanted::of(&desired).ranges.contains(&net("::/0")));
    desired.overlays.get_mut("dcos").unwrap().mesos_bridge = None;
    assert_eq!(devices(&desired), [""; 0], "the tunnel alone needs no way");
}
