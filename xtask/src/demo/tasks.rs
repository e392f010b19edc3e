//! The demo's tasks, whoever started them.

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

/// One of them.
pub struct Task {
    /// Its id.
    pub name: String,
    /// Its agent's name.
    pub agent: String,
    /// Its address.
    pub address: SocketAddr,
    /// To speak to it.
    pub client: TaskClient,
}

/// All of them; dropping it ends them.
pub struct Tasks {
    list: Vec<Task>,
    framework: Option<Framework>,
    containers: Vec<Container>,
}

impl Tasks {
    /// One task per agent, a second one on the first agent, and one of the container engine
    /// on the last, if there is an engine.
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
            tasks.add(&name, &format!("{} (Docker)", agent.name()), client);
        }
        Ok(tasks)
    }

    fn launch_with_mesos(part: Part, cluster: &Cluster, limit: Duration) -> Result<Tasks> {
        let agents = cluster.agents.iter().chain(cluster.agents.first());
        let places: Vec<_> = agents
            .enumerate()
            .map(|(n, agent)| (format!("task{}", n + 1), agent))
            .collect();
        let mut tasks = Tasks {
            list: Vec::new(),
            framework: None,
            containers: Vec::new(),
        };
        if part == Part::Attached {
            for (name, agent) in &places {
                let host = agent.host().context("an agent without a host")?;
                let config = cni_config(&agent.dir().join("cni"))?;
                let container = Container::attach(cluster.run(), host, name, &config)?;
                tasks.add(name, agent.name(), container.client());
                tasks.containers.push(container);
            }
            return Ok(tasks);
        }
        let framework = Framework::subscribe(cluster.master.client())?;
        let network = (part == Part::Whole).then_some("dcos");
        for (name, agent) in &places {
            framework.launch(&TaskSpec::new(name, &agent.ip(), network), limit)?;
        }
        for (name, agent) in &places {
            let address = framework.wait_running(name, limit)?.address()?;
            let netns = agent.host().map(|host| host.netns().clone());
            tasks.add(name, agent.name(), TaskClient::new(address, netns));
        }
        tasks.framework = Some(framework);
        Ok(tasks)
    }

    fn add(&mut self, name: &str, agent: &str, client: TaskClient) {
        let (name, agent) = (name.to_owned(), agent.to_owned());
        self.list.push(Task {
            name,
            agent,
            address: client.address(),
            client,
        });
    }

    /// In the order of their numbers.
    pub fn list(&self) -> &[Task] {
        &self.list
    }

    /// One on the first agent and one on another, if there are such.
    pub fn on_two_hosts(&self) -> Option<[&Task; 2]> {
        let (first, others) = self.list.split_first()?;
        Some([first, others.iter().find(|task| task.agent != first.agent)?])
    }

    /// Lets each of them watch the next one.
    pub fn watch(&self) -> Result<()> {
        let next = self.list.iter().cycle().skip(1);
        self.list
            .iter()
            .zip(next)
            .try_for_each(|(task, next)| task.client.watch(next.address))
    }

    /// What they have seen.
    pub fn report(&self) -> Result<Vec<WatchReport>> {
        let reports = self
            .list
            .iter()
            .map(|task| task.client.report())
            .collect::<Result<Vec<_>>>()?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// Leaves them running.
    pub fn leave(self) {
        if let Some(framework) = self.framework {
            framework.leave();
        }
        self.containers.into_iter().for_each(Container::leave);
    }
}
