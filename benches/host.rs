//! How long it takes to make a host right, beside `ip -batch` and `bridge -batch`
//! doing the same operations, in network namespaces of its own, in one run:
//! `cargo bench --bench host` or `cargo xtask bench host`.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mesos_overlay::host::desired::{Desired, Peer};
use support::host::{Host, peer};

/// Numbers of peers.
const SIZES: [u32; 3] = [100, 1_000, 10_000];

/// How often one more peer is added; the median counts.
const MORE: u32 = 21;

fn main() {
    if !support::root("bench host") {
        return;
    }
    println!("{:>6}  {:<36} {:>10} {:>10} {:>9}", "peers", "what", "time", "µs/object", "to batch");
    for count in SIZES {
        // What somebody else does at the same time does not decide.
        let runs: Vec<Run> = (0..3).map(|_| run(count)).collect();
        let best = |of: fn(&Run) -> Duration| runs.iter().map(of).min().unwrap_or_default();
        let objects = 6.0 * f64::from(count);
        let batch = best(|run| run.batch);
        let line = |what: &str, time: Duration, objects: f64| {
            let (each, ratio) =
                (time.as_secs_f64() * 1e6 / objects, time.as_secs_f64() / batch.as_secs_f64());
            println!("{count:>6}  {what:<36} {:>8.2}ms {each:>10.2} {ratio:>8.3}×", time.as_secs_f64() * 1e3);
        };
        line("ip -batch and bridge -batch", batch, objects);
        line("from nothing", best(|run| run.from_nothing), objects);
        line("ip and bridge show (the dumps)", best(|run| run.dump), objects);
        line("again, unchanged", best(|run| run.unchanged), objects);
        line("one more peer, as it is reported", best(|run| run.one_more), 6.0);
    }
}

/// What was measured.
struct Run {
    batch: Duration,
    from_nothing: Duration,
    dump: Duration,
    unchanged: Duration,
    one_more: Duration,
}

fn timed(job: impl FnOnce()) -> Duration {
    let start = Instant::now();
    job();
    start.elapsed()
}

fn run(count: u32) -> Run {
    let (batch, dump) = with_batches(count);
    let host = Host::new();
    let mut desired = without_peers(&host);
    let worker = host.worker();
    // The device and the firewall do not depend on the number of peers.
    worker.apply_ok(&desired);
    desired.peers = Some((2..count + 2).map(peer).collect());
    let from_nothing = timed(|| assert_eq!(worker.apply_ok(&desired), 6 * count as usize));
    // The echoes of so much are over.
    host.apply_ok(&desired);
    std::thread::sleep(Duration::from_secs(2));
    let unchanged = timed(|| assert_eq!(worker.apply_ok(&desired), 0));
    let mut more: Vec<Duration> = (0..MORE)
        .map(|n| {
            let (ip, peer) = peer(count + 2 + n);
            desired.peers.as_mut().unwrap().insert(ip, peer);
            worker.prepare(&desired);
            timed(|| assert_eq!(worker.go_ok(), 6))
        })
        .collect();
    more.sort();
    Run { batch, from_nothing, dump, unchanged, one_more: more[more.len() / 2] }
}

fn without_peers(host: &Host) -> Desired {
    let mut desired = host.desired(1);
    desired.vtep.as_mut().unwrap().addresses[0] = "44.128.0.1/16".parse().unwrap();
    desired
}

/// The same objects by the tools, and a look at them.
fn with_batches(count: u32) -> (Duration, Duration) {
    let host = Host::new();
    host.apply_ok(&without_peers(&host));
    let (mut ip, mut bridge) = (String::new(), String::new());
    (2..count + 2).map(peer).for_each(|(underlay, peer)| lines(&mut ip, &mut bridge, underlay.into(), &peer));
    let files = [("ip", ip), ("bridge", bridge)].map(|(tool, lines)| {
        let file = host.cni.path().join(format!("{tool}.batch"));
        fs::write(&file, lines).unwrap();
        format!("{tool} -batch {}", file.display())
    });
    let batch = timed(|| files.iter().for_each(|line| _ = host.command(line)));
    let shows = [
        "ip neighbour show dev vtep1024",
        "bridge fdb show dev vtep1024",
        "ip route show",
        "ip -6 route show",
        "ip route show table 42",
    ];
    (batch, timed(|| shows.iter().for_each(|line| _ = host.command(line))))
}

/// One peer, as the tools take it.
fn lines(ip: &mut String, bridge: &mut String, underlay: IpAddr, peer: &Peer) {
    let Peer { vtep_ips, vtep_mac, subnets } = peer;
    let device = "dev vtep1024";
    for vtep_ip in vtep_ips {
        writeln!(ip, "neighbour replace {vtep_ip} lladdr {vtep_mac} nud permanent {device}").unwrap();
    }
    writeln!(bridge, "fdb replace {vtep_mac} dst {underlay} self permanent {device}").unwrap();
    writeln!(ip, "route replace {underlay}/32 via {} table 42 {device}", vtep_ips[0]).unwrap();
    for subnet in subnets {
        let via = vtep_ips.iter().find(|ip| ip.is_ipv4() == subnet.addr().is_ipv4()).unwrap();
        writeln!(ip, "route replace {subnet} via {via} {device}").unwrap();
    }
}
