//! The processes: masters and agents, each with what survives it.

use std::collections::{BTreeMap, BTreeSet};
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

/// One life of a process: its number, and how often it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    pub process: usize,
    pub start: u32,
}

/// What a process runs.
#[derive(Clone)]
pub enum Role {
    Master(MasterConfig),
    Agent(AgentConfig),
}

/// A process that can be started and can crash.
pub struct Process {
    pub upid: Upid,
    pub role: Role,
    /// It runs, or will run at its next start, what came before ours.
    pub old: bool,
    pub start: u32,
    /// `None`: it does not run.
    pub machine: Option<Box<dyn Machine>>,
    /// It left for good.
    pub removed: bool,
    pub links: BTreeSet<Upid>,
    /// Requests that are not answered yet, with their paths.
    pub requests: BTreeMap<RequestId, String>,
    /// An agent's host.
    pub host: Host,
    pub executor: Executor,
    pub engine: EngineWorker,
    /// Whether it was started as an agent with `docker_bridge`.
    docker: bool,
    /// An agent was told who its peers are.
    pub knows_peers: bool,
    /// The overlay master that leads, as the process was told.
    pub leader: Option<Upid>,
    /// What a master has to go by: the log when it last read or wrote it. `None`:
    /// it must not answer for it.
    pub stored: Option<Bytes>,
    /// The same before the write that the master does not know the outcome of yet.
    pub known: Option<Bytes>,
    /// A write failed since: what is stored is not to be relied on any more, from
    /// when the master hears of it.
    pub doomed: bool,
    /// Operations on the log, and their answers, keep their order: when the last
    /// ones take place.
    pub log_order: [Time; 2],
    /// When the write began that a master waits for.
    pub storing: Option<Time>,
    /// The agents that a master linked to, less those of which it heard that the link
    /// broke, and those that were deleted since.
    pub connected: BTreeSet<String>,
    /// When a master heard of agents last: a message, or the end of a link.
    pub heard: BTreeMap<String, Time>,
    /// When a master that leads had first read the log in this lead, at the earliest.
    pub serves_since: Option<Time>,
}

impl Process {
    fn new(id: &str, address: String, role: Role) -> Process {
        Process {
            upid: Upid::new(id, address.parse().unwrap()),
            role,
            old: false,
            start: 0,
            machine: None,
            removed: false,
            links: BTreeSet::new(),
            requests: BTreeMap::new(),
            host: Host::default(),
            executor: Executor::default(),
            engine: EngineWorker::default(),
            docker: false,
            knows_peers: false,
            leader: None,
            stored: None,
            doomed: false,
            log_order: Default::default(),
            known: None,
            storing: None,
            connected: BTreeSet::new(),
            heard: BTreeMap::new(),
            serves_since: None,
        }
    }

    /// After how long without contact a master may give an agent's ranges to others.
    pub fn lease(&self) -> Option<Duration> {
        match &self.role {
            Role::Master(config) => config.agent_lease,
            Role::Agent(_) => None,
        }
    }

    pub fn is_master(&self) -> bool {
        matches!(self.role, Role::Master(_))
    }

    /// A master was told that it leads.
    pub fn leads(&self) -> bool {
        self.leader.as_ref() == Some(&self.upid)
    }

    /// Whether it runs as an agent of a host with Docker.
    pub fn has_docker(&self) -> bool {
        self.docker
    }

    /// Whether its host has anything of this overlay.
    pub fn host_has(&self, overlay: &str) -> bool {
        self.host.has(overlay)
    }

    pub fn ip(&self) -> String {
        self.upid.address.ip().to_string()
    }

    /// Starts the machine anew; nothing of its former life is left but the host.
    pub fn start(&mut self, random: &mut Rng) {
        let (me, seed) = (self.upid.clone(), random.u64(..));
        self.docker =
            matches!(&self.role, Role::Agent(config) if config.network.docker_bridge && !self.old);
        self.machine = Some(match (self.role.clone(), self.old) {
            (Role::Master(config), false) => Box::new(Master::new(config, me, seed)),
            (Role::Agent(config), false) => Box::new(Agent::new(config, me, seed)),
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

    /// An agent's configuration changes; it takes effect at the next start.
    pub fn reconfigure(&mut self, random: &mut Rng) {
        if let Role::Agent(config) = &mut self.role {
            config.network.mesos_bridge = random.bool();
            config.network.docker_bridge = random.bool();
        }
    }

    /// Ends it at once.
    pub fn crash(&mut self) {
        self.machine = None;
        self.start += 1;
        self.links.clear();
        self.requests.clear();
        self.executor = Executor::default();
        self.engine = EngineWorker::default();
        self.knows_peers = false;
        self.leader = None;
        self.stored = None;
        self.doomed = false;
        self.known = None;
        self.storing = None;
        self.connected.clear();
        self.heard.clear();
        self.serves_since = None;
    }
}

/// A cluster of random size and shape, perhaps with predecessors.
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

/// All masters have the same file.
pub fn has_one_file(processes: &[Process]) -> bool {
    let mut files = processes.iter().filter_map(|process| match &process.role {
        Role::Master(config) => Some(&config.network),
        Role::Agent(_) => None,
    });
    let first = files.next();
    files.all(|file| Some(file) == first)
}

/// Masters with these files, and some agents, one of them without IPv6.
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

/// One master and this many agents.
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

/// Room for eight agents at least, and often for no more; or for `few` agents, and
/// hardly more. Now and then the masters' files are not the same.
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
