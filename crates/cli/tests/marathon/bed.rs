//! A cluster with the networks of the examples: one master, whose host is on the overlays, and two
//! agents, the first of which has a Docker engine.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Launcher, Placement};
use testbed::docker::Engine;
use testbed::executor::health;
use testbed::net::Host;
use testbed::netns::Netns;
use testbed::node::Node;
use testbed::{paths, skip, wait};

/// Timeout of a step, long enough for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Returns the path of an example.
pub fn example(file: &str) -> PathBuf {
    paths::workspace().join("examples/marathon").join(file)
}

/// Returns the content of an example.
pub fn definition(file: &str) -> Value {
    let text = fs::read_to_string(example(file)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A running cluster with its engine.
pub struct Bed {
    // Dropped before its host.
    _engine: Option<Engine>,
    pub cluster: Cluster,
}

/// Place of Marathon's host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Master {
    /// The master process has the agent module too, so its host has a tunnel and routes.
    OnTheOverlays,
    /// The host knows nothing of the overlays.
    Elsewhere,
}

impl Bed {
    /// Starts a cluster, with a Docker engine on the first agent's host if `docker` is set; `None`:
    /// the test is skipped.
    pub fn start(test: &str, master: Master, docker: bool) -> Option<Bed> {
        if !skip::require_hosts(test) || (docker && !skip::require_docker(test)) {
            return None;
        }
        skip::require_mesos(test)?;
        let mut setup = ClusterConfig::new(2, Placement::Hosts).unwrap();
        if setup.launcher != Launcher::Linux {
            skip::skip(
                test,
                "Mesos needs the cgroup v1 freezer to start containers on a network",
            );
            return None;
        }
        setup.network = definition("overlays.json");
        let mut cluster = Cluster::prepare(&setup).unwrap();
        if master == Master::OnTheOverlays {
            add_agent_module(&mut cluster.master);
        }
        for agent in &cluster.agents {
            let bridge = agent.dir().join("cni/mesos-bridge.conf");
            fs::copy(example("mesos-bridge.conf"), bridge).unwrap();
        }
        let engine = docker.then(|| engine(&mut cluster));
        cluster.start_all().unwrap();
        cluster.wait_mesos(LIMIT).unwrap();
        cluster.wait_overlays(LIMIT).unwrap();
        Some(Bed {
            _engine: engine,
            cluster,
        })
    }

    /// Returns the first agent, on which all examples run.
    pub fn agent(&self) -> &Node {
        &self.cluster.agents[0]
    }

    /// Returns the network namespace of the other agent's host, from which containers are asked.
    pub fn other_host(&self) -> &Netns {
        netns(&self.cluster.agents[1])
    }

    /// Returns the subnets of the first agent by the name of their overlay.
    pub fn subnets(&self, overlay: &str) -> Vec<IpNet> {
        let state = self.agent().client().get("/overlay-agent/overlay").unwrap();
        let state = state.json().unwrap();
        let overlays = state["overlays"].as_array().unwrap();
        let found = overlays
            .iter()
            .find(|found| found["info"]["name"] == overlay);
        let found = found.unwrap_or_else(|| panic!("no overlay {overlay} in {state}"));
        ["subnet", "subnet6"]
            .iter()
            .filter_map(|key| found[key].as_str())
            .map(|subnet| subnet.parse().unwrap())
            .collect()
    }

    /// Waits until a web server answers the other agent's host.
    #[track_caller]
    pub fn wait_answer(&self, ip: IpAddr, port: u16) {
        let to = SocketAddr::new(ip, port);
        wait::until(&format!("{to} to answer"), LIMIT, || {
            health::get(to, "/", Some(self.other_host()), Duration::from_secs(5)).map(Some)
        })
        .unwrap();
    }

    /// Returns a task of the master's list.
    pub fn task(&self, id: &str) -> Value {
        let path = format!("/master/tasks?task_id={id}");
        let tasks = self.cluster.master.client().get(&path).unwrap();
        tasks.json().unwrap()["tasks"][0].clone()
    }
}

/// Returns the network namespace of a node's host.
pub fn netns(node: &Node) -> &Netns {
    node.host().map(Host::netns).unwrap()
}

/// Starts an engine on the first agent's host, for Mesos and for the agent module.
fn engine(cluster: &mut Cluster) -> Engine {
    let agent = &cluster.agents[0];
    let mut engine = Engine::new(cluster.run(), "engine", netns(agent)).unwrap();
    engine.start().unwrap();
    let socket = engine.socket();
    agent
        .configure(|config| {
            config["docker_socket"] = json!(socket);
            config["network_config"]["docker_bridge"] = true.into();
        })
        .unwrap();
    let agent = &mut cluster.agents[0];
    agent.set("MESOS_CONTAINERIZERS", "docker,mesos");
    agent.set("MESOS_DOCKER_SOCKET", socket.display());
    engine
}

/// Makes the master load the agent module too, as DC/OS does with `agent-master.json`.
fn add_agent_module(master: &mut Node) {
    let config = |role: &str| master.dir().join(format!("{role}.json"));
    let agent = json!({
        "master": master.address().to_string(),
        "cni_dir": master.dir().join("cni"),
        "network_config": { "allocate_subnet": false, "mesos_bridge": false, "docker_bridge": false, "enable_ipv6": true },
    });
    fs::write(config("agent"), agent.to_string()).unwrap();
    let module = |name: &str, role: &str| {
        let parameter = json!({ "key": format!("{role}_config"), "value": config(role) });
        json!({ "name": format!("com_mesosphere_mesos_Overlay{name}Manager"), "parameters": [parameter] })
    };
    let library = json!({
        "file": paths::module().unwrap(),
        "modules": [module("Master", "master"), module("Agent", "agent")],
    });
    master.set("MESOS_MODULES", json!({ "libraries": [library] }));
}
