//! Answers of Mesos's own endpoints, as far as the program uses them.

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
        Some(self.pid.rsplit_once('@')?.1)
    }
}

/// Container in the agent's `/containers`.
#[derive(Clone, Debug, Deserialize)]
pub struct Container {
    /// Id.
    pub container_id: String,
    /// Status; absent while the container starts.
    pub status: Option<ContainerStatus>,
}

/// Status of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerStatus {
    /// Its networks.
    #[serde(default)]
    pub network_infos: Vec<NetworkInfo>,
}

/// Network of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NetworkInfo {
    /// Name of the CNI network; absent on the host's own network.
    pub name: Option<String>,
    /// Addresses.
    #[serde(default)]
    pub ip_addresses: Vec<ContainerAddress>,
}

/// Address of a container.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContainerAddress {
    /// The address.
    pub ip_address: Option<String>,
}

/// Part of the agent's `/state`.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentState {
    /// Id of the agent; empty until it is registered.
    #[serde(default)]
    pub id: String,
}
