//! Processes of the cluster, with what survives a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::agent::Agent;
use overlay_core::config::{AgentConfig, MasterConfig, master};
use overlay_core::master::Master;
use overlay_core::{AGENT_ID, MASTER_ID, Machine, RequestId, Time, Upid};
use testkit::predecessor::agent as old_agent;
use testkit::predecessor::agent::OldAgent;
use testkit::predecessor::master as old_master;
use testkit::predecessor::master::OldMaster;

use super::host::{EngineWorker, Executor, Host};
use crate::authentication;

/// Identifies one run of a process: its number, and the number of its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation {
    pub process: usize,
    pub start: u32,
}

/// Role of a process.
#[derive(Clone)]
pub enum Role {
    Master(MasterConfig),
    Agent(AgentConfig),
}

/// Process that can start and crash.
pub struct Process {
    pub upid: Upid,
    pub role: Role,
    /// The process runs the C++ module, or will do so after its next start.
    pub is_predecessor: bool,
    pub start: u32,
    /// State machine; `None`: the process does not run.
    pub machine: Option<Box<dyn Machine>>,
    /// The process was removed from the cluster.
    pub removed: bool,
    pub links: BTreeSet<Upid>,
    /// Unanswered requests with their paths.
    pub requests: BTreeMap<RequestId, String>,
    /// Host of an agent.
    pub host: Host,
    pub executor: Executor,
    pub engine: EngineWorker,
    /// The process was started as an agent with `docker_bridge`.
    docker: bool,
    /// The bridges for Mesos and for Docker that the process requests since its start as an agent.
    pub requested_bridges: [bool; 2],
    /// An agent has received a list of peers.
    pub knows_peers: bool,
    /// Addresses of masters that challenged an agent's present process.
    pub met: BTreeSet<SocketAddr>,
    /// Leading overlay master, as far as the process knows.
    pub leader: Option<Upid>,
    /// Value of the log that a master last read or wrote; `None`: it must not rely on any.
    pub stored: Option<Bytes>,
    /// Value of the log before the write whose outcome the master does not know yet.
    pub known: Option<Bytes>,
    /// A write failed, so that the master must not rely on `stored` as soon as it knows.
    pub write_failed: bool,
    /// A write failed since the process opened the log: what it writes behind that is lost.
    pub is_torn: bool,
    /// Times of the last operation on the log and of the last answer. Both keep their order.
    pub log_order: [Time; 2],
    /// Start of the write that a master waits for.
    pub storing: Option<Time>,
    /// Agents that a master is linked to, without those whose end it noticed and those deleted
    /// since.
    pub connected: BTreeSet<String>,
    /// Agents whose end a master noticed since it linked to them. It can be the end of a former
    /// link, so that the latest one exists.
    pub ended: BTreeSet<Upid>,
    /// Last contact of a master with each agent: a message, or the end of a link.
    pub heard: BTreeMap<String, Time>,
    /// Earliest time at which a leading master can have read the log in this term.
    pub serves_since: Option<Time>,
}

impl Process {
    fn new(id: &str, address: String, role: Role) -> Process {
        Process {
            upid: Upid::new(id, address.parse().unwrap()),
            role,
            is_predecessor: false,
            start: 0,
            machine: None,
            removed: false,
            links: BTreeSet::new(),
            requests: BTreeMap::new(),
            host: Host::default(),
            executor: Executor::default(),
            engine: EngineWorker::default(),
            docker: false,
            requested_bridges: [false; 2],
            knows_peers: false,
            met: BTreeSet::new(),
            leader: None,
            stored: None,
            write_failed: false,
            is_torn: false,
            log_order: Default::default(),
            known: None,
            storing: None,
            connected: BTreeSet::new(),
            ended: BTreeSet::new(),
            heard: BTreeMap::new(),
            serves_since: None,
        }
    }

    /// Returns how long an agent may be silent before a master may reassign its subnets.
    pub fn lease(&self) -> Option<Duration> {
        match &self.role {
            Role::Master(config) => config.agent_lease,
            Role::Agent(_) => None,
        }
    }

    /// Returns whether an agent may take messages of anybody in the name of its leader, while its
    /// leader's challenge may not arrive.
    pub fn may_believe_anybody(&self) -> bool {
        let leader = self.leader.as_ref();
        !authentication::is_strict(self)
            && leader.is_none_or(|leader| !self.met.contains(&leader.address))
    }

    pub fn is_master(&self) -> bool {
        matches!(self.role, Role::Master(_))
    }

    /// Returns whether a master knows that it leads.
    pub fn leads(&self) -> bool {
        self.leader.as_ref() == Some(&self.upid)
    }

    /// Returns whether the process runs as an agent with Docker.
    pub fn has_docker(&self) -> bool {
        self.docker
    }

    /// Returns whether its host has anything of this overlay.
    pub fn host_has(&self, overlay: &str) -> bool {
        self.host.has(overlay)
    }

    pub fn ip(&self) -> String {
        self.upid.address.ip().to_string()
    }

    /// Starts a new machine. Only the host is kept.
    pub fn start(&mut self, random: &mut Rng) {
        let (me, seed) = (self.upid.clone(), random.u64(..));
        if let Role::Agent(config) = &self.role {
            let network = &config.network;
            self.docker = network.docker_bridge && !self.is_predecessor;
            self.requested_bridges = [network.mesos_bridge, network.docker_bridge];
        }
        self.machine = Some(match (self.role.clone(), self.is_predecessor) {
            (Role::Master(config), false) => {
                Box::new(Master::new(config, me, seed).with_release("0.2.0"))
            }
            (Role::Agent(config), false) => {
                Box::new(Agent::new(config, me, seed).with_release("0.2.0"))
            }
            (Role::Master(config), true) => {
                let habits = old_master::Habits {
                    keeps_unknown_fields: random.bool(),
                };
                Box::new(OldMaster::new(config.network, me, habits))
            }
            (Role::Agent(config), true) => {
                let habits = old_agent::Habits {
                    drops_unasked: random.bool(),
                };
                Box::new(OldAgent::new(config, me, seed, habits))
            }
        });
    }

    /// Changes an agent's configuration from its next start on.
    pub fn reconfigure(&mut self, random: &mut Rng) {
        if let Role::Agent(config) = &mut self.role {
            config.network.mesos_bridge = random.bool();
            config.network.docker_bridge = random.bool();
        }
    }

    /// Ends the process at once.
    pub fn crash(&mut self) {
        self.machine = None;
        self.start += 1;
        self.links.clear();
        self.requests.clear();
        self.executor = Executor::default();
        self.engine = EngineWorker::default();
        self.knows_peers = false;
        self.met.clear();
        self.leader = None;
        self.stored = None;
        self.write_failed = false;
        self.is_torn = false;
        self.known = None;
        self.storing = None;
        self.connected.clear();
        self.ended.clear();
        self.heard.clear();
        self.serves_since = None;
    }
}

/// Returns a cluster of random size and shape. With `mixed` it is suitable for C++ modules.
pub fn random(random: &mut Rng, mixed: bool) -> Vec<Process> {
    let masters = random.usize(1..4);
    let agents = random.usize(2..8);
    // In every other cluster ranges are lent, there are hardly enough of them, and more
    // agents than they are for, never all of them at a time. Predecessors lend nothing.
    let lease = (!mixed && random.bool()).then(|| Duration::from_millis(100 << random.u8(0..9)));
    let spares = if lease.is_some() {
        random.usize(1..4)
    } else {
        0
    };
    let mut configs = master_configs(lease.map(|_| agents + 1), random, masters, mixed);
    configs
        .iter_mut()
        .for_each(|config| config.agent_lease = lease);
    let mut cluster = Vec::new();
    for (n, config) in configs.into_iter().enumerate() {
        let address = format!("10.0.1.{}:5050", n + 1);
        cluster.push(Process::new(MASTER_ID, address, Role::Master(config)));
    }
    for n in 0..agents + spares {
        let mut config = AgentConfig::new("/cni");
        config.network.enable_ipv6 = random.u8(0..10) > 0;
        config.network.allocate_subnet = random.u8(0..10) > 0;
        config.network.docker_bridge = random.bool();
        let address = format!("10.0.2.{}:5051", n + 1);
        let mut agent = Process::new(AGENT_ID, address, Role::Agent(config));
        agent.removed = n >= agents;
        cluster.push(agent);
    }
    if random.bool() {
        // The agent module in a master process.
        let mut config = AgentConfig::new("/cni");
        config.network.mesos_bridge = false;
        config.network.docker_bridge = false;
        cluster.push(Process::new(
            AGENT_ID,
            "10.0.1.1:5050".into(),
            Role::Agent(config),
        ));
    }
    cluster
}

/// Gives an agent in a master's process the version of that master: both come from one library.
pub fn share_libraries(processes: &mut [Process]) {
    let masters = processes.iter().filter(|it| it.is_master());
    let versions: Vec<_> = masters
        .map(|master| (master.upid.address, master.is_predecessor))
        .collect();
    for process in processes {
        let master = versions
            .iter()
            .find(|(address, _)| *address == process.upid.address);
        process.is_predecessor = master.map_or(process.is_predecessor, |(_, old)| *old);
    }
}

/// Returns whether all masters have the same file.
pub fn has_one_file(processes: &[Process]) -> bool {
    let mut files = processes.iter().filter_map(|process| match &process.role {
        Role::Master(config) => Some(&config.network),
        Role::Agent(_) => None,
    });
    let first = files.next();
    files.all(|file| Some(file) == first)
}

/// Returns masters with these files, and agents, one of them without IPv6.
pub fn with_files(files: &[String], agents: u8) -> Vec<Process> {
    let mut cluster = Vec::new();
    for (n, text) in files.iter().enumerate() {
        let config = master::parse("master.json", text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .config;
        cluster.push(Process::new(
            MASTER_ID,
            format!("10.0.1.{}:5050", n + 1),
            Role::Master(config),
        ));
    }
    for n in 0..agents {
        let mut config = AgentConfig::new("/cni");
        config.network.enable_ipv6 = n > 0;
        cluster.push(Process::new(
            AGENT_ID,
            format!("10.0.2.{}:5051", n + 1),
            Role::Agent(config),
        ));
    }
    cluster
}

/// Returns one master and this number of agents.
pub fn large(agents: u8) -> Vec<Process> {
    let text = r#"{"network": {"vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;
    let config = master::parse("master.json", text).unwrap().config;
    let mut cluster = vec![Process::new(
        MASTER_ID,
        "10.0.1.1:5050".into(),
        Role::Master(config),
    )];
    for n in 0..agents {
        let config = AgentConfig::new("/cni");
        cluster.push(Process::new(
            AGENT_ID,
            format!("10.0.2.{n}:5051"),
            Role::Agent(config),
        ));
    }
    cluster
}

/// Returns configurations with room for at least eight agents, or for little more than `few`
/// agents. Sometimes the masters' files differ.
fn master_configs(
    few: Option<usize>,
    random: &mut Rng,
    masters: usize,
    mixed: bool,
) -> Vec<MasterConfig> {
    let vtep6 = if random.bool() {
        r#""vtep_subnet6": "fd01:a::/64", "#
    } else {
        ""
    };
    let bits = random.u8(1..4);
    let vtep = 32 - bits - 1;
    let mut overlays = Vec::new();
    if bits & 1 == 1 {
        overlays.push(format!(
            r#"{{"name": "dcos", "subnet": "9.0.0.0/{}", "prefix": 24}}"#,
            20 + bits / 2
        ));
    }
    if bits & 2 == 2 && !vtep6.is_empty() {
        overlays.push(r#"{"name": "dcos6", "subnet6": "fd01:b::/76", "prefix6": 80}"#.to_owned());
        overlays.push(
            r#"{"name": "both", "subnet": "9.64.0.0/20", "prefix": 26, "subnet6": "fd01:c::/64", "prefix6": 80}"#
                .to_owned(),
        );
    }
    if overlays.is_empty() || random.bool() {
        overlays.push(r#"{"name": "web", "subnet": "9.128.0.0/16", "prefix": 24}"#.to_owned());
    }
    if random.bool() {
        overlays.push(
            r#"{"name": "off", "subnet": "9.192.0.0/16", "prefix": 24, "enabled": false}"#
                .to_owned(),
        );
    }
    if let Some(few) = few {
        let prefix = 24 - few.next_power_of_two().ilog2();
        overlays.push(format!(
            r#"{{"name": "few", "subnet": "9.224.0.0/{prefix}", "prefix": 24}}"#
        ));
    }
    let vtep = if random.bool() { vtep.min(28) } else { 20 };
    let differ = few.is_none() && random.u8(0..3) == 0;
    let config = |_| {
        let mut overlays = overlays.clone();
        if differ && random.bool() {
            overlays.remove(random.usize(0..overlays.len()));
        }
        if differ && random.bool() {
            let v6 = r#", "subnet6": "fd01:161::/64", "prefix6": 80"#;
            // A predecessor tells agents of a family that its file does not have.
            let v6 = if !mixed && random.bool() { v6 } else { "" };
            overlays.push(format!(
                r#"{{"name": "extra", "subnet": "9.161.0.0/20", "prefix": 24{v6}}}"#
            ));
        }
        let text = format!(
            r#"{{"network": {{"vtep_subnet": "44.128.0.0/{vtep}", {vtep6}"vtep_mac_oui": "70:B3:D5:00:00:00",
                "overlays": [{}]}}}}"#,
            overlays.join(", ")
        );
        master::parse("master.json", &text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .config
    };
    (0..masters).map(config).collect()
}
