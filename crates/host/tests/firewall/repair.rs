//! What somebody does to the firewall by hand, or a service that is restarted, is
//! undone by the next pass.

use std::time::{Duration, Instant};

use testkit::host::{Host, eventually, net};

use crate::site::{OUTSIDE, Site, UPLINK, seen};
use crate::tools::{Tools, on};

on!(IptablesNft IptablesLegacy Nftables NftablesAlone; by_hand, super::what_somebody_changes_comes_right);

const IPTABLES: &[&str] = &[
    "iptables -t nat -F POSTROUTING",
    "iptables -t nat -D POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE",
    "iptables -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE",
    "iptables -t nat -A POSTROUTING -s 7.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE",
    "ip6tables -t nat -F",
    "ipset del overlay 0.0.0.0/1",
    "ipset del overlay 9.0.0.0/8",
    "ipset add overlay 192.0.2.0/24 nomatch",
    "ipset add overlay 192.0.2.0/24",
    "ipset flush overlay",
    "ipset flush overlay6",
    "ipset del overlay6 fd01:b::/64",
    // What an interrupted pass may leave.
    "ipset create mesos-overlay-new hash:net counters",
];

const NFTABLES: &[&str] = &[
    "nft flush ruleset",
    "nft delete table inet mesos_overlay",
    "nft flush chain inet mesos_overlay postrouting",
    "nft flush set inet mesos_overlay overlay",
    "nft delete element inet mesos_overlay overlay6 { fd01:b::/64 }",
    "nft add element inet mesos_overlay overlay { 192.0.2.0/24 }",
    "nft add rule inet mesos_overlay postrouting ip saddr 7.0.0.0/8 masquerade",
    "nft insert rule inet mesos_overlay postrouting accept",
    "nft add chain inet mesos_overlay more",
    "nft add set inet mesos_overlay more { type ipv4_addr; }",
    "nft add chain inet mesos_overlay postrouting { policy drop; }",
];

fn what_somebody_changes_comes_right(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    let desired = site.desired();
    site.host.settle(&desired);
    let right = site.listing();
    for by_hand in if tools.is_iptables() {
        IPTABLES
    } else {
        NFTABLES
    } {
        site.host.command(by_hand);
        assert_ne!(
            site.host.apply_ok(&desired),
            0,
            "{by_hand}: there is nothing to do"
        );
        assert_eq!(
            site.host.apply_ok(&desired),
            0,
            "{by_hand}: there is something to do again"
        );
        assert_eq!(site.listing(), right, "{by_hand}");
    }
    assert_eq!(seen(&site.mesos, OUTSIDE[0]), UPLINK[0]);
    assert_eq!(seen(&site.mesos, OUTSIDE[1]), UPLINK[1]);
}

on!(IptablesNft IptablesLegacy Nftables NftablesAlone; kept, super::what_somebody_changes_comes_right_by_itself);

/// The same by somebody who looks after the host and takes the kernel's word for it
/// that nothing changed.
fn what_somebody_changes_comes_right_by_itself(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    let worker = site.host.worker();
    let desired = site.desired();
    worker.apply_ok(&desired);
    let right = site.listing();
    for by_hand in if tools.is_iptables() {
        IPTABLES
    } else {
        NFTABLES
    } {
        assert_eq!(worker.apply_ok(&desired), 0, "before: {by_hand}");
        site.host.command(by_hand);
        eventually(by_hand, || site.listing() == right);
    }
}

on!(IptablesNft IptablesLegacy Nftables NftablesAlone; restart, super::what_a_firewall_service_flushes_comes_back);

/// A firewall service that is restarted takes everything away before it writes its own.
fn what_a_firewall_service_flushes_comes_back(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    let flushes: &[&str] = match tools.is_iptables() {
        true => &[
            "iptables -t nat -F",
            "iptables -t nat -X",
            "iptables -F",
            "iptables -X",
            "ip6tables -t nat -F",
            "ip6tables -t nat -X",
            "ip6tables -F",
            "ip6tables -X",
        ],
        false => &["nft flush ruleset"],
    };
    let flush = || {
        flushes
            .iter()
            .for_each(|flush| _ = site.host.command(flush))
    };
    // The older iptables shows a table from when it was first spoken of.
    flush();
    let worker = site.host.worker();
    worker.apply_ok(&site.desired());
    let right = site.listing();
    for _ in 0..3 {
        flush();
        let flushed = Instant::now();
        eventually("the firewall is as it was", || site.listing() == right);
        assert!(
            flushed.elapsed() < Duration::from_secs(2),
            "right after {:?}",
            flushed.elapsed()
        );
    }
    assert_eq!(seen(&site.mesos, OUTSIDE[0]), UPLINK[0]);
    assert_eq!(seen(&site.mesos, OUTSIDE[1]), UPLINK[1]);
}

#[test]
fn a_set_of_somebody_else_is_told_and_left_alone() {
    let Some(host) = Tools::IptablesNft.host("a_set_of_somebody_else") else {
        return;
    };
    for (set, sentence) in [
        (
            "overlay hash:ip",
            "cannot configure the firewall: there is an ipset overlay of another kind than ours (hash:ip); \
             remove or rename it",
        ),
        (
            "overlay hash:net",
            "cannot configure the firewall: there is an ipset overlay that is not ours; remove or rename it",
        ),
    ] {
        host.command(&format!("ipset create {set}"));
        host.command("ipset add overlay 10.0.0.1");
        let before = host.command("ipset list overlay");
        let mut desired = host.desired(1);
        desired.overlays.get_mut("dcos").unwrap().subnets = vec![net("9.0.1.0/24")];
        let report = host.apply(&desired);
        assert_eq!(report.overlays["dcos"], sentence);
        assert_eq!(report.host, [sentence]);
        assert_eq!(
            host.command("ipset list overlay").split("Members").last(),
            before.split("Members").last()
        );
        host.settle(&overlay_core::host_api::desired::Desired {
            cni: desired.cni,
            ..Default::default()
        });
        assert_eq!(host.command("ipset list -n"), "overlay\n");
        host.command("ipset destroy overlay");
    }
    host.settle(&host.desired(1));
}
