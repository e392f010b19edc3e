//! Packets to Docker containers beside the rules of Docker 28 in the table `raw`.

use testkit::host::Host;

use crate::tool_set::{ToolSet, test_with};
use crate::topology::{DOCKER, FOREIGN, MESOS, PEER, Topology, assert_connects, is_closed, seen};

test_with!(IptablesNft IptablesLegacy Nftables; docker_28, super::containers_are_reached_beside_docker_28);
test_with!(IptablesNft IptablesLegacy; operators, super::operators_rules_come_first);

/// Writes what Docker 28 writes for a container in `d-dcos` and one in `foreign`.
fn add_docker_rules(host: &Host) {
    for (bridge, addresses) in [("d-dcos", DOCKER), ("foreign", FOREIGN)] {
        for (tool, address) in ["iptables", "ip6tables"].iter().zip(addresses) {
            host.command(&format!(
                "{tool} -t raw -A PREROUTING -d {address} ! -i {bridge} -j DROP"
            ));
        }
    }
}

fn assert_reached(topology: &Topology) {
    for family in 0..2 {
        assert_eq!(seen(&topology.mesos, DOCKER[family]), MESOS[family]);
        assert_eq!(seen(&topology.peer, DOCKER[family]), PEER[family]);
        for client in [&topology.mesos, &topology.peer] {
            assert_connects(client, DOCKER[family]);
        }
        assert!(is_closed(&topology.outside, DOCKER[family]));
        assert!(is_closed(&topology.foreign, DOCKER[family]));
        // Docker protects the containers of its other networks from the overlays, too.
        assert!(is_closed(&topology.mesos, FOREIGN[family]));
    }
}

fn containers_are_reached_beside_docker_28(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    topology.outside.ip("route add 9.0.0.0/8 via 192.0.2.1");
    let outside = &topology.outside;
    outside.ip("route add fd01:b::/64 via 2001:db8:1::1");
    topology.settle();
    add_docker_rules(&topology.host);
    let desired = topology.desired();
    assert_eq!(
        topology.host.apply_ok(&desired),
        0,
        "the chain was there before Docker's rules"
    );
    assert_reached(&topology);
    for by_hand in [
        "iptables -t raw -F PREROUTING",
        "iptables -t raw -F MESOS-OVERLAY",
        "ip6tables -t raw -A MESOS-OVERLAY-TO -j ACCEPT",
        // An engine that is restarted puts its rules to the front.
        "ip6tables -t raw -I PREROUTING -d fd01:b::1:8000:0:5 ! -i d-dcos -j DROP",
    ] {
        topology.host.command(by_hand);
        assert_ne!(topology.host.settle(&desired), 0, "{by_hand}");
    }
    add_docker_rules(&topology.host);
    assert_reached(&topology);
    topology.clear();
    let listing = topology.listing();
    assert!(!listing.contains("MESOS"), "{listing}");
    assert!(listing.contains("! -i d-dcos -j DROP"), "{listing}");
}

fn operators_rules_come_first(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let refused = "-t raw -A PREROUTING -s 9.0.2.5 -d 9.0.1.133 -p tcp -j DROP";
    topology.host.command(&format!("iptables {refused}"));
    add_docker_rules(&topology.host);
    topology.settle();
    assert_eq!(seen(&topology.peer, DOCKER[0]), PEER[0]);
    assert!(is_closed(&topology.peer, DOCKER[0]));
    assert_connects(&topology.mesos, DOCKER[0]);
}
