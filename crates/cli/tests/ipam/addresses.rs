//! `mesos-overlay ipam` on hosts with containers of Mesos and Docker.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Launcher, Placement};
use testbed::docker::Engine;
use testbed::framework::{Framework, TaskSpec};
use testbed::node::Node;
use testbed::program::Program;
use testbed::{skip, wait};

use crate::terminal::Asking;
use crate::{BINARY, LIMIT, start};

/// Container of the files of leaked addresses.
const GONE: &str = "b14e8b1a-0000-4000-8000-7d0a3b1c5f00";

/// Returns the configuration of a cluster on hosts whose agents start containers on networks;
/// `None`: the test is skipped.
fn hosts(test: &str, agents: usize) -> Option<ClusterConfig> {
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    let setup = ClusterConfig::new(agents, Placement::Hosts).unwrap();
    if setup.launcher != Launcher::Linux {
        skip::skip(
            test,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
        return None;
    }
    Some(setup)
}

/// Returns an age of files that are no longer new, and written after the start of this machine;
/// `None`: the machine was started just now.
fn age(test: &str) -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let age = Duration::from_secs(3600).min(Duration::from_secs_f64(uptime / 2.0));
    if age.as_secs() > 61 {
        return Some(age);
    }
    skip::skip(test, "the machine was started just now");
    None
}

/// Returns the program on the host of a node.
fn program(node: &Node) -> Program {
    Program::at(BINARY, node)
}

/// Returns the file of host-local for an address.
fn file(agent: &Node, network: &str, address: &str) -> PathBuf {
    agent.dir().join("cni-data").join(network).join(address)
}

/// Writes the file of an address whose container does not exist.
fn leak(agent: &Node, network: &str, address: &str, age: Duration) {
    let path = file(agent, network, address);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("{GONE}\r\neth0")).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// Starts a task on network `dcos`, and returns its IPv4 address.
fn run(framework: &Framework, agent: &Node, name: &str) -> String {
    framework
        .launch(&TaskSpec::new(name, &agent.ip(), Some("dcos")), LIMIT)
        .unwrap();
    let running = framework.wait_running(name, LIMIT).unwrap();
    let address = running.addresses().find(SocketAddr::is_ipv4).unwrap();
    address.ip().to_string()
}

/// Waits until an agent has its overlay.
fn wait_overlay(agent: &Node) {
    wait::until("the overlay", LIMIT, || {
        let state = agent.client().get("/overlay-agent/overlay")?.json()?;
        Ok((state["overlays"][0]["state"]["status"] == "STATUS_OK").then_some(()))
    })
    .unwrap();
}

/// Runs `ipam check` and asserts that it finds exactly these codes. Returns the report.
#[track_caller]
fn assert_finds(program: &Program, codes: &[&str]) -> Value {
    let outcome = program.ask(&["ipam", "check"]).unwrap();
    let found: BTreeSet<String> = outcome.codes().unwrap();
    let expected: BTreeSet<String> = codes.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{outcome}");
    outcome.json().unwrap()
}

/// Returns the configuration of two agents with Docker and a dual-stack overlay; `None`: the test is
/// skipped.
fn with_docker(test: &str) -> Option<ClusterConfig> {
    if !skip::require_docker(test) {
        return None;
    }
    let mut setup = hosts(test, 2)?;
    setup.network = json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80 },
        ],
    });
    setup.agent_config["network_config"] = json!({
        "allocate_subnet": true, "mesos_bridge": true, "docker_bridge": true, "overlay_mtu": 1420,
        "enable_ipv6": true,
    });
    Some(setup)
}

#[test]
fn nothing_is_found_beside_containers_of_mesos_and_docker() {
    let Some(setup) = with_docker("nothing_is_found_beside_containers_of_mesos_and_docker") else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let agent = &cluster.agents[0];
    let mut engine = Engine::new(cluster.run(), "engine", agent.host().unwrap().netns()).unwrap();
    engine.start().unwrap();
    let socket = engine.socket();
    agent
        .configure(|config| config["docker_socket"] = json!(socket))
        .unwrap();
    // The second host has no engine, and no Docker network.
    let second = &cluster.agents[1];
    second
        .configure(|config| config["network_config"]["docker_bridge"] = false.into())
        .unwrap();
    cluster.start_all().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    for (index, agent) in cluster.agents.iter().enumerate() {
        run(&framework, agent, &format!("task{index}"));
    }
    engine.container("web", "dcos", &[]).unwrap();
    assert_nothing_is_found(&cluster);
    assert_all_are_counted(&cluster);

    // The overlay goes while the agent is down, and what it made stays.
    let config = cluster.agents[0]
        .dir()
        .join("agent.json")
        .display()
        .to_string();
    let master = cluster.master.address().to_string();
    cluster.agents[0].kill().unwrap();
    let remove = ["networks", "remove", "dcos", "--force", "--yes"];
    let removed = program(&cluster.master).run(&remove).unwrap();
    assert_eq!(removed.code(), Some(0), "{removed}");
    let beside =
        program(&cluster.agents[0]).with(&["--agent-config", &config, "--master", &master]);
    assert_finds(&beside, &["orphaned-network"]);
}

/// Asserts that no command finds anything, on any host.
fn assert_nothing_is_found(cluster: &Cluster) {
    let first = assert_finds(&program(&cluster.agents[0]), &[]);
    assert_eq!(
        (&first["containers"], &first["addresses"]),
        (&json!(2), &json!(4)),
        "{first}"
    );
    assert!(first.get("notes").is_none(), "{first}");
    let second = assert_finds(&program(&cluster.agents[1]), &[]);
    assert_eq!(
        (&second["containers"], &second["addresses"]),
        (&json!(1), &json!(2)),
        "{second}"
    );
    let page = program(&cluster.agents[0]).run(&["ipam", "check"]).unwrap();
    let summary = "Check complete: 4 addresses, 2 containers, 0 problems\n";
    assert!(page.stdout.contains(summary), "{page}");
    let everywhere = program(&cluster.master)
        .ask(&["ipam", "check", "--ask-agents"])
        .unwrap();
    assert_eq!(everywhere.codes().unwrap().len(), 0, "{everywhere}");
    assert_eq!(everywhere.json().unwrap()["agents_asked"], 2);
    // An ordinary user sees what the endpoints say.
    let master = cluster.master.address().to_string();
    let nobody = program(&cluster.master).as_nobody();
    let nobody = nobody.run(&["ipam", "check", "--master", &master]).unwrap();
    assert_eq!(nobody.code(), Some(0), "{nobody}");
}

/// Asserts that `ipam show` counts the containers of all agents.
fn assert_all_are_counted(cluster: &Cluster) {
    // The agents count every two seconds.
    wait::until("the agents' counts", LIMIT, || {
        let shown = program(&cluster.master).json(&["ipam", "show", "--ask-agents"])?;
        let v4 = &shown["ranges"][0];
        Ok((v4["addresses_in_use"] == 3 && v4["addresses"] == 375).then_some(()))
    })
    .unwrap();
    let own = program(&cluster.agents[0]).json(&["ipam", "show"]).unwrap();
    let mesos = &own["this_host"]["addresses"]["dcos"]["mesos"];
    assert_eq!(mesos["in_use"], 1, "{own}");
    assert!(
        own.get("agents").is_none(),
        "nobody said to ask them: {own}"
    );
}

/// Reserves all addresses of an agent with five, except that of a running task, for containers that
/// do not exist. Returns these addresses.
fn leak_all_but(agent: &Node, address: &str, age: Duration) -> Vec<String> {
    let (prefix, last) = address.rsplit_once('.').unwrap();
    let last: u8 = last.parse().unwrap();
    let containers = (last & !7..)
        .skip(2)
        .take(5)
        .map(|last| format!("{prefix}.{last}"));
    let leaked: Vec<String> = containers.filter(|ip| ip != address).collect();
    for ip in &leaked {
        leak(agent, "dcos", ip, age);
    }
    leaked
}

#[test]
fn leaked_addresses_are_given_back_from_a_fresh_report() {
    let test = "leaked_addresses_are_given_back_from_a_fresh_report";
    let Some(mut setup) = hosts(test, 2) else {
        return;
    };
    let Some(age) = age(test) else { return };
    // Five addresses for containers of Mesos.
    setup.network["overlays"][0]["prefix"] = json!(28);
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let [agent, other] = &cluster.agents[..] else {
        panic!("two agents")
    };
    let address = run(&framework, agent, "alive");
    let leaked = leak_all_but(agent, &address, age);
    framework
        .launch(&TaskSpec::new("full", &agent.ip(), Some("dcos")), LIMIT)
        .unwrap();
    let failed = framework.wait_ended("full", LIMIT).unwrap();
    assert!(
        failed.message.contains("no IP addresses available"),
        "{failed:?}"
    );

    let report = cluster.run().dir().join("leaks.json");
    let path = report.display().to_string();
    let release = ["ipam", "release", "--report", &path];
    let program = program(agent);
    let found = program.ask(&["ipam", "check", "--report", &path]).unwrap();
    let only_leaked = ["leaked-addresses".to_owned()].into();
    assert_eq!(found.codes().unwrap(), only_leaked, "{found}");
    assert_eq!(
        found.json().unwrap()["leaked"].as_array().unwrap().len(),
        4,
        "{found}"
    );
    assert_wrong_reports_are_refused(&program, &report, [agent, other]);
    let unconfirmed = program.run(&release).unwrap();
    assert_eq!(unconfirmed.code(), Some(2), "{unconfirmed}");
    let (code, _, error) = Asking::start(&program, &release).answer("no");
    assert_eq!(code, Some(2), "{error}");
    let planned = program
        .run(&[&release[..], &["--dry-run"]].concat())
        .unwrap();
    let would = format!("Would give back {} of dcos", leaked[0]);
    assert!(planned.stdout.contains(&would), "{planned}");
    let is_there = |ip: &String| file(agent, "dcos", ip).exists();
    assert!(leaked.iter().all(is_there), "something was given back");

    // A file that another container got meanwhile, and one that was written again, stay.
    fs::write(file(agent, "dcos", &leaked[0]), "another").unwrap();
    leak(agent, "dcos", &leaked[1], age + Duration::from_secs(1));
    let (code, out, error) = Asking::start(&program, &release).answer("release");
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains("2 addresses given back, 2 kept"), "{out}");
    assert!(is_there(&leaked[0]) && is_there(&leaked[1]) && is_there(&address));
    assert!(leaked[2..].contains(&run(&framework, agent, "again")));
    assert_eq!(
        program.ask(&["ipam", "check"]).unwrap().codes().unwrap(),
        only_leaked
    );
}

/// Asserts that reports which are not of this host as it is now are refused with the way out.
fn assert_wrong_reports_are_refused(program: &Program, report: &Path, [agent, other]: [&Node; 2]) {
    let path = report.display().to_string();
    let release = ["ipam", "release", "--report", &path, "--yes"];
    let written = fs::read(report).unwrap();
    let foreign = crate::addresses::program(other).run(&release).unwrap();
    assert_eq!(foreign.code(), Some(2), "{foreign}");
    let difference = format!(
        "it is of agent {}, and this is agent {}",
        agent.ip(),
        other.ip()
    );
    assert!(foreign.stderr.contains(&difference), "{foreign}");
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 3] = [
        (
            |report| report["written_seconds"] = json!(1_000_000_000),
            "s old, and only reports of the last 600 s are used",
        ),
        (
            |report| report["origin"]["boot_id"] = json!("another"),
            "the host was restarted since",
        ),
        (
            |report| report["form"] = json!(2),
            "has the form 2 of another release",
        ),
    ];
    for (change, part) in changes {
        let mut changed: Value = serde_json::from_slice(&written).unwrap();
        change(&mut changed);
        fs::write(report, changed.to_string()).unwrap();
        let refused = program.run(&release).unwrap();
        assert_eq!(refused.code(), Some(2), "{refused}");
        for part in [part, "make a new one on this host"] {
            assert!(refused.stderr.contains(part), "{refused}");
        }
    }
    fs::write(report, &written).unwrap();
}

/// Containers that start and end while addresses are given back keep theirs.
#[test]
fn a_release_takes_nothing_from_starting_containers() {
    let test = "a_release_takes_nothing_from_starting_containers";
    let Some(setup) = hosts(test, 1) else { return };
    let Some(age) = age(test) else { return };
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let agent = &cluster.agents[0];
    run(&framework, agent, "first");
    let report = cluster.run().dir().join("leaks.json").display().to_string();
    let program = program(agent);
    for round in 0..2 {
        // host-local comes to these next, and passes over them.
        (10..60).for_each(|last| leak(agent, "dcos", &format!("9.0.0.{last}"), age));
        let found = program
            .ask(&["ipam", "check", "--report", &report])
            .unwrap();
        assert!(
            found.codes().unwrap().contains("leaked-addresses"),
            "{found}"
        );
        let names: Vec<String> = (0..3).map(|task| format!("task{round}-{task}")).collect();
        for name in &names {
            framework
                .launch(&TaskSpec::new(name, &agent.ip(), Some("dcos")), LIMIT)
                .unwrap();
        }
        let released = program
            .run(&["ipam", "release", "--report", &report, "--yes"])
            .unwrap();
        assert_eq!(released.code(), Some(0), "{released}");
        let mut addresses = BTreeSet::new();
        for name in &names {
            let running = framework.wait_running(name, LIMIT).unwrap();
            assert!(
                addresses.insert(running.address().unwrap().ip()),
                "given out twice"
            );
        }
        for address in &addresses {
            assert!(
                file(agent, "dcos", &address.to_string()).exists(),
                "{address} was taken away"
            );
        }
        assert_finds(&program, &[]);
    }
}

#[test]
fn addresses_that_host_local_does_not_know_and_double_ones_are_found() {
    let test = "addresses_that_host_local_does_not_know_and_double_ones_are_found";
    let Some(setup) = hosts(test, 1) else { return };
    let Some(age) = age(test) else { return };
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let agent = &cluster.agents[0];
    let program = program(agent);
    // As after a restart of the host: there is no container and no bridge.
    leak(agent, "dcos", "9.0.0.99", age);
    assert_finds(&program, &["leaked-addresses"]);
    fs::remove_file(file(agent, "dcos", "9.0.0.99")).unwrap();
    let address = run(&framework, agent, "one");
    assert_finds(&program, &[]);
    let config = agent.dir().join("agent.json").display().to_string();
    let master = cluster.master.address().to_string();
    let nobody = program.clone().as_nobody();
    let nobody = nobody.with(&["--agent-config", &config, "--master", &master]);
    assert_finds(&nobody, &[]);

    leak(agent, "dcos", "9.0.7.2", age);
    assert_finds(&program, &["reservations-outside-subnet"]);
    fs::remove_file(file(agent, "dcos", "9.0.7.2")).unwrap();
    leak(agent, "old", "8.0.0.2", age);
    assert_finds(&program, &["orphaned-reservations"]);
    fs::remove_dir_all(file(agent, "old", "")).unwrap();
    assert_finds(&program, &[]);

    fs::remove_file(file(agent, "dcos", &address)).unwrap();
    let found = assert_finds(&program, &["address-not-reserved"]);
    assert_eq!(found["findings"][0]["subject"], json!(address), "{found}");
    fs::remove_file(file(agent, "dcos", "last_reserved_ip.0")).unwrap();
    assert_eq!(
        run(&framework, agent, "two"),
        address,
        "host-local starts from the first address"
    );
    let found = assert_finds(&program, &["double-address"]);
    assert_eq!(found["findings"][0]["subject"], json!(address), "{found}");
}

/// An agent that was deleted while it was away comes back with another subnet, and its containers
/// have addresses that now belong to another agent.
#[test]
fn containers_of_a_former_subnet_are_found() {
    let test = "containers_of_a_former_subnet_are_found";
    let Some(setup) = hosts(test, 2) else { return };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    wait_overlay(&cluster.agents[0]);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let address = run(&framework, &cluster.agents[0], "one");
    assert!(address.starts_with("9.0.0."), "{address}");
    let ip = cluster.agents[0].ip();
    cluster.agents[0].kill().unwrap();
    crate::wait_connected(&cluster, &ip, false);
    let deleted = program(&cluster.master)
        .run(&["agents", "delete", &ip, "--yes"])
        .unwrap();
    assert_eq!(deleted.code(), Some(0), "{deleted}");
    let second = cluster.agents[1].ip();
    cluster.agents[1].start().unwrap();
    crate::wait_connected(&cluster, &second, true);
    cluster.agents[0].start().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    wait::until("Mesos's agent to know its container", LIMIT, || {
        let containers = cluster.agents[0].client().get("/containers")?.json()?;
        Ok((containers[0]["container_id"].is_string()).then_some(()))
    })
    .unwrap();
    let found = assert_finds(&program(&cluster.agents[0]), &["address-outside-subnet"]);
    assert_eq!(found["findings"][0]["subject"], json!(address), "{found}");
    assert_finds(&program(&cluster.agents[1]), &[]);
}
