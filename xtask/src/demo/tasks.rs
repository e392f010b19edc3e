//! Tasks of the demo, which Mesos, Docker or the demo itself started.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::cluster::Cluster;
use testbed::container::Container;
use testbed::docker::Engine;
use testbed::framework::{Framework, TaskSpec};
use testbed::task::{TaskClient, WatchReport};
use testbed::wait;

use super::cni_config;
use super::part::Part;

/// A task of the demo.
pub struct Task {
    /// Id of the task.
    pub name: String,
    /// Name of the agent.
    pub agent: String,
    /// Address of the task.
    pub address: SocketAddr,
    /// Client of the task.
    pub client: TaskClient,
    /// Mesos launched it, so the name server knows it.
    pub has_name: bool,
}

/// All tasks of the demo; dropping them ends the tasks.
pub struct Tasks {
    list: Vec<Task>,
    framework: Option<Framework>,
    containers: Vec<Container>,
}

impl Tasks {
    /// Launches a task per agent, a second one on the first agent, and one with the Docker engine
    /// if there is one.
    pub fn launch(
        part: Part,
        cluster: &Cluster,
        engine: Option<&Engine>,
        limit: Duration,
    ) -> Result<Tasks> {
        let mut tasks = Tasks::launch_with_mesos(part, cluster, limit)?;
        if let (Some(engine), Some(agent)) = (engine, cluster.agents.last()) {
            let name = format!("task{}", tasks.list.len() + 1);
            let address = engine.task(&name, "dcos")?;
            let client = TaskClient::new(address, agent.host().map(|host| host.netns().clone()));
            wait::until(&format!("{name} to listen"), limit, || {
                client.report().map(Some)
            })?;
            tasks.add(&name, &format!("{} (Docker)", agent.name()), client, false);
        }
        Ok(tasks)
    }

    fn launch_with_mesos(part: Part, cluster: &Cluster, limit: Duration) -> Result<Tasks> {
        let agents = cluster.agents.iter().chain(cluster.agents.first());
        let names: Vec<_> = agents
            .enumerate()
            .map(|(n, agent)| (format!("task{}", n + 1), agent))
            .collect();
        let mut tasks = Tasks {
            list: Vec::new(),
            framework: None,
            containers: Vec::new(),
        };
        if part == Part::Attached {
            for (name, agent) in &names {
                let host = agent.host().context("an agent without a host")?;
                let config = cni_config(&agent.dir().join("cni"))?;
                let container = Container::attach(cluster.run(), host, name, &config)?;
                tasks.add(name, agent.name(), container.client(), false);
                tasks.containers.push(container);
            }
            return Ok(tasks);
        }
        let framework = Framework::subscribe(cluster.master.client())?;
        let network = (part == Part::Whole).then_some("dcos");
        for (name, agent) in &names {
            framework.launch(&TaskSpec::new(name, &agent.ip(), network), limit)?;
        }
        for (name, agent) in &names {
            let address = framework.wait_running(name, limit)?.address()?;
            let netns = agent.host().map(|host| host.netns().clone());
            tasks.add(name, agent.name(), TaskClient::new(address, netns), true);
        }
        tasks.framework = Some(framework);
        Ok(tasks)
    }

    fn add(&mut self, name: &str, agent: &str, client: TaskClient, has_name: bool) {
        let (name, agent) = (name.to_owned(), agent.to_owned());
        self.list.push(Task {
            name,
            agent,
            address: client.address(),
            client,
            has_name,
        });
    }

    /// Returns the tasks that have names.
    pub fn with_names(&self) -> Vec<&Task> {
        self.list.iter().filter(|task| task.has_name).collect()
    }

    /// Returns all tasks, in the order of their numbers.
    pub fn list(&self) -> &[Task] {
        &self.list
    }

    /// Returns a task on the first agent and one on another; `None`: there is only one agent.
    pub fn on_two_hosts(&self) -> Option<[&Task; 2]> {
        let (first, others) = self.list.split_first()?;
        Some([first, others.iter().find(|task| task.agent != first.agent)?])
    }

    /// Makes each task watch the next one.
    pub fn watch(&self) -> Result<()> {
        let next = self.list.iter().cycle().skip(1);
        self.list
            .iter()
            .zip(next)
            .try_for_each(|(task, next)| task.client.watch(next.address))
    }

    /// Returns the results of all watches.
    pub fn report(&self) -> Result<Vec<WatchReport>> {
        let reports = self
            .list
            .iter()
            .map(|task| task.client.report())
            .collect::<Result<Vec<_>>>()?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// Leaves the tasks running.
    pub fn leave(self) {
        if let Some(framework) = self.framework {
            framework.leave();
        }
        self.containers.into_iter().for_each(Container::leave);
    }
}
