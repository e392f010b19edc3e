//! Throw-away hosts: each is a network namespace that lives as long as the thread
//! in it. Nothing of it has a name, so nothing of it can be left behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use overlay_core::HostReport;
use overlay_core::host_api::desired::{Bridge, Cni, Desired, Mac, Overlay, Peer, Vtep};

use overlay_host::{Counters, Executor, reconcile_once};
use serde_json::Value;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce() + Send>;

/// An executor that can be waited for. It goes on looking after the host.
pub struct Worker {
    executor: Executor,
    woken: Receiver<()>,
    generation: Cell<u64>,
    prepared: Cell<Option<Arc<Desired>>>,
}

impl Worker {
    fn spawn() -> Worker {
        let (wake, woken) = channel();
        let executor = Executor::spawn(move || wake.send(()).unwrap()).unwrap();
        Worker {
            executor,
            woken,
            generation: Cell::new(0),
            prepared: Cell::new(None),
        }
    }

    /// Wants the host to be like `desired`.
    pub fn start(&self, desired: &Desired) {
        self.generation.set(self.generation.get() + 1);
        self.executor
            .apply(self.generation.get(), Arc::new(desired.clone()));
    }

    /// Takes what is wanted next.
    pub fn prepare(&self, desired: Arc<Desired>) {
        self.prepared.set(Some(desired));
    }

    /// Makes the host as it was prepared.
    pub fn go_ok(&self) -> usize {
        self.generation.set(self.generation.get() + 1);
        self.executor.apply(
            self.generation.get(),
            self.prepared.take().expect("nothing was prepared"),
        );
        let report = self.finish();
        assert!(report.is_ok(), "{report:?}");
        report.operations
    }

    /// Waits for the next report about what was wanted last.
    pub fn finish(&self) -> HostReport {
        loop {
            self.woken.recv_timeout(PATIENCE).expect("no report");
            match self.executor.poll() {
                Some(report) if report.generation == self.generation.get() => return report,
                // Overtaken, or of a repair before.
                _ => {}
            }
        }
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        self.executor.counters()
    }

    /// Wants the host to be like `desired` and waits until it is.
    pub fn apply_ok(&self, desired: &Desired) -> usize {
        self.start(desired);
        let report = self.finish();
        assert!(report.is_ok(), "{report:?}");
        report.operations
    }
}

/// A network namespace.
pub struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: PathBuf,
    /// Where its CNI configurations are.
    pub cni: tempfile::TempDir,
}

impl Host {
    /// A host with a loopback device and nothing else.
    pub fn new() -> Host {
        Host::prepared(|| ())
    }

    /// The same after `prepare` on the thread that the namespace belongs to, which
    /// the executor and all commands descend from.
    pub fn prepared(prepare: impl FnOnce() + Send + 'static) -> Host {
        let (jobs, queue) = channel::<Job>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("cannot make a network namespace");
            prepare();
            queue.into_iter().for_each(|job| job());
        });
        let cni = tempfile::tempdir().unwrap();
        let namespace = PathBuf::new();
        let mut host = Host {
            jobs: Some(jobs),
            thread: Some(thread),
            namespace,
            cni,
        };
        let thread = host.run(gettid);
        host.namespace = format!("/proc/{}/task/{thread}/ns/net", std::process::id()).into();
        host.ip("link set lo up");
        // Namespaces may begin with what the machine has.
        host.command("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        host
    }

    /// An executor in it. It must go before the host.
    pub fn worker(&self) -> Worker {
        self.run(Worker::spawn)
    }

    /// Its network namespace.
    pub fn netns(&self) -> testbed::net::Netns {
        testbed::net::Netns::open(&self.namespace).unwrap()
    }

    /// Where that namespace is found, as long as this is here.
    pub fn namespace(&self) -> &str {
        self.namespace.to_str().unwrap()
    }

    /// Runs something in the host's network namespace.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, done) = channel();
        let jobs = self.jobs.as_ref().unwrap();
        jobs.send(Box::new(move || _ = result.send(job()))).unwrap();
        done.recv().expect("the job panicked")
    }

    /// Runs a command in it; gives what it prints.
    pub fn command(&self, line: &str) -> String {
        let line = line.to_owned();
        self.run(move || {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap())
                .args(words)
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {error}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Runs `mesos-overlay cleanup` in it; its status and what it printed.
    pub fn cleanup(&self, binary: &str, arguments: &str) -> (Option<i32>, String, String) {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let mut command = Command::new(binary);
        command.arg("cleanup").args(arguments);
        let output = self.run(move || command.output().unwrap());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &str) -> String {
        self.command(&format!("ip {arguments}"))
    }

    /// What `ip` or `bridge` says in JSON. (They print nothing for "nothing".)
    pub fn json(&self, line: &str) -> Vec<Value> {
        let text = self.command(line);
        if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&text).unwrap()
        }
    }

    /// One field of each object that `ip` or `bridge` shows, sorted.
    pub fn field(&self, line: &str, field: &str) -> Vec<String> {
        let objects = self.json(line);
        let mut values: Vec<String> = objects
            .iter()
            .filter_map(|object| object.get(field))
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
            .collect();
        values.sort();
        values
    }

    /// Makes the host like `desired`, once.
    pub fn apply(&self, desired: &Desired) -> HostReport {
        let desired = desired.clone();
        self.run(move || reconcile_once(&desired))
    }

    /// The same for what has to work out; gives how many operations it took.
    pub fn apply_ok(&self, desired: &Desired) -> usize {
        let report = self.apply(desired);
        assert!(report.is_ok(), "{report:?}");
        report.operations
    }

    /// Makes the host right, and shows that there is nothing to do after it.
    pub fn settle(&self, desired: &Desired) -> usize {
        let operations = self.apply_ok(desired);
        assert_eq!(
            self.apply_ok(desired),
            0,
            "the second pass has something to do"
        );
        operations
    }

    /// Lays a cable to another namespace; gives both ends a name and sets them up.
    pub fn connect(&self, end: &str, other: &Host, other_end: &str) {
        let namespace = other.namespace.to_str().unwrap();
        self.ip(&format!(
            "link add {end} type veth peer name {other_end} netns {namespace}"
        ));
        self.ip(&format!("link set {end} up"));
        other.ip(&format!("link set {other_end} up"));
    }

    /// What an agent with the `n`th VTEP and one dual-stack overlay wants.
    pub fn desired(&self, n: u8) -> Desired {
        Desired {
            cni: Cni {
                dir: self.cni.path().into(),
                data_dir: None,
            },
            vtep: Some(Vtep {
                name: "vtep1024".into(),
                vni: 1024,
                mac: mac(n.into()),
                addresses: vec![
                    net(&format!("44.128.0.{n}/20")),
                    net(&format!("fd01:a::{n:x}/64")),
                ],
                mtu: Some(1450),
            }),
            overlays: BTreeMap::from([("dcos".to_owned(), overlay(n))]),
            peers: Some(Arc::default()),
            ..Desired::default()
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A VTEP's hardware address.
pub fn mac(n: u32) -> Mac {
    let [_, b, c, d] = (0x80_0000 + n).to_be_bytes();
    Mac([0x70, 0xb3, 0xd5, b, c, d])
}

/// A prefix or address with a prefix length.
pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// An IP address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The `n`th agent's share of a dual-stack overlay.
pub fn overlay(n: u8) -> Overlay {
    Overlay {
        ranges: vec![net("9.0.0.0/8"), net("fd01:b::/64")],
        subnets: vec![
            net(&format!("9.0.{n}.0/24")),
            net(&format!("fd01:b::{n:x}:0:0:0/80")),
        ],
        mesos_bridge: Some(Bridge {
            name: "m-dcos".into(),
            subnets: vec![
                net(&format!("9.0.{n}.0/25")),
                net(&format!("fd01:b::{n:x}:0:0:0/81")),
            ],
        }),
        docker_bridge: None,
        mtu: 1420,
    }
}

/// The `n`th agent as its peers see it, with its underlay address.
pub fn peer(n: u32) -> (Ipv4Addr, Arc<Peer>) {
    let [_, b, c, d] = n.to_be_bytes();
    let peer = Peer {
        vtep_ips: vec![
            Ipv4Addr::from(0x2c80_0000 + n).into(),
            format!("fd01:a::{n:x}").parse().unwrap(),
        ],
        vtep_mac: mac(n),
        subnets: vec![
            IpNet::new(Ipv4Addr::new(9, c, d, 0).into(), 24).unwrap(),
            net(&format!("fd01:b::{n:x}:0:0:0/80")),
        ],
    };
    (Ipv4Addr::new(10, b, c, d), Arc::new(peer))
}

/// Polls until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
