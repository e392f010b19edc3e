//! Packets that a host does not forward before the module turns forwarding on.

use testkit::host::{Host, eventually};

use crate::tool_set::{ToolSet, test_with};
use crate::topology::{
    DOCKER, FOREIGN, MESOS, OUTSIDE, PEER, Topology, UPLINK, assert_connects, is_closed, seen,
};

test_with!(IptablesNft IptablesLegacy Nftables; stays_closed, super::what_was_closed_stays_closed);
test_with!(IptablesNft; stays_open, super::what_was_open_stays_open);
test_with!(IptablesNft; cannot_be_closed, super::what_cannot_be_closed_is_not_opened);

/// Gives the outside routes to the containers behind the first host.
pub fn route_to_containers(topology: &Topology) {
    for (network, router) in [
        ("172.30.0.0/24", UPLINK[0]),
        ("fd02::/64", UPLINK[1]),
        ("9.0.0.0/8", UPLINK[0]),
        ("fd01:b::/64", UPLINK[1]),
    ] {
        topology
            .outside
            .ip(&format!("route add {network} via {router}"));
    }
    // The ports of a new bridge need some time.
    for family in 0..2 {
        seen(&topology.outside, FOREIGN[family]);
        seen(&topology.foreign, OUTSIDE[family]);
    }
}

/// Connections between the outside and a container that is not an overlay's: client and server.
fn others(topology: &Topology) -> [(&Host, &'static str); 4] {
    let (outside, foreign) = (&topology.outside, &topology.foreign);
    [
        (outside, FOREIGN[0]),
        (outside, FOREIGN[1]),
        (foreign, OUTSIDE[0]),
        (foreign, OUTSIDE[1]),
    ]
}

/// Asserts that the outside and a container that is not an overlay's reach each other.
pub fn assert_others_pass(topology: &Topology) {
    for (client, server) in others(topology) {
        assert_connects(client, server);
    }
}

/// Tells if neither of the outside and a container that is not an overlay's reaches the other.
pub fn others_are_closed(topology: &Topology) -> bool {
    let mut others = others(topology).into_iter();
    others.all(|(client, server)| is_closed(client, server))
}

fn assert_overlays_pass(topology: &Topology) {
    for family in 0..2 {
        assert_eq!(seen(&topology.mesos, DOCKER[family]), MESOS[family]);
        assert_eq!(seen(&topology.docker, PEER[family]), DOCKER[family]);
        assert_eq!(seen(&topology.mesos, OUTSIDE[family]), UPLINK[family]);
        assert_eq!(seen(&topology.docker, OUTSIDE[family]), UPLINK[family]);
        assert_connects(&topology.mesos, OUTSIDE[family]);
    }
}

fn what_was_closed_stays_closed(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    route_to_containers(&topology);
    assert_others_pass(&topology);
    topology.forward_before("0");
    assert!(others_are_closed(&topology));
    topology.settle();
    assert_overlays_pass(&topology);
    assert!(others_are_closed(&topology), "the module opened the host");

    // Rules of others that accept something come first, wherever they are written.
    let accept = "FORWARD -i uplink -o foreign -j ACCEPT";
    let back = "FORWARD -i foreign -o uplink -j ACCEPT";
    for tool in ["iptables", "ip6tables"] {
        for rule in [accept, back] {
            topology.host.command(&format!("{tool} -A {rule}"));
        }
    }
    topology.host.settle(&topology.desired());
    assert_others_pass(&topology);

    // A firewall that is restarted removes all rules. The next agent finds the chain again.
    let worker = topology.host.worker();
    topology.forward_before("0");
    worker.apply_ok(&topology.desired());
    for tool in ["iptables", "ip6tables"] {
        topology.host.command(&format!("{tool} -F"));
        topology.host.command(&format!("{tool} -X"));
    }
    eventually("the chain is back", || others_are_closed(&topology));
    drop(worker);
    topology.host.settle(&topology.desired());
    assert!(others_are_closed(&topology));
    assert_overlays_pass(&topology);
    topology.clear();
    assert!(!topology.listing().contains("MESOS"));
}

fn what_was_open_stays_open(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    route_to_containers(&topology);
    topology.settle();
    assert_others_pass(&topology);
    assert!(!topology.listing().contains("MESOS-OVERLAY-OTHERS"));
    // Somebody turns forwarding off by mistake while the agent runs.
    let worker = topology.host.worker();
    worker.apply_ok(&topology.desired());
    topology.forward_before("0");
    for setting in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        eventually(setting, || {
            topology.host.command(&format!("sysctl -n {setting}")) == "1\n"
        });
    }
    assert_others_pass(&topology);
    assert!(!topology.listing().contains("MESOS-OVERLAY-OTHERS"));
    drop(worker);
}

/// A chain of another program has the name.
fn what_cannot_be_closed_is_not_opened(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    topology.forward_before("0");
    let host = &topology.host;
    for command in [
        "add table ip filter",
        "add chain ip filter MESOS-OVERLAY-OTHERS { type filter hook forward priority 5 ; }",
    ] {
        host.command(&format!("nft {command}"));
    }
    let is_on = || host.command("sysctl -n net.ipv4.ip_forward") == "1\n";
    for _ in 0..2 {
        let report = host.apply(&topology.desired());
        assert!(!report.is_ok(), "{report:?}");
        assert!(!is_on(), "the module opened the host");
    }
    host.command("nft delete table ip filter");
    host.settle(&topology.desired());
    assert!(is_on() && topology.listing().contains("MESOS-OVERLAY-OTHERS"));
}
