//! Hosts without bridges, as the agent module in a master process has them: nothing is written
//! into the firewall, and nothing is forwarded.

use std::collections::BTreeSet;
use std::sync::Arc;

use overlay_core::host_api::desired::Desired;
use testkit::host::{Host, peer};

use crate::closed::{assert_others_pass, others_are_closed, route_to_containers};
use crate::tool_set::{ToolSet, test_with};
use crate::topology::{OUTSIDE, PEER, Topology, assert_connects};

test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; without_bridges, super::nothing_is_written_without_bridges);
test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; bridges_go, super::rules_go_with_the_bridges);

/// Returns the desired state of the first host without bridges.
fn without_bridges(topology: &Topology) -> Desired {
    let mut desired = topology.desired();
    for overlay in desired.overlays.values_mut() {
        (overlay.mesos_bridge, overlay.docker_bridge) = (None, None);
    }
    desired
}

/// Returns the settings of the kernel that forwarding consists of.
fn forwarding(host: &Host) -> BTreeSet<String> {
    let settings = host.command("sysctl -a");
    let lines = settings.lines().filter(|line| line.contains("forward"));
    let of_new_devices = |line: &&str| line.contains("vtep1024");
    let lines = lines.filter(|line| !of_new_devices(line));
    lines.map(str::to_owned).collect()
}

/// Returns the rules, sets and tables of the firewall. The tools leave their empty tables behind.
fn rules(topology: &Topology) -> Vec<String> {
    let listing = topology.listing();
    let is_rule = |line: &&str| {
        line.starts_with("-A") || ["overlay", "MESOS"].iter().any(|name| line.contains(name))
    };
    listing.lines().filter(is_rule).map(str::to_owned).collect()
}

fn assert_reaches_the_peer(topology: &Topology) {
    for address in PEER {
        assert_connects(&topology.host, address);
    }
}

fn nothing_is_written_without_bridges(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    topology.host.ip("link delete m-dcos");
    topology.host.ip("link delete d-dcos");
    topology.forward_before("0");
    let (listing, settings) = (topology.listing(), forwarding(&topology.host));
    topology.host.settle(&without_bridges(&topology));
    assert_eq!(topology.listing(), listing);
    assert_eq!(forwarding(&topology.host), settings);
    let device = "sysctl -n net.ipv4.conf.vtep1024.forwarding net.ipv6.conf.vtep1024.forwarding";
    assert_eq!(topology.host.command(device), "0\n0\n");
    // The host itself uses the tunnel.
    topology.peer_host.settle(&Desired {
        peers: Some(Arc::new([peer(1)].into())),
        ..topology.peer_host.desired(2)
    });
    assert_reaches_the_peer(&topology);
    assert_eq!(topology.listing(), listing);
}

fn rules_go_with_the_bridges(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    route_to_containers(&topology);
    topology.forward_before("0");
    topology.settle();
    let with_bridges = rules(&topology);
    assert!(!with_bridges.is_empty());
    // Containers that run on still need the rules.
    let report = topology.host.apply(&without_bridges(&topology));
    assert!(
        report.is_ok() && !report.draining_bridges.is_empty(),
        "{report:?}"
    );
    assert_eq!(rules(&topology), with_bridges);
    assert_connects(&topology.mesos, OUTSIDE[0]);

    remove_bridges(&topology);
    assert_reaches_the_peer(&topology);
    stays_closed(&topology);
    // Nobody forwards any more.
    topology.forward_before("0");
    topology.host.settle(&without_bridges(&topology));
    assert_eq!(rules(&topology), [""; 0]);
}

/// Disconnects the containers and removes the bridges.
fn remove_bridges(topology: &Topology) {
    for port in ["m-dcos-port", "d-dcos-port"] {
        topology.host.ip(&format!("link set {port} nomaster"));
    }
    topology.host.settle(&without_bridges(topology));
}

/// Asserts that a host whose bridges are gone forwards, and only what it forwarded before. Without
/// iptables it forwards everything.
fn stays_closed(topology: &Topology) {
    let is_on = "sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding";
    assert_eq!(topology.host.command(is_on), "1\n1\n");
    if topology.tools == ToolSet::NftablesAlone {
        assert_eq!(rules(topology), [""; 0]);
        return assert_others_pass(topology);
    }
    // The second agent finds forwarding on.
    for desired in [without_bridges(topology), topology.desired()] {
        let kept = rules(topology);
        let is_kept = |rule: &String| rule.contains("MESOS-OVERLAY-OTHERS");
        assert!(!kept.is_empty() && kept.iter().all(is_kept), "{kept:?}");
        assert!(others_are_closed(topology), "the host is open");
        topology.host.settle(&desired);
        assert!(others_are_closed(topology), "the host is open");
        remove_bridges(topology);
    }
}
