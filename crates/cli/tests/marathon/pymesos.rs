//! A framework on pymesos, which is not ours: its tasks get addresses on an overlay and answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{paths, pymesos, skip, wait};

use crate::bed::{Bed, LIMIT, Master, netns};

#[test]
fn a_framework_on_pymesos_starts_tasks_on_an_overlay() {
    let test = "a_framework_on_pymesos_starts_tasks_on_an_overlay";
    let python = match pymesos::python() {
        Ok(python) => python,
        Err(error) => return skip::skip(test, &format!("{error:#}")),
    };
    let Some(bed) = Bed::start(test, Master::Elsewhere, false) else {
        return;
    };
    let master = &bed.cluster.master;
    let agents: Vec<String> = bed.cluster.agents.iter().map(|agent| agent.ip()).collect();
    let script = paths::workspace().join("crates/cli/tests/marathon/framework.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([&master.address().to_string(), "dcos"])
        .args(&agents)
        .env(testbed::cleanup::RUN_VARIABLE, bed.cluster.run().id())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    netns(master).apply_to(&mut command);
    let mut framework = command.spawn().unwrap();
    let mut lines = BufReader::new(framework.stdout.take().unwrap()).lines();
    let mut next = || -> Result<Value> {
        let line = lines.next().context("the framework has ended")??;
        Ok(serde_json::from_str(&line)?)
    };
    let mut running: BTreeMap<String, IpAddr> = BTreeMap::new();
    while running.len() < agents.len() {
        let status = next().unwrap();
        let state = status["state"].as_str().unwrap();
        assert!(
            ["TASK_STARTING", "TASK_RUNNING"].contains(&state),
            "{status}"
        );
        if state == "TASK_RUNNING" {
            let ip = status["addresses"][0].as_str().unwrap().parse().unwrap();
            running.insert(status["task"].as_str().unwrap().to_owned(), ip);
        }
    }
    let subnets = bed.subnets("dcos");
    let own = format!("server-{}", agents[0]);
    assert!(subnets[0].contains(&running[&own]), "{running:?}");
    for ip in running.values() {
        bed.wait_answer(*ip, 8080);
    }
    // The end of its input ends the framework, and with it its tasks.
    drop(framework.stdin.take());
    assert!(framework.wait().unwrap().success());
    wait::until("the tasks to end", LIMIT, || {
        let state = master.client().get("/master/state")?.json()?;
        ensure!(
            state["frameworks"].as_array().is_some_and(Vec::is_empty),
            "{}",
            state["frameworks"]
        );
        Ok(Some(()))
    })
    .unwrap();
}
