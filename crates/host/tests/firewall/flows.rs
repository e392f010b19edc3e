//! Flows that began before a change of the rules of masquerading.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use testkit::host::{Host, PATIENCE, ip, net, overlay};

use crate::tool_set::{ToolSet, test_with};
use crate::topology::{MESOS, OUTSIDE, Topology, UPLINK, query_from};

test_with!(IptablesNft IptablesLegacy Nftables NftablesAlone; follow, super::flows_follow_the_rules);

/// Ports of the flows, outside of those that other queries use.
const PORTS: [u16; 2] = [9_001, 9_002];

/// Returns the source address of the next packet of the flow of each family.
fn sources(topology: &Topology) -> [String; 2] {
    [0, 1].map(|family| {
        let server: IpAddr = ip(OUTSIDE[family]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let timeout = Duration::from_millis(300);
            match query_from(&topology.mesos, PORTS[family], server, timeout) {
                Ok(source) => return source,
                Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
            }
        }
    })
}

fn flows_follow_the_rules(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let outside = &topology.outside;
    outside.ip("route add 9.0.0.0/8 via 192.0.2.1");
    outside.ip("route add fd01:b::/64 via 2001:db8:1::1");
    assert_eq!(sources(&topology), MESOS, "there are no rules yet");
    topology.settle();
    assert_eq!(sources(&topology), UPLINK, "the rules came after the flow");
    let mut desired = topology.desired();
    let mut second = overlay(1);
    second.ranges = vec![net("192.0.2.0/24"), net("2001:db8:1::/64")];
    second.subnets = vec![net("192.0.2.128/25")];
    (second.mesos_bridge, second.docker_bridge) = (None, None);
    desired.overlays.insert("second".into(), second);
    topology.host.settle(&desired);
    assert_eq!(sources(&topology), MESOS, "the outside is an overlay");
    topology.host.settle(&topology.desired());
    assert_eq!(sources(&topology), UPLINK, "the overlay was removed");
}
