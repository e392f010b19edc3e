//! Benchmark of the configuration of a host, beside `ip -batch` and `bridge -batch` with the same
//! operations, in network namespaces: `cargo bench --bench host` or `cargo xtask bench host`.
//!
//! "One more" is the time from the master's message to the report that the peer is configured.
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::agent::Agent;
use overlay_core::config::AgentConfig;
use overlay_core::host_api::desired::{Desired, Firewall};
use overlay_core::proto::internal::{
    Peer, PeerSubnet, PeersVersion, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, EngineReport, HostReport, Input, MASTER_ID, Machine, Time, Upid};
use testkit::host::{Host, Worker};

/// Numbers of peers.
const SIZES: [u32; 3] = [100, 1_000, 10_000];

/// Number of peers that is measured without the tools, whose plain routes take minutes. (With
/// 100,000 the kernel takes more than ten minutes to remove the namespace, and blocks all netlink
/// requests meanwhile.)
const LARGEST: u32 = 30_000;

/// Number of peers from which on routes use nexthop objects.
const OBJECTS_ABOVE: u32 = 1_000;

/// Repetitions of one more peer; results are medians.
const MORE: u32 = 21;

fn main() {
    if !testkit::root("bench host") {
        return;
    }
    println!(
        "{:>7}  {:<44} {:>10} {:>10} {:>9}",
        "peers", "what", "time", "µs/object", "to batch"
    );
    for count in SIZES {
        // The best of several runs, since other processes disturb some of them.
        let tools: Vec<_> = (0..3).map(|_| with_tools(count, false)).collect();
        let plain = best(&tools, |tools| tools.batch);
        line(
            count,
            "ip -batch and bridge -batch",
            plain,
            6 * count,
            Some(plain),
        );
        line(
            count,
            "ip and bridge show (the dumps)",
            best(&tools, |tools| tools.dump),
            6 * count,
            None,
        );
        if count > OBJECTS_ABOVE {
            let tools: Vec<_> = (0..3).map(|_| with_tools(count, true)).collect();
            let same = best(&tools, |tools| tools.batch);
            line(
                count,
                "the batches with nexthop objects",
                same,
                7 * count,
                Some(plain),
            );
        }
        show(
            count,
            &(0..3).map(|_| run(count)).collect::<Vec<_>>(),
            Some(plain),
        );
    }
    let tools = with_tools(LARGEST, true).batch;
    line(
        LARGEST,
        "the batches with nexthop objects",
        tools,
        7 * LARGEST,
        Some(tools),
    );
    show(LARGEST, &[run(LARGEST)], Some(tools));
}

fn best<T>(runs: &[T], of: impl Fn(&T) -> Duration) -> Duration {
    runs.iter().map(of).min().unwrap_or_default()
}

fn show(count: u32, runs: &[Run], batch: Option<Duration>) {
    let objects = runs[0].objects;
    line(
        count,
        "from nothing",
        best(runs, |run| run.from_nothing),
        objects,
        batch,
    );
    line(
        count,
        "again, unchanged",
        best(runs, |run| run.unchanged),
        objects,
        None,
    );
    line(
        count,
        "one more peer, from message to report",
        best(runs, |run| run.one_more),
        6,
        None,
    );
    line(
        count,
        "of that in the state machine",
        best(runs, |run| run.one_more_core),
        6,
        None,
    );
}

fn line(count: u32, what: &str, time: Duration, objects: u32, batch: Option<Duration>) {
    let (seconds, objects) = (time.as_secs_f64(), f64::from(objects));
    let ratio = batch.map_or(String::new(), |batch| {
        format!("{:.3}×", seconds / batch.as_secs_f64())
    });
    println!(
        "{count:>7}  {what:<44} {:>8.2}ms {:>10.2} {ratio:>9}",
        seconds * 1e3,
        seconds * 1e6 / objects
    );
}

/// Results of a measurement.
struct Run {
    objects: u32,
    from_nothing: Duration,
    unchanged: Duration,
    one_more: Duration,
    one_more_core: Duration,
}

fn timed<T>(job: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (job(), start.elapsed())
}

fn run(count: u32) -> Run {
    let host = Host::new();
    let worker = host.worker();
    let mut agent = Driven::new(&host);
    // The device does not depend on the number of peers.
    worker.prepare(agent.peers(2, 2));
    worker.go_ok();
    let desired = agent.peers(2, count + 2);
    worker.prepare(desired.clone());
    let (objects, from_nothing) = timed(|| worker.go_ok());
    // All notifications of the kernel have been read.
    host.apply_ok(&desired);
    std::thread::sleep(Duration::from_secs(2));
    worker.prepare(desired);
    let (operations, unchanged) = timed(|| worker.go_ok());
    assert_eq!(operations, 0);
    let passes = worker.counters().reconciliations;
    let more = |n| one_more(&mut agent, &worker, count + 2 + n);
    let (mut whole, mut core): (Vec<Duration>, Vec<Duration>) = (0..MORE).map(more).unzip();
    assert_eq!(
        worker.counters().reconciliations,
        passes,
        "the changes took passes"
    );
    whole.sort();
    core.sort();
    let (one_more, one_more_core) = (whole[whole.len() / 2], core[core.len() / 2]);
    Run {
        objects: objects as u32,
        from_nothing,
        unchanged,
        one_more,
        one_more_core,
    }
}

/// Adds a peer. Returns the whole time, and the part of the state machine.
fn one_more(agent: &mut Driven, worker: &Worker, n: u32) -> (Duration, Duration) {
    let message = agent.delta(n);
    let start = Instant::now();
    let (desired, there) = timed(|| agent.handle(message).expect("no order"));
    worker.prepare(desired);
    let operations = worker.go_ok();
    let ((), back) = timed(|| agent.done());
    let whole = start.elapsed();
    assert!((6..=7).contains(&operations), "{operations} operations");
    (whole, there + back)
}

/// State machine of an agent whose host succeeds.
struct Driven {
    agent: Agent,
    master: Upid,
    version: u64,
    generation: u64,
}

impl Driven {
    fn new(host: &Host) -> Driven {
        let mut config = AgentConfig::new(host.cni.path());
        // This does not depend on the number of peers.
        config.firewall = Firewall::None;
        let agent = Agent::new(
            config,
            "overlay-agent@10.255.255.254:5051".parse().unwrap(),
            1,
        );
        let leader: Upid = "master@10.255.255.253:5050".parse().unwrap();
        let master = Upid::new(MASTER_ID, leader.address);
        let mut driven = Driven {
            agent,
            master,
            version: 0,
            generation: 0,
        };
        driven.handle(Input::Leader(Some(leader)));
        driven.handle(driven.message(&overlays()));
        driven.done();
        driven
    }

    fn message<M: Named>(&self, message: &M) -> Input {
        let body = message.encode_to_vec().into();
        Input::Message {
            from: self.master.clone(),
            name: M::NAME.to_owned(),
            body,
        }
    }

    /// Handles an input. Returns the desired state if the agent orders one.
    fn handle(&mut self, input: Input) -> Option<Arc<Desired>> {
        self.agent.handle(Time::default(), input);
        let (mut wanted, mut engine) = (None, None);
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::ApplyHost {
                    generation,
                    desired,
                } => {
                    self.generation = generation;
                    wanted = Some(desired);
                }
                Effect::ApplyEngine { generation, .. } => engine = Some(generation),
                _ => {}
            }
        }
        if let Some(generation) = engine {
            self.handle(Input::EngineDone(EngineReport {
                generation,
                ..EngineReport::default()
            }));
        }
        wanted
    }

    /// Reports that the host matches the last desired state.
    fn done(&mut self) {
        let report = HostReport {
            generation: self.generation,
            ..HostReport::default()
        };
        self.handle(Input::HostDone(report));
    }

    /// Handles a complete list of peers. Returns the desired state.
    fn peers(&mut self, from: u32, to: u32) -> Arc<Desired> {
        self.version += 1;
        let version = PeersVersion {
            epoch: Some(1),
            version: Some(self.version),
            ..Default::default()
        };
        let peers = (from..to).map(peer).collect();
        let message = UpdatePeersMessage {
            version,
            base: None,
            peers,
            removed: Vec::new(),
            ..Default::default()
        };
        let desired = self.handle(self.message(&message)).expect("no order");
        self.done();
        desired
    }

    /// Returns the message about one more peer.
    fn delta(&mut self, n: u32) -> Input {
        let base = Some(self.version);
        self.version += 1;
        let version = PeersVersion {
            epoch: Some(1),
            version: Some(self.version),
            ..Default::default()
        };
        self.message(&UpdatePeersMessage {
            version,
            base,
            peers: vec![peer(n)],
            removed: Vec::new(),
            ..Default::default()
        })
    }
}

/// Returns the overlay of all agents.
fn overlays() -> UpdateAgentOverlaysMessage {
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_ip: "44.128.0.1/12".into(),
        vtep_mac: "70:b3:d5:80:00:01".into(),
        vtep_ip6: Some("fd01:a::1/64".into()),
        vtep_mtu: Some(1450),
    };
    let overlay = AgentOverlayInfo {
        info: OverlayInfo {
            name: "dcos".into(),
            subnet: Some("9.0.0.0/8".into()),
            prefix: Some(26),
            subnet6: Some("fd01:b::/64".into()),
            prefix6: Some(96),
            enabled: None,
        },
        subnet: Some("9.255.255.192/26".into()),
        subnet6: Some("fd01:b::ffff:ffff:0:0/96".into()),
        backend: BackendInfo { vxlan: Some(vxlan) },
        ..AgentOverlayInfo::default()
    };
    UpdateAgentOverlaysMessage {
        overlays: vec![overlay],
        ..UpdateAgentOverlaysMessage::default()
    }
}

/// Returns agent number `n` as a peer in the master's messages.
fn peer(n: u32) -> Peer {
    let address =
        |base: [u8; 4], n: u32| Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + n).to_string();
    let [_, b, c, d] = (0x80_0000 + n).to_be_bytes();
    let (high, low) = (n >> 16, n & 0xffff);
    let subnet = PeerSubnet {
        subnet: Some(address([9, 0, 0, 0], n << 6) + "/26"),
        subnet6: Some(format!("fd01:b::{high:x}:{low:x}:0:0/96")),
        ..PeerSubnet::default()
    };
    Peer {
        ip: address([10, 0, 0, 0], n),
        vni: 1024,
        vtep_ip: address([44, 128, 0, 0], n),
        vtep_ip6: Some(format!("fd01:a::{high:x}:{low:x}")),
        vtep_mac: format!("70:b3:d5:{b:02x}:{c:02x}:{d:02x}"),
        subnets: vec![subnet],
    }
}

/// Times of the tools.
struct Tools {
    batch: Duration,
    dump: Duration,
}

/// Measures the tools, which add and list the same objects.
fn with_tools(count: u32, objects: bool) -> Tools {
    let host = Host::new();
    host.apply_ok(&Driven::new(&host).peers(2, 2));
    let (mut ip, mut bridge) = (String::new(), String::new());
    (2..count + 2).for_each(|n| lines(&mut ip, &mut bridge, n, objects));
    let files = [("ip", ip), ("bridge", bridge)].map(|(tool, lines)| {
        let file = host.cni.path().join(format!("{tool}.batch"));
        fs::write(&file, lines).unwrap();
        format!("{tool} -batch {}", file.display())
    });
    let ((), batch) = timed(|| files.iter().for_each(|line| _ = host.command(line)));
    let shows = [
        "ip neighbour show dev vtep1024",
        "bridge fdb show dev vtep1024",
        "ip route show",
        "ip -6 route show",
        "ip route show table 42",
    ];
    let ((), dump) = timed(|| shows.iter().for_each(|line| _ = host.command(line)));
    Tools { batch, dump }
}

/// Commands of the tools for one peer.
fn lines(ip: &mut String, bridge: &mut String, n: u32, objects: bool) {
    let Peer {
        ip: underlay,
        vtep_ip,
        vtep_ip6,
        vtep_mac,
        subnets,
        ..
    } = peer(n);
    let (vtep_ip6, device) = (vtep_ip6.unwrap(), "dev vtep1024");
    for vtep_ip in [&vtep_ip, &vtep_ip6] {
        writeln!(
            ip,
            "neighbour replace {vtep_ip} lladdr {vtep_mac} nud permanent {device}"
        )
        .unwrap();
    }
    writeln!(
        bridge,
        "fdb replace {vtep_mac} dst {underlay} self permanent {device}"
    )
    .unwrap();
    let mut via = format!("via {vtep_ip} {device}");
    if objects {
        writeln!(ip, "nexthop replace id {n} {via}").unwrap();
        via = format!("nhid {n}");
    }
    writeln!(ip, "route replace {underlay}/32 {via} table 42").unwrap();
    for PeerSubnet {
        subnet, subnet6, ..
    } in subnets
    {
        writeln!(ip, "route replace {} {via}", subnet.unwrap()).unwrap();
        writeln!(
            ip,
            "route replace {} via {vtep_ip6} {device}",
            subnet6.unwrap()
        )
        .unwrap();
    }
}
