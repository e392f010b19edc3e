//! Panics of a module must not end Mesos. (docs/dev/testing.md describes the message that causes
//! one.)

use anyhow::ensure;
use testbed::node::Node;
use testbed::wait;
use testkit::prometheus;

use crate::common::{LIMIT, all_ok, assert_alive, loopback, start, wait_state};

/// Makes the module panic, and checks logs and answers.
fn panic(node: &mut Node, process: &str) {
    let pid = node.pid();
    let reply = node
        .client()
        .message(
            process,
            "mesos_overlay.fault.Panic",
            "tester@127.0.0.1:1",
            b"",
        )
        .unwrap();
    assert_eq!(reply.status, 202);
    let line = node
        .wait_log("panicked at src/runtime/fault.rs", LIMIT)
        .unwrap();
    assert!(line.starts_with('E'), "not an ERROR: {line}");
    assert!(
        line.contains(&format!("] {process}: panicked at ")),
        "{line}"
    );
    node.wait_log("started again", LIMIT).unwrap();
    node.check().unwrap();
    assert_eq!(node.pid(), pid);
}

#[test]
fn in_the_master_module_leaves_the_master_running() {
    let Some(setup) = loopback("in_the_master_module_leaves_the_master_running", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "two agents", |state| all_ok(state, 2));
    for _ in 0..2 {
        panic(&mut cluster.master, "overlay-master");
        // The state of the log is served at once. The rest comes from the agents, whose
        // connections did not break, so the master must ask them.
        wait_state(&mut cluster, "the state of before", |state| {
            *state == before
        });
    }
    assert_alive(&mut cluster);
    let client = cluster.master.client();
    let page = prometheus::read(&client.get("/overlay-master/metrics").unwrap().text());
    assert_eq!(page["mesos_overlay_master_process_restarts_total"], 2.0);
    // Mesos's metrics may be a second old.
    wait::until("the restarts in Mesos's snapshot", LIMIT, || {
        let snapshot = client.get("/metrics/snapshot")?.json()?;
        let restarts = snapshot["overlay/master/process_restarts"].as_f64();
        ensure!(restarts == Some(2.0), "{restarts:?}");
        Ok(Some(()))
    })
    .unwrap();
}

#[test]
fn in_the_agent_module_leaves_the_agent_running() {
    let Some(setup) = loopback("in_the_agent_module_leaves_the_agent_running", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    panic(&mut cluster.agents[0], "overlay-agent");
    cluster.wait_overlays(LIMIT).unwrap();
    wait_state(&mut cluster, "the state of before", |state| {
        *state == before
    });
    assert_alive(&mut cluster);
}
