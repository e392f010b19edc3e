//! Faults of masters, their log and their configuration.

use std::fs;

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::json;
use testbed::cluster::Cluster;

use crate::common::{LIMIT, assert_finds, elected, hosts, program, start, wait_finds};

#[test]
fn a_master_that_is_down_is_unreachable() {
    let Some(setup) = hosts("a_master_that_is_down_is_unreachable", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.master.kill().unwrap();
    wait_finds(&program(&cluster.agents[0]), &["master-unreachable"]);
    let at_master = program(&cluster.master).with(&["--master", "10.77.0.1:5050"]);
    assert_finds(&at_master, &["master-unreachable"]);
    // --wait gives up after its limit, with what is still wrong.
    let waiting = at_master
        .run(&["status", "--wait", "--wait-limit", "3"])
        .unwrap();
    assert_eq!(waiting.code(), Some(1), "{waiting}");
    assert!(waiting.stdout.contains("[master-unreachable]"), "{waiting}");
    cluster.master.start().unwrap();
    let waiting = program(&cluster.agents[0])
        .run(&["status", "--wait"])
        .unwrap();
    assert!(waiting.status.success(), "{waiting}");
}

/// With a quorum that is larger than the number of masters, the log cannot be read.
#[test]
fn a_quorum_that_is_too_high_is_found() {
    let Some(mut setup) = elected("a_quorum_that_is_too_high_is_found", 0) else {
        return;
    };
    setup.masters = 1;
    setup.zookeeper = true;
    let mut cluster = Cluster::prepare(&setup).unwrap();
    // Mesos has its own log, whose quorum is a flag.
    cluster
        .master
        .configure(|config| {
            config["zk"] = json!({"url": "ZK", "quorum": 2});
        })
        .unwrap();
    let zk = cluster.zookeeper().unwrap().url(None);
    cluster
        .master
        .configure(|config| config["zk"]["url"] = zk.clone().into())
        .unwrap();
    cluster.master.start().unwrap();
    wait_finds(&program(&cluster.master), &["no-quorum"]);
}

#[test]
fn a_log_that_cannot_be_opened_is_found() {
    let Some(setup) = hosts("a_log_that_cannot_be_opened_is_found", 0) else {
        return;
    };
    let mut cluster = Cluster::start(&setup).unwrap();
    wait_finds(&program(&cluster.master), &[]);
    cluster.master.kill().unwrap();
    let replica = cluster.master.dir().join("log/overlay_replicated_log");
    let lock = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(replica.join("LOCK"))
        .unwrap();
    let whole = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
    cluster.master.start().unwrap();
    wait_finds(&program(&cluster.master), &["log-unreadable"]);
}

#[test]
fn a_file_that_contradicts_the_log_is_found() {
    let Some(setup) = hosts("a_file_that_contradicts_the_log_is_found", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.master.kill().unwrap();
    cluster
        .master
        .configure(|config| config["network"]["overlays"][0]["prefix"] = 26.into())
        .unwrap();
    cluster.master.start().unwrap();
    wait_finds(&program(&cluster.master), &["config-contradicts-log"]);
    // The same from an agent's host, which is as it should be.
    wait_finds(&program(&cluster.agents[0]), &["config-contradicts-log"]);
}

#[test]
fn a_mesos_without_the_module_is_found() {
    let Some(mut setup) = hosts("a_mesos_without_the_module_is_found", 0) else {
        return;
    };
    setup.module = None;
    let mut cluster = Cluster::start(&setup).unwrap();
    cluster.wait_mesos(LIMIT).unwrap();
    assert_finds(&program(&cluster.master), &["master-without-module"]);
}

#[test]
fn no_master_leads_without_zookeeper() {
    let Some(setup) = elected("no_master_leads_without_zookeeper", 0) else {
        return;
    };
    let mut cluster = Cluster::start(&setup).unwrap();
    cluster.wait_leader(LIMIT).unwrap();
    let zk = cluster.zookeeper().unwrap().url(None);
    cluster.masters().for_each(|master| master.kill().unwrap());
    let program = program(&cluster.master).with(&["--master", &zk, "--timeout", "2"]);
    wait_finds(&program, &["no-leader"]);
    let nobody = program
        .clone()
        .run(&["status", "--wait", "--wait-limit", "2"])
        .unwrap();
    assert_eq!(nobody.code(), Some(1), "{nobody}");
}
