//! Faults of agents and of what the master assigns to them.

use serde_json::json;
use testbed::wait;

use crate::common::{LIMIT, assert_finds, hosts, program, start, wait_finds};

#[test]
fn an_agent_that_died_is_lost() {
    let Some(setup) = hosts("an_agent_that_died_is_lost", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.agents[1].kill().unwrap();
    wait_finds(&program(&cluster.master), &["agent-lost"]);
    assert_finds(&program(&cluster.agents[0]), &["agent-lost"]);
    // On its own host it is the agent that does not answer. Its process is not there any more, but
    // the master knows an agent at the host's address.
    let there = program(&cluster.agents[1]).with(&["--master", "10.77.0.1:5050"]);
    assert_finds(&there, &["agent-silent"]);
    let report = program(&cluster.master).json(&["status"]).unwrap();
    let agents = &report["cluster"]["agents"];
    assert_eq!(agents["listed"][0]["ip"], "10.77.1.2", "the worst first");
    assert_eq!(agents["listed"][0]["state"], "lost");
    assert_eq!(report["findings"][0]["subject"], "10.77.1.2");
}

#[test]
fn full_ranges_are_found() {
    let Some(mut setup) = hosts("full_ranges_are_found", 2) else {
        return;
    };
    // A subnet for one agent.
    setup.network["overlays"] = json!([{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 24}]);
    let mut cluster = testbed::cluster::Cluster::prepare(&setup).unwrap();
    cluster.master.start().unwrap();
    for agent in &mut cluster.agents {
        agent.start().unwrap();
    }
    for place in [0, 1] {
        wait_finds(&program(&cluster.agents[place]), &["range-full"]);
    }
    wait_finds(&program(&cluster.master), &["range-full"]);
}

#[test]
fn full_vteps_are_found() {
    let Some(mut setup) = hosts("full_vteps_are_found", 2) else {
        return;
    };
    // Two addresses, of which an agent takes one each.
    setup.network["vtep_subnet"] = "44.128.0.0/30".into();
    let cluster = start(&setup);
    let report = program(&cluster.master).json(&["status"]).unwrap();
    assert_eq!(report["findings"][0]["subject"], "vteps", "{report}");
    assert_finds(&program(&cluster.master), &["range-full"]);
}

#[test]
fn a_draining_overlay_is_a_warning() {
    let Some(setup) = hosts("a_draining_overlay_is_a_warning", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    // An agent that is away does not release it.
    cluster.agents[1].kill().unwrap();
    wait_finds(&program(&cluster.master), &["agent-lost"]);
    let removed = cluster
        .master
        .client()
        .request("DELETE", "/overlay-master/overlays/dcos", &[], b"")
        .unwrap();
    assert_eq!(removed.status, 200, "{}", removed.text());
    wait_finds(
        &program(&cluster.master),
        &["agent-lost", "overlay-draining"],
    );
    wait_finds(
        &program(&cluster.agents[0]),
        &["agent-lost", "overlay-draining"],
    );
}

/// Agents that return after an election are not lost.
#[test]
fn an_election_passes() {
    let Some(setup) = hosts("an_election_passes", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    let program = program(&cluster.master);
    cluster.master.restart().unwrap();
    let outcome = program.run(&["status", "--wait"]).unwrap();
    assert!(outcome.status.success(), "{outcome}");
    wait::until("both agents", LIMIT, || {
        let report = program.json(&["status"])?;
        Ok((report["cluster"]["agents"]["connected"] == 2).then_some(()))
    })
    .unwrap();
}
