//! Tests that both address families are treated alike and independently.

use super::super::tests::*;

/// Returns the desired state with one overlay that has subnets of these families.
fn desired_in(families: &[Family]) -> Desired {
    let mut desired = desired();
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    let subnet = |family: &Family| family.pick(net("9.0.1.0/24"), net("fd01:b:0:0:1::/80"));
    overlay.subnets = families.iter().map(subnet).collect();
    desired
}

fn desired_firewall(families: &[Family]) -> FirewallDesired {
    FirewallDesired::from_host(&desired_in(families))
}

/// Returns a host with these rules in both families.
fn host_with(rules: &str) -> Observed {
    let rules = Family::BOTH.map(|family| (family, Ruleset::parse(rules)));
    Observed {
        rules: rules.into(),
        uplinks: ["eth0".to_owned()].into(),
        ..Observed::default()
    }
}

/// Returns our set of one family with the desired members.
fn own_set(family: Family) -> IpSet {
    match family {
        Family::V4 => desired_set(),
        Family::V6 => {
            let members = set(&[
                ("::/1", Membership::Match),
                ("8000::/1", Membership::Match),
                ("fd01:b::/64", Membership::NoMatch),
            ])
            .members;
            IpSet {
                kind: "hash:net".into(),
                family: 10,
                members,
            }
        }
    }
}

/// Returns our masquerading rule.
fn rule(family: Family) -> String {
    family.pick(
        RULE.to_owned(),
        "-s fd01:b::/64 -m set --match-set overlay6 dst -j MASQUERADE".to_owned(),
    )
}

/// Returns a host that matches the desired state in both families.
fn matching_host() -> Observed {
    let rules = Family::BOTH.map(|family| {
        let rules = FRESH.replacen(
            "COMMIT",
            &format!("-A POSTROUTING {}\nCOMMIT", rule(family)),
            1,
        );
        (family, Ruleset::parse(&rules))
    });
    let sets = Family::BOTH.map(|family| (set_name(family).to_owned(), own_set(family)));
    Observed {
        rules: rules.into(),
        sets: sets.into(),
        ..host_with(FRESH)
    }
}

/// Returns the planned operations without those of the other family.
fn lines_of(family: Family, plan: &Plan) -> Vec<String> {
    let other = family.pick(["overlay6", "ip6tables"], ["overlay:", "iptables "]);
    let lines = lines(plan).into_iter();
    lines
        .filter(|line| !other.iter().any(|word| line.contains(word)))
        .collect()
}

#[test]
fn fresh_host_gets_a_set_and_a_rule_in_each_family_with_subnets() {
    let v6 = [
        "write ipset overlay6: ::/1 8000::/1 fd01:b::/64 nomatch".to_owned(),
        format!(
            "change rule: ip6tables -t nat -A POSTROUTING {}",
            rule(Family::V6)
        ),
    ];
    let v4 = [
        "write ipset overlay: 0.0.0.0/1 9.0.0.0/8 nomatch 128.0.0.0/1".to_owned(),
        format!("change rule: iptables -t nat -A POSTROUTING {RULE}"),
    ];
    let planned = |families: &[Family]| {
        lines(&plan(
            &desired_firewall(families),
            NatBackend::Iptables,
            &host_with(FRESH),
        ))
    };
    assert_eq!(planned(&[Family::V6]), v6);
    assert_eq!(planned(&[Family::V4]), v4);
    assert_eq!(planned(&Family::BOTH), [v4, v6].concat());
    assert_eq!(planned(&[]), [""; 0]);
}

#[test]
fn families_are_kept_and_removed_independently() {
    let observed = matching_host();
    assert_eq!(
        plan(
            &desired_firewall(&Family::BOTH),
            NatBackend::Iptables,
            &observed
        ),
        Plan::default()
    );
    for (kept, removed) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let (tool, set) = removed.pick(("iptables", "overlay"), ("ip6tables", "overlay6"));
        assert_eq!(
            lines(&plan(
                &desired_firewall(&[kept]),
                NatBackend::Iptables,
                &observed
            )),
            [
                format!(
                    "change rule: {tool} -t nat -D POSTROUTING {}",
                    rule(removed)
                ),
                format!("destroy ipset {set}")
            ]
        );
    }
}

/// A set of another program in one family does not affect the other family.
#[test]
fn problem_of_one_family_does_not_affect_the_other() {
    for (bad, good) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let number = bad.pick(2, 10);
        let members = set(&[(bad.pick("10.0.0.0/8", "fd77::/16"), Membership::Match)]).members;
        let foreign = IpSet {
            kind: "hash:net".into(),
            family: number,
            members,
        };
        let other_kind = IpSet {
            kind: "hash:ip".into(),
            ..own_set(bad)
        };
        let other_family = IpSet {
            family: good.pick(2, 10),
            ..own_set(bad)
        };
        for found in [foreign, other_kind, other_family] {
            let mut observed = host_with(FRESH);
            observed.sets.insert(set_name(bad).to_owned(), found);
            let plan = plan(
                &desired_firewall(&Family::BOTH),
                NatBackend::Iptables,
                &observed,
            );
            assert_eq!(
                plan.problems
                    .iter()
                    .map(|problem| problem.family)
                    .collect::<Vec<_>>(),
                [bad]
            );
            assert_eq!(lines_of(bad, &plan), [""; 0]);
            assert_eq!(plan.ops.len(), 2, "{plan:?}");
            // The set also stays when nothing is desired any more.
            assert_eq!(
                super::plan(&FirewallDesired::default(), NatBackend::Iptables, &observed),
                Plan::default()
            );
        }
    }
}

/// A set with other members than ours is still ours if our rules use it.
#[test]
fn set_that_our_rules_use_is_ours() {
    for family in Family::BOTH {
        let mut observed = matching_host();
        let members = set(&[(family.pick("10.0.0.0/8", "fd77::/16"), Membership::NoMatch)]).members;
        observed.sets.get_mut(set_name(family)).unwrap().members = members;
        let with = plan(
            &desired_firewall(&Family::BOTH),
            NatBackend::Iptables,
            &observed,
        );
        let members = own_set(family).members;
        assert_eq!(
            with.ops,
            [Op::WriteSet {
                family,
                members,
                write: SetWrite::Replace
            }]
        );
        assert_eq!(with.problems, []);
        let without = lines_of(
            family,
            &plan(&FirewallDesired::default(), NatBackend::Iptables, &observed),
        );
        assert_eq!(
            without.last(),
            Some(&format!("destroy ipset {}", set_name(family)))
        );
    }
}

/// An empty set may be overwritten, but is not ours to destroy.
#[test]
fn empty_set_is_taken_over() {
    for family in Family::BOTH {
        let mut observed = host_with(FRESH);
        let empty = IpSet {
            members: BTreeMap::new(),
            ..own_set(family)
        };
        observed.sets.insert(set_name(family).to_owned(), empty);
        let desired = desired_firewall(&[family]);
        let with = plan(&desired, NatBackend::Iptables, &observed);
        let write = Op::WriteSet {
            family,
            members: own_set(family).members,
            write: SetWrite::Replace,
        };
        assert_eq!(with.ops[0], write);
        let without = plan(&FirewallDesired::default(), NatBackend::Iptables, &observed);
        assert_eq!(without, Plan::default());
    }
}

#[test]
fn set_of_an_interrupted_swap_is_destroyed_first() {
    for (family, name) in [
        (Family::V4, "mesos-overlay-new"),
        (Family::V6, "mesos-overlay6-new"),
    ] {
        for desired in [
            desired_firewall(&[family]),
            desired_firewall(&Family::BOTH),
            FirewallDesired::default(),
        ] {
            let mut observed = host_with(FRESH);
            observed.sets.insert(name.to_owned(), own_set(family));
            let lines = lines_of(family, &plan(&desired, NatBackend::Iptables, &observed));
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
fn script_of_ipv6_creates_a_set_of_ipv6() {
    let members = own_set(Family::V6).members;
    assert_eq!(
        sets::script(Family::V6, &members, SetWrite::Replace),
        "create mesos-overlay6-new hash:net family inet6 counters\nadd mesos-overlay6-new ::/1\n\
         add mesos-overlay6-new 8000::/1\nadd mesos-overlay6-new fd01:b::/64 nomatch\n\
         swap mesos-overlay6-new overlay6\ndestroy mesos-overlay6-new\n"
    );
}

#[test]
fn nftables_table_has_the_families_with_subnets() {
    let script = |families: &[Family]| {
        nftables::Table::from_desired(&desired_firewall(families))
            .unwrap()
            .script()
    };
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
    assert_eq!(nftables::Table::from_desired(&desired_firewall(&[])), None);
}

/// Parses the output of `nft` for the IPv6 table with additional objects.
fn parsed_table(more: &str) -> nftables::Table {
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
fn table_with_other_content_is_replaced() {
    let desired = desired_firewall(&[Family::V6]);
    let table = nftables::Table::from_desired(&desired).unwrap();
    assert_eq!(parsed_table(""), table);
    for more in [
        r#", {"map": {"name": "more"}}"#,
        r#", {"rule": {"chain": "postrouting", "expr": [{"accept": null}]}}"#,
        r#", {"chain": {"name": "more"}}"#,
        r#", {"set": {"name": "more", "type": "ipv4_addr", "flags": ["interval"]}}"#,
        r#", {"set": {"name": "more", "type": "ipv4_addr"}}"#,
    ] {
        let observed = Observed {
            table: Some(parsed_table(more)),
            ..host_with(FRESH)
        };
        assert_eq!(
            plan(&desired, NatBackend::Nftables, &observed).ops,
            [Op::WriteTable(table.clone())],
            "{more}"
        );
        assert_eq!(
            plan(&FirewallDesired::default(), NatBackend::Nftables, &observed).ops,
            [Op::DeleteTable],
            "{more}"
        );
    }
    // Adding or removing a family changes the table.
    for families in [&[Family::V4][..], &Family::BOTH] {
        let desired = desired_firewall(families);
        let observed = Observed {
            table: Some(table.clone()),
            ..host_with(FRESH)
        };
        let table = nftables::Table::from_desired(&desired).unwrap();
        assert_eq!(
            plan(&desired, NatBackend::Nftables, &observed).ops,
            [Op::WriteTable(table)]
        );
    }
}

const DROPPING: &str = "*filter\n:FORWARD DROP [0:0]\n";

/// Returns the planned lines of the table `filter` of one family.
fn filter_lines(family: Family, desired: &FirewallDesired, observed: &Observed) -> Vec<String> {
    let plan = plan(desired, NatBackend::Nftables, observed);
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

/// Forwarding is written with iptables, also if masquerading is written with nftables.
#[test]
fn forwarding_is_accepted_in_the_families_with_subnets() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let (desired, observed) = (desired_firewall(&[family]), host_with(DROPPING));
        let lines = filter_lines(family, &desired, &observed);
        let after = restore(DROPPING, &lines);
        assert!(
            after.contains("-A MESOS-OVERLAY-TO -o m-dcos -j ACCEPT\n"),
            "{after}"
        );
        assert!(
            after.contains("-A MESOS-OVERLAY-OUT -i m-dcos -o eth0 -j ACCEPT\n"),
            "{after}"
        );
        assert_eq!(filter_lines(family, &desired, &host_with(&after)), [""; 0]);
        assert_eq!(filter_lines(other, &desired, &observed), [""; 0]);
        // Chains in the other family are removed.
        assert!(!filter_lines(other, &desired, &host_with(&after)).is_empty());
    }
}

/// A default route through an overlay device does not make it an uplink.
#[test]
fn overlay_devices_are_no_uplinks() {
    let mut observed = host_with(DROPPING);
    observed.uplinks = ["eth0", "d-dcos", "m-dcos", "vtep1024"]
        .map(str::to_owned)
        .into();
    let lines = filter_lines(Family::V4, &desired_firewall(&[Family::V4]), &observed);
    let out: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("-i m-dcos -o "))
        .collect();
    assert_eq!(out, ["-A MESOS-OVERLAY-OUT -i m-dcos -o eth0 -j ACCEPT"]);
}

/// Each case is a chain in which another program moved or duplicated our jump.
#[test]
fn there_is_one_jump_in_the_right_position() {
    let desired = desired_firewall(&[Family::V4]);
    let head = "*filter\n:FORWARD ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n";
    let host = host_with(head);
    let correct = restore(head, &filter_lines(Family::V4, &desired, &host));
    let own_chains: String = correct
        .lines()
        .filter(|line| line.contains("MESOS-OVERLAY") && !line.contains(JUMP))
        .fold(String::new(), |all, line| format!("{all}{line}\n"));
    let jump = format!("-A DOCKER-USER {JUMP}\n");
    let (own, end) = (
        "-A DOCKER-USER -s 9.0.1.9/32 -j DROP\n",
        "-A DOCKER-USER -j RETURN\n",
    );
    let expected = format!("{own}{jump}{end}");
    let drop_all = "-A DOCKER-USER -j DROP\n";
    for found in [
        [own, end, &jump, ""],
        [own, &jump, &jump, end],
        [&jump, own, &jump, end],
        [&jump, own, end, &jump],
        [own, &jump, end, &jump],
    ] {
        let before = format!("{head}{own_chains}{}", found.concat());
        let after = restore(
            &before,
            &filter_lines(Family::V4, &desired, &host_with(&before)),
        );
        assert!(after.contains(&expected), "{before}\n{after}");
        assert_eq!(after.matches(&jump).count(), 1, "{after}");
        assert_no_changes(&desired, &after);
    }
    // The jump goes in front of an operator's final DROP.
    let before = format!("{head}{own_chains}{drop_all}{jump}");
    let after = restore(
        &before,
        &filter_lines(Family::V4, &desired, &host_with(&before)),
    );
    assert!(after.contains(&format!("{jump}{drop_all}")), "{after}");
    // A jump that is early enough is not moved.
    assert_no_changes(&desired, &format!("{head}{own_chains}{jump}{own}{end}"));
}

#[test]
fn each_unneeded_chain_is_removed() {
    for chain in ["MESOS-OVERLAY", "MESOS-OVERLAY-TO", "MESOS-OVERLAY-OUT"] {
        let before = format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n:{chain} - [0:0]\n-A {chain} -o lo -j ACCEPT\n"
        );
        for desired in [FirewallDesired::default(), desired_firewall(&[Family::V4])] {
            let lines = filter_lines(Family::V4, &desired, &host_with(&before));
            assert_eq!(lines, [format!("-F {chain}"), format!("-X {chain}")]);
        }
    }
}

#[test]
fn isolation_is_restored_in_the_predecessors_family() {
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
            let lines = filter_lines(of, &desired_firewall(&Family::BOTH), &observed);
            lines
                .iter()
                .filter(|line| line.starts_with("-D DOCKER-ISOLATION-STAGE-2"))
                .count()
        };
        assert_eq!((removals(family), removals(other)), (1, 0));
    }
}

#[test]
fn desired_state_follows_from_subnets_and_bridges() {
    let both = desired_firewall(&Family::BOTH);
    assert_eq!(both.ranges, [net("9.0.0.0/8"), net("fd01:b::/64")].into());
    assert_eq!(
        desired_firewall(&[Family::V6]).ranges,
        [net("fd01:b::/64")].into()
    );
    let devices = |desired: &Desired| Vec::from_iter(FirewallDesired::from_host(desired).devices);
    let mut desired = desired_in(&Family::BOTH);
    assert_eq!(devices(&desired), ["d-dcos", "m-dcos", "vtep1024"]);
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    overlay.ranges.push(net("::/0"));
    overlay.docker_bridge = None;
    assert_eq!(devices(&desired), ["m-dcos", "vtep1024"]);
    assert!(
        !FirewallDesired::from_host(&desired)
            .ranges
            .contains(&net("::/0"))
    );
    desired.overlays.get_mut("dcos").unwrap().mesos_bridge = None;
    assert_eq!(
        devices(&desired),
        [""; 0],
        "the VTEP alone needs no forwarding"
    );
}
