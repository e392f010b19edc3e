//! Test hosts: network namespaces without names, each of which exists as long as a thread in it,
//! so none can be left behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use overlay_core::HostReport;
use overlay_core::host_api::desired::{Bridge, Cni, Desired, Mac, Overlay, Peer, Vtep};

use overlay_host::{Counters, Executor, reconcile_once};
use serde_json::Value;

/// Timeout after which a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time in which an executor has noticed a change by an event or a quick check, on a busy machine,
/// too. It is shorter than the interval of full comparisons, 30 seconds, which find everything.
pub const NOTICE: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// An executor in a host's namespace, with blocking methods. It keeps reconciling the host.
pub struct Worker {
    executor: Executor,
    woken: Receiver<()>,
    /// Locked by the executor's thread after each report.
    pause: Arc<Mutex<()>>,
    generation: Cell<u64>,
    prepared: Cell<Option<Arc<Desired>>>,
}

impl Worker {
    fn spawn() -> Worker {
        let (wake, woken) = channel();
        let pause = Arc::new(Mutex::new(()));
        let paused = Arc::clone(&pause);
        let executor = Executor::spawn(move || {
            wake.send(()).unwrap();
            drop(paused.lock());
        })
        .unwrap();
        Worker {
            executor,
            woken,
            pause,
            generation: Cell::new(0),
            prepared: Cell::new(None),
        }
    }

    /// Orders the executor to configure the host as `desired`; does not wait.
    pub fn start(&self, desired: &Desired) {
        self.generation.set(self.generation.get() + 1);
        self.executor
            .apply(self.generation.get(), Arc::new(desired.clone()));
    }

    /// Stores the desired state for the next [`go_ok`](Worker::go_ok).
    pub fn prepare(&self, desired: Arc<Desired>) {
        self.prepared.set(Some(desired));
    }

    /// Configures the host as prepared, waits for success, and returns the number of operations.
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

    /// Waits for the next report about the desired state that was ordered last.
    pub fn finish(&self) -> HostReport {
        loop {
            self.woken.recv_timeout(PATIENCE).expect("no report");
            match self.executor.poll() {
                Some(report) if report.generation == self.generation.get() => return report,
                // A report of an earlier order, or of a repair before this one.
                _ => {}
            }
        }
    }

    /// Blocks the executor's thread at its next report, until the guard is dropped: it reads no
    /// events of the kernel meanwhile.
    pub fn pause(&self) -> MutexGuard<'_, ()> {
        self.pause.lock().unwrap()
    }

    /// Returns the executor's counters since its start.
    pub fn counters(&self) -> Counters {
        self.executor.counters()
    }

    /// Configures the host as `desired`, waits for success, and returns the number of operations.
    pub fn apply_ok(&self, desired: &Desired) -> usize {
        self.start(desired);
        let report = self.finish();
        assert!(report.is_ok(), "{report:?}");
        report.operations
    }
}

/// A test host: a network namespace and the thread in it.
pub struct Host {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: PathBuf,
    /// Directory of the CNI configurations.
    pub cni: tempfile::TempDir,
}

impl Host {
    /// Makes a host with a loopback device only.
    pub fn new() -> Host {
        Host::prepared(|| ())
    }

    /// Makes a host and calls `prepare` on its thread. All commands and the executor are started
    /// from that thread, so they inherit its mounts and limits.
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

    /// Starts an executor in the namespace. It must be dropped before the host.
    pub fn worker(&self) -> Worker {
        self.run(Worker::spawn)
    }

    /// Opens the network namespace.
    pub fn netns(&self) -> testbed::netns::Netns {
        testbed::netns::Netns::open(&self.namespace).unwrap()
    }

    /// Returns the file of the namespace; it exists as long as the host.
    pub fn namespace(&self) -> &str {
        self.namespace.to_str().unwrap()
    }

    /// Runs a closure on the host's thread and returns its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, done) = channel();
        let jobs = self.jobs.as_ref().unwrap();
        jobs.send(Box::new(move || _ = result.send(job()))).unwrap();
        done.recv().expect("the job panicked")
    }

    /// Runs a command on the host, which must succeed, and returns its standard output.
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

    /// Runs `mesos-overlay cleanup` on the host. Returns status, standard output and errors.
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

    /// Runs `ip` on the host and returns its standard output.
    pub fn ip(&self, arguments: &str) -> String {
        self.command(&format!("ip {arguments}"))
    }

    /// Runs `ip` or `bridge` and returns the JSON objects it prints. (It prints nothing at all
    /// instead of an empty list.)
    pub fn json(&self, line: &str) -> Vec<Value> {
        let text = self.command(line);
        if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&text).unwrap()
        }
    }

    /// Returns one field of each object that `ip` or `bridge` prints, sorted.
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

    /// Reconciles the host with `desired` once, without an executor.
    pub fn apply(&self, desired: &Desired) -> HostReport {
        let desired = desired.clone();
        self.run(move || reconcile_once(&desired))
    }

    /// Reconciles the host once, which must succeed, and returns the number of operations.
    pub fn apply_ok(&self, desired: &Desired) -> usize {
        let report = self.apply(desired);
        assert!(report.is_ok(), "{report:?}");
        report.operations
    }

    /// Reconciles the host and asserts that a second pass has no operations. Returns the number
    /// of operations of the first.
    pub fn settle(&self, desired: &Desired) -> usize {
        let operations = self.apply_ok(desired);
        assert_eq!(
            self.apply_ok(desired),
            0,
            "the second pass has something to do"
        );
        operations
    }

    /// Connects two hosts with a veth pair, whose ends get the given names and are set up.
    pub fn connect(&self, end: &str, other: &Host, other_end: &str) {
        let namespace = other.namespace.to_str().unwrap();
        self.ip(&format!(
            "link add {end} type veth peer name {other_end} netns {namespace}"
        ));
        self.ip(&format!("link set {end} up"));
        other.ip(&format!("link set {other_end} up"));
    }

    /// Returns the desired state of agent number `n`, with one dual-stack overlay, `dcos`.
    pub fn desired(&self, n: u8) -> Desired {
        Desired {
            cni: Cni {
                dir: self.cni.path().into(),
                data_dir: None,
                file_prefix: String::new(),
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

impl Default for Host {
    fn default() -> Host {
        Host::new()
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

/// Returns the MAC address of VTEP number `n`.
pub fn mac(n: u32) -> Mac {
    let [_, b, c, d] = (0x80_0000 + n).to_be_bytes();
    Mac([0x70, 0xb3, 0xd5, b, c, d])
}

/// Parses a prefix, or an address with a prefix length.
pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Parses an IP address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns agent number `n`'s part of a dual-stack overlay.
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

/// Returns agent number `n` as a peer, with its underlay address.
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

/// Polls until a condition holds; panics after [`PATIENCE`].
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    poll_for(PATIENCE, what, is_so);
}

/// Polls until a condition holds; panics after [`NOTICE`].
pub fn noticed(what: &str, is_so: impl FnMut() -> bool) {
    poll_for(NOTICE, what, is_so);
}

fn poll_for(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
