//! Tests of the jumps in front of rules that drop packets, of the table `raw`, and of the chain that
//! keeps a host closed.

use super::super::fate;
use super::super::op::Others;
use super::super::tests::*;

const HEAD: &str =
    "*filter\n:FORWARD ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n:called - [0:0]\n:deep - [0:0]\n";

fn planned(rules: &str) -> String {
    let desired = FirewallDesired::from_host(&desired());
    let after = restore(rules, &changes(&desired, rules, "filter"));
    assert_eq!(changes(&desired, &after, "filter"), [""; 0], "{after}");
    after
}

/// Each case has rules of others, and the line of FORWARD or DOCKER-USER in front of which the jump
/// is expected.
#[test]
fn jump_is_in_front_of_what_drops_everything() {
    let cases = [
        (
            "-A called -j REJECT\n-A FORWARD -j called\n",
            "-A FORWARD -j called\n",
        ),
        (
            "-A deep -j DROP\n-A called -j deep\n-A FORWARD -j called\n",
            "-A FORWARD -j called\n",
        ),
        (
            "-A called -j DROP\n-A FORWARD -g called\n",
            "-A FORWARD -g called\n",
        ),
        (
            "-A FORWARD -m comment --comment \"a b\" -j DROP\n",
            "-A FORWARD -m comment --comment \"a b\" -j DROP\n",
        ),
        (
            "-A FORWARD ! -i eth9 -j DROP\n",
            "-A FORWARD ! -i eth9 -j DROP\n",
        ),
        (
            "-A FORWARD -p tcp -j REJECT\n",
            "-A FORWARD -p tcp -j REJECT\n",
        ),
        (
            "-A FORWARD -m conntrack --ctstate INVALID,NEW -j DROP\n",
            "-A FORWARD -m conntrack --ctstate INVALID,NEW -j DROP\n",
        ),
        // Rules that drop before Docker's chain for operators is reached.
        (
            "-A called -j REJECT\n-A FORWARD -j called\n-A FORWARD -j DOCKER-USER\n",
            "-A FORWARD -j called\n",
        ),
        (
            "-A called -j DROP\n-A DOCKER-USER -j called\n-A FORWARD -j DOCKER-USER\n",
            "-A DOCKER-USER -j called\n",
        ),
        // While Docker 28 starts, its own chain is in front.
        (
            ":DOCKER-FORWARD - [0:0]\n-A DOCKER-FORWARD -j DROP\n-A FORWARD -j DOCKER-FORWARD\n\
             -A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n",
            "-A DOCKER-USER -j RETURN\n",
        ),
    ];
    for (rules, before) in cases {
        let after = planned(&format!("{HEAD}{rules}"));
        let chain = before.split(' ').nth(1).unwrap();
        let jump = format!("-A {chain} {JUMP}\n");
        let jump = after.find(&jump).unwrap_or_else(|| panic!("{after}"));
        assert!(jump < after.find(before).unwrap(), "{after}");
    }
}

#[test]
fn particular_packets_may_be_dropped() {
    for rules in [
        "-A called -s 10.0.0.0/8 -j DROP\n-A FORWARD -j called\n",
        "-A FORWARD -p icmp -j DROP\n",
        "-A FORWARD -p tcp -m tcp --dport 25 -j DROP\n",
        "-A FORWARD -i m-dcos -o d-dcos -j DROP\n",
        "-A FORWARD -s 9.0.0.0/8 -j DROP\n",
        "-A called -j DROP\n-A FORWARD -i m-dcos -j called\n",
        "-A called -j RETURN\n-A called -j DROP\n-A FORWARD -j called\n",
        "-A called -j ACCEPT\n-A called -j DROP\n-A FORWARD -j called\n",
        "-A called -i eth9 -j DROP\n-A FORWARD -j called\n",
        "-A called -m conntrack --ctstate INVALID -j DROP\n-A FORWARD -j called\n",
        // A loop, which the kernel does not accept.
        "-A called -j deep\n-A deep -j called\n-A FORWARD -j called\n",
    ] {
        let before = format!("{HEAD}{rules}");
        assert_eq!(planned(&before), restore(&before, &[]), "{rules}");
    }
}

#[test]
fn packets_to_docker_are_accepted_in_front_of_its_rules_in_raw() {
    let desired = FirewallDesired::from_host(&desired());
    let changes = |rules: &str| changes(&desired, rules, "raw");
    let head = "*raw\n:PREROUTING ACCEPT [0:0]\n";
    let all = [
        ":MESOS-OVERLAY - [0:0]",
        ":MESOS-OVERLAY-TO - [0:0]",
        "-A MESOS-OVERLAY -i d-dcos -j MESOS-OVERLAY-TO",
        "-A MESOS-OVERLAY -i m-dcos -j MESOS-OVERLAY-TO",
        "-A MESOS-OVERLAY -i vtep1024 -j MESOS-OVERLAY-TO",
        "-A MESOS-OVERLAY-TO -d 9.0.1.128/25 -j ACCEPT",
    ];
    let chains = all.join("\n");
    let dockers = "-A PREROUTING -d 9.0.1.130/32 ! -i d-dcos -j DROP\n";
    let operators = "-A PREROUTING -s 192.0.2.0/24 -j DROP\n";
    let jump = format!("-A PREROUTING {JUMP}\n");
    for (found, number) in [
        (String::new(), 1),
        (dockers.to_owned(), 1),
        (format!("{operators}{dockers}"), 2),
        (operators.to_owned(), 2),
    ] {
        let insert = format!("-I PREROUTING {number} {JUMP}");
        let expected: Vec<&str> = all.iter().copied().chain([insert.as_str()]).collect();
        assert_eq!(changes(&format!("{head}{found}")), expected);
    }
    let right = |rules: &str| format!("{head}{chains}\n{rules}");
    assert_eq!(changes(&right(&format!("{jump}{dockers}"))), [""; 0]);
    assert_eq!(changes(&right(&format!("{jump}{operators}"))), [""; 0]);
    assert_eq!(
        changes(&right(&format!("{dockers}{jump}"))),
        [
            format!("-D PREROUTING {JUMP}"),
            format!("-I PREROUTING 1 {JUMP}")
        ]
    );
    let nothing = FirewallDesired::default();
    assert_eq!(
        super::super::tests::changes(&nothing, &right(&jump), "raw"),
        [
            &format!("-D PREROUTING {JUMP}"),
            "-F MESOS-OVERLAY",
            "-F MESOS-OVERLAY-TO",
            "-X MESOS-OVERLAY",
            "-X MESOS-OVERLAY-TO",
        ]
    );
}

/// Not every kernel has the table, and a host without Docker 28 needs no rules in it.
#[test]
fn failure_in_raw_is_none_of_the_overlays() {
    let rule = |table| Op::Rule {
        family: Family::V4,
        table,
        line: "-A a".into(),
    };
    assert!(matches!(rule("raw").scope(), crate::reconcile::Scope::Host));
    assert!(matches!(rule("nat").scope(), crate::reconcile::Scope::Ipv4));
    let same = super::super::tools::same_transaction;
    assert!(!same(&rule("filter"), &rule("raw")) && same(&rule("nat"), &rule("filter")));
}

#[test]
fn host_stays_closed_until_the_last_overlay_goes() {
    let open = FirewallDesired::from_host(&desired());
    let closed = FirewallDesired {
        closed: [Family::V4].into(),
        ..open.clone()
    };
    let before = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i eth0 -j ACCEPT\n";
    assert_no_changes(&open, before);
    let jump = "-A FORWARD -m comment --comment mesos-overlay -j MESOS-OVERLAY-OTHERS\n";
    let after = restore(before, &changes(&closed, before, "filter"));
    assert!(after.contains(&format!("-A FORWARD -i eth0 -j ACCEPT\n{jump}")));
    for rule in [
        "-i d-+ -j RETURN",
        "-i vtep+ -j RETURN",
        "-o m-+ -j RETURN\n-A MESOS-OVERLAY-OTHERS -o vtep+ -j RETURN\n-A MESOS-OVERLAY-OTHERS -j DROP",
    ] {
        assert!(
            after.contains(&format!("-A MESOS-OVERLAY-OTHERS {rule}\n")),
            "{after}"
        );
    }
    assert_no_changes(&closed, &after);
    // The chain is the mark that the next agent finds.
    assert_no_changes(&open, &after);
    // The jump is behind what others add, and in front of it there is room for the other jumps.
    let added = after.replace(jump, &format!("{jump}-A FORWARD -i eth1 -j ACCEPT\n"));
    let again = restore(&added, &changes(&open, &added, "filter"));
    assert!(again.contains(&format!("-A FORWARD -i eth1 -j ACCEPT\n{jump}")));
    let dropping = again.replace(":FORWARD ACCEPT", ":FORWARD DROP");
    let all = restore(&dropping, &changes(&open, &dropping, "filter"));
    assert!(all.contains("-j MESOS-OVERLAY-OUT\n") && all.contains(JUMP));
    assert!(all.find("-j MESOS-OVERLAY-OUT\n") < all.find(jump));
    assert_no_changes(&open, &all);
    let removal = changes(&FirewallDesired::default(), &all, "filter");
    assert!(!restore(&all, &removal).contains("MESOS"));
}

/// Somebody restored saved rules twice.
#[test]
fn doubled_jumps_are_removed() {
    let mut closed = FirewallDesired::from_host(&desired());
    closed.closed = [Family::V4].into();
    let before = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i eth0 -j ACCEPT\n";
    let right = restore(before, &changes(&closed, before, "filter"));
    let of_forward = |line: &&str| line.starts_with("-A FORWARD -m comment");
    let jumps: Vec<&str> = right.lines().filter(of_forward).collect();
    assert_eq!(jumps.len(), 3, "{right}");
    let [between, _, others] = jumps[..] else {
        panic!()
    };
    let alone: String = [between, others, between, others]
        .map(|jump| format!("{jump}\n"))
        .concat();
    let found = format!("*filter\n:FORWARD DROP [0:0]\n{alone}");
    let after = restore(&found, &changes(&closed, &found, "filter"));
    assert!(
        after.contains(&format!("{}\n", jumps.join("\n"))),
        "{after}"
    );
    assert_no_changes(&closed, &after);
}

/// Forwarding is turned on for every overlay with a bridge, also for one with all addresses.
#[test]
fn host_is_closed_for_every_overlay() {
    let mut host = desired();
    for overlay in host.overlays.values_mut() {
        overlay.docker_bridge = None;
        overlay.ranges = vec!["0.0.0.0/0".parse().unwrap()];
    }
    let closed = FirewallDesired {
        closed: Family::BOTH.into(),
        ..FirewallDesired::from_host(&host)
    };
    let before = "*filter\n:FORWARD ACCEPT [0:0]\n";
    let observed = Observed {
        rules: Family::BOTH
            .map(|family| (family, Ruleset::parse(before)))
            .into(),
        ..Observed::default()
    };
    let plan = super::super::plan::plan(&closed, NatBackend::Iptables, &observed);
    assert_eq!(plan.closes, [Family::V4].into(), "it has no IPv6");
    let after = restore(before, &changes(&closed, before, "filter"));
    assert!(after.contains("-j MESOS-OVERLAY-OTHERS\n"), "{after}");
    assert!(plan_of(&closed, &after).closes.is_empty());
}

#[test]
fn host_without_bridges_needs_no_firewall() {
    let mut host = desired();
    for overlay in host.overlays.values_mut() {
        (overlay.mesos_bridge, overlay.docker_bridge) = (None, None);
    }
    assert_eq!(
        FirewallDesired::from_host(&host),
        FirewallDesired::default()
    );
}

/// Forwarding stays on when the bridges go, and the next agent takes it for the operator's.
#[test]
fn host_stays_closed_without_bridges() {
    let closed = FirewallDesired {
        closed: [Family::V4].into(),
        ..FirewallDesired::from_host(&desired())
    };
    let before = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i eth0 -j ACCEPT\n";
    let all = restore(before, &changes(&closed, before, "filter"));
    let without = FirewallDesired {
        forwarded: [Family::V4].into(),
        ..FirewallDesired::default()
    };
    assert_no_changes(&without, before);
    let kept = restore(&all, &changes(&without, &all, "filter"));
    let own = kept.lines().filter(|line| line.contains("MESOS"));
    assert!(
        own.clone().count() > 2
            && own
                .clone()
                .all(|line| line.contains("MESOS-OVERLAY-OTHERS")),
        "{kept}"
    );
    assert_no_changes(&without, &kept);
    let removal = changes(&FirewallDesired::default(), &kept, "filter");
    assert!(!restore(&kept, &removal).contains("MESOS"), "not forwarded");
}

fn plan_of(desired: &FirewallDesired, rules: &str) -> Plan {
    super::super::plan::plan(desired, NatBackend::Iptables, &host(rules))
}

/// A device of an overlay can have any name.
#[test]
fn packets_of_every_device_pass_the_last_chain() {
    let mut closed = FirewallDesired::from_host(&desired());
    closed.closed = [Family::V4].into();
    closed.devices.insert("vxlan7".to_owned());
    let before = "*filter\n:FORWARD ACCEPT [0:0]\n";
    let after = restore(before, &changes(&closed, before, "filter"));
    for option in ["-i", "-o"] {
        let rule = format!("-A MESOS-OVERLAY-OTHERS {option} vxlan7 -j RETURN\n");
        assert!(after.contains(&rule), "{after}");
    }
}

#[test]
fn other_variant_is_an_obstacle_only_if_it_surely_drops() {
    let desired = FirewallDesired::from_host(&desired());
    let found = |rules: &str| {
        let observed = Observed {
            others: Others {
                rules: [(Family::V4, Ruleset::parse(rules))].into(),
                is_legacy: true,
                ..Others::default()
            },
            ..host(FRESH)
        };
        plan(&desired, NatBackend::Iptables, &observed).obstacles
    };
    for rules in [
        "",
        "-A FORWARD -m set --match-set known src -j ACCEPT\n-A FORWARD -j DROP\n",
        "-A FORWARD -s 9.0.0.0/8 -j ACCEPT\n-A FORWARD -j DROP\n",
        "-A FORWARD -i m-+ -j ACCEPT\n-A FORWARD -i d-+ -j ACCEPT\n-A FORWARD -i vtep+ -j ACCEPT\n\
         -A FORWARD -j DROP\n",
        "-A FORWARD -j NFQUEUE --queue-num 0\n-A FORWARD -j DROP\n",
    ] {
        let rules = format!("*filter\n:FORWARD ACCEPT [0:0]\n{rules}");
        assert_eq!(found(&rules), [], "{rules}");
    }
    for (rules, reason) in [
        (":FORWARD DROP [0:0]\n", "policy DROP of FORWARD"),
        (
            ":FORWARD ACCEPT [0:0]\n-A FORWARD -j LOG\n-A FORWARD -i m-+ -j ACCEPT\n-A FORWARD -j REJECT\n",
            "rule FORWARD -j REJECT",
        ),
    ] {
        let [obstacle] = &found(&format!("*filter\n{rules}"))[..] else {
            panic!("{rules}");
        };
        assert!(obstacle.sentence.contains(reason), "{}", obstacle.sentence);
    }
}

#[test]
fn rules_are_split_into_words() {
    let packet = fate::Packet {
        from: "a",
        to: "b",
        udp_port: None,
        ranges: &[],
        devices: &[],
        particular: None,
    };
    let judged = |rule: &str| fate::judge_iptables(rule, &packet);
    let rule = judged(r#"-m comment --comment "say \"no\" -j ACCEPT" -i a -j DROP"#);
    assert_eq!(
        (rule.applies, rule.action),
        (fate::Match::Yes, fate::Action::Drop)
    );
    let rule = judged("! -i a -o b -g other");
    assert_eq!(rule.applies, fate::Match::No);
    assert_eq!(rule.action, fate::Action::Goto("other".into()));
}
