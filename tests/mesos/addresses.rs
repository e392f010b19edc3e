//! `agent_addresses`: the agents that a master serves.

use serde_json::json;
use testbed::wait;

use crate::common::{
    LIMIT, all_ok, configure_master, delete_dead, loopback, start, subnets, wait_state,
};

#[test]
fn agents_from_elsewhere_are_not_answered() {
    let Some(setup) = loopback("agents_from_elsewhere_are_not_answered", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = subnets(&wait_state(&mut cluster, "two agents", |state| {
        all_ok(state, 2)
    }));
    let (inside, outside) = (cluster.agents[0].ip(), cluster.agents[1].ip());
    configure_master(&cluster.master, &json!({ "agent_addresses": [inside] }));
    cluster.master.restart().unwrap();
    let client = cluster.agents[1].client();
    wait::until("the lines of both ends", LIMIT, || {
        let overlay = client.get("/overlay-agent/overlay")?.json()?;
        let dropped = cluster
            .master
            .log()
            .contains("is not within agent_addresses");
        let told = cluster.agents[1].log().contains("has not answered");
        Ok((dropped && told && overlay["registered"] == false).then_some(()))
    })
    .unwrap();
    // An earlier allocation remains until an operator releases it.
    let after = wait_state(&mut cluster, "the agent that is served", |state| {
        state["agents"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|agent| {
                agent["ip"] == inside.as_str()
                    && agent["overlays"][0]["state"]["status"] == "STATUS_OK"
            })
    });
    assert_eq!(subnets(&after), before);
    let left = delete_dead(&cluster.master, &json!([outside]));
    assert_eq!(subnets(&left).into_keys().collect::<Vec<_>>(), [inside]);
}
