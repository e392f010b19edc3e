//! Repair of the firewall after manual changes and after the restart of a firewall service.

use std::time::{Duration, Instant};

use overlay_core::host_api::problem::Problem;
use testkit::host::{Host, eventually, net};

use crate::tool_set::{ToolSet, test_with};
use crate::topology::{OUTSIDE, Topology, UPLINK, seen};

test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; manual, super::manual_changes_are_repaired);

/// Manual changes of the rules in iptables.
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
    // Left by an interrupted reconciliation.
    "ipset create mesos-overlay-new hash:net counters",
];

/// Manual changes of the rules in nftables.
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

fn manual_changes_are_repaired(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let desired = topology.desired();
    topology.host.settle(&desired);
    let expected = topology.listing();
    for change in if tools.is_iptables() {
        IPTABLES
    } else {
        NFTABLES
    } {
        topology.host.command(change);
        assert_ne!(
            topology.host.apply_ok(&desired),
            0,
            "{change}: no difference was found"
        );
        assert_eq!(
            topology.host.apply_ok(&desired),
            0,
            "{change}: there is still a difference"
        );
        assert_eq!(topology.listing(), expected, "{change}");
    }
    assert_eq!(seen(&topology.mesos, OUTSIDE[0]), UPLINK[0]);
    assert_eq!(seen(&topology.mesos, OUTSIDE[1]), UPLINK[1]);
}

test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; worker, super::worker_repairs_manual_changes_by_itself);

/// The worker is woken by kernel events or its schedule, and keeps a fingerprint meanwhile.
fn worker_repairs_manual_changes_by_itself(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let worker = topology.host.worker();
    let desired = topology.desired();
    worker.apply_ok(&desired);
    let expected = topology.listing();
    for change in if tools.is_iptables() {
        IPTABLES
    } else {
        NFTABLES
    } {
        assert_eq!(worker.apply_ok(&desired), 0, "before: {change}");
        topology.host.command(change);
        eventually(change, || topology.listing() == expected);
    }
}

test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; restart, super::worker_repairs_flushed_rules_at_once);

/// A firewall service flushes all rules when it is restarted.
fn worker_repairs_flushed_rules_at_once(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
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
            .for_each(|flush| _ = topology.host.command(flush))
    };
    // Legacy iptables lists a table only after its first use.
    flush();
    let worker = topology.host.worker();
    worker.apply_ok(&topology.desired());
    let expected = topology.listing();
    for _ in 0..3 {
        flush();
        let flushed = Instant::now();
        eventually("the firewall is as it was", || {
            topology.listing() == expected
        });
        assert!(
            flushed.elapsed() < Duration::from_secs(2),
            "repaired after {:?}",
            flushed.elapsed()
        );
    }
    assert_eq!(seen(&topology.mesos, OUTSIDE[0]), UPLINK[0]);
    assert_eq!(seen(&topology.mesos, OUTSIDE[1]), UPLINK[1]);
}

#[test]
fn set_of_another_program_is_reported_and_not_touched() {
    let Some(host) = ToolSet::IptablesNft.host("set_of_another_program") else {
        return;
    };
    for (set, sentence) in [
        (
            "overlay hash:ip",
            "cannot configure the firewall: the ipset name overlay is taken by a set of another type \
             (hash:ip); remove or rename it",
        ),
        (
            "overlay hash:net",
            "cannot configure the firewall: the ipset name overlay is taken by a set of another \
             program; remove or rename it",
        ),
    ] {
        host.command(&format!("ipset create {set}"));
        host.command("ipset add overlay 10.0.0.1");
        let before = host.command("ipset list overlay");
        let mut desired = host.desired(1);
        desired.overlays.get_mut("dcos").unwrap().subnets = vec![net("9.0.1.0/24")];
        let report = host.apply(&desired);
        assert_eq!(report.overlays["dcos"], sentence);
        assert_eq!(Problem::texts(&report.host), [sentence]);
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
