//! Masters and agents that are killed and started again.

use std::fs;

use serde_json::{Value, json};
use testbed::cluster::Cluster;

use crate::common::{LIMIT, all_ok, delete_dead, loopback, start, state, subnets, wait_state};

#[test]
fn a_killed_master_comes_back_with_its_state() {
    let Some(setup) = loopback("a_killed_master_comes_back_with_its_state", 3) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    cluster.master.restart().unwrap();
    // Statuses are not stored; they return as the agents register again.
    wait_state(&mut cluster, "the state of before", |state| {
        *state == before
    });
}

#[test]
fn a_killed_agent_keeps_its_share() {
    let Some(setup) = loopback("a_killed_agent_keeps_its_share", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "two agents", |state| all_ok(state, 2));
    cluster.agents[0].kill().unwrap();
    assert_eq!(subnets(&state(&cluster.master).unwrap()), subnets(&before));
    cluster.agents[0].start().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    assert_eq!(
        wait_state(&mut cluster, "two agents", |state| all_ok(state, 2)),
        before
    );
}

/// The log is lost, and agents whose subnets are not in the order of their addresses keep them.
#[test]
fn agents_keep_their_subnets_when_the_log_is_lost() {
    let Some(setup) = loopback("agents_keep_their_subnets_when_the_log_is_lost", 3) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    let first = [0, 1].map(|n| cluster.agents[n].ip().to_string());
    cluster.agents[0].kill().unwrap();
    cluster.agents[1].kill().unwrap();
    delete_dead(&cluster.master, &json!(first));
    cluster.agents[1].start().unwrap();
    wait_state(&mut cluster, "the second agent", |state| all_ok(state, 2));
    cluster.agents[0].start().unwrap();
    let before = wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    let before = subnets(&before);
    assert!(before[&first[0]] > before[&first[1]], "{before:?}");
    cluster.master.kill().unwrap();
    fs::remove_dir_all(cluster.master.dir().join("log")).unwrap();
    fs::create_dir(cluster.master.dir().join("log")).unwrap();
    cluster.master.start().unwrap();
    let after = wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    assert_eq!(subnets(&after), before);
    let line = "The log had no record that agent";
    cluster.master.wait_log(line, LIMIT).unwrap();
}

#[test]
fn an_agent_outlives_its_master() {
    let Some(setup) = loopback("an_agent_outlives_its_master", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let overlay = |cluster: &Cluster| {
        cluster.agents[0]
            .client()
            .get("/overlay-agent/overlay")
            .unwrap()
            .json()
            .unwrap()
    };
    let before = overlay(&cluster);
    cluster.master.kill().unwrap();
    assert_eq!(overlay(&cluster)["overlays"], before["overlays"]);
    cluster.master.start().unwrap();
    wait_state(&mut cluster, "the agent's return", |state| all_ok(state, 1));
    assert_eq!(overlay(&cluster)["overlays"], before["overlays"]);
}

/// Checks a configuration that contradicts the log: the module answers each request with the error,
/// and the Mesos master continues.
#[test]
fn a_contradiction_to_the_stored_allocations_is_one_sentence() {
    let Some(setup) = loopback(
        "a_contradiction_to_the_stored_allocations_is_one_sentence",
        1,
    ) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let file = cluster.master.dir().join("master.json");
    let good = fs::read(&file).unwrap();
    let mut config: Value = serde_json::from_slice(&good).unwrap();
    config["network"]["overlays"][0]["prefix"] = 26.into();
    fs::write(&file, config.to_string()).unwrap();
    cluster.master.restart().unwrap();

    let line = cluster
        .master
        .wait_log("contradicts the stored allocations", LIMIT)
        .unwrap();
    assert!(line.starts_with('E') && line.contains("dcos"), "{line}");
    let reply = cluster
        .master
        .client()
        .get("/overlay-master/state")
        .unwrap();
    assert_eq!(reply.status, 503);
    assert!(
        reply.text().contains("contradicts the stored allocations"),
        "{}",
        reply.text()
    );
    assert_eq!(
        cluster
            .master
            .client()
            .get("/master/health")
            .unwrap()
            .status,
        200
    );

    fs::write(&file, good).unwrap();
    cluster.master.restart().unwrap();
    wait_state(&mut cluster, "the state of before", |state| {
        *state == before
    });
}
