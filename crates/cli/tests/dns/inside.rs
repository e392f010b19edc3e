//! Names as programs in containers see them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use testbed::cluster::Cluster;
use testbed::docker::{Engine, IMAGE};
use testbed::framework::{Framework, TaskSpec};
use testbed::install::BUSYBOX;
use testbed::netns::Netns;
use testbed::skip;

use crate::bed::{DOMAIN, LIMIT, Server, run, setup, start};

/// Returns the network namespace of a task's container.
fn container(id: &str) -> Netns {
    let mark = format!("MESOS_EXECUTOR_ID={id}");
    let is_of_task = |pid: &Path| {
        let environment = fs::read(pid.join("environ")).unwrap_or_default();
        let name = fs::read_to_string(pid.join("comm")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        name.starts_with("overlay-test-") && variables.any(|text| text == mark.as_bytes())
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes
        .map(|process| process.path())
        .find(|path| is_of_task(path));
    Netns::open(&found.unwrap().join("ns/net")).unwrap()
}

/// Runs a command of the shell in a container, with a resolv.conf that names the server.
fn inside(cluster: &Cluster, container: &Netns, server: &str, command: &str) -> String {
    let file = cluster.run().dir().join("resolv.conf");
    fs::write(
        &file,
        format!("nameserver {server}\noptions timeout:1 attempts:3\n"),
    )
    .unwrap();
    let script = format!(
        "mount --bind {} /etc/resolv.conf && {command}",
        file.display()
    );
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &script]);
    container.apply_to(&mut shell);
    let output = shell.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn containers_of_mesos_find_each_other() {
    let Some(setup) = setup("containers_of_mesos_find_each_other", 1, 2) else {
        return;
    };
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let specs = [("one", 0, "dcos"), ("two", 1, "dcos"), ("four", 1, "web")];
    let states = specs.map(|(id, agent, network)| {
        run(
            &framework,
            &TaskSpec::new(id, &cluster.agents[agent].ip(), Some(network)),
        )
    });
    let address = cluster.agents[0].ip();
    let server = Server::start(
        &cluster,
        &cluster.agents[0],
        &address,
        &["--master", "10.77.0.1:5050"],
    );
    server.wait_addresses("two.testbed.containerip", LIMIT, &states[1].ips);
    let one = container("one");
    let name = |task: &str| format!("{task}.testbed.containerip.{DOMAIN}");

    // glibc: both families.
    let found = inside(
        &cluster,
        &one,
        &address,
        &format!("getent ahosts {}", name("two")),
    );
    for ip in &states[1].ips {
        assert!(found.contains(&ip.to_string()), "{found}");
    }
    // A name of IPv4 alone is found although there is no AAAA record.
    let found = inside(
        &cluster,
        &one,
        &address,
        &format!("getent hosts {}", name("four")),
    );
    assert!(found.contains(&states[2].ips[0].to_string()), "{found}");
    let found = inside(
        &cluster,
        &one,
        &address,
        &format!("getent hosts {}; echo $?", name("none")),
    );
    assert_eq!(found.trim(), "2", "a name that does not exist");

    let lookup = |name: String| {
        let command = format!("{BUSYBOX} nslookup {name} {address}");
        inside(&cluster, &one, &address, &command)
    };
    let found = lookup(name("two"));
    for ip in &states[1].ips {
        assert!(found.contains(&ip.to_string()), "{found}");
    }
    assert!(lookup(name("none")).contains("NXDOMAIN"));
    // The name of an address.
    let v4 = states[1].ips.iter().find(|ip| ip.is_ipv4()).unwrap();
    let found = inside(&cluster, &one, &address, &format!("getent hosts {v4}"));
    assert!(found.contains(&name("two")), "{found}");
}

/// Docker puts a resolver of its own, at 127.0.0.11, between a container and the name server.
#[test]
fn containers_of_docker_find_those_of_mesos() {
    let test = "containers_of_docker_find_those_of_mesos";
    if !skip::require_docker(test) {
        return;
    }
    let Some(mut setup) = setup(test, 1, 2) else {
        return;
    };
    setup.agent_config["network_config"] = json!({ "mesos_bridge": true, "docker_bridge": true });
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let host = cluster.agents[0].host().unwrap();
    let mut engine = Engine::new(cluster.run(), "engine", host.netns()).unwrap();
    engine.start().unwrap();
    let socket = engine.socket();
    cluster.agents[0]
        .configure(|config| config["docker_socket"] = json!(socket))
        .unwrap();
    cluster.agents[1]
        .configure(|config| config["network_config"]["docker_bridge"] = false.into())
        .unwrap();
    cluster.start_all().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let spec = TaskSpec::new("two", &cluster.agents[1].ip(), Some("dcos"));
    let state = run(&framework, &spec);
    let address = cluster.agents[0].ip();
    let options = ["--master", "10.77.0.1:5050"];
    let server = Server::start(&cluster, &cluster.agents[0], &address, &options);
    server.wait_addresses("two.testbed.containerip", LIMIT, &state.ips);
    let name = format!("two.testbed.containerip.{DOMAIN}");
    let script = format!("cat /etc/resolv.conf; nslookup -type=a {name}; nslookup none.{name}");
    let arguments = ["run", "--rm", "--network", "dcos", "--dns", &address, IMAGE];
    let script = format!("{script} || true");
    let found = engine
        .docker(&[&arguments[..], &["sh", "-c", &script]].concat())
        .unwrap();
    let v4 = state.ips.iter().find(|ip| ip.is_ipv4()).unwrap();
    assert!(found.contains("nameserver 127.0.0.11"), "{found}");
    assert!(found.contains(&v4.to_string()), "{found}");
}
