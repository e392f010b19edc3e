//! `mesos-overlay networks`, `agents` and `ipam` with real clusters: what they show, what they
//! refuse, how they ask for confirmation, and that they change what they say.

mod addresses;
mod agents;
mod networks;
mod terminal;

use std::time::Duration;

use serde_json::Value;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::node::Node;
use testbed::program::Program;
use testbed::{skip, wait};

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mesos-overlay");

/// Timeout of a step, long enough for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Returns the configuration of a cluster on loopback addresses; `None`: the test is skipped.
pub fn loopback(test: &str, agents: usize) -> Option<ClusterConfig> {
    skip::require_mesos(test)?;
    Some(ClusterConfig::new(agents, Placement::Loopback).unwrap())
}

/// Starts a cluster and waits until every agent has its overlays.
pub fn start(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::start(setup).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    cluster
}

/// Returns the program with the first master's address.
pub fn program(cluster: &Cluster) -> Program {
    let master = &cluster.master;
    Program::at(BINARY, master).with(&["--master", &master.address().to_string()])
}

/// Returns the JSON of a master's endpoint.
pub fn get(master: &Node, path: &str) -> Value {
    master.client().get(path).unwrap().json().unwrap()
}

/// Waits until an agent is shown as connected, or not.
pub fn wait_connected(cluster: &Cluster, ip: &str, connected: bool) {
    wait::until(&format!("agent {ip} connected: {connected}"), LIMIT, || {
        let state = cluster
            .master
            .client()
            .get("/overlay-master/state")?
            .json()?;
        let agents = state["agents"].as_array().cloned().unwrap_or_default();
        let is_it = |agent: &&Value| agent["ip"] == *ip;
        let agent = agents.iter().find(is_it);
        Ok(agent
            .filter(|agent| agent["connected"] == connected)
            .map(drop))
    })
    .unwrap();
}
