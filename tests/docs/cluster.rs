//! A small cluster of the product's own state machines: one master, two agents, messages that
//! arrive at once, and a clock that only `advance` moves.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::blocks::Shell;
use crate::command::{self, Curl};
use crate::product::{self, Effect, Input, Io, Level, Machine, StoreOutcome, Time, Upid, join};

const MASTER: &str = "10.77.0.1";
const STANDBY: &str = "10.77.0.2";
const AGENTS: [&str; 2] = ["10.77.1.1", "10.77.1.2"];

const MASTER_JSON: &str = r#"{
    "replicated_log_dir": "/var/lib/mesos",
    "network": {
        "vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;
const AGENT_JSON: &str = r#"{"cni_dir": "/etc/mesos/cni", "network_config": {"mesos_bridge": true, "docker_bridge": false}}"#;

/// The time of day at which a cluster starts, in seconds.
const START: u64 = 10 * 3600 + 15 * 60;

/// Time to handle an input and to send its effects.
const LATENCY: Duration = Duration::from_micros(1250);

/// A process of the cluster.
struct Node {
    me: Upid,
    machine: Box<dyn Machine>,
    log: Vec<String>,
}

/// The cluster.
pub struct Cluster {
    nodes: BTreeMap<String, Node>,
    now: Time,
    /// The replicated log.
    stored: Bytes,
    /// A quorum of the log is up: writes are answered.
    has_quorum: bool,
    /// Error of the hosts of all agents; `None`: they succeed.
    host_error: Option<&'static str>,
    inputs: VecDeque<(String, Input)>,
    answers: VecDeque<(u16, String)>,
    requests: u64,
}

/// The name of a scenario, and how it comes about.
type Scenario = (&'static str, fn() -> Cluster);

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("cluster", running),
    ("agent-down", || {
        let mut cluster = running();
        cluster.lose(AGENTS[1]);
        cluster.advance(Duration::from_secs(600));
        cluster
    }),
    ("lease-ended", || {
        let config = MASTER_JSON.replacen('{', r#"{"agent_lease": "2days","#, 1);
        let mut cluster = running_with(&config, AGENT_JSON);
        cluster.lose(AGENTS[1]);
        cluster.advance(Duration::from_secs(3 * 86_400));
        cluster
    }),
    ("overlay-added", || {
        let mut cluster = running();
        let body = r#"{"name": "web", "subnet": "10.64.0.0/16", "prefix": 24}"#;
        cluster.request("POST", "/overlay-master/overlays", body);
        cluster
    }),
    ("draining", || {
        let mut cluster = running();
        cluster.lose(AGENTS[1]);
        cluster.request("DELETE", "/overlay-master/overlays/dcos", "");
        cluster.advance(Duration::from_secs(5));
        cluster
    }),
    ("standby", || {
        let mut cluster = Cluster::new();
        cluster.add_master(STANDBY, MASTER_JSON);
        cluster.lead(MASTER);
        cluster
    }),
    ("contradiction", || {
        let mut cluster = Cluster::new();
        cluster.stored = running().stored;
        cluster.add_master(
            MASTER,
            &MASTER_JSON.replace(r#""prefix": 24"#, r#""prefix": 26"#),
        );
        cluster.lead(MASTER);
        cluster
    }),
    ("file-changed", || {
        let mut cluster = Cluster::new();
        cluster.stored = running().stored;
        let changed = r#"[{"name": "web", "subnet": "10.64.0.0/16", "prefix": 24}, "#;
        cluster.add_master(
            MASTER,
            &MASTER_JSON
                .replace("[{", changed)
                .replace(", \"name\"", ", {\"name\""),
        );
        cluster.lead(MASTER);
        cluster
    }),
    ("left-out", || {
        let mut cluster = running();
        let body = r#"{"name": "web", "subnet": "10.64.0.0/16", "prefix": 24}"#;
        cluster.request("POST", "/overlay-master/overlays", body);
        let more = r#"[{"name": "new", "subnet": "10.64.128.0/17", "prefix": 24}, {"#;
        cluster.add_master(MASTER, &MASTER_JSON.replace("[{", more));
        cluster.lead(MASTER);
        cluster
    }),
    ("write-unanswered", || {
        let mut cluster = running();
        cluster.has_quorum = false;
        cluster.join("10.77.1.3", AGENT_JSON);
        cluster.advance(Duration::from_secs(20));
        cluster
    }),
    ("not-admitted", || {
        let config = MASTER_JSON.replacen('{', r#"{"agent_addresses": ["10.77.0.0/24"],"#, 1);
        running_with(&config, AGENT_JSON)
    }),
    ("host-error", || {
        let mut cluster = Cluster::new();
        cluster.host_error = Some("add device vtep1024 vxlan id 1024: Operation not supported");
        cluster.start(MASTER_JSON, AGENT_JSON);
        cluster.advance(Duration::from_secs(30));
        cluster
    }),
    ("addresses-scarce", || {
        let mut cluster = running();
        cluster.use_addresses(120);
        cluster
    }),
    ("lost-lease", || {
        let config = MASTER_JSON.replacen('{', r#"{"agent_lease": "2days","#, 1);
        let mut cluster = running_with(&config, AGENT_JSON);
        cluster.lose(AGENTS[1]);
        cluster.advance(Duration::from_secs(3 * 86_400));
        cluster.request("POST", "/overlay-master/agents/reclaim", "{}");
        cluster.join("10.77.1.3", AGENT_JSON);
        cluster.advance(Duration::from_secs(10));
        cluster.join(AGENTS[1], AGENT_JSON);
        cluster.advance(Duration::from_secs(10));
        cluster
    }),
];

/// A scenario by its name.
pub fn scenario(name: &str) -> Cluster {
    if let Some(role) = name.strip_suffix("-log") {
        assert!(
            role == "master" || role == "agent",
            "there is no scenario {name}"
        );
        return running();
    }
    let found = SCENARIOS.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("there is no scenario {name}"))
        .1()
}

fn running() -> Cluster {
    running_with(MASTER_JSON, AGENT_JSON)
}

fn running_with(master: &str, agent: &str) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.start(master, agent);
    cluster.advance(Duration::from_secs(60));
    cluster.use_addresses(3);
    cluster
}

/// Agents of several kinds, in a network with the IPv6-only overlay `dcos6`: one with all bridges, one
/// without Docker's, one without subnets, and one as the first.
pub fn mixed() -> Cluster {
    let overlays = r#"{"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80}, {"name": "dcos""#;
    let network = r#""vtep_subnet6": "fd01:a::/64", "vtep_subnet""#;
    let master = MASTER_JSON
        .replace(r#"{"name": "dcos""#, overlays)
        .replace(r#""vtep_subnet""#, network);
    let agent = AGENT_JSON.replace(r#""docker_bridge": false"#, r#""docker_bridge": true"#);
    let without_subnets = AGENT_JSON.replace(
        r#""mesos_bridge""#,
        r#""allocate_subnet": false, "mesos_bridge""#,
    );
    let mut cluster = Cluster::new();
    cluster.add_master(MASTER, &master);
    cluster.lead(MASTER);
    for (ip, config) in [
        (AGENTS[0], &*agent),
        (AGENTS[1], AGENT_JSON),
        ("10.77.1.3", &*without_subnets),
        ("10.77.1.4", &*agent),
    ] {
        cluster.join(ip, config);
        cluster.advance(Duration::from_secs(5));
    }
    cluster
}

impl Cluster {
    fn new() -> Cluster {
        Cluster {
            nodes: BTreeMap::new(),
            now: Time::default(),
            stored: Bytes::new(),
            has_quorum: true,
            host_error: None,
            inputs: VecDeque::new(),
            answers: VecDeque::new(),
            requests: 0,
        }
    }

    /// A master that leads, and one agent after the other.
    fn start(&mut self, master: &str, agent: &str) {
        self.add_master(MASTER, master);
        self.lead(MASTER);
        for ip in AGENTS {
            self.advance(Duration::from_millis(700));
            self.join(ip, agent);
        }
    }

    fn add_master(&mut self, ip: &str, config: &str) {
        let me: Upid = format!("overlay-master@{ip}:5050").parse().unwrap();
        let machine = product::master(config, &me);
        self.nodes.insert(
            ip.to_owned(),
            Node {
                me,
                machine,
                log: Vec::new(),
            },
        );
    }

    /// A new agent, which finds the leading master.
    fn join(&mut self, ip: &str, config: &str) {
        let me: Upid = format!("overlay-agent@{ip}:5051").parse().unwrap();
        let machine = product::agent(config, &me);
        self.nodes.insert(
            ip.to_owned(),
            Node {
                me,
                machine,
                log: Vec::new(),
            },
        );
        self.inputs.push_back((ip.to_owned(), leader(MASTER)));
        self.settle();
    }

    /// Announces the master at this address as the leader to all nodes.
    fn lead(&mut self, ip: &str) {
        let all = self.nodes.keys().map(|node| (node.clone(), leader(ip)));
        self.inputs.extend(all);
        self.settle();
    }

    /// Mesos's containers on the first agent have so many addresses.
    fn use_addresses(&mut self, count: u64) {
        self.inputs
            .push_back((AGENTS[0].to_owned(), product::usage(count)));
        self.settle();
    }

    /// A process ends, and the master's connection to it breaks.
    fn lose(&mut self, ip: &str) {
        let node = self.nodes.remove(ip).unwrap();
        self.inputs
            .push_back((MASTER.to_owned(), Input::Exited(node.me)));
        self.settle();
    }

    fn request(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let curl = Curl {
            method: method.to_owned(),
            server: format!("{MASTER}:5050"),
            path: path.to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: body.to_owned(),
            ..Curl::default()
        };
        self.ask(&curl)
    }

    /// Returns the answer of a node.
    pub fn get(&mut self, server: &str, path: &str) -> serde_json::Value {
        let curl = Curl {
            method: "GET".to_owned(),
            server: server.to_owned(),
            path: path.to_owned(),
            ..Curl::default()
        };
        let (status, body) = self.ask(&curl);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn ask(&mut self, curl: &Curl) -> (u16, String) {
        self.requests += 1;
        let (ip, port) = curl.server.split_once(':').unwrap();
        let node = self
            .nodes
            .get(ip)
            .unwrap_or_else(|| panic!("nobody is at {}", curl.server));
        assert_eq!(node.me.address.port().to_string(), port, "{}", curl.server);
        self.inputs
            .push_back((ip.to_owned(), product::request(self.requests, curl)));
        self.settle();
        self.answers.pop_front().expect("no answer")
    }

    /// Lets time go by.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due =
                |(ip, node): (&String, &Node)| Some((node.machine.poll_timeout()?, ip.clone()));
            let next = self.nodes.iter().filter_map(due).min();
            let Some((at, ip)) = next.filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            self.inputs.push_back((ip, Input::Timeout));
            self.settle();
        }
        self.now = end.max(self.now);
    }

    /// Handles what happened, and what follows from it at once.
    fn settle(&mut self) {
        while let Some((ip, input)) = self.inputs.pop_front() {
            // Messages to those that are gone are lost.
            let Some(node) = self.nodes.get_mut(&ip) else {
                continue;
            };
            node.machine.handle(self.now, input);
            self.now = self.now + LATENCY;
            while let Some(effect) = self
                .nodes
                .get_mut(&ip)
                .and_then(|node| node.machine.poll_effect())
            {
                self.perform(&ip, effect);
            }
        }
    }

    fn perform(&mut self, ip: &str, effect: Effect) {
        let node = self.nodes.get_mut(ip).unwrap();
        let answer = match effect {
            Effect::Io(Io::Send {
                to,
                name,
                body,
                session,
            }) => {
                let input = Input::Message {
                    from: node.me.clone(),
                    name: name.to_owned(),
                    body: join(&body, &session),
                };
                return self.inputs.push_back((to.address.ip().to_string(), input));
            }
            Effect::Fetch { .. } => Input::Fetched(Ok(self.stored.clone())),
            Effect::Io(Io::Store { .. }) if !self.has_quorum => return,
            Effect::Io(Io::Store { number, state }) => {
                self.stored = state;
                Input::Stored {
                    number,
                    outcome: StoreOutcome::Stored,
                }
            }
            Effect::ApplyHost { generation, .. } => product::host_done(generation, self.host_error),
            Effect::ApplyEngine { generation, .. } => product::engine_done(generation),
            Effect::Io(Io::Respond { response, .. }) => {
                let body = String::from_utf8(response.body.to_vec()).unwrap();
                return self.answers.push_back((response.status, body));
            }
            Effect::Log(level, text) => {
                let line = log_line(self.now, level, &format!("{}: {text}", node.me.id));
                return node.log.push(line);
            }
            Effect::Io(Io::Link { .. }) => return,
        };
        self.inputs.push_back((ip.to_owned(), answer));
    }

    /// The log of all processes of a role.
    fn log(&self, role: &str) -> String {
        let of_role = |node: &&Node| node.me.id == role;
        // One agent is enough.
        let node = self
            .nodes
            .values()
            .find(of_role)
            .unwrap_or_else(|| panic!("there is no {role}"));
        node.log.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// The news that the Mesos master at this address leads.
fn leader(ip: &str) -> Input {
    Input::Leader(Some(format!("master@{ip}:5050").parse().unwrap()))
}

/// A line as Mesos writes it.
fn log_line(now: Time, level: Level, text: &str) -> String {
    let severity = match level {
        Level::Info => 'I',
        Level::Warning => 'W',
        Level::Error => 'E',
    };
    let seconds = START + now.0.as_secs();
    let (day, time) = (30 + seconds / 86_400, seconds % 86_400);
    // Scenarios begin on the last day of November.
    let date = if day > 30 {
        format!("12{:02}", day - 30)
    } else {
        "1130".to_owned()
    };
    let micros = now.0.subsec_micros();
    let (h, m, s) = (time / 3600, time / 60 % 60, time % 60);
    format!("{severity}{date} {h:02}:{m:02}:{s:02}.{micros:06}  4711 mesos_overlay:0] {text}")
}

impl Shell for Cluster {
    /// `curl …`, or `grep overlay-master: …` for the log, with filters behind.
    fn run(&mut self, command: &str) -> String {
        command::run(command, |words| {
            if words[0] == "grep" {
                let (role, _) = words[1].split_once(':').unwrap();
                return self.log(role);
            }
            assert_eq!(words[0], "curl", "{words:?}");
            let curl = Curl::parse(&words[1..]);
            let (status, body) = self.ask(&curl);
            curl.print(status, &body)
        })
    }
}

#[test]
fn every_scenario_can_be_had() {
    for (name, _) in SCENARIOS {
        let cluster = scenario(name);
        assert!(
            cluster.inputs.is_empty() && !cluster.nodes.is_empty(),
            "{name}"
        );
    }
}
