//! Answers of Mesos's own endpoints, as far as the program uses them.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// Answer of the master's `/slaves`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Slaves {
    /// Registered agents.
    #[serde(default)]
    pub slaves: Vec<Slave>,
}

/// Agent in the master's `/slaves`.
#[derive(Clone, Debug, Deserialize)]
pub struct Slave {
    /// Id.
    pub id: String,
    /// Hostname.
    pub hostname: String,
    /// Libprocess id, `slave(1)@ip:port`.
    pub pid: String,
    /// True if the agent is connected.
    #[serde(default)]
    pub active: bool,
}

impl Slave {
    /// Returns the address of the agent, `ip:port`.
    pub fn address(&self) -> Option<&str> {
        let address = self.pid.rsplit_once('@')?.1;
        // It becomes a part of a URL.
        address.parse::<SocketAddr>().is_ok().then_some(address)
    }

    /// Returns the IP address of the agent.
    pub fn ip(&self) -> Option<IpAddr> {
        let (ip, _) = self.address()?.rsplit_once(':')?;
        ip.trim_matches(['[', ']']).parse().ok()
    }
}

/// Answer of the master's `/tasks`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Tasks {
    /// Tasks.
    #[serde(default)]
    pub tasks: Vec<Task>,
}

/// Task.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Task {
    /// Id.
    #[serde(default)]
    pub id: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Framework's id.
    #[serde(default)]
    pub framework_id: String,
    /// Id of the agent that runs it.
    #[serde(default)]
    pub slave_id: String,
    /// State, such as `TASK_RUNNING`.
    #[serde(default)]
    pub state: String,
    /// Updates of its state, the latest last.
    #[serde(default)]
    pub statuses: Vec<TaskStatus>,
}

impl Task {
    /// Returns the container by the latest update that has one.
    pub fn container(&self) -> Option<&ContainerStatus> {
        let mut latest = self.statuses.iter().rev();
        latest.find_map(|status| status.container_status.as_ref())
    }

    /// Returns true if the task has not ended.
    pub fn is_running(&self) -> bool {
        matches!(
            self.state.as_str(),
            "TASK_RUNNING" | "TASK_STARTING" | "TASK_STAGING" | "TASK_UNREACHABLE" | "TASK_KILLING"
        )
    }
}

/// Update of a task's state.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TaskStatus {
    /// Container of the task.
    pub container_status: Option<ContainerStatus>,
}

/// State of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerStatus {
    /// Id.
    pub container_id: Option<ContainerId>,
    /// Networks that it is attached to.
    #[serde(default)]
    pub network_infos: Vec<NetworkInfo>,
}

/// Parses the address of a container. Mesos shows IPv6 addresses of its containers with their prefix
/// length.
fn parse_ip(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

impl ContainerStatus {
    /// Returns the addresses of the container with the names of their networks.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Option<&str>)> {
        self.network_infos.iter().flat_map(|network| {
            let addresses = network.ip_addresses.iter();
            let ips = addresses.filter_map(|address| parse_ip(address.ip_address.as_ref()?));
            ips.map(|ip| (ip, network.name.as_deref()))
        })
    }

    /// Returns the id, with those of the containers around it: `parent.child`.
    pub fn id(&self) -> Option<String> {
        self.container_id.as_ref().map(ContainerId::path)
    }
}

/// Id of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerId {
    /// The id itself.
    #[serde(default)]
    pub value: String,
    /// Container around it.
    pub parent: Option<Box<ContainerId>>,
}

impl ContainerId {
    /// Returns the ids from the outermost container inwards, separated by dots.
    fn path(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{}.{}", parent.path(), self.value),
            None => self.value.clone(),
        }
    }
}

/// Network that a container is attached to.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NetworkInfo {
    /// Name of the network.
    pub name: Option<String>,
    /// Addresses.
    #[serde(default)]
    pub ip_addresses: Vec<IpAddress>,
}

/// Address of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct IpAddress {
    /// The address.
    pub ip_address: Option<String>,
}

/// Container in an agent's `/containers`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Container {
    /// Id.
    #[serde(default)]
    pub container_id: String,
    /// Executor's id.
    #[serde(default)]
    pub executor_id: String,
    /// Framework's id.
    #[serde(default)]
    pub framework_id: String,
    /// State.
    pub status: Option<ContainerStatus>,
}

/// Answer of an agent's `/state`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentState {
    /// Id of the agent; empty until it is registered.
    #[serde(default)]
    pub id: String,
    /// Frameworks with tasks on the agent.
    #[serde(default)]
    pub frameworks: Vec<Framework>,
}

/// Framework on an agent.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Framework {
    /// Id.
    #[serde(default)]
    pub id: String,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Executors.
    #[serde(default)]
    pub executors: Vec<Executor>,
}

/// Executor on an agent.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Executor {
    /// Id.
    #[serde(default)]
    pub id: String,
    /// Tasks that have not ended.
    #[serde(default)]
    pub tasks: Vec<Task>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_read() {
        assert_eq!(parse_ip("fd01:b::5/80"), "fd01:b::5".parse().ok());
        assert_eq!(parse_ip("9.0.0.5"), "9.0.0.5".parse().ok());
        assert_eq!(parse_ip("no address"), None);
    }
}
