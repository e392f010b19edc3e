//! Masquerading: source addresses of packets inside and outside of the overlays.

use overlay_core::host_api::desired::{Desired, Firewall};
use testkit::host::{Host, net, overlay};

use crate::tool_set::{ToolSet, test_with};
use crate::topology::{MESOS, OUTSIDE, Topology, UPLINK, seen};

test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; addresses, super::only_traffic_to_the_outside_is_masqueraded);
test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; removal, super::only_own_rules_are_removed);
test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; changes, super::masquerading_follows_the_overlays);
test_with!(IptablesNft IptablesLegacy; predecessor, super::predecessors_rules_are_taken_over);
test_with!(IptablesNft IptablesLegacy; switching, super::backend_can_be_changed);

fn only_traffic_to_the_outside_is_masqueraded(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    topology.settle();
    topology.assert_addresses();
    let listing = topology.listing();
    assert_eq!(
        listing.contains("--match-set overlay dst"),
        tools.is_iptables(),
        "{listing}"
    );
    assert_eq!(
        listing.contains("table inet mesos_overlay"),
        !tools.is_iptables(),
        "{listing}"
    );
    // No rule is about the foreign network.
    assert_eq!(listing.matches("172.30.0").count(), 0, "{listing}");
    assert_eq!(
        topology.host.apply_ok(&topology.desired()),
        0,
        "packets must not make a difference"
    );
}

fn only_own_rules_are_removed(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let foreign: &[&str] = if tools == ToolSet::NftablesAlone {
        &[
            "nft add table inet mesos_overlay2",
            "nft add table ip operators",
        ]
    } else {
        &[
            "iptables -t nat -A POSTROUTING -s 172.30.0.0/24 -j MASQUERADE",
            "iptables -A FORWARD -s 172.30.0.7 -j DROP",
            "ip6tables -t nat -A POSTROUTING -s fd02::/64 -j MASQUERADE",
            "ipset create operators hash:net",
            "ipset add operators 10.9.0.0/16",
            "iptables -t nat -A POSTROUTING -s 10.7.0.0/16 -m set --match-set operators dst -j MASQUERADE",
            "nft add table ip operators",
        ]
    };
    foreign
        .iter()
        .for_each(|line| _ = topology.host.command(line));
    let before = topology.listing();
    topology.host.settle(&topology.desired());
    assert_ne!(topology.listing(), before);
    topology.clear();
    // Empty tables may stay.
    let is_there = |line: &&str| {
        before.contains(*line) || line.starts_with(['*', ':']) || line.contains("COMMIT")
    };
    let listing = topology.listing();
    let after: Vec<&str> = listing.lines().filter(|line| !is_there(line)).collect();
    assert!(after.iter().all(|line| is_empty_table(line)), "{after:#?}");
    for line in before.lines() {
        assert!(listing.contains(line), "{line} was removed");
    }
}

/// Tells if a line of `nft list ruleset` is about an empty table of iptables.
fn is_empty_table(line: &str) -> bool {
    let line = line.trim();
    [
        "table ip nat",
        "table ip6 nat",
        "table ip raw",
        "table ip6 raw",
        "table ip filter",
        "table ip6 filter",
        "chain ",
        "type ",
    ]
    .iter()
    .any(|beginning| line.starts_with(beginning))
        || line.is_empty()
        || line == "}"
}

fn masquerading_follows_the_overlays(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let mut desired = topology.desired();
    // Traffic to an overlay that contains the outside is not masqueraded.
    let mut second = overlay(1);
    second.ranges = vec![net("192.0.2.0/24"), net("2001:db8:1::/64")];
    second.subnets = vec![net("192.0.2.128/25")];
    (second.mesos_bridge, second.docker_bridge) = (None, None);
    topology.outside.ip("route add 9.0.0.0/8 via 192.0.2.1");
    topology
        .outside
        .ip("route add fd01:b::/64 via 2001:db8:1::1");
    topology.host.settle(&desired);
    let assert_source = |expected: [&str; 2]| {
        for family in 0..2 {
            assert_eq!(seen(&topology.mesos, OUTSIDE[family]), expected[family]);
        }
    };
    assert_source(UPLINK);
    desired.overlays.insert("second".into(), second);
    topology.host.settle(&desired);
    assert_source(MESOS);
    // A smaller range does not contain the outside any more.
    desired.overlays.get_mut("second").unwrap().ranges =
        vec![net("192.0.2.128/25"), net("2001:db8:1:0:1::/80")];
    topology.host.settle(&desired);
    assert_source(UPLINK);
    desired.overlays.get_mut("second").unwrap().ranges =
        vec![net("192.0.0.0/16"), net("2001:db8::/32")];
    topology.host.settle(&desired);
    assert_source(MESOS);
    desired.overlays.remove("second");
    topology.host.settle(&desired);
    assert_source(UPLINK);
    assert_eq!(topology.listing().matches("192.0.").count(), 0);
}

fn predecessors_rules_are_taken_over(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let host = &topology.host;
    let rule = "iptables -w -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE";
    let old_overlay = "iptables -w -t nat -A POSTROUTING -s 8.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE";
    for line in [
        "ipset create -exist overlay hash:net counters",
        "ipset add -exist overlay 0.0.0.0/1",
        "ipset add -exist overlay 128.0.0.0/1",
        "ipset add -exist overlay 9.0.0.0/8 nomatch",
        rule,
    ] {
        host.command(line);
    }
    let rules = || {
        let rules = host.command("iptables-save -t nat");
        rules.matches("--match-set overlay dst").count()
    };
    let desired = topology.desired();
    host.settle(&desired);
    assert_eq!(rules(), 1);
    assert_taken_over(host);
    // A predecessor that ran for longer leaves duplicate rules and rules of old overlays.
    let old_member = "ipset add overlay 8.0.0.0/8 nomatch";
    for line in [rule, old_overlay, old_overlay, old_member] {
        host.command(line);
    }
    assert_eq!(
        host.settle(&desired),
        1 + 1 + 2,
        "the set, one duplicate rule, two rules of an old overlay"
    );
    assert_eq!(rules(), 1);
    let listing = topology.listing();
    assert!(!listing.contains("8.0.0.0/8\n8.0"), "{listing}");
    topology.clear();
    assert_eq!(rules(), 0);
}

/// Asserts that the predecessor's set has its three members and no others.
fn assert_taken_over(host: &Host) {
    let members = host.command("ipset list overlay");
    let members: Vec<&str> = members
        .lines()
        .filter(|line| line.starts_with(char::is_numeric))
        .collect();
    assert_eq!(members.len(), 3, "{members:?}");
}

fn backend_can_be_changed(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    for firewall in [Firewall::Iptables, Firewall::Nftables, Firewall::Auto] {
        let desired = Desired {
            firewall,
            ..topology.desired()
        };
        topology.host.settle(&desired);
        let listing = topology.listing();
        let is_iptables = firewall != Firewall::Nftables;
        assert_eq!(
            listing.contains("--match-set overlay dst"),
            is_iptables,
            "{listing}"
        );
        assert_eq!(listing.contains("Name: overlay"), is_iptables, "{listing}");
        assert_eq!(
            listing.contains("table inet mesos_overlay"),
            !is_iptables,
            "{listing}"
        );
        assert_eq!(seen(&topology.mesos, OUTSIDE[0]), UPLINK[0]);
    }
}
