//! Faults of an agent's host. The agent repairs within two seconds what somebody changed, so the
//! tests keep changing it, or stop the agent.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::cluster::Cluster;
use testbed::net::Host;
use testbed::node::Node;

use crate::common::{assert_finds, hosts, program, start, wait_finds};

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
    for (command, codes) in [
        ("ip rule del table 42", &["rule-differs"]),
        ("ip route del 9.0.1.0/24", &["route-differs"]),
        ("ip route del 10.77.1.2 table 42", &["route-differs"]),
        (
            "bridge fdb replace 70:b3:d5:80:00:02 dev vtep1024 dst 10.77.9.9 self permanent",
            &["fdb-entry-differs"],
        ),
        (
            "ip neighbour del 44.128.0.2 dev vtep1024",
            &["neighbour-differs"],
        ),
        ("ip link set m-dcos down", &["bridge-differs"]),
    ] {
        assert_found_while(&cluster, command, codes);
    }
}

/// What is on a missing device needs no further findings.
#[test]
fn a_device_that_is_missing_is_one_finding() {
    let Some(cluster) = cluster("a_device_that_is_missing_is_one_finding") else {
        return;
    };
    assert_found_while(&cluster, "ip link del vtep1024", &["device-differs"]);
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

/// Looking changes nothing: neither the host, nor what the agent thinks of it.
#[test]
fn a_look_changes_nothing() {
    let Some(cluster) = cluster("a_look_changes_nothing") else {
        return;
    };
    let agent = &cluster.agents[0];
    let files = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let commands: [(&str, &[&str]); 6] = [
        ("ip", &["-d", "address"]),
        ("ip", &["route", "show", "table", "all"]),
        ("ip", &["rule"]),
        ("ip", &["neighbour", "show", "dev", "vtep1024"]),
        ("bridge", &["fdb", "show", "dev", "vtep1024"]),
        ("iptables-save", &[]),
    ];
    let look = || {
        let outputs = commands.map(|(tool, args)| {
            let output = host(agent).run(tool, args).unwrap();
            // Times, and numbers of packets.
            let lines = output.lines().filter(|line| !line.starts_with(['#', ':']));
            lines.map(str::to_owned).collect::<Vec<_>>()
        });
        (outputs, files(&agent.dir().join("cni")))
    };
    let before = look();
    assert_finds(&program(agent), &[]);
    assert_eq!(look(), before);
    assert!(
        !agent.log().contains("somebody changed this host"),
        "{}",
        agent.log()
    );
}
