//! A program that has the UDP port of the tunnels.

use std::net::UdpSocket;
use std::sync::Arc;

use overlay_core::host_api::desired::Desired;
use testkit::host::{Host, peer};

use super::{quiet, state};

/// The failure is named, and its own events cause no further attempt.
#[test]
fn a_port_in_use_is_named_and_tried_rarely() {
    if !testkit::root("a_port_in_use_is_named") {
        return;
    }
    let host = Host::new();
    let socket = host.run(|| UdpSocket::bind("0.0.0.0:64000").unwrap());
    let desired = Desired {
        peers: Some(Arc::new([peer(2), peer(3)].into())),
        ..host.desired(1)
    };
    let worker = host.worker();
    worker.start(&desired);
    let report = worker.finish();
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.starts_with("cannot add device vtep1024 ")
            && sentence.contains("UDP port 64000 is in use by another program")
            && sentence.contains("net.ipv4.ip_local_reserved_ports"),
        "{sentence}"
    );
    let counters = quiet(&worker);
    assert_eq!((counters.reconciliations, counters.repairs), (1, 0));
    // The agent tries again at growing intervals.
    worker.start(&desired);
    let report = worker.finish();
    assert_eq!(report.operations, 0, "nothing was done: {report:?}");
    let counters = quiet(&worker);
    assert_eq!((counters.reconciliations, counters.repairs), (2, 0));
    drop(socket);
    worker.apply_ok(&desired);
    assert!(state(&host).contains("44.128.0.1/20"));
    let repairs = worker.counters().repairs;
    host.ip("link delete vtep1024");
    testkit::host::eventually("a repair", || worker.counters().repairs > repairs);
}
