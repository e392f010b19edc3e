//! Faults of the container engine.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testbed::cluster::Cluster;
use testbed::docker::Engine;
use testbed::skip;

use crate::common::{assert_finds, hosts, program, wait_finds, wait_registered};

#[test]
fn an_engine_that_hangs_or_is_absent_is_found() {
    let test = "an_engine_that_hangs_or_is_absent_is_found";
    if !skip::require_docker(test) {
        return;
    }
    let Some(mut setup) = hosts(test, 1) else {
        return;
    };
    setup.agent_config["network_config"] = json!({
        "mesos_bridge": true, "docker_bridge": true, "command_timeout": 2000,
    });
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let agent = &cluster.agents[0];
    let mut engine = Engine::new(cluster.run(), "engine", agent.host().unwrap().netns()).unwrap();
    engine.start().unwrap();
    let socket = engine.socket();
    agent
        .configure(|config| config["docker_socket"] = json!(socket))
        .unwrap();
    cluster.start_all().unwrap();
    wait_registered(&mut cluster);
    let there = program(&cluster.agents[0]);
    assert_finds(&there, &[]);
    let report = there.json(&["status"]).unwrap();
    assert_eq!(
        report["host"]["objects"]["docker_networks"]["wanted"], 1,
        "{report}"
    );

    let pid = Pid::from_raw(engine.pid().unwrap().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_finds(&there, &["engine-hung"]);
    kill(pid, Signal::SIGCONT).unwrap();
    wait_finds(&there, &[]);

    // A network that somebody removes comes back.
    engine.docker(&["network", "rm", "dcos"]).unwrap();
    assert_finds(&there, &[]);

    engine.stop().unwrap();
    wait_finds(&there, &["engine-absent"]);
    // The master knows it from the agent.
    wait_finds(&program(&cluster.master), &["engine-absent"]);
}
