//! Registration of agents, up to a configured cluster.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::cluster::Cluster;

use crate::common::{LIMIT, all_ok, hosts, loopback, start, state, subnets, wait_state};

#[test]
fn agents_get_their_shares() {
    let Some(setup) = loopback("agents_get_their_shares", 3) else {
        return;
    };
    let mut cluster = start(&setup);
    let state = wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    let agents = state["agents"].as_array().unwrap();
    let ips: BTreeSet<String> = cluster.agents.iter().map(|agent| agent.ip()).collect();
    assert_eq!(
        agents
            .iter()
            .map(|a| a["ip"].as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>(),
        ips
    );
    let of = |path: &[&str]| -> BTreeSet<String> {
        let value = |agent: &Value| {
            path.iter()
                .fold(agent["overlays"][0].clone(), |v, key| v[*key].clone())
        };
        agents
            .iter()
            .map(|agent| value(agent).as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let set = |values: [&str; 3]| {
        values
            .map(str::to_owned)
            .into_iter()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        of(&["subnet"]),
        set(["9.0.0.0/24", "9.0.1.0/24", "9.0.2.0/24"])
    );
    assert_eq!(
        of(&["mesos_bridge", "ip"]),
        set(["9.0.0.0/25", "9.0.1.0/25", "9.0.2.0/25"])
    );
    let vteps = set(["44.128.0.1/20", "44.128.0.2/20", "44.128.0.3/20"]);
    assert_eq!(of(&["backend", "vxlan", "vtep_ip"]), vteps);
    let macs = set([
        "70:b3:d5:80:00:01",
        "70:b3:d5:80:00:02",
        "70:b3:d5:80:00:03",
    ]);
    assert_eq!(of(&["backend", "vxlan", "vtep_mac"]), macs);
}

#[test]
fn the_agent_writes_the_cni_file() {
    let Some(setup) = loopback("the_agent_writes_the_cni_file", 1) else {
        return;
    };
    let cluster = start(&setup);
    let agent = &cluster.agents[0];
    let file = fs::read(agent.dir().join("cni/dcos.conf")).unwrap();
    let config: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(config["name"], "dcos");
    assert_eq!(config["type"], "mesos-cni-port-mapper");
    assert_eq!(config["delegate"]["bridge"], "m-dcos");
    assert_eq!(config["delegate"]["mtu"], 1420);
    assert_eq!(config["delegate"]["ipam"]["subnet"], "9.0.0.0/25");
    assert_eq!(
        config["delegate"]["ipam"]["dataDir"],
        agent.dir().join("cni-data").to_str().unwrap()
    );
}

/// A C++ master drops the first registration, which delays it by 4 to 6 seconds.
#[test]
fn the_first_registration_is_not_lost() {
    let Some(setup) = loopback("the_first_registration_is_not_lost", 1) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    cluster.agents[0].start().unwrap();
    let begin = Instant::now();
    cluster.master.start().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(3), "registered after {took:?}");
}

#[test]
fn an_agent_that_joins_later_is_configured() {
    let Some(setup) = hosts("an_agent_that_joins_later_is_configured", 2) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    wait_state(&mut cluster, "the first agent", |state| all_ok(state, 1));
    cluster.agents[1].start().unwrap();
    let state = wait_state(&mut cluster, "the second agent", |state| all_ok(state, 2));
    // Lines of the host's threads have the agent's prefix, and their own level.
    let agent = &mut cluster.agents[1];
    let line = agent.wait_log("configured the host: ", LIMIT).unwrap();
    assert!(line.starts_with('I'), "not an INFO: {line}");
    assert!(
        line.contains("] overlay-agent: configured the host: "),
        "{line}"
    );
    // Each has the other as a peer: a route to its containers by way of its VTEP.
    let subnets = subnets(&state);
    for (agent, other) in [(0, 1), (1, 0)] {
        let subnet = &subnets[&cluster.agents[other].ip()];
        let host = cluster.agents[agent].host().unwrap();
        testbed::wait::until("the route to the peer", LIMIT, || {
            let routes = host.run("ip", &["route", "show", subnet])?;
            Ok(routes.contains("dev vtep1024").then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn without_a_log_directory_the_state_lives_in_memory() {
    let Some(setup) = loopback("without_a_log_directory_the_state_lives_in_memory", 1) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let file = cluster.master.dir().join("master.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("replicated_log_dir");
    fs::write(&file, config.to_string()).unwrap();
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    assert_eq!(subnets(&state(&cluster.master).unwrap()).len(), 1);
}
