//! `POST /overlay-master/agents/delete`.

use serde_json::json;

use crate::common::{LIMIT, all_ok, delete_dead, loopback, start, state, subnets, wait_state};

const DELETE: &str = "/overlay-master/agents/delete";

#[test]
fn what_a_dead_agent_held_is_given_to_the_next() {
    let Some(setup) = loopback("what_a_dead_agent_held_is_given_to_the_next", 3) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    let dead = cluster.agents[1].ip();
    cluster.agents[1].kill().unwrap();
    let after = delete_dead(&cluster.master, &json!([&dead, "10.99.99.99"]));
    let mut expected = subnets(&before);
    let freed = expected.remove(&dead).unwrap();
    assert_eq!(subnets(&after), expected);
    // The deletion is in the log, not only in memory.
    cluster.master.restart().unwrap();
    let stored = wait_state(&mut cluster, "two agents", |state| all_ok(state, 2));
    assert_eq!(subnets(&stored), expected);
    // The lowest free subnet is the released one.
    cluster.agents[1].start().unwrap();
    let back = wait_state(&mut cluster, "three agents again", |state| all_ok(state, 3));
    assert_eq!(subnets(&back)[&dead], freed);
}

#[test]
fn a_deleted_agent_that_lives_registers_anew() {
    let Some(setup) = loopback("a_deleted_agent_that_lives_registers_anew", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let ip = cluster.agents[0].ip();
    let client = cluster.master.client();
    let reply = client
        .post(DELETE, &json!({ "agents": [&ip, "10.99.99.99"] }))
        .unwrap();
    assert_eq!(reply.status, 409);
    assert!(
        reply.text().contains(&ip) && !reply.text().contains("10.99.99.99"),
        "{}",
        reply.text()
    );
    assert_eq!(state(&cluster.master).unwrap(), before);
    let after = client
        .post(DELETE, &json!({ "agents": [ip], "force": true }))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(subnets(&after).len(), 0);
    wait_state(&mut cluster, "the agent's return", |state| all_ok(state, 1));
    cluster.wait_overlays(LIMIT).unwrap();
}

#[test]
fn a_bad_deletion_changes_nothing() {
    let Some(setup) = loopback("a_bad_deletion_changes_nothing", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let ip = cluster.agents[0].ip();
    let client = cluster.master.client();
    for (body, says) in [
        ("{", "JSON"),
        ("[]", "object"),
        ("{}", "agents"),
        (r#"{"agents":"10.0.0.1"}"#, "agents"),
        (&format!(r#"{{"agents":["{ip}"],"force":"yes"}}"#), "force"),
        (
            &format!(r#"{{"agents":["{ip}",7]}}"#),
            "[1] is not a string",
        ),
        (
            &format!(r#"{{"agents":["{ip}","fd00::1"]}}"#),
            "[1] is not an IPv4 address",
        ),
        (
            &format!(r#"{{"agents":["{ip}","10.0.0.256"]}}"#),
            "[1] is not an IPv4 address",
        ),
    ] {
        let reply = client
            .request("POST", DELETE, &[], body.as_bytes())
            .unwrap();
        assert_eq!(reply.status, 400, "{body}");
        assert!(
            reply.text().contains(says) && reply.text().ends_with('\n'),
            "{body}: {}",
            reply.text()
        );
    }
    let reply = client.get(DELETE).unwrap();
    assert_eq!((reply.status, reply.header("Allow")), (405, "POST"));
    assert_eq!(state(&cluster.master).unwrap(), before);
}
