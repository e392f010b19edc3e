//! Traffic between containers across hosts, also during failures.

use std::time::Duration;

use testbed::cluster::{Cluster, Launcher};
use testbed::container::Container;
use testbed::framework::{Framework, TaskSpec};
use testbed::skip;
use testbed::task::TaskClient;

use crate::common::{
    LIMIT, all_ok, assert_nothing_found, assert_reach, hosts, start, wait_reach, wait_state,
};

/// Limit of a gap in uninterrupted traffic; TCP repeats a lost packet within that time.
const PAUSE: Duration = Duration::from_millis(1000);

/// Starts a task with Mesos on each of the first two agents.
fn launch(cluster: &Cluster, framework: &Framework) -> [TaskClient; 2] {
    [("a", 0), ("b", 1)].map(|(id, agent)| {
        let agent = &cluster.agents[agent];
        framework
            .launch(&TaskSpec::new(id, &agent.ip(), Some("dcos")), LIMIT)
            .unwrap();
        let address = framework
            .wait_running(id, LIMIT)
            .unwrap()
            .address()
            .unwrap();
        TaskClient::new(address, agent.host().map(|host| host.netns().clone()))
    })
}

#[test]
fn tasks_reach_each_other_while_master_and_agents_die() {
    let name = "tasks_reach_each_other_while_master_and_agents_die";
    let Some(setup) = hosts(name, 2) else { return };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let mut cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let tasks = launch(&cluster, &framework);
    wait_reach(&tasks);
    tasks[0].watch(tasks[1].address()).unwrap();

    cluster.master.kill().unwrap();
    assert_reach(&tasks);
    cluster.agents[0].restart().unwrap();
    assert_reach(&tasks);
    cluster.master.start().unwrap();
    wait_state(&mut cluster, "both agents to be back", |state| {
        all_ok(state, 2)
    });
    cluster.agents[1].restart().unwrap();
    wait_state(&mut cluster, "both agents to be back", |state| {
        all_ok(state, 2)
    });
    assert_reach(&tasks);

    let seen = tasks[0].report().unwrap().remove(0);
    assert_eq!(seen.failures, 0, "{seen:?}");
    assert!(
        seen.round_trips > 10 && seen.longest_gap < PAUSE,
        "{seen:?}"
    );
    assert_nothing_found(&cluster);
}

#[test]
fn containers_attached_from_the_cni_file_reach_each_other() {
    let Some(mut setup) = hosts("containers_attached_from_the_cni_file_reach_each_other", 2) else {
        return;
    };
    setup.launcher = Launcher::Posix;
    let cluster = start(&setup);
    let containers = [("a", 0), ("b", 1)].map(|(name, agent)| {
        let agent = &cluster.agents[agent];
        let config = agent.dir().join("cni/dcos.conf");
        Container::attach(cluster.run(), agent.host().unwrap(), name, &config).unwrap()
    });
    wait_reach(&[containers[0].client(), containers[1].client()]);
    assert_nothing_found(&cluster);
    // A container reaches the address of the other host too.
    let [a, _b] = containers;
    a.detach().unwrap();
}
