//! Masquerading, shown with packets.

use overlay_core::host_api::desired::{Desired, Firewall};
use testkit::host::{Host, net, overlay};

use crate::site::{MESOS, OUTSIDE, Site, UPLINK, seen};
use crate::tools::{Tools, on};

on!(IptablesNft IptablesLegacy Nftables NftablesAlone; addresses, super::addresses_are_right);
on!(IptablesNft IptablesLegacy Nftables NftablesAlone; removal, super::nothing_is_left);
on!(IptablesNft IptablesLegacy Nftables NftablesAlone; changes, super::overlays_come_change_and_go);
on!(IptablesNft IptablesLegacy; predecessor, super::a_predecessors_rules_are_taken_over);
on!(IptablesNft IptablesLegacy; switching, super::one_takes_the_place_of_the_other);

fn addresses_are_right(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    site.settle();
    site.assert_addresses();
    let listing = site.listing();
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
    // The foreign network is none of our business.
    assert_eq!(listing.matches("172.30.0").count(), 0, "{listing}");
    assert_eq!(
        site.host.apply_ok(&site.desired()),
        0,
        "packets change nothing"
    );
}

fn nothing_is_left(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    let foreign: &[&str] = if tools == Tools::NftablesAlone {
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
    foreign.iter().for_each(|line| _ = site.host.command(line));
    let before = site.listing();
    site.host.settle(&site.desired());
    assert_ne!(site.listing(), before);
    site.clear();
    // Tables that nothing is in may stay.
    let is_there = |line: &&str| {
        before.contains(*line) || line.starts_with(['*', ':']) || line.contains("COMMIT")
    };
    let listing = site.listing();
    let after: Vec<&str> = listing.lines().filter(|line| !is_there(line)).collect();
    assert!(after.iter().all(|line| is_empty_table(line)), "{after:#?}");
    for line in before.lines() {
        assert!(listing.contains(line), "{line} is gone");
    }
}

/// Lines of `nft list ruleset` about the tables that iptables made and emptied.
fn is_empty_table(line: &str) -> bool {
    let line = line.trim();
    [
        "table ip nat",
        "table ip6 nat",
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

fn overlays_come_change_and_go(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    let mut desired = site.desired();
    // An overlay with the outside in it: its traffic is not masqueraded.
    let mut second = overlay(1);
    second.ranges = vec![net("192.0.2.0/24"), net("2001:db8:1::/64")];
    second.subnets = vec![net("192.0.2.128/25")];
    (second.mesos_bridge, second.docker_bridge) = (None, None);
    site.outside.ip("route add 9.0.0.0/8 via 192.0.2.1");
    site.outside.ip("route add fd01:b::/64 via 2001:db8:1::1");
    site.host.settle(&desired);
    let sees = |expected: [&str; 2]| {
        for family in 0..2 {
            assert_eq!(seen(&site.mesos, OUTSIDE[family]), expected[family]);
        }
    };
    sees(UPLINK);
    desired.overlays.insert("second".into(), second);
    site.host.settle(&desired);
    sees(MESOS);
    // It shrinks, so that the outside is outside of it again.
    desired.overlays.get_mut("second").unwrap().ranges =
        vec![net("192.0.2.128/25"), net("2001:db8:1:0:1::/80")];
    site.host.settle(&desired);
    sees(UPLINK);
    desired.overlays.get_mut("second").unwrap().ranges =
        vec![net("192.0.0.0/16"), net("2001:db8::/32")];
    site.host.settle(&desired);
    sees(MESOS);
    desired.overlays.remove("second");
    site.host.settle(&desired);
    sees(UPLINK);
    assert_eq!(site.listing().matches("192.0.").count(), 0);
}

fn a_predecessors_rules_are_taken_over(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    let rule = "iptables -w -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE";
    let gone = "iptables -w -t nat -A POSTROUTING -s 8.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE";
    for line in [
        "ipset create -exist overlay hash:net counters",
        "ipset add -exist overlay 0.0.0.0/1",
        "ipset add -exist overlay 128.0.0.0/1",
        "ipset add -exist overlay 9.0.0.0/8 nomatch",
        rule,
    ] {
        site.host.command(line);
    }
    let v4 = || {
        site.host
            .command("iptables-save -t nat")
            .matches("--match-set overlay dst")
            .count()
    };
    let mut desired = site.desired();
    site.host.settle(&desired);
    assert_eq!(v4(), 1);
    site.assert_taken_over();
    // As a predecessor leaves it that ran for longer: twice, and of old overlays.
    for line in [rule, gone, gone, "ipset add overlay 8.0.0.0/8 nomatch"] {
        site.host.command(line);
    }
    assert_eq!(
        site.host.settle(&desired),
        1 + 1 + 2,
        "the set, one rule that is there twice, two old ones"
    );
    assert_eq!(v4(), 1);
    assert!(
        !site.listing().contains("8.0.0.0/8\n8.0"),
        "{}",
        site.listing()
    );
    // Nothing of IPv4 has to be done where all of it is there already.
    desired
        .overlays
        .get_mut("dcos")
        .unwrap()
        .subnets
        .truncate(1);
    site.clear();
    assert_eq!(v4(), 0);
}

impl Site {
    fn assert_taken_over(&self) {
        let members = self.host.command("ipset list overlay");
        let members: Vec<&str> = members
            .lines()
            .filter(|line| line.starts_with(char::is_numeric))
            .collect();
        assert_eq!(members.len(), 3, "{members:?}");
    }
}

fn one_takes_the_place_of_the_other(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    for firewall in [Firewall::Iptables, Firewall::Nftables, Firewall::Auto] {
        let desired = Desired {
            firewall,
            ..site.desired()
        };
        site.host.settle(&desired);
        let listing = site.listing();
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
        assert_eq!(seen(&site.mesos, OUTSIDE[0]), UPLINK[0]);
    }
}
