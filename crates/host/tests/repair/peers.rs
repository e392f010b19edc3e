//! Repair of peers: changes without a pass, rejected peers, and nexthop objects.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use overlay_core::host_api::desired::Desired;
use testkit::host::{Host, Worker, eventually, ip, peer};

use super::{kept_host, quiet, repaired, state};

/// Checks that changes of peers cause only the necessary operations and no pass, with the result of a
/// pass.
#[test]
fn peers_that_come_and_go_take_no_pass() {
    if !testkit::root("peers_that_come_and_go") {
        return;
    }
    let (host, worker, mut desired) = kept_host();
    let before = state(&host);
    desired.peers_mut().extend([peer(4)]);
    assert_eq!(worker.apply_ok(&desired), 6);
    assert_eq!(worker.counters().reconciliations, 1);
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    // Peer 4 changes, peer 5 joins, peer 4 leaves.
    let changed = peer(40).1;
    desired.peers_mut().insert(peer(4).0, changed);
    worker.apply_ok(&desired);
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    desired.peers_mut().extend([peer(5)]);
    desired.peers_mut().remove(&peer(4).0);
    worker.apply_ok(&desired);
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    desired.peers_mut().remove(&peer(5).0);
    worker.apply_ok(&desired);
    assert_eq!(state(&host), before);
    assert_eq!(worker.counters().reconciliations, 1, "its own echoes");
    // A host that others changed needs a pass.
    host.command("ip route flush table 42");
    desired.peers_mut().extend([peer(4)]);
    worker.apply_ok(&desired);
    assert_eq!(host.apply_ok(&desired), 0, "the change was overlooked");
}

/// Checks a peer whose VTEP address is outside of our networks, so that the kernel rejects its
/// routes. Other peers still change without a pass.
#[test]
fn a_refused_peer_costs_the_others_nothing() {
    if !testkit::root("a_refused_peer_costs_the_others_nothing") {
        return;
    }
    let (host, worker, mut desired) = kept_host();
    let before = state(&host);
    let (at, right) = peer(66);
    let mut wrong = (*right).clone();
    wrong.vtep_ips[0] = ip("45.0.0.66");
    let change = |desired: &mut Desired, worker: &Worker, at, peer: Option<_>| {
        let peers = desired.peers_mut();
        match peer {
            Some(peer) => peers.insert(at, peer),
            None => peers.remove(&at),
        };
        worker.start(desired);
        worker.finish()
    };
    let report = change(&mut desired, &worker, at, Some(Arc::new(wrong)));
    assert!(
        report.overlays.is_empty() && report.host.len() == 2,
        "{report:?}"
    );
    assert!(
        report.host[1]
            .text
            .starts_with("cannot add route 9.0.66.0/24 via 45.0.0.66 "),
        "{report:?}"
    );
    let passes = worker.counters().reconciliations;
    for n in 4..20 {
        let next = change(&mut desired, &worker, peer(n).0, Some(peer(n).1));
        assert_eq!(
            (next.operations, &next.host),
            (6, &report.host),
            "it is not told any more"
        );
    }
    for n in 4..20 {
        assert_eq!(
            change(&mut desired, &worker, peer(n).0, None).host,
            report.host
        );
    }
    assert_eq!(
        worker.counters().reconciliations,
        passes,
        "a change of others took a pass"
    );
    assert_eq!(
        host.apply(&desired).operations,
        0,
        "a pass changes something besides what is refused"
    );
    // The peer is tried again at a new order, and when it changes.
    worker.start(&desired);
    assert_eq!(worker.finish().host, report.host);
    assert_eq!(
        worker.counters().reconciliations,
        passes + 1,
        "it was not tried again"
    );
    assert_eq!(
        worker.counters().repairs,
        0,
        "what is refused was taken for somebody's change"
    );
    assert!(change(&mut desired, &worker, at, Some(right)).is_ok());
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    assert!(change(&mut desired, &worker, at, None).is_ok());
    assert_eq!(state(&host), before);
    // A host with other errors needs a pass for each change.
    let passes = worker.counters().reconciliations;
    fs::remove_dir_all(host.cni.path()).unwrap();
    fs::write(host.cni.path(), "no directory").unwrap();
    worker.start(&desired);
    assert!(!worker.finish().is_ok());
    change(&mut desired, &worker, peer(4).0, Some(peer(4).1));
    assert!(
        worker.counters().reconciliations >= passes + 2,
        "a small change of a host that is not right"
    );
    fs::remove_file(host.cni.path()).unwrap();
    fs::create_dir(host.cni.path()).unwrap();
}

/// Checks nexthop objects, which routes to many peers use: they are repaired, and removed with their
/// peers.
#[test]
fn routes_to_many_peers_go_by_nexthop_objects() {
    if !testkit::root("routes_to_many_peers") {
        return;
    }
    if !Path::new("/proc/sys/net/ipv4/nexthop_compat_mode").exists() {
        return testbed::skip::skip("routes_to_many_peers", "this kernel has no nexthop objects");
    }
    let host = Host::new();
    let objects = || host.command("ip nexthop show dev vtep1024").lines().count();
    let mut desired = Desired {
        peers: Some(Arc::new((2..1_102).map(peer).collect())),
        ..host.desired(1)
    };
    let worker = host.worker();
    worker.apply_ok(&desired);
    assert_eq!(objects(), 1_100);
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    assert_eq!(quiet(&worker).reconciliations, 1, "its own echoes");
    desired.peers_mut().extend([peer(1_102)]);
    assert_eq!(worker.apply_ok(&desired), 7);
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    let before = state(&host);
    // A plain route of another program is equivalent.
    host.command("ip route replace 9.0.3.0/24 via 44.128.0.3 dev vtep1024");
    assert_eq!(
        quiet(&worker).reconciliations,
        1,
        "what it did not do, and its echoes"
    );
    // The kernel removes the routes of a nexthop object without notification.
    for by_hand in [
        format!("ip nexthop delete id {}", 0x2c80_0002),
        format!(
            "ip nexthop replace id {} via 44.128.0.9 dev vtep1024",
            0x2c80_0002
        ),
    ] {
        let repairs = worker.counters().repairs;
        host.command(&by_hand);
        eventually(&by_hand, || worker.counters().repairs > repairs);
        let routes = host.command("ip route show 9.0.2.0/24");
        assert!(
            routes.contains("via 44.128.0.2 dev vtep1024"),
            "{by_hand}: {routes}"
        );
        assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    }
    // They are removed and restored with the device.
    repaired((&host, &worker), &before, "the device", || {
        _ = host.command("ip link delete vtep1024")
    });
    assert_eq!(objects(), 1_101);
    desired.peers = Some(Arc::new([peer(2), peer(3)].into()));
    worker.apply_ok(&desired);
    assert_eq!(host.apply_ok(&desired), 0, "a pass finds something to do");
    assert_eq!(objects(), 2);
    desired.peers = Some(Arc::default());
    worker.apply_ok(&desired);
    assert_eq!(objects(), 0);
}
