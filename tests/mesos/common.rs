//! Configurations of clusters, and requests to them, for all tests.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::net::Host;
use testbed::node::Node;
use testbed::program::Program;
use testbed::task::TaskClient;
use testbed::{install, skip, wait};

/// Timeout of a step, long enough for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Returns the configuration of a cluster on loopback addresses; `None`: the test is skipped.
pub fn loopback(test: &str, agents: usize) -> Option<ClusterConfig> {
    skip::require_mesos(test)?;
    Some(ClusterConfig::new(agents, Placement::Loopback).unwrap())
}

/// Returns the configuration of a cluster on simulated hosts; `None`: the test is skipped.
pub fn hosts(test: &str, agents: usize) -> Option<ClusterConfig> {
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    Some(ClusterConfig::new(agents, Placement::Hosts).unwrap())
}

/// Returns the configuration of a cluster on loopback addresses with three masters and ZooKeeper;
/// `None`: the test is skipped.
pub fn elected(test: &str, agents: usize) -> Option<ClusterConfig> {
    if let Some(missing) = install::missing(install::ZOOKEEPER) {
        skip::skip(test, &missing);
        return None;
    }
    let mut setup = loopback(test, agents)?;
    setup.masters = 3;
    Some(setup)
}

/// Starts a cluster, waits until every agent has its overlays, and asserts that nothing is wrong.
pub fn start(setup: &ClusterConfig) -> Cluster {
    let cluster = start_unexamined(setup);
    assert_nothing_found(&cluster);
    cluster
}

/// Starts a cluster and waits until every agent has its overlays.
pub fn start_unexamined(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::start(setup).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    wait_authenticating(&cluster.master);
    cluster
}

/// Waits until a master authenticates requests that change something. It answers 503 before.
pub fn wait_authenticating(master: &Node) {
    wait::until("Mesos to authenticate requests", LIMIT, || {
        let reply = master.client().get("/overlay-master/agents/delete")?;
        ensure!(!reply.text().starts_with("Mesos is starting"), "it starts");
        Ok(Some(()))
    })
    .unwrap();
}

/// Asserts that the operators' program finds nothing wrong on any host of a cluster. Nothing to do
/// for nodes on loopback addresses, which share a host with everything else on the machine.
#[track_caller]
pub fn assert_nothing_found(cluster: &Cluster) {
    for node in std::iter::once(&cluster.master).chain(&cluster.agents) {
        if node.host().is_none() || node.pid().is_none() {
            continue;
        }
        let outcome = Program::on(node).unwrap().ask(&["status"]).unwrap();
        let codes = outcome.codes().unwrap();
        assert!(codes.is_empty(), "on {}: {outcome}", node.name());
    }
}

/// Returns `/overlay-master/state` without ages.
///
/// # Errors
/// The master does not serve.
pub fn state(master: &Node) -> Result<Value> {
    master.overlay_state()
}

/// Waits until the state satisfies a condition, and returns it.
#[track_caller]
pub fn wait_state(cluster: &mut Cluster, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, LIMIT, || {
        cluster.check()?;
        let state = state(&cluster.master)?;
        ensure!(is(&state), "the state is {state}");
        Ok(Some(state))
    })
    .unwrap()
}

/// Adds members to the configuration of the master's module, for its next start.
pub fn configure_master(master: &Node, members: &Value) {
    let file = master.dir().join("master.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in members.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    fs::write(&file, config.to_string()).unwrap();
}

/// Waits until the master reports agents as disconnected, and deletes them. Returns the state.
#[track_caller]
pub fn delete_dead(master: &Node, agents: &Value) -> Value {
    let body = json!({ "agents": agents });
    wait::until("the deletion", LIMIT, || {
        let reply = master
            .client()
            .post("/overlay-master/agents/delete", &body)?;
        ensure!(
            matches!(reply.status, 200 | 409),
            "{} {}",
            reply.status,
            reply.text()
        );
        (reply.status == 200).then(|| reply.json()).transpose()
    })
    .unwrap()
}

/// Waits for the end of duplicate address detection on a host.
pub fn wait_settled(host: &Host) {
    wait::until("the addresses to be usable", LIMIT, || {
        let tentative = host.run("ip", &["-6", "address", "show", "tentative"])?;
        Ok(tentative.trim().is_empty().then_some(()))
    })
    .unwrap();
}

/// Returns the subnets of overlay `dcos` by agent.
pub fn subnets(state: &Value) -> BTreeMap<String, String> {
    let agents = state["agents"].as_array().into_iter().flatten();
    agents
        .map(|agent| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&agent["ip"]), text(&agent["overlays"][0]["subnet"]))
        })
        .collect()
}

/// Returns true if the state has this number of agents, and all their overlays are OK.
pub fn all_ok(state: &Value, count: usize) -> bool {
    let agents = state["agents"].as_array().cloned().unwrap_or_default();
    let mut overlays = agents
        .iter()
        .flat_map(|agent| agent["overlays"].as_array().into_iter().flatten());
    agents.len() == count && overlays.all(|overlay| overlay["state"]["status"] == "STATUS_OK")
}

/// Asserts that master and agents answer at the modules' and at Mesos's endpoints.
#[track_caller]
pub fn assert_alive(cluster: &mut Cluster) {
    cluster.check().unwrap();
    assert_eq!(
        cluster
            .master
            .client()
            .get("/master/health")
            .unwrap()
            .status,
        200
    );
    state(&cluster.master).unwrap();
    for agent in &cluster.agents {
        assert_eq!(agent.client().get("/slave(1)/health").unwrap().status, 200);
        agent
            .client()
            .get("/overlay-agent/overlay")
            .unwrap()
            .json()
            .unwrap();
    }
}

/// Waits until each task reaches every other one. The master tells agents about a new subnet of
/// a peer some 50 ms later, so containers can be up before the routes to them.
#[track_caller]
pub fn wait_reach(tasks: &[TaskClient]) {
    for (from, to) in pairs(tasks) {
        let what = format!("{} to reach {}", from.address(), to.address());
        wait::until(&what, LIMIT, || Ok(from.ping(to.address(), 1).ok())).unwrap();
    }
    assert_reach(tasks);
}

/// Asserts that each task reaches every other one, with its own address.
#[track_caller]
pub fn assert_reach(tasks: &[TaskClient]) {
    for (from, to) in pairs(tasks) {
        let ping = from.ping(to.address(), 20).unwrap();
        assert_eq!(
            ping.seen_as,
            from.address().ip().to_string(),
            "no NAT between containers"
        );
    }
}

/// Returns all ordered pairs of different tasks.
fn pairs(tasks: &[TaskClient]) -> impl Iterator<Item = (&TaskClient, &TaskClient)> {
    let with_others = |(index, from)| {
        let others = tasks
            .iter()
            .enumerate()
            .filter(move |(other, _)| *other != index);
        others.map(move |(_, to)| (from, to))
    };
    tasks.iter().enumerate().flat_map(with_others)
}
