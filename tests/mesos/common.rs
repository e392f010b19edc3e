//! Clusters for the tests, and what is asked of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::net::Host;
use testbed::node::Node;
use testbed::{install, skip, wait};

/// How long a cluster may take for one step, on a machine that has much else to do.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a cluster on loopback addresses is to be like; `None` if the test is skipped.
pub fn loopback(test: &str, agents: usize) -> Option<ClusterConfig> {
    skip::require_mesos(test)?;
    Some(ClusterConfig::new(agents, Placement::Loopback).unwrap())
}

/// The same on hosts.
pub fn hosts(test: &str, agents: usize) -> Option<ClusterConfig> {
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    Some(ClusterConfig::new(agents, Placement::Hosts).unwrap())
}

/// The same as [`loopback`] with three masters that are elected.
pub fn elected(test: &str, agents: usize) -> Option<ClusterConfig> {
    if let Some(missing) = install::missing(install::ZOOKEEPER) {
        skip::skip(test, &missing);
        return None;
    }
    let mut setup = loopback(test, agents)?;
    setup.masters = 3;
    Some(setup)
}

/// Starts it and waits until every agent has its overlays.
pub fn start(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::start(setup).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    cluster
}

/// `/overlay-master/state` as it is now, but for the ages in it; an error while there is
/// none.
pub fn state(master: &Node) -> Result<Value> {
    master.overlay_state()
}

/// The state once it is as it should be.
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

/// Puts these members into the configuration of the master's module, which it reads at
/// its next start.
pub fn configure_master(master: &Node, members: &Value) {
    let file = master.dir().join("master.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in members.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    fs::write(&file, config.to_string()).unwrap();
}

/// Deletes agents that are gone, as soon as the master knows it; the state then.
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

/// Waits until the kernel is done with making sure that nobody else has a host's IPv6
/// addresses.
pub fn wait_settled(host: &Host) {
    wait::until("the addresses to be usable", LIMIT, || {
        let tentative = host.run("ip", &["-6", "address", "show", "tentative"])?;
        Ok(tentative.trim().is_empty().then_some(()))
    })
    .unwrap();
}

/// The subnet of overlay `dcos` by agent.
pub fn subnets(state: &Value) -> BTreeMap<String, String> {
    let agents = state["agents"].as_array().into_iter().flatten();
    agents
        .map(|agent| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&agent["ip"]), text(&agent["overlays"][0]["subnet"]))
        })
        .collect()
}

/// Whether so many agents are there and all their overlays are in order.
pub fn all_ok(state: &Value, count: usize) -> bool {
    let agents = state["agents"].as_array().cloned().unwrap_or_default();
    let mut overlays = agents
        .iter()
        .flat_map(|agent| agent["overlays"].as_array().into_iter().flatten());
    agents.len() == count && overlays.all(|overlay| overlay["state"]["status"] == "STATUS_OK")
}

/// Master and agents still answer, with our endpoints and with Mesos's own.
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
