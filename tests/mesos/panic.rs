//! A defect of ours must not end Mesos. (docs/testing.md has the message that orders one.)

use anyhow::ensure;
use testbed::node::Node;
use testbed::wait;
use testkit::prometheus;

use crate::common::{LIMIT, all_ok, assert_alive, loopback, start, wait_state};

/// Lets the module panic, and checks what an operator sees of it.
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
        // What the log has is there at once. The rest comes from the agents, whose
        // connections did not break: they have to be told.
        wait_state(&mut cluster, "the state of before", |state| {
            *state == before
        });
    }
    assert_alive(&mut cluster);
    let client = cluster.master.client();
    let page = prometheus::read(&client.get("/overlay-master/metrics").unwrap().text());
    assert_eq!(page["mesos_overlay_master_process_restarts_total"], 2.0);
    // Mesos's numbers may be a second old.
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
