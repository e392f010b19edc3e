//! Every example, on real Mesos.

use std::net::IpAddr;

use anyhow::ensure;
use ipnet::IpNet;
use serde_json::{Value, json};
use testbed::framework::{Framework, TaskNetwork, TaskState};
use testbed::marathon::{Instance, Marathon};
use testbed::wait;

use crate::bed::{Bed, LIMIT, Master, definition, netns};
use crate::names::NameServer;
use crate::readme::{On, ROWS, Row};

#[test]
fn every_example_runs_with_its_address_health_and_names() {
    let test = "every_example_runs_with_its_address_health_and_names";
    let Some(bed) = Bed::start(test, Master::OnTheOverlays, true) else {
        return;
    };
    let names = NameServer::start(&bed);
    let marathon = Marathon::subscribe(bed.cluster.master.client()).unwrap();
    let agent = bed.agent().ip();
    // All at once; some take seconds until their first check.
    let launch = |row: &'static Row| {
        let launched = marathon.launch(&definition(row.file), &agent, LIMIT);
        (row, launched.unwrap())
    };
    let launched: Vec<(&Row, Instance)> = ROWS.iter().map(launch).collect();
    for (row, instance) in &launched {
        let tasks = marathon.wait_running(instance, LIMIT);
        let tasks = tasks.unwrap_or_else(|error| panic!("{}: {error:#}", row.file));
        let networks: Vec<_> = tasks.iter().map(|task| networks(row, task)).collect();
        // The containers of a pod share them.
        assert!(networks.iter().all(|other| *other == networks[0]));
        assert_addresses(&bed, row, &networks[0]);
        assert_reachable(&bed, row, instance, &networks[0]);
        assert_healthy(&bed, row, &marathon, instance);
        names.wait_names(&bed, row, &networks[0]);
    }
    let task = |file: &str| {
        let (_, instance) = launched.iter().find(|(row, _)| row.file == file).unwrap();
        bed.task(&instance.tasks[0])
    };
    let labels = task("app-labels.json");
    let info = &last_status(&labels)["container_status"]["network_infos"][0];
    assert_eq!(info["labels"], definition_labels(), "{info}");
    let port = &task("app-vip.json")["discovery"]["ports"]["ports"][0];
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

/// Returns the addresses of a task by its networks, in the order of the example. (That of a status
/// is the order of a hash map.)
fn networks(row: &Row, task: &TaskState) -> Vec<(On, Vec<IpAddr>)> {
    let count = row.networks.len();
    assert_eq!(task.networks.len(), count, "{}: {task:?}", row.file);
    let addresses = |on: &On| {
        let is_it = |network: &&TaskNetwork| match on.label() {
            Some(label) => network.name == label,
            None => true,
        };
        let network = task.networks.iter().find(is_it);
        let network = network.unwrap_or_else(|| panic!("{}: no {on:?} in {task:?}", row.file));
        (*on, network.ips().collect())
    };
    row.networks.iter().map(addresses).collect()
}

/// Asserts that addresses belong to their networks.
#[track_caller]
fn assert_addresses(bed: &Bed, row: &Row, networks: &[(On, Vec<IpAddr>)]) {
    let agent: IpNet = format!("{}/32", bed.agent().ip()).parse().unwrap();
    for (on, ips) in networks {
        let ranges = match on {
            On::Overlay(name) => bed.subnets(name),
            On::MesosBridge => vec!["172.31.254.0/24".parse().unwrap()],
            On::DockerBridge => vec!["172.17.0.0/16".parse().unwrap()],
            On::Host => vec![agent],
        };
        let inside = |ip: &IpAddr| ranges.iter().any(|range| range.contains(ip));
        assert!(
            !ips.is_empty() && ips.iter().all(inside),
            "{}: {ips:?} are not on {on:?}",
            row.file
        );
    }
}

/// Asserts that the web server answers another host: at the addresses on overlays, and at the port
/// on the agent's host.
#[track_caller]
fn assert_reachable(bed: &Bed, row: &Row, instance: &Instance, networks: &[(On, Vec<IpAddr>)]) {
    let (port, _) = row.port;
    for (on, ips) in networks {
        if matches!(on, On::Overlay(_)) {
            ips.iter().for_each(|ip| bed.wait_answer(*ip, port));
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
