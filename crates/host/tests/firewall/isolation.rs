//! Forwarding on hosts that restrict it: by Docker's isolation, or by a FORWARD chain that
//! drops.

use testkit::host::Host;

use crate::tool_set::{ToolSet, test_with};
use crate::topology::{DOCKER, FOREIGN, MESOS, OUTSIDE, PEER, Topology, UPLINK, is_cut_off, seen};

test_with!(IptablesNft IptablesLegacy Nftables; docker, super::docker_isolates_only_other_networks);
test_with!(IptablesNft IptablesLegacy; old_docker, super::old_docker_isolates_only_other_networks);
test_with!(IptablesNft IptablesLegacy; predecessor, super::isolation_is_restored_after_the_predecessor);
test_with!(IptablesNft IptablesLegacy Nftables; policy, super::overlay_traffic_passes_a_policy_of_drop);
test_with!(IptablesNft IptablesLegacy; reject, super::overlay_traffic_passes_a_final_reject);

/// Runs iptables and ip6tables with each line.
fn iptables(host: &Host, lines: &[&str]) {
    for line in lines {
        host.command(&format!("iptables {line}"));
        host.command(&format!("ip6tables {line}"));
    }
}

/// Writes the rules that Docker 20.10 has with two networks, `d-dcos` and `foreign`.
fn add_docker_rules(host: &Host) {
    iptables(
        host,
        &[
            "-P FORWARD DROP",
            "-N DOCKER",
            "-N DOCKER-ISOLATION-STAGE-1",
            "-N DOCKER-ISOLATION-STAGE-2",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
        ],
    );
    for bridge in ["d-dcos", "foreign"] {
        for rule in [
            "FORWARD -o BRIDGE -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "FORWARD -o BRIDGE -j DOCKER",
            "FORWARD -i BRIDGE ! -o BRIDGE -j ACCEPT",
            "FORWARD -i BRIDGE -o BRIDGE -j ACCEPT",
            "DOCKER-ISOLATION-STAGE-1 -i BRIDGE ! -o BRIDGE -j DOCKER-ISOLATION-STAGE-2",
            "DOCKER-ISOLATION-STAGE-2 -o BRIDGE -j DROP",
        ] {
            iptables(host, &[&format!("-A {}", rule.replace("BRIDGE", bridge))]);
        }
    }
    iptables(
        host,
        &[
            "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
            "-A DOCKER-ISOLATION-STAGE-2 -j RETURN",
        ],
    );
}

/// Returns a topology in which every container has sent packets to every other.
fn connected_topology(tools: ToolSet, host: Host) -> Topology {
    let topology = Topology::new(tools, host);
    topology.settle();
    exchange_packets(&topology);
    topology
}

/// Sends packets between all containers, so that only the firewall can be the reason if
/// none arrive later.
fn exchange_packets(topology: &Topology) {
    for client in [&topology.mesos, &topology.docker, &topology.foreign] {
        for server in [MESOS, DOCKER, FOREIGN] {
            server.iter().for_each(|server| _ = seen(client, server));
        }
    }
}

fn assert_others_are_isolated(topology: &Topology) {
    for family in 0..2 {
        assert!(
            is_cut_off(&topology.foreign, DOCKER[family]),
            "foreign reaches {}",
            DOCKER[family]
        );
        assert!(
            is_cut_off(&topology.docker, FOREIGN[family]),
            "docker reaches {}",
            FOREIGN[family]
        );
        assert!(
            is_cut_off(&topology.mesos, FOREIGN[family]),
            "mesos reaches {}",
            FOREIGN[family]
        );
    }
}

fn docker_isolates_only_other_networks(tools: ToolSet, host: Host) {
    let topology = connected_topology(tools, host);
    add_docker_rules(&topology.host);
    // Docker's rules drop overlay traffic.
    assert!(is_cut_off(&topology.mesos, DOCKER[0]) && is_cut_off(&topology.mesos, OUTSIDE[1]));
    assert!(is_cut_off(&topology.mesos, PEER[0]) && is_cut_off(&topology.peer, DOCKER[1]));
    topology.host.settle(&topology.desired());
    topology.assert_addresses();
    assert_others_are_isolated(&topology);

    // An operator's own rules take precedence.
    topology
        .host
        .command("iptables -I DOCKER-USER -s 9.0.1.5 -d 9.0.1.133 -j DROP");
    assert_eq!(topology.host.apply_ok(&topology.desired()), 0);
    assert!(is_cut_off(&topology.mesos, DOCKER[0]));
    topology
        .host
        .command("iptables -D DOCKER-USER -s 9.0.1.5 -d 9.0.1.133 -j DROP");

    for by_hand in [
        "iptables -F MESOS-OVERLAY",
        "iptables -D MESOS-OVERLAY-TO -o m-dcos -j ACCEPT",
        "ip6tables -A MESOS-OVERLAY-TO -o foreign -j ACCEPT",
        "iptables -F DOCKER-USER",
        "ip6tables -D DOCKER-USER -m comment --comment mesos-overlay -j MESOS-OVERLAY",
        "iptables -I FORWARD -m comment --comment mesos-overlay -j MESOS-OVERLAY",
        "iptables -F MESOS-OVERLAY-OUT",
    ] {
        topology.host.command(by_hand);
        assert_ne!(topology.host.settle(&topology.desired()), 0, "{by_hand}");
    }
    // A RETURN that was added after our chains is an operator's and stays.
    topology
        .host
        .command("iptables -I DOCKER-ISOLATION-STAGE-2 -j RETURN");
    assert_eq!(topology.host.apply_ok(&topology.desired()), 0);
    topology
        .host
        .command("iptables -D DOCKER-ISOLATION-STAGE-2 -j RETURN");
    topology.assert_addresses();
    assert_others_are_isolated(&topology);

    topology.clear();
    let listing = topology.listing();
    assert!(!listing.to_lowercase().contains("mesos"), "{listing}");
}

fn old_docker_isolates_only_other_networks(tools: ToolSet, host: Host) {
    let topology = connected_topology(tools, host);
    let isolate = ["-I FORWARD -j DOCKER-ISOLATION"];
    iptables(
        &topology.host,
        &[
            "-N DOCKER-ISOLATION",
            "-A DOCKER-ISOLATION -i m-dcos -o d-dcos -j DROP",
            "-A DOCKER-ISOLATION -i foreign -o d-dcos -j DROP",
            "-A DOCKER-ISOLATION -i d-dcos -o foreign -j DROP",
            "-A DOCKER-ISOLATION -i m-dcos -o foreign -j DROP",
            "-A DOCKER-ISOLATION -j RETURN",
        ],
    );
    iptables(&topology.host, &isolate);
    assert!(is_cut_off(&topology.mesos, DOCKER[0]));
    topology.host.settle(&topology.desired());
    topology.assert_addresses();
    assert_others_are_isolated(&topology);
    // A restarted engine puts its jump in front of ours.
    iptables(&topology.host, &["-D FORWARD -j DOCKER-ISOLATION"]);
    iptables(&topology.host, &isolate);
    assert!(is_cut_off(&topology.mesos, DOCKER[0]));
    topology.host.settle(&topology.desired());
    topology.assert_addresses();
}

fn isolation_is_restored_after_the_predecessor(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    topology
        .host
        .command("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    exchange_packets(&topology);
    add_docker_rules(&topology.host);
    for line in [
        "ipset create overlay hash:net counters",
        "ipset add overlay 0.0.0.0/1",
        "ipset add overlay 128.0.0.0/1",
        "ipset add overlay 9.0.0.0/8 nomatch",
        "iptables -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE",
        "iptables -I DOCKER-ISOLATION-STAGE-2 -j RETURN",
        "iptables -I DOCKER-ISOLATION-STAGE-2 -j RETURN",
    ] {
        topology.host.command(line);
    }
    assert_eq!(
        seen(&topology.foreign, DOCKER[0]),
        FOREIGN[0],
        "the predecessor switched the isolation off"
    );
    topology.host.settle(&topology.desired());
    assert_others_are_isolated(&topology);
    let isolation = topology
        .host
        .command("iptables -S DOCKER-ISOLATION-STAGE-2");
    assert_eq!(isolation.matches("-j RETURN").count(), 1, "{isolation}");
}

fn overlay_traffic_passes_a_policy_of_drop(tools: ToolSet, host: Host) {
    let topology = connected_topology(tools, host);
    iptables(&topology.host, &["-P FORWARD DROP"]);
    assert!(is_cut_off(&topology.mesos, DOCKER[0]) && is_cut_off(&topology.peer, MESOS[1]));
    assert_passes(&topology);
    assert_leaves_nothing(&topology);
}

fn overlay_traffic_passes_a_final_reject(tools: ToolSet, host: Host) {
    let topology = connected_topology(tools, host);
    iptables(
        &topology.host,
        &["-A FORWARD -p icmp -j ACCEPT", "-A FORWARD -j REJECT"],
    );
    assert!(is_cut_off(&topology.mesos, DOCKER[0]) && is_cut_off(&topology.peer, MESOS[1]));
    assert_passes(&topology);
    // Another REJECT in front of the last one.
    topology.host.command("iptables -I FORWARD 2 -j REJECT");
    topology.host.settle(&topology.desired());
    assert_eq!(seen(&topology.mesos, DOCKER[0]), MESOS[0]);
    assert_leaves_nothing(&topology);
}

/// Asserts that overlay traffic and traffic between Mesos containers and the outside is
/// forwarded, and other traffic is not.
fn assert_passes(topology: &Topology) {
    topology.host.settle(&topology.desired());
    for family in 0..2 {
        assert_eq!(seen(&topology.mesos, DOCKER[family]), MESOS[family]);
        assert_eq!(seen(&topology.docker, MESOS[family]), DOCKER[family]);
        assert_eq!(seen(&topology.peer, MESOS[family]), PEER[family]);
        assert_eq!(seen(&topology.docker, PEER[family]), DOCKER[family]);
        assert_eq!(seen(&topology.mesos, OUTSIDE[family]), UPLINK[family]);
        assert!(is_cut_off(&topology.foreign, MESOS[family]));
        assert!(is_cut_off(&topology.foreign, OUTSIDE[family]));
        assert!(is_cut_off(&topology.mesos, FOREIGN[family]));
    }
    // The rules follow a change of the uplink.
    topology.host.ip("link set uplink name wan0");
    assert!(is_cut_off(&topology.mesos, OUTSIDE[0]));
    assert_ne!(topology.host.apply_ok(&topology.desired()), 0);
    assert_eq!(seen(&topology.mesos, OUTSIDE[0]), UPLINK[0]);
}

fn assert_leaves_nothing(topology: &Topology) {
    topology.clear();
    assert!(!topology.listing().contains("MESOS"));
}
