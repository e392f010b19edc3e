//! Stops, upgrades and starts of agents and masters lose no packets of containers: numbered
//! datagrams flow all the time, all arrive, and the kernel's configuration does not change.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testbed::cluster::{Cluster, Launcher};
use testbed::container::Container;
use testbed::framework::{Framework, TaskSpec};
use testbed::monitor::Monitor;
use testbed::node::Node;
use testbed::packet_loss::Traffic;
use testbed::task::TaskClient;
use testbed::{skip, wait};

use crate::common::{
    LIMIT, all_ok, assert_nothing_found, hosts, start, wait_reach, wait_settled, wait_state,
};

/// Datagrams (at most 1,000 per second) that must arrive after each step. This gives the modules
/// time to register again, and to make mistakes.
const MORE: u64 = 500;

/// Traffic between containers on two hosts, and monitors of the hosts.
struct MonitoredTraffic {
    tasks: usize,
    traffic: Traffic,
    monitors: Vec<(String, Monitor)>,
}

impl MonitoredTraffic {
    fn start(cluster: &Cluster, tasks: &[TaskClient]) -> MonitoredTraffic {
        wait_reach(tasks);
        let traffic = Traffic::start(tasks, LIMIT).unwrap();
        let monitors = cluster.agents.iter().map(|agent| {
            let host = agent.host().unwrap();
            wait_settled(host);
            (agent.name().to_owned(), Monitor::new(host).unwrap())
        });
        MonitoredTraffic {
            tasks: tasks.len(),
            traffic,
            monitors: monitors.collect(),
        }
    }

    /// Waits for more traffic, and asserts that the configuration of the hosts did not change.
    #[track_caller]
    fn go_on(&self, what: &str) {
        self.traffic.flow(MORE, LIMIT).unwrap();
        for (name, monitor) in &self.monitors {
            let changes = monitor.changes().unwrap();
            assert!(
                changes.is_empty(),
                "{what}: on the host of {name} {changes:#?}"
            );
        }
    }

    #[track_caller]
    fn finish(self) {
        let outcomes = self.traffic.finish().unwrap();
        assert!(outcomes.len() == self.tasks, "{outcomes:?}");
        for outcome in outcomes {
            assert!(outcome.sent > MORE && outcome.lost == 0, "{outcome:?}");
        }
    }
}

/// Copies the library to another file, as an upgrade does.
fn another(library: &Path, cluster: &Cluster, name: &str) -> PathBuf {
    let file = cluster.run().dir().join(name);
    fs::copy(library, &file).unwrap();
    file
}

/// Asserts that a node has loaded this library and no other version.
#[track_caller]
fn assert_loaded(node: &Node, library: &Path) {
    let maps = fs::read_to_string(format!("/proc/{}/maps", node.pid().unwrap())).unwrap();
    assert!(
        maps.contains(library.to_str().unwrap()),
        "{} is not loaded:\n{maps}",
        library.display()
    );
}

/// Waits until the module of an agent is registered and has its overlays.
fn wait_back(cluster: &mut Cluster, index: usize) {
    let client = cluster.agents[index].client();
    wait::until("the agent to be registered again", LIMIT, || {
        cluster.check()?;
        let state: Value = client.get("/overlay-agent/overlay")?.json()?;
        let overlays = state["overlays"].as_array().map_or(0, Vec::len);
        Ok((state["registered"] == true && overlays > 0).then_some(()))
    })
    .unwrap();
    wait_state(cluster, "all agents to be in order", |state| {
        all_ok(state, 2)
    });
}

/// Way to end a process.
#[derive(Clone, Copy, Debug)]
enum End {
    Term,
    Kill,
}

impl End {
    fn of(self, node: &mut Node) {
        match self {
            End::Term => drop(node.stop().unwrap()),
            End::Kill => node.kill().unwrap(),
        }
    }
}

/// Stops, kills and upgrades agents and master, one by one and together.
pub fn restart_and_upgrade(cluster: &mut Cluster, library: &Path, tasks: &[TaskClient]) {
    let traffic = MonitoredTraffic::start(cluster, tasks);
    traffic.go_on("nothing was done");
    for (index, end) in [(0, End::Term), (1, End::Kill)] {
        let new = another(library, cluster, &format!("new-{index}.so"));
        let what = |what: &str| format!("agent{} ({end:?}) {what}", index + 1);
        end.of(&mut cluster.agents[index]);
        traffic.go_on(&what("is down"));
        cluster.agents[index].set_module(&new).unwrap();
        cluster.agents[index].start().unwrap();
        wait_back(cluster, index);
        assert_loaded(&cluster.agents[index], &new);
        traffic.go_on(&what("was upgraded"));
    }
    for end in [End::Term, End::Kill] {
        let new = another(library, cluster, &format!("new-master-{end:?}.so"));
        end.of(&mut cluster.master);
        traffic.go_on(&format!("the master ({end:?}) is down"));
        cluster.master.set_module(&new).unwrap();
        cluster.master.start().unwrap();
        wait_state(cluster, "both agents to be back", |state| all_ok(state, 2));
        assert_loaded(&cluster.master, &new);
        traffic.go_on(&format!("the master ({end:?}) was upgraded"));
    }
    cluster.master.kill().unwrap();
    cluster
        .agents
        .iter_mut()
        .for_each(|agent| agent.kill().unwrap());
    traffic.go_on("everything is down");
    cluster
        .agents
        .iter_mut()
        .for_each(|agent| agent.start().unwrap());
    traffic.go_on("the agents are back, without a master");
    cluster.master.start().unwrap();
    (0..2).for_each(|index| wait_back(cluster, index));
    traffic.go_on("everything is back");
    traffic.finish();
    assert_nothing_found(cluster);
}

#[test]
fn tasks_lose_no_packet_while_agents_and_master_are_upgraded() {
    let name = "tasks_lose_no_packet_while_agents_and_master_are_upgraded";
    let Some(setup) = hosts(name, 2) else { return };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let mut cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let tasks = [("a", 0), ("b", 1)].map(|(id, agent)| {
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
    });
    restart_and_upgrade(&mut cluster, setup.module.as_deref().unwrap(), &tasks);
}

#[test]
fn containers_lose_no_packet_while_agents_and_master_are_upgraded() {
    let Some(mut setup) = hosts(
        "containers_lose_no_packet_while_agents_and_master_are_upgraded",
        2,
    ) else {
        return;
    };
    setup.launcher = Launcher::Posix;
    let mut cluster = start(&setup);
    let containers = [("a", 0), ("b", 1)].map(|(name, agent)| {
        let agent = &cluster.agents[agent];
        let config = agent.dir().join("cni/dcos.conf");
        Container::attach(cluster.run(), agent.host().unwrap(), name, &config).unwrap()
    });
    let tasks = containers.each_ref().map(Container::client);
    restart_and_upgrade(&mut cluster, setup.module.as_deref().unwrap(), &tasks);
}
