//! Attacks by senders that reach the ports of masters and agents, name any sender, and see no
//! answers. Tests print what they measured.

mod agents;
mod floods;
mod forged;
mod keys;
mod legacy;
mod registrations;
mod victims;

use std::time::Duration;

use overlay_core::{AGENT_ID, MASTER_ID, Upid};
use testbed::cluster::{Cluster, ClusterConfig, Launcher};
use testbed::container::Container;
use testbed::monitor::Monitor;
use testbed::net::Host;
use testbed::node::Node;
use testkit::blind::Sender;
use testkit::watch::Watched;

use crate::common::{hosts, wait_settled};

/// Messages per second of a steady flood.
const RATE: u32 = 120;

/// Returns the configuration of a cluster on hosts, whose containers Mesos does not start; `None`:
/// the test is skipped.
fn attacked(test: &str, agents: usize) -> Option<ClusterConfig> {
    let mut setup = hosts(test, agents)?;
    setup.launcher = Launcher::Posix;
    Some(setup)
}

fn master(cluster: &Cluster) -> Upid {
    Upid::new(MASTER_ID, cluster.master.address())
}

fn agent(node: &Node) -> Upid {
    Upid::new(AGENT_ID, node.address())
}

fn host(node: &Node) -> &Host {
    node.host().expect("a host")
}

/// Connects from the host of one node to a process of another.
fn sender(from: &Node, to: &Upid) -> Sender {
    Sender::connect(Some(host(from).netns()), to).unwrap()
}

/// Attaches a container to overlay `dcos` on each agent.
fn containers<const N: usize>(cluster: &Cluster, names: [&str; N]) -> [Container; N] {
    let mut agents = cluster.agents.iter();
    names.map(|name| {
        let agent = agents.next().unwrap();
        let config = agent.dir().join("cni/dcos.conf");
        Container::attach(cluster.run(), host(agent), name, &config).unwrap()
    })
}

/// Network configuration of the hosts of all agents, with monitors of every change.
struct Kernels(Vec<(String, Monitor)>);

impl Kernels {
    fn of(cluster: &Cluster) -> Kernels {
        let one = |node: &Node| {
            wait_settled(host(node));
            (dump(host(node)), Monitor::new(host(node)).unwrap())
        };
        Kernels(cluster.agents.iter().map(one).collect())
    }

    /// Asserts that nothing was changed, not even for a moment.
    #[track_caller]
    fn assert_unchanged(&self, cluster: &Cluster, during: &str) {
        for (node, (before, monitor)) in cluster.agents.iter().zip(&self.0) {
            let name = node.name();
            assert_eq!(&dump(host(node)), before, "{during}: the host of {name}");
            let changes = monitor.changes().unwrap();
            assert!(
                changes.is_empty(),
                "{during}: the host of {name} {changes:#?}"
            );
        }
    }
}

/// Returns addresses, routes, rules, neighbours, FDB entries and the firewall of a host.
fn dump(host: &Host) -> String {
    let commands: [(&str, &[&str]); 8] = [
        ("ip", &["-o", "address"]),
        ("ip", &["route", "show", "table", "all"]),
        ("ip", &["-6", "route", "show", "table", "all"]),
        ("ip", &["rule"]),
        ("ip", &["-6", "rule"]),
        ("ip", &["neighbour", "show", "nud", "permanent"]),
        ("bridge", &["fdb", "show", "dev", "vtep1024"]),
        ("nft", &["--stateless", "list", "ruleset"]),
    ];
    let run = |(program, args): (&str, &[&str])| host.run(program, args).unwrap_or_default();
    commands.map(run).concat()
}

/// Returns true if a node has logged a WARNING about messages of `sender`.
fn warns(node: &Node, sender: &Upid) -> bool {
    let (log, sender) = (node.log(), sender.to_string());
    log.lines()
        .any(|line| line.starts_with('W') && line.contains(&sender))
}

/// Asserts that a node has logged a WARNING about messages of `sender`.
#[track_caller]
fn assert_warned(node: &Node, sender: &Upid) {
    let log = node.log();
    assert!(warns(node, sender), "no WARNING names {sender}:\n{log}");
}

/// Bounds of what an attack may cost a process.
#[derive(Clone, Copy)]
struct Bounds {
    /// Additional memory, bytes.
    memory: u64,
    /// Additional open files.
    files: usize,
    /// Longest time without an answer, on a busy machine and without optimisation.
    silence: Duration,
}

impl Bounds {
    const USUAL: Bounds = Bounds {
        memory: 256 << 20,
        files: 1000,
        silence: Duration::from_secs(10),
    };

    /// Bounds for attacks of many thousand messages.
    const FLOOD: Bounds = Bounds {
        silence: Duration::from_secs(30),
        ..Bounds::USUAL
    };

    #[track_caller]
    fn assert(self, watched: &Watched) {
        assert!(watched.silence < self.silence, "silent: {watched}");
        assert!(watched.more_memory() < self.memory, "memory: {watched}");
        assert!(watched.more_files() < self.files, "open files: {watched}");
    }
}
