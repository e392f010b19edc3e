//! `agent_lease`: subnets of an absent agent are assigned to others.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::node::Node;
use testbed::wait;

use crate::common::{LIMIT, all_ok, configure_master, loopback, subnets, wait_state};

const RECLAIM: &str = "/overlay-master/agents/reclaim";

fn overlay(agent: &Node) -> Value {
    agent
        .client()
        .get("/overlay-agent/overlay")
        .unwrap()
        .json()
        .unwrap()
}

fn subnet_of<'a>(subnets: &'a BTreeMap<String, String>, agent: &Node) -> &'a str {
    &subnets[&agent.ip()]
}

/// Runs three agents with two subnets: the third one gets the subnet of a killed agent when its
/// lease has ended; then the second one leaves, and the first one returns.
#[test]
fn a_dead_agents_subnet_goes_to_another_and_it_is_told() {
    let name = "a_dead_agents_subnet_goes_to_another_and_it_is_told";
    let Some(mut setup) = loopback(name, 3) else {
        return;
    };
    setup.network["overlays"][0]["subnet"] = json!("9.0.0.0/23");
    let mut cluster = Cluster::prepare(&setup).unwrap();
    configure_master(&cluster.master, &json!({ "agent_lease": "2secs" }));
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    cluster.agents[1].start().unwrap();
    let before = subnets(&wait_state(&mut cluster, "two agents", |state| {
        all_ok(state, 2)
    }));
    let wanted = subnet_of(&before, &cluster.agents[0]).to_owned();

    // A connected agent must not lose its subnets.
    let client = cluster.master.client();
    let named = json!({ "agents": [cluster.agents[0].ip()] });
    let refused = client.post(RECLAIM, &named).unwrap();
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("(connected)"), "{}", refused.text());

    cluster.agents[0].kill().unwrap();
    cluster.agents[2].start().unwrap();
    let third = cluster.agents[2].ip();
    let after = wait_state(
        &mut cluster,
        "the third agent in the place of the first",
        |state| all_ok(state, 2) && subnets(state).get(&third) == Some(&wanted),
    );
    assert!(!subnets(&after).contains_key(&cluster.agents[0].ip()));

    // The log contains it, and the previous allocation.
    cluster.master.restart().unwrap();
    wait_state(&mut cluster, "the two agents again", |state| {
        all_ok(state, 2) && subnets(state) == subnets(&after)
    });
    let free = subnet_of(&before, &cluster.agents[1]).to_owned();
    cluster.agents[1].kill().unwrap();
    cluster.agents[0].start().unwrap();
    let first = cluster.agents[0].ip();
    wait_state(&mut cluster, "the first agent's return", |state| {
        all_ok(state, 2) && subnets(state).get(&first) == Some(&free)
    });
    wait::until("the notice", LIMIT, || {
        let overlay = overlay(&cluster.agents[0]);
        let told = overlay["notices"][0].as_str().unwrap_or_default();
        let taker = format!(
            "{free} of overlay dcos instead of {wanted} (agent {} has",
            cluster.agents[2].ip()
        );
        Ok((overlay["registered"] == true && told.contains(&taker)).then_some(()))
    })
    .unwrap();
}

/// Deletes an agent; when it returns, it gets the same subnet.
#[test]
fn what_is_reclaimed_is_its_own_again() {
    let Some(setup) = loopback("what_is_reclaimed_is_its_own_again", 2) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    configure_master(&cluster.master, &json!({ "agent_lease": "1secs" }));
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    wait_state(&mut cluster, "the first agent", |state| all_ok(state, 1));
    cluster.agents[1].start().unwrap();
    let before = subnets(&wait_state(&mut cluster, "two agents", |state| {
        all_ok(state, 2)
    }));
    for agent in &mut cluster.agents {
        agent.kill().unwrap();
    }
    let client = cluster.master.client();
    wait::until("the leases' end", LIMIT, || {
        let reply = client.post(RECLAIM, &json!({}))?;
        assert_eq!(reply.status, 200, "{}", reply.text());
        Ok(subnets(&reply.json()?).is_empty().then_some(()))
    })
    .unwrap();
    // The lowest free subnet is that of the other agent.
    cluster.agents[1].start().unwrap();
    let one = wait_state(&mut cluster, "the second agent", |state| all_ok(state, 1));
    assert_eq!(
        subnet_of(&subnets(&one), &cluster.agents[1]),
        subnet_of(&before, &cluster.agents[1])
    );
    let overlay = overlay(&cluster.agents[1]);
    assert!(
        overlay["notices"][0]
            .as_str()
            .is_some_and(|told| told.contains("it has everything back")),
        "{overlay}"
    );
    let refused = client.request("POST", RECLAIM, &[], b"[]").unwrap();
    assert_eq!(refused.status, 400);
}
