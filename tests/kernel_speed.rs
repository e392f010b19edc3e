//! How long a pass takes with many peers. Not a test of right or wrong:
//! `cargo test --release --test kernel_speed -- --ignored --nocapture`.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

mod support;

use std::time::Instant;

use mesos_overlay::host::desired::Desired;
use support::host::{Host, peer};

#[test]
#[ignore = "a measurement"]
fn passes_with_many_peers() {
    if !support::root("passes_with_many_peers") {
        return;
    }
    println!("{:>7} {:<28} {:>10} {:>10} {:>12}", "peers", "what", "operations", "seconds", "µs/operation");
    for count in [100, 1_000, 10_000] {
        let host = Host::new();
        let mut desired = host.desired(1);
        desired.vtep.as_mut().unwrap().addresses[0] = "44.128.0.1/16".parse().unwrap();
        let measure = |what: &str, desired: &Desired, expected: usize| {
            let start = Instant::now();
            let operations = host.apply_ok(desired);
            let seconds = start.elapsed().as_secs_f64();
            let each = seconds * 1e6 / operations.max(1) as f64;
            println!("{count:>7} {what:<28} {operations:>10} {seconds:>10.3} {each:>12.1}");
            assert_eq!(operations, expected, "{what}");
        };
        let peers: Vec<_> = (2..count + 2).map(peer).collect();
        let total = 6 * peers.len();
        desired.peers = Some(peers.iter().cloned().collect());
        measure("from nothing", &desired, total + 12);
        measure("again, unchanged", &desired, 0);
        host.ip("link delete vtep1024");
        measure("the device was deleted", &desired, total + 3);
        host.ip("link set vtep1024 address 02:00:00:00:00:01");
        measure("the MAC was changed", &desired, 2 * peers.len() + 1);
        desired.peers.as_mut().unwrap().remove(&peers[0].0);
        measure("one peer less", &desired, 6);
        desired.peers = Some([].into());
        measure("no peers", &desired, total - 6);
    }
}
