//! Clusters of the test bed with Mesos alone, without modules.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testbed::cluster::{Cluster, ClusterConfig, Launcher, Placement, default_network};
use testbed::framework::{Framework, TaskSpec};
use testbed::run::{PREFIX, Run};
use testbed::{cleanup, skip, wait};

const LIMIT: Duration = Duration::from_secs(30);

fn plain(agents: usize, place: Placement) -> ClusterConfig {
    ClusterConfig {
        agents,
        masters: 1,
        zookeeper: false,
        place,
        launcher: Launcher::Posix,
        module: None,
        network: default_network(),
        agent_config: serde_json::json!({}),
        zookeeper_login: None,
        environment: Vec::new(),
    }
}

#[test]
fn tasks_survive_the_deaths_of_master_and_agent() {
    if skip::require_mesos("tasks_survive_the_deaths_of_master_and_agent").is_none() {
        return;
    }
    let mut cluster = Cluster::start(&plain(2, Placement::Loopback)).unwrap();
    cluster.wait_mesos(LIMIT).unwrap();
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    for (id, agent) in [("a", 0), ("b", 1)] {
        framework
            .launch(&TaskSpec::new(id, &cluster.agents[agent].ip(), None), LIMIT)
            .unwrap();
    }
    let [a, b] = ["a", "b"].map(|id| {
        framework
            .wait_running(id, LIMIT)
            .unwrap()
            .address()
            .unwrap()
    });
    let remote = testbed::task::TaskClient::new(a, None);
    remote.watch(b).unwrap();
    cluster.master.restart().unwrap();
    cluster.agents[1].restart().unwrap();
    framework.wait_subscribed(LIMIT).unwrap();
    cluster.wait_mesos(LIMIT).unwrap();
    assert_eq!(remote.report().unwrap()[0].failures, 0);
    assert_eq!(framework.task("b").unwrap().state, "TASK_RUNNING");
    framework.kill("b").unwrap();
    assert_eq!(
        framework.wait_ended("b", LIMIT).unwrap().state,
        "TASK_KILLED"
    );
}

/// Process that `a_killed_run_is_removed_by_the_next_one` starts and kills.
#[test]
fn runs_until_it_is_killed() {
    if std::env::var_os("RUN_UNTIL_KILLED").is_none() {
        return;
    }
    let cluster = Cluster::start(&plain(1, Placement::Hosts)).unwrap();
    println!("running {}", cluster.run().id());
    wait::until("the end", Duration::from_secs(600), || Ok(None::<()>)).unwrap();
}

/// Starts this program as `runs_until_it_is_killed`. Returns the process and the id of its run.
fn another_run() -> (Child, String) {
    let mut other = Command::new(std::env::current_exe().unwrap());
    other
        .args(["--exact", "runs_until_it_is_killed", "--nocapture"])
        .env("RUN_UNTIL_KILLED", "1");
    let mut other = other.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let id = lines.find_map(|line| {
        Some(line.split_once("running ")?.1.to_owned()).filter(|id| id.starts_with(PREFIX))
    });
    (other, id.unwrap())
}

#[test]
fn a_killed_run_is_removed_by_the_next_one() {
    let name = "a_killed_run_is_removed_by_the_next_one";
    if !skip::require_hosts(name) || skip::require_mesos(name).is_none() {
        return;
    }
    let (mut other, id) = another_run();
    other.kill().unwrap();
    other.wait().unwrap();
    let dir = std::env::temp_dir().join(&id);
    assert!(
        dir.exists(),
        "it was killed, so it cannot have removed anything"
    );
    drop(Run::new().unwrap());
    // A parallel test may be removing the run already.
    wait::until("the processes of the run to end", LIMIT, || {
        Ok((!cleanup::ids(PREFIX).contains(&id)).then_some(()))
    })
    .unwrap();
    let processes = Command::new("ps").arg("ewwax").output().unwrap();
    assert!(
        !String::from_utf8_lossy(&processes.stdout).contains(&id),
        "its processes are gone"
    );
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let name = "an_interrupted_run_leaves_nothing";
    if !skip::require_hosts(name) || skip::require_mesos(name).is_none() {
        return;
    }
    let (mut other, id) = another_run();
    let pid = nix::unistd::Pid::from_raw(other.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(other.wait().unwrap().code(), Some(130));
    assert!(!cleanup::ids(PREFIX).contains(&id));
}
