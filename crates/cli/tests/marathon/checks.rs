//! Health checks: from where they work, and what follows when they fail.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::marathon::{Instance, Marathon};
use testbed::netns::Netns;

use crate::bed::{Bed, LIMIT, Master, definition, netns};

/// Returns `Ok` if all checks that Marathon makes of the instance succeed, from a host.
fn check(marathon: &Marathon, instance: &Instance, from: &Netns) -> anyhow::Result<()> {
    let task = marathon.framework().task(&instance.tasks[0]).unwrap();
    let mut checks = instance.checks.iter();
    checks.try_for_each(|check| check.make(instance, &task, Some(from)))
}

#[test]
fn checks_of_marathon_need_a_way_to_the_container() {
    let test = "checks_of_marathon_need_a_way_to_the_container";
    let Some(bed) = Bed::start(test, Master::Elsewhere, false) else {
        return;
    };
    let marathon = Marathon::subscribe(bed.cluster.master.client()).unwrap();
    let launch = |definition: &Value, port: Option<u16>| {
        let mut definition = definition.clone();
        // Failures are not waited for.
        for check in definition["healthChecks"].as_array_mut().unwrap() {
            check["timeoutSeconds"] = 2.into();
        }
        let instance = marathon
            .launch(&definition, &bed.agent().ip(), LIMIT)
            .unwrap();
        let tasks = marathon.wait_running(&instance, LIMIT).unwrap();
        let ip = match port {
            Some(_) => tasks[0].ips[0],
            None => bed.agent().ip().parse().unwrap(),
        };
        let port = port.or(instance.host_ports[0]).unwrap();
        bed.wait_answer(ip, port);
        instance
    };
    let (master, other) = (netns(&bed.cluster.master), bed.other_host());
    let container = definition("app-marathon-checks.json");

    let on_network = launch(&container, Some(8080));
    let error = check(&marathon, &on_network, master).unwrap_err();
    assert!(format!("{error:#}").contains("asking 9."), "{error:#}");
    check(&marathon, &on_network, other).unwrap();

    // On a container network with a port on the host, Marathon takes the port of the host and the
    // address of the container, unless the check names the port.
    let mut mapped = container.clone();
    mapped["id"] = "/examples/mapped".into();
    mapped["container"]["portMappings"][0]["hostPort"] = 0.into();
    let by_index = launch(&mapped, Some(8080));
    assert!(check(&marathon, &by_index, other).is_err());
    for check in mapped["healthChecks"].as_array_mut().unwrap() {
        check.as_object_mut().unwrap().remove("portIndex");
        check["port"] = 8080.into();
    }
    let by_number = launch(&mapped, Some(8080));
    check(&marathon, &by_number, other).unwrap();

    // Ports on the host need no way to the container.
    for file in ["app-bridge.json", "app-host.json"] {
        let instance = launch(&definition(file), None);
        check(&marathon, &instance, master).unwrap();
    }

    let mut six = definition("app-ipv6.json");
    six["id"] = "/examples/ipv6-http".into();
    six["healthChecks"] = json!([{ "protocol": "HTTP", "portIndex": 0, "path": "/" }]);
    let six = launch(&six, Some(8080));
    let error = check(&marathon, &six, other).unwrap_err();
    assert!(format!("{error:#}").contains("/8"), "{error:#}");
}

#[test]
fn a_task_that_is_not_healthy_is_killed() {
    let test = "a_task_that_is_not_healthy_is_killed";
    let Some(bed) = Bed::start(test, Master::Elsewhere, true) else {
        return;
    };
    let marathon = Marathon::subscribe(bed.cluster.master.client()).unwrap();
    let failing = |protocol: &str| {
        json!([{
            "protocol": protocol, "port": 9999, "command": { "value": "exit 1" }, "delaySeconds": 0,
            "gracePeriodSeconds": 0, "intervalSeconds": 1, "timeoutSeconds": 2, "maxConsecutiveFailures": 2,
        }])
    };
    for (file, protocol) in [
        ("app-mesos.json", "MESOS_HTTP"),
        ("app-mesos.json", "MESOS_TCP"),
        ("app-mesos.json", "COMMAND"),
        ("app-docker.json", "MESOS_TCP"),
        ("app-docker.json", "COMMAND"),
    ] {
        let mut app = definition(file);
        app["healthChecks"] = failing(protocol);
        app["taskKillGracePeriodSeconds"] = 1.into();
        let instance = marathon.launch(&app, &bed.agent().ip(), LIMIT).unwrap();
        let id = &instance.tasks[0];
        let end = marathon.framework().wait_ended(id, LIMIT).unwrap();
        assert_eq!(end.state, "TASK_KILLED", "{file} {protocol}: {end:?}");
        assert_eq!(end.healthy, Some(false), "{file} {protocol}: {end:?}");
    }
    // The check is at the address of loopback, so an app that listens elsewhere is not healthy.
    let mut app = definition("app-mesos.json");
    app["cmd"] = "python3 -m http.server 8080 --bind $MESOS_CONTAINER_IP".into();
    for (key, seconds) in [("gracePeriodSeconds", 3), ("intervalSeconds", 1)] {
        app["healthChecks"][0][key] = seconds.into();
    }
    let instance = marathon.launch(&app, &bed.agent().ip(), LIMIT).unwrap();
    let task = marathon.wait_running(&instance, LIMIT).unwrap().remove(0);
    bed.wait_answer(task.ips[0], 8080);
    let end = marathon
        .framework()
        .wait_ended(&instance.tasks[0], LIMIT)
        .unwrap();
    assert_eq!(
        (end.state.as_str(), end.healthy),
        ("TASK_KILLED", Some(false))
    );
    // The pod's other container goes with the one that is not healthy.
    let mut pod = definition("pod-two-containers.json");
    pod["containers"][0]["healthCheck"] = json!({
        "exec": { "command": { "shell": "exit 1" } },
        "delaySeconds": 0, "gracePeriodSeconds": 0, "intervalSeconds": 1, "maxConsecutiveFailures": 1,
    });
    let pod = marathon.launch(&pod, &bed.agent().ip(), LIMIT).unwrap();
    for id in &pod.tasks {
        let end = marathon.framework().wait_ended(id, LIMIT).unwrap();
        assert_eq!(end.state, "TASK_KILLED", "{end:?}");
    }
}

#[test]
fn tasks_end_as_their_command_does() {
    let Some(bed) = Bed::start("tasks_end_as_their_command_does", Master::Elsewhere, false) else {
        return;
    };
    let marathon = Marathon::subscribe(bed.cluster.master.client()).unwrap();
    let agent = bed.agent().ip();
    for (cmd, state, message) in [
        ("exit 0", "TASK_FINISHED", "status 0"),
        ("exit 3", "TASK_FAILED", "status 3"),
        ("kill -9 $$", "TASK_FAILED", "signal 9"),
        (
            "test \"$MARATHON_APP_ID\" = /end -a -n \"$MESOS_CONTAINER_IP\"",
            "TASK_FINISHED",
            "status 0",
        ),
    ] {
        let app = json!({
            "id": "/end", "cmd": cmd, "cpus": 0.1, "mem": 32,
            "networks": [{ "mode": "container", "name": "dcos" }],
        });
        let instance = marathon.launch(&app, &agent, LIMIT).unwrap();
        let end = marathon
            .framework()
            .wait_ended(&instance.tasks[0], LIMIT)
            .unwrap();
        assert_eq!(end.state, state, "{cmd}: {end:?}");
        assert!(end.message.contains(message), "{cmd}: {end:?}");
    }
    // A task that ignores SIGTERM ends after its grace period.
    let app = json!({
        "id": "/stubborn", "cmd": "trap '' TERM; while :; do sleep 0.1; done", "cpus": 0.1, "mem": 32,
        "networks": [{ "mode": "container", "name": "dcos" }], "taskKillGracePeriodSeconds": 2,
    });
    let instance = marathon.launch(&app, &agent, LIMIT).unwrap();
    marathon.wait_running(&instance, LIMIT).unwrap();
    let killed = std::time::Instant::now();
    marathon.framework().kill(&instance.tasks[0]).unwrap();
    let end = marathon
        .framework()
        .wait_ended(&instance.tasks[0], LIMIT)
        .unwrap();
    assert_eq!(end.state, "TASK_KILLED", "{end:?}");
    assert!(
        killed.elapsed() >= Duration::from_secs(2),
        "it had no grace"
    );
}
