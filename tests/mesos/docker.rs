//! Agents with Docker networks, each with an engine on its host: containers of Mesos and Docker
//! reach each other, and lose no packet while agents and masters are killed and upgraded.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Launcher};
use testbed::container::Container;
use testbed::docker::Engine;
use testbed::framework::{Framework, TaskSpec};
use testbed::netns::Netns;
use testbed::task::TaskClient;
use testbed::{skip, wait};

use crate::common::{LIMIT, assert_nothing_found, hosts};
use crate::lossless::restart_and_upgrade;

/// A cluster of two agents, with an engine on each host.
pub struct DockerCluster {
    // Dropped before their hosts.
    pub engines: [Engine; 2],
    pub mesos: Cluster,
}

/// Returns the configuration of a cluster with Docker; `None`: the test is skipped.
pub fn docker(test: &str) -> Option<ClusterConfig> {
    if !skip::require_docker(test) {
        return None;
    }
    let mut setup = hosts(test, 2)?;
    setup.agent_config["network_config"] = json!({
        "allocate_subnet": true, "mesos_bridge": true, "docker_bridge": true, "overlay_mtu": 1420,
        "enable_ipv6": true,
    });
    Some(setup)
}

/// Returns the configuration of a cluster with Docker and one dual-stack overlay.
fn dual_stack(test: &str) -> Option<ClusterConfig> {
    let mut setup = docker(test)?;
    setup.network = json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80 },
        ],
    });
    Some(setup)
}

impl DockerCluster {
    /// Starts engines, masters and agents, and waits until every agent has its overlays.
    pub fn start(setup: &ClusterConfig) -> DockerCluster {
        let mut cluster = Cluster::prepare(setup).unwrap();
        let engines = [0, 1].map(|index| {
            let agent = &cluster.agents[index];
            let part = format!("engine{}", index + 1);
            let mut engine =
                Engine::new(cluster.run(), &part, agent.host().unwrap().netns()).unwrap();
            // Containers survive a restart of their engine.
            engine.keep_containers().unwrap();
            engine.start().unwrap();
            let socket = engine.socket();
            agent
                .configure(|config: &mut Value| config["docker_socket"] = json!(socket))
                .unwrap();
            engine
        });
        cluster.start_all().unwrap();
        cluster.wait_overlays(LIMIT).unwrap();
        DockerCluster {
            engines,
            mesos: cluster,
        }
    }

    /// Returns the network namespace of an agent's host.
    pub fn netns(&self, agent: usize) -> Netns {
        self.mesos.agents[agent].host().unwrap().netns().clone()
    }

    /// Starts a task in a Docker container.
    pub fn docker_task(&self, agent: usize, name: &str, network: &str) -> ContainerTask {
        let addresses = self.engines[agent].task_addresses(name, network).unwrap();
        let task = ContainerTask {
            name: name.to_owned(),
            host: self.netns(agent),
            addresses,
        };
        wait::until("the task to listen", LIMIT, || {
            task.client().report().map(|_| Some(()))
        })
        .unwrap();
        task
    }

    /// Returns the engine's id of network `dcos`.
    pub fn network_id(&self, agent: usize) -> String {
        self.engines[agent]
            .docker(&["network", "inspect", "--format", "{{.Id}}", "dcos"])
            .unwrap()
    }

    /// Starts a container on network `dcos` of each host, without Mesos.
    pub fn attach(&self) -> [Container; 2] {
        [("mesos0", 0), ("mesos1", 1)].map(|(name, agent)| {
            let agent = &self.mesos.agents[agent];
            let config = agent.dir().join("cni/dcos.conf");
            Container::attach(self.mesos.run(), agent.host().unwrap(), name, &config).unwrap()
        })
    }
}

/// A task in a container, with its addresses, IPv4 first.
pub struct ContainerTask {
    name: String,
    host: Netns,
    addresses: Vec<SocketAddr>,
}

impl ContainerTask {
    /// Returns a client of the task at its first address, which connects from its host.
    pub fn client(&self) -> TaskClient {
        TaskClient::new(self.addresses[0], Some(self.host.clone()))
    }

    fn of_container(container: &Container, name: &str, host: Netns) -> ContainerTask {
        let addresses = container
            .ips()
            .iter()
            .map(|ip| container.client_at(*ip).address())
            .collect();
        ContainerTask {
            name: name.to_owned(),
            host,
            addresses,
        }
    }
}

/// Asserts that all tasks reach each other in both families, under their own addresses. Retries,
/// since IPv6 addresses and ports of bridges are not usable at once.
#[track_caller]
fn assert_all_reach(tasks: &[ContainerTask]) {
    for from in tasks {
        assert_eq!(
            from.addresses.len(),
            2,
            "{} has {:?}",
            from.name,
            from.addresses
        );
        for to in tasks.iter().filter(|to| to.name != from.name) {
            for (own, other) in from.addresses.iter().zip(&to.addresses) {
                let task = TaskClient::new(*own, Some(from.host.clone()));
                let what = format!("{} to reach {} at {other}", from.name, to.name);
                let ping = wait::until(&what, LIMIT, || task.ping(*other, 5).map(Some)).unwrap();
                assert_eq!(
                    ping.seen_as,
                    own.ip().to_string(),
                    "no NAT between containers"
                );
            }
        }
    }
}

fn docker_tasks(cluster: &DockerCluster) -> Vec<ContainerTask> {
    (0..2)
        .map(|agent| cluster.docker_task(agent, &format!("docker{agent}"), "dcos"))
        .collect()
}

#[test]
fn tasks_of_mesos_and_containers_of_docker_reach_each_other() {
    let name = "tasks_of_mesos_and_containers_of_docker_reach_each_other";
    let Some(setup) = dual_stack(name) else {
        return;
    };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let cluster = DockerCluster::start(&setup);
    let framework = Framework::subscribe(cluster.mesos.master.client()).unwrap();
    let mut tasks = docker_tasks(&cluster);
    for (index, agent) in cluster.mesos.agents.iter().enumerate() {
        let name = format!("mesos{index}");
        framework
            .launch(&TaskSpec::new(&name, &agent.ip(), Some("dcos")), LIMIT)
            .unwrap();
        let mut addresses: Vec<_> = framework
            .wait_running(&name, LIMIT)
            .unwrap()
            .addresses()
            .collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        tasks.push(ContainerTask {
            name,
            host: cluster.netns(index),
            addresses,
        });
    }
    assert_all_reach(&tasks);
    assert_nothing_found(&cluster.mesos);
}

#[test]
fn containers_of_cni_and_of_docker_reach_each_other() {
    let Some(mut setup) = dual_stack("containers_of_cni_and_of_docker_reach_each_other") else {
        return;
    };
    setup.launcher = Launcher::Posix;
    let cluster = DockerCluster::start(&setup);
    let containers = cluster.attach();
    let mut tasks = docker_tasks(&cluster);
    for (index, container) in containers.iter().enumerate() {
        tasks.push(ContainerTask::of_container(
            container,
            &format!("mesos{index}"),
            cluster.netns(index),
        ));
    }
    assert_all_reach(&tasks);
    assert_nothing_found(&cluster.mesos);
}

/// Returns tasks in a circle: from Docker to Mesos on the other host, to Docker there, to Mesos on
/// the first host.
#[test]
fn containers_of_docker_lose_no_packet_while_agents_and_master_are_upgraded() {
    let name = "containers_of_docker_lose_no_packet_while_agents_and_master_are_upgraded";
    let Some(mut setup) = docker(name) else {
        return;
    };
    setup.launcher = Launcher::Posix;
    let mut cluster = DockerCluster::start(&setup);
    let [mesos0, mesos1] = cluster.attach();
    let docker = docker_tasks(&cluster);
    let tasks = [
        docker[0].client(),
        mesos1.client(),
        docker[1].client(),
        mesos0.client(),
    ];
    let ids = [cluster.network_id(0), cluster.network_id(1)];
    restart_and_upgrade(&mut cluster.mesos, setup.module.as_deref().unwrap(), &tasks);
    assert_eq!(
        [cluster.network_id(0), cluster.network_id(1)],
        ids,
        "a network was made anew"
    );
}
