//! Faults of an agent's host. The agent repairs within two seconds what somebody changed, so the
//! tests keep changing it, or stop the agent.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testbed::cluster::Cluster;
use testbed::monitor::Monitor;
use testbed::net::Host;
use testbed::node::Node;
use testbed::wait;

use crate::common::{LIMIT, assert_finds, hosts, program, start, wait_finds};

/// Runs a shell command on a host again and again while `f` runs. It may fail.
fn while_undoing<T: Send>(host: &Host, command: &str, f: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let script = format!("while :; do {command}; done");
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &script])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            host.netns().apply_to(&mut shell);
            let mut shell: Child = shell.spawn().unwrap();
            while !done.load(Ordering::Relaxed) {
                thread::park_timeout(std::time::Duration::from_millis(20));
            }
            shell.kill().unwrap();
            shell.wait().unwrap();
        });
        // Also after a failure, which would else wait for ever.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _done = Done(&done);
        f()
    })
}

/// Returns a cluster with two agents; `None`: the test is skipped.
fn cluster(test: &str) -> Option<Cluster> {
    let mut setup = hosts(test, 2)?;
    setup.agent_config["firewall"] = "iptables".into();
    Some(start(&setup))
}

fn host(node: &Node) -> &Host {
    node.host().unwrap()
}

/// Asserts that these findings are made on the first agent's host while a command is repeated
/// there, and none afterwards.
#[track_caller]
fn assert_found_while(cluster: &Cluster, command: &str, codes: &[&str]) {
    let agent = &cluster.agents[0];
    let program = program(agent);
    while_undoing(host(agent), command, || wait_finds(&program, codes));
    wait_finds(&program, &[]);
}

#[test]
fn changes_that_somebody_keeps_making_are_found() {
    let Some(cluster) = cluster("changes_that_somebody_keeps_making_are_found") else {
        return;
    };
    let state = cluster.master.overlay_state().unwrap();
    let peer = &state["agents"][1]["overlays"][0];
    let vxlan = &peer["backend"]["vxlan"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let subnet = text(&peer["subnet"]);
    let (vtep, mac) = (
        text(&vxlan["vtep_ip"]).replace("/20", ""),
        text(&vxlan["vtep_mac"]),
    );
    let cni = cluster.agents[0].dir().join("cni");
    for (command, codes) in [
        ("ip rule del table 42".to_owned(), "rule-missing"),
        (format!("ip route del {subnet}"), "route-wrong"),
        ("ip route del 10.77.1.2 table 42".to_owned(), "route-wrong"),
        (
            format!("bridge fdb replace {mac} dev vtep1024 dst 10.77.9.9 self permanent"),
            "fdb-wrong",
        ),
        (
            format!("ip neighbour del {vtep} dev vtep1024"),
            "neighbour-wrong",
        ),
        ("ip link set m-dcos down".to_owned(), "bridge-wrong"),
        ("ip link set vtep1024 down".to_owned(), "vxlan-device-wrong"),
        (
            "ip address flush dev vtep1024 scope global".to_owned(),
            "vxlan-device-wrong",
        ),
        (
            "sysctl -w net.ipv4.conf.vtep1024.forwarding=0".to_owned(),
            "forwarding-off",
        ),
        (
            "iptables -w -t nat -F POSTROUTING".to_owned(),
            "firewall-wrong",
        ),
        (
            format!("rm -f {}/dcos.conf", cni.display()),
            "cni-file-wrong",
        ),
    ] {
        assert_found_while(&cluster, &command, &[codes]);
    }
}

/// What is on a missing device needs no further findings.
#[test]
fn a_device_that_is_missing_is_one_finding() {
    let Some(cluster) = cluster("a_device_that_is_missing_is_one_finding") else {
        return;
    };
    assert_found_while(&cluster, "ip link del vtep1024", &["vxlan-device-wrong"]);
}

/// An agent that hangs repairs nothing, and does not answer.
#[test]
fn an_agent_that_hangs_is_silent() {
    let Some(cluster) = cluster("an_agent_that_hangs_is_silent") else {
        return;
    };
    let agent = &cluster.agents[0];
    let pid = Pid::from_raw(agent.pid().unwrap().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    let program = program(agent).with(&["--timeout", "2"]);
    wait_finds(&program, &["agent-silent"]);
    kill(pid, Signal::SIGCONT).unwrap();
    wait_finds(&program, &[]);
}

/// A change that the agent repairs is no finding.
#[test]
fn a_change_that_is_repaired_is_no_finding() {
    let Some(cluster) = cluster("a_change_that_is_repaired_is_no_finding") else {
        return;
    };
    let agent = &cluster.agents[0];
    let program = program(agent);
    for command in ["link del vtep1024", "rule del table 42"] {
        host(agent)
            .run("ip", &command.split(' ').collect::<Vec<_>>())
            .unwrap();
        assert_finds(&program, &[]);
    }
}

/// Looking changes nothing in the kernel, and no file.
#[test]
fn a_look_changes_nothing() {
    let Some(cluster) = cluster("a_look_changes_nothing") else {
        return;
    };
    let agent = &cluster.agents[0];
    let files = || {
        let entries = fs::read_dir(agent.dir().join("cni")).unwrap();
        let times = entries.map(|entry| {
            let entry = entry.unwrap();
            (entry.path(), entry.metadata().unwrap().modified().unwrap())
        });
        times.collect::<BTreeMap<_, _>>()
    };
    let before = files();
    let monitor = Monitor::new(host(agent)).unwrap();
    // In the first second the kernel still checks addresses for duplicates.
    wait::until("a look without changes", LIMIT, || {
        monitor.changes()?;
        assert_finds(&program(agent), &[]);
        let changes = monitor.changes()?;
        ensure!(changes.is_empty(), "{changes:?}");
        Ok(Some(()))
    })
    .unwrap();
    assert_eq!(files(), before);
    assert!(
        !agent.log().contains("somebody changed this host"),
        "{}",
        agent.log()
    );
}
