//! Hosts of a real cluster: healthy ones, and agents and masters with wrong flags.

use std::fs;
use std::time::Duration;

use testbed::cluster::{Cluster, ClusterConfig, Launcher, Placement};
use testbed::program::Program;
use testbed::skip;

use crate::{BINARY, assert_codes, seen};

const CHECK: &[&str] = &["check", "host"];

/// Timeout of a step, long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the configuration of a cluster whose agents have Mesos's CNI flags; `None`: the test is skipped.
fn configuration(test: &str, masters: usize) -> Option<ClusterConfig> {
    skip::require_mesos(test)?;
    if !skip::require_hosts(test) {
        return None;
    }
    let mut config = ClusterConfig::new(1, Placement::Hosts).unwrap();
    if config.launcher != Launcher::Linux {
        skip::skip(test, "needs the cgroup v1 freezer");
        return None;
    }
    config.masters = masters;
    Some(config)
}

#[test]
fn a_running_cluster_is_well_and_faults_of_an_agent_are_found() {
    let Some(config) = configuration("check::cluster", 1) else {
        return;
    };
    let mut cluster = Cluster::start(&config).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let agent = Program::at(BINARY, &cluster.agents[0]);
    let master = Program::at(BINARY, &cluster.master);
    for program in [&agent, &master] {
        assert_codes(program, CHECK, &[]);
        assert_codes(program, &["check", "config"], &[]);
    }
    let json = agent.json(CHECK).unwrap();
    for name in [
        "forwarding",
        "CNI plugins",
        "isolation",
        "CNI directory",
        "address",
        "configuration",
        "leading master",
        "library",
    ] {
        assert_eq!(seen(&json, name).0, "ok", "{name}: {json}");
    }
    assert!(
        seen(&json, "UDP port 64000").1.contains("vtep1024 has it"),
        "{json}"
    );
    assert!(
        seen(&json, "library").1.contains("loaded by Mesos"),
        "{json}"
    );
    assert_codes(&agent.clone().as_nobody(), CHECK, &[]);
    another_library(&cluster, &agent);
    flags_of_an_agent(&mut cluster, &agent);
    a_file_against_the_log(&cluster);
}

/// Starts the agent with one wrong flag after the other.
fn flags_of_an_agent(cluster: &mut Cluster, program: &Program) {
    let empty = cluster.run().dir().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = empty.display().to_string();
    let node = &mut cluster.agents[0];
    let cni_dir = node.dir().join("cni").display().to_string();
    let plugins = cluster_plugins(node.dir());
    for (flag, wrong, right, code) in [
        (
            "MESOS_NETWORK_CNI_PLUGINS_DIR",
            empty.clone(),
            plugins,
            "plugin-missing",
        ),
        (
            "MESOS_ISOLATION",
            "posix/cpu,posix/mem".to_owned(),
            "network/cni,posix/cpu,posix/mem".to_owned(),
            "isolation-without-cni",
        ),
        (
            "MESOS_NETWORK_CNI_CONFIG_DIR",
            empty,
            cni_dir,
            "cni-dir-differs",
        ),
    ] {
        node.set(flag, wrong);
        node.restart().unwrap();
        assert_codes(program, CHECK, &[code]);
        node.set(flag, right);
    }
    node.restart().unwrap();
    assert_codes(program, CHECK, &[]);
}

/// Returns the directories of plugins that the test bed gives its agents.
fn cluster_plugins(node: &std::path::Path) -> String {
    let own = node.parent().unwrap().join("cni-plugins");
    format!("{}:{}", own.display(), testbed::cni::PLUGINS)
}

/// Compares files with the allocations of the running master.
fn a_file_against_the_log(cluster: &Cluster) {
    let program = Program::at(BINARY, &cluster.master);
    let address = cluster.master.address().to_string();
    let file = cluster.run().dir().join("other.json");
    let path = file.display().to_string();
    let arguments = ["check", "config", "--master", &address, &path];
    let config = serde_json::json!({"replicated_log_dir": "/var/lib/mesos", "network": testbed::cluster::default_network()});
    let finds = |change: fn(&mut serde_json::Value), expected: &[&str]| {
        let mut changed = config.clone();
        change(&mut changed["network"]);
        fs::write(&file, changed.to_string()).unwrap();
        assert_codes(&program, &arguments, expected);
    };
    finds(|_| (), &[]);
    finds(
        |network| network["overlays"][0]["prefix"] = 26.into(),
        &["config-contradicts-log"],
    );
    finds(
        |network| network["overlays"][0]["subnet"] = "9.128.0.0/9".into(),
        &["config-contradicts-log"],
    );
    finds(
        |network| network["overlays"][0]["name"] = "other".into(),
        &["config-contradicts-log"],
    );
    finds(
        |network| network["vtep_subnet"] = "44.129.0.0/20".into(),
        &["config-contradicts-log"],
    );
}

#[test]
fn masters_with_zookeeper_are_well_and_a_wrong_quorum_is_found() {
    let Some(config) = configuration("check::masters", 3) else {
        return;
    };
    let mut cluster = Cluster::start(&config).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    for node in cluster.masters() {
        assert_codes(&Program::at(BINARY, node), CHECK, &[]);
    }
    let agent = Program::at(BINARY, &cluster.agents[0]);
    assert_codes(&agent, CHECK, &[]);
    let node = &mut cluster.other_masters[1];
    let program = Program::at(BINARY, node);
    node.set("LIBPROCESS_NUM_WORKER_THREADS", 7);
    node.restart().unwrap();
    node.wait_log("overlay-master: ", LIMIT).unwrap();
    assert_codes(&program, CHECK, &["worker-threads-few"]);
    node.set("LIBPROCESS_NUM_WORKER_THREADS", 8);
    node.set("MESOS_QUORUM", 1);
    node.restart().unwrap();
    // The quorum is compared with the masters that are in ZooKeeper.
    testbed::wait::until("the fault", LIMIT, || {
        let codes = program.codes(CHECK)?;
        Ok((codes == ["quorum-wrong".to_owned()].into()).then_some(()))
    })
    .unwrap();
}

/// Compares other libraries with the Mesos that runs.
fn another_library(cluster: &Cluster, program: &Program) {
    let dir = cluster.run().dir();
    // Not the file that Mesos has loaded.
    let copy = dir.join("copy.so");
    fs::copy(testbed::paths::module().unwrap(), &copy).unwrap();
    let copy = copy.display().to_string();
    assert_codes(program, &["check", "host", "--module", &copy], &[]);
    let json = program.json(&["check", "host", "--module", &copy]).unwrap();
    assert!(seen(&json, "library").1.contains("compared with"), "{json}");
    let source = dir.join("other.cpp");
    let code = "namespace process { int nowhere(); } int f() { return process::nowhere(); }\n";
    fs::write(&source, code).unwrap();
    let other = dir.join("other.so");
    let mut compiler = std::process::Command::new("g++");
    let compiler = compiler
        .args(["-shared", "-fPIC", "-o"])
        .args([&other, &source]);
    assert!(compiler.status().unwrap().success());
    let other = other.display().to_string();
    assert_codes(
        program,
        &["check", "host", "--module", &other],
        &["module-mismatch"],
    );
}

/// DC/OS's masters have both modules: the agent module without bridges, for its tunnel.
#[test]
fn a_master_with_both_modules_is_well() {
    let Some(config) = configuration("check::both_modules", 1) else {
        return;
    };
    let mut cluster = Cluster::prepare(&config).unwrap();
    let dir = cluster.run().dir().join("both");
    let text = |path: &std::path::Path| path.display().to_string();
    let (root, directory) = (text(&cluster.run().dir().join("image")), text(&dir));
    let (module, log) = (
        text(&testbed::paths::module().unwrap()),
        text(&cluster.master.dir().join("log")),
    );
    let (address, cni) = (
        cluster.master.address().to_string(),
        text(&cluster.master.dir().join("cni")),
    );
    let arguments = [
        "setup",
        "--role",
        "agent-master",
        "--yes",
        "--write",
        "--layout",
        "plain",
        "--root",
        &root,
        "--config-dir",
        &directory,
        "--module",
        &module,
        "--master",
        &address,
        "--log-dir",
        &log,
        "--cni-dir",
        &cni,
    ];
    let program = Program::at(BINARY, &cluster.master);
    let outcome = program.run(&arguments).unwrap();
    assert!(outcome.status.success(), "{outcome}");
    fs::rename(format!("{root}{directory}"), &dir).unwrap();
    let list = fs::read_to_string(dir.join("modules-master.json")).unwrap();
    cluster.master.set("MESOS_MODULES", list);
    cluster.start_all().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    testbed::wait::until("the master's own agent", LIMIT, || {
        let state = cluster
            .master
            .client()
            .get("/overlay-agent/overlay")?
            .json()?;
        Ok((state["registered"] == true).then_some(()))
    })
    .unwrap();
    assert_codes(&program, CHECK, &[]);
    let json = program.json(CHECK).unwrap();
    for (name, result) in [
        ("UDP port 64000", "ok"),
        ("forwarding", "skipped"),
        ("CNI plugins", "skipped"),
        ("configuration", "ok"),
    ] {
        assert_eq!(seen(&json, name).0, result, "{name}: {json}");
    }
}
