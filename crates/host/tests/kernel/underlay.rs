//! MTU of the tunnel by the routes to the peers.

use std::sync::Arc;

use overlay_core::host_api::desired::Desired;
use testkit::host::{Host, net, noticed, peer};

use super::{DEVICE, with_peers};

/// A host with two network cards, and the desired state of agent 10.0.0.1 without a configured
/// MTU.
fn host() -> (Host, Host, Desired) {
    let (host, other) = (Host::new(), Host::new());
    host.connect("eth0", &other, "eth0");
    host.connect("eth1", &other, "eth1");
    let mut desired = with_peers(&host);
    desired.underlay_ip = Some([10, 0, 0, 1].into());
    desired.vtep.as_mut().unwrap().mtu = None;
    desired.fit_mtu = true;
    (host, other, desired)
}

fn mtu(host: &Host) -> u64 {
    host.json(DEVICE)[0]["mtu"].as_u64().unwrap()
}

#[test]
fn the_narrowest_route_to_a_peer_counts() {
    if !testkit::root("the_narrowest_route_to_a_peer_counts") {
        return;
    }
    let (host, _other, mut desired) = host();
    host.ip("link set eth0 mtu 1400");
    host.ip("link add br0 type bridge");
    host.ip("link set br0 up");
    for device in ["lo", "br0"] {
        host.ip(&format!("address add 10.0.0.1/32 dev {device}"));
        host.ip("route add 10.0.0.0/24 dev eth0");
        host.settle(&desired);
        assert_eq!(mtu(&host), 1350, "the address is on {device}");
        // An MTU of the route itself.
        host.ip("route add 10.0.0.3/32 dev eth1 mtu 1390");
        host.settle(&desired);
        assert_eq!(mtu(&host), 1340, "the address is on {device}");
        host.ip("route delete 10.0.0.3/32 dev eth1");
        host.ip("route add 10.0.0.3/32 nexthop dev eth0 nexthop dev eth1");
        host.ip("link set eth1 mtu 1380");
        host.settle(&desired);
        assert_eq!(mtu(&host), 1330, "the address is on {device}");
        host.ip("route delete 10.0.0.3/32");
        host.ip("link set eth1 mtu 1500");
        host.ip("route flush dev eth0");
        // Before the peers are known the default route counts.
        let peers = desired.peers.take();
        host.ip("route add default dev eth0");
        host.settle(&desired);
        assert_eq!(mtu(&host), 1350, "the address is on {device}");
        host.ip("route delete default");
        desired.peers = peers;
        host.ip(&format!("address delete 10.0.0.1/32 dev {device}"));
    }
}

/// Changes of the way to the peers, and what the tunnel's MTU must be soon after each.
#[test]
fn another_way_to_the_peers_is_noticed_at_once() {
    if !testkit::root("another_way_to_the_peers_is_noticed") {
        return;
    }
    let (host, _other, desired) = host();
    host.ip("link set eth1 mtu 1400");
    host.ip("address add 10.0.0.1/24 dev eth0");
    let worker = host.worker();
    worker.apply_ok(&desired);
    assert_eq!(mtu(&host), 1450);
    for (by_hand, expected) in [
        ("address delete 10.0.0.1/24 dev eth0", None),
        ("address add 10.0.0.1/24 dev eth1", Some(1350)),
        ("route add 10.0.0.2/32 dev eth1 mtu 1390", Some(1340)),
        ("route replace 10.0.0.2/32 dev eth1 mtu 1380", Some(1330)),
        ("route delete 10.0.0.2/32 dev eth1", Some(1350)),
        ("link set eth1 mtu 1410", Some(1360)),
        (
            "route add 10.0.0.0/24 dev eth1 table 77 mtu 1350",
            Some(1360),
        ),
        ("rule add to 10.0.0.0/24 lookup 77 priority 100", Some(1300)),
        ("rule delete priority 100", Some(1360)),
        ("rule add from 10.0.0.1 lookup 77 priority 100", Some(1300)),
        ("rule delete priority 100", Some(1360)),
        ("route add 10.0.0.0/24 dev eth0 metric 9", Some(1360)),
        ("link set eth1 down", Some(1450)),
    ] {
        host.ip(by_hand);
        let Some(expected) = expected else { continue };
        noticed(by_hand, || mtu(&host) == expected);
    }
}

/// An agent that starts again does not know the peers at first, but the kernel does.
#[test]
fn the_ways_to_the_kernels_peers_count_until_the_peers_are_known() {
    if !testkit::root("the_ways_to_the_kernels_peers_count") {
        return;
    }
    let (host, _other, mut desired) = host();
    host.ip("address add 10.0.0.1/24 dev eth0");
    for peer in [2, 3] {
        host.ip(&format!("route add 10.0.0.{peer}/32 dev eth1 mtu 1390"));
    }
    let peers = desired.peers.take();
    host.settle(&desired);
    assert_eq!(
        mtu(&host),
        1450,
        "nothing but the device of the address is known"
    );
    desired.peers = peers.clone();
    host.settle(&desired);
    assert_eq!(mtu(&host), 1340);
    // A device of the predecessor can be bound to the device that leads to the peers.
    host.ip("link delete vtep1024");
    host.ip("link add vtep1024 type vxlan id 1024 dstport 64000 nolearning dev eth1");
    host.settle(&desired);
    let index = host.json("ip -j link show vtep1024")[0]["ifindex"].clone();
    desired.peers = None;
    assert_eq!(host.apply_ok(&desired), 0);
    assert_eq!(mtu(&host), 1340);
    assert_eq!(host.json("ip -j link show vtep1024")[0]["ifindex"], index);
}

/// A peer that joins can be behind a narrower way than the others.
#[test]
fn a_new_peer_on_a_narrow_way_lowers_the_mtu() {
    if !testkit::root("a_new_peer_on_a_narrow_way") {
        return;
    }
    let (host, _other, mut desired) = host();
    host.ip("address add 10.0.0.1/24 dev eth0");
    host.ip("route add 10.0.0.5/32 dev eth0 mtu 1400");
    let worker = host.worker();
    worker.apply_ok(&desired);
    // Meanwhile the worker reads the events of its own changes.
    assert_eq!(host.apply_ok(&desired), 0);
    let passes = worker.counters().reconciliations;
    desired.peers_mut().extend([peer(4)]);
    worker.apply_ok(&desired);
    assert_eq!(mtu(&host), 1450);
    assert_eq!(worker.counters().reconciliations, passes, "on the same way");
    desired.peers_mut().extend([peer(5)]);
    worker.apply_ok(&desired);
    assert_eq!(mtu(&host), 1350);
}

/// Among ten thousand peers, one has a narrower way.
#[test]
fn the_narrowest_of_ten_thousand_ways_counts() {
    if !testkit::root("the_narrowest_of_ten_thousand_ways_counts") {
        return;
    }
    let (host, _other, mut desired) = host();
    desired.vtep.as_mut().unwrap().addresses[0] = net("44.128.0.1/16");
    host.ip("address add 10.0.0.1/8 dev eth0");
    let many = Desired {
        peers: Some(Arc::new((2..10_002).map(peer).collect())),
        ..desired
    };
    host.settle(&many);
    assert_eq!(mtu(&host), 1450);
    host.ip("route add 10.0.20.1/32 dev eth0 mtu 1400");
    host.settle(&many);
    assert_eq!(mtu(&host), 1350);
}
