//! Every example, on real Mesos.

use std::net::IpAddr;

use anyhow::ensure;
use ipnet::IpNet;
use serde_json::{Value, json};
use testbed::framework::{Framework, TaskState};
use testbed::marathon::{Instance, Marathon};
use testbed::wait;

use crate::bed::{Bed, LIMIT, Master, definition, netns};
use crate::readme::{On, ROWS, Row};

#[test]
fn every_example_runs_with_its_address_and_health() {
    let test = "every_example_runs_with_its_address_and_health";
    let Some(bed) = Bed::start(test, Master::OnTheOverlays, true) else {
        return;
    };
    assert!(bed.has_engine());
    let marathon = Marathon::subscribe(bed.cluster.master.client()).unwrap();
    let agent = bed.agent().ip();
    // All at once; some take seconds until their first check.
    let launched: Vec<(&Row, Instance)> = ROWS
        .iter()
        .map(|row| {
            (
                row,
                marathon
                    .launch(&definition(row.file), &agent, LIMIT)
                    .unwrap(),
            )
        })
        .collect();
    for (row, instance) in &launched {
        let tasks = marathon.wait_running(instance, LIMIT);
        let tasks = tasks.unwrap_or_else(|error| panic!("{}: {error:#}", row.file));
        for task in &tasks {
            assert_addresses(&bed, row, task);
        }
        assert_reachable(&bed, row, instance, &tasks[0]);
        assert_healthy(&bed, row, &marathon, instance);
    }
    let id = |file: &str| {
        let (_, instance) = launched.iter().find(|(row, _)| row.file == file).unwrap();
        instance.tasks[0].clone()
    };
    let labels = bed.task(&id("app-labels.json"));
    let info = &last_status(&labels)["container_status"]["network_infos"][0];
    assert_eq!(info["labels"], definition_labels(), "{info}");
    let vip = bed.task(&id("app-vip.json"));
    let port = &vip["discovery"]["ports"]["ports"][0];
    assert_eq!(port["labels"]["labels"][0]["key"], "VIP_0", "{port}");
}

/// Returns the labels of `app-labels.json` as Mesos has them.
fn definition_labels() -> Value {
    let given = definition("app-labels.json");
    let labels = given["networks"][0]["labels"].as_object().unwrap();
    let labels = labels
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }));
    labels.collect()
}

fn last_status(task: &Value) -> &Value {
    task["statuses"].as_array().unwrap().last().unwrap()
}

/// Asserts that a task has addresses on its networks, in their order, and no other ones.
#[track_caller]
fn assert_addresses(bed: &Bed, row: &Row, task: &TaskState) {
    let file = row.file;
    assert_eq!(task.networks.len(), row.networks.len(), "{file}: {task:?}");
    let ip = bed.agent().ip().parse::<IpAddr>().unwrap();
    // The order of a status is that of a hash map.
    for on in row.networks {
        let found = task.networks.iter().find(|network| match on {
            On::Overlay(name) => network.name == *name,
            On::Bridge | On::Host => true,
        });
        let network = found.unwrap_or_else(|| panic!("{file}: no {on:?} in {task:?}"));
        let ips: Vec<IpAddr> = network.ips().collect();
        assert!(!ips.is_empty(), "{file}: {task:?}");
        let bridges: [IpNet; 2] =
            ["172.31.254.0/24", "172.17.0.0/16"].map(|net| net.parse().unwrap());
        let inside = |ip_of_task: &IpAddr| match on {
            On::Overlay(name) => bed.subnets(name).iter().any(|net| net.contains(ip_of_task)),
            On::Bridge => bridges.iter().any(|net| net.contains(ip_of_task)),
            On::Host => *ip_of_task == ip,
        };
        assert!(ips.iter().all(inside), "{file}: {ips:?} are not on {on:?}");
    }
}

/// Asserts that the web server answers another host: at the addresses on overlays, and at the port
/// on the agent's host.
#[track_caller]
fn assert_reachable(bed: &Bed, row: &Row, instance: &Instance, task: &TaskState) {
    let (port, _) = row.port;
    for network in &task.networks {
        let on_overlay = row.networks.contains(&On::Overlay("dcos"))
            || row.networks.contains(&On::Overlay("dcos6"));
        if on_overlay {
            network.ips().for_each(|ip| bed.wait_answer(ip, port));
        }
    }
    let on_host: Vec<u16> = instance.host_ports.iter().flatten().copied().collect();
    assert_eq!(
        !on_host.is_empty(),
        row.port.1,
        "{}: {instance:?}",
        row.file
    );
    for port in on_host {
        bed.wait_answer(bed.agent().ip().parse().unwrap(), port);
    }
}

/// Asserts that executors find their tasks healthy, or Marathon on the master's host does.
#[track_caller]
fn assert_healthy(bed: &Bed, row: &Row, marathon: &Marathon, instance: &Instance) {
    let here = Some(netns(&bed.cluster.master));
    for id in &instance.tasks {
        let task = match instance.checks.is_empty() {
            true => {
                let healthy = |healthy: Option<bool>| healthy.is_some();
                marathon
                    .framework()
                    .wait_health(id, LIMIT, healthy)
                    .unwrap()
            }
            false => marathon.framework().task(id).unwrap(),
        };
        assert_eq!(task.state, "TASK_RUNNING", "{}: {task:?}", row.file);
        if instance.checks.is_empty() {
            assert_eq!(task.healthy, Some(true), "{}: {task:?}", row.file);
        }
        for check in &instance.checks {
            wait::until(&format!("{check:?} of {}", row.file), LIMIT, || {
                check.make(instance, &task, here).map(Some)
            })
            .unwrap();
        }
    }
}

#[test]
fn a_task_of_any_framework_runs() {
    let Some(bed) = Bed::start("a_task_of_any_framework_runs", Master::Elsewhere, false) else {
        return;
    };
    let framework = Framework::named("examples", bed.cluster.master.client()).unwrap();
    let mut info = definition("task.json");
    let id = info["task_id"]["value"].as_str().unwrap().to_owned();
    framework
        .accept(&bed.agent().ip(), LIMIT, |offer| {
            info["agent_id"] = offer["agent_id"].clone();
            for resource in info["resources"].as_array_mut().unwrap() {
                resource["allocation_info"] = json!({ "role": "*" });
            }
            let launch = json!({ "type": "LAUNCH", "launch": { "task_infos": [info] } });
            Ok((vec![id.clone()], launch))
        })
        .unwrap();
    let task = framework.wait_running(&id, LIMIT).unwrap();
    let subnets = bed.subnets("dcos");
    assert!(
        task.ips
            .iter()
            .all(|ip| subnets.iter().any(|net| net.contains(ip))),
        "{task:?}"
    );
    bed.wait_answer(task.ips[0], 8080);
    let healthy = framework.wait_health(&id, LIMIT, |healthy| healthy.is_some());
    assert_eq!(healthy.unwrap().healthy, Some(true));
    framework.kill(&id).unwrap();
    assert_eq!(
        framework.wait_ended(&id, LIMIT).unwrap().state,
        "TASK_KILLED"
    );
    wait::until("the address to be free", LIMIT, || {
        let gone = bed.task(&id)["state"] == "TASK_KILLED";
        ensure!(gone, "it is in the master's list as running");
        Ok(Some(()))
    })
    .unwrap();
}
