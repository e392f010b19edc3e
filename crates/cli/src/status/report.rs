//! Report of `mesos-overlay status`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::answers::{Addresses, Capacity};
use crate::finding::Finding;

/// State of the cluster and of this host.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Status {
    /// What is wrong, the worst first.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// What operators should know although it is not wrong, and what could not be seen. One
    /// sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The cluster; absent if nothing says where its masters are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// This host; absent if it has no overlay agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
}

/// State of the cluster.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Cluster {
    /// What says where the masters are, such as `--master`.
    pub named_by: String,
    /// Address of the leading master, or of the master that says why none serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// State of its overlay module: `serving`, `standby`, `recovering` or `broken`. Absent if no
    /// master answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Release of its module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Overlays, in force or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay>,
    /// VTEP addresses; absent if no master serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vteps: Option<Vteps>,
    /// Agents; absent if no master serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<Agents>,
}

/// Overlay of the cluster.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Overlay {
    /// Name.
    pub name: String,
    /// `active`, `disabled`, `draining`, `removed`, `left_out` or `orphaned`.
    pub state: String,
    /// Source of its definition: `file`, `stored` or `none`.
    pub source: String,
    /// Ranges, the IPv4 one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<String>,
    /// Number of agents that hold a subnet of it.
    pub agents: usize,
    /// Numbers of its subnets; absent if it is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnets: Option<Capacity>,
}

/// VTEP addresses of the cluster.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Vteps {
    /// Ranges, the IPv4 one first.
    pub ranges: Vec<String>,
    /// Numbers of addresses.
    pub addresses: Capacity,
}

/// Agents of the cluster.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Agents {
    /// Number of all agents.
    pub total: usize,
    /// Number of connected agents.
    pub connected: usize,
    /// Number of agents that are not connected.
    pub lost: usize,
    /// Number of agents that report errors.
    pub with_errors: usize,
    /// Numbers of agents by the releases of their modules. `unknown`: C++ agents and release 0.1.
    pub releases: BTreeMap<String, usize>,
    /// Agents, the worst first. Not all of them without `--all`.
    pub listed: Vec<Agent>,
    /// Number of agents that are not listed.
    pub unlisted: usize,
}

/// Agent of the cluster.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Agent {
    /// Address.
    pub ip: Ipv4Addr,
    /// State, the worst that holds.
    pub state: AgentState,
    /// Seconds since it connected or disconnected. Absent if it has not registered with this
    /// master process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// Release of its module. Absent for C++ agents and release 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Errors that it reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// State of an agent. Later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It is connected, and its overlays are in place.
    Ok,
    /// It configures an overlay, or has not reported yet.
    Configuring,
    /// It reports an error of its host.
    HostErrors,
    /// An overlay has failed on it.
    Failed,
    /// It is not connected.
    Lost,
}

/// State of this host.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Host {
    /// Address of its overlay agent, `ip:port`.
    pub agent: String,
    /// Configuration file of the agent module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<String>,
    /// True if the agent answers.
    pub answers: bool,
    /// True if a master has acknowledged the agent's latest report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<bool>,
    /// Address of the master that the agent uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Overlays on this host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<HostOverlay>,
    /// Objects on this host by kind, such as `routes`. A kind that could not be compared is absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<&'static str, ObjectCount>,
    /// Operations that would make the host as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Removed overlays that containers still use, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<String>,
}

/// Overlay on this host.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct HostOverlay {
    /// Name.
    pub name: String,
    /// `STATUS_OK`, `STATUS_CONFIGURING` or `STATUS_FAILED`. Absent before the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Subnets of this host, the IPv4 one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Names of the bridges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<String>,
    /// Addresses for containers by containerizer (`mesos`, `docker`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Addresses>,
}

/// Objects of one kind on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ObjectCount {
    /// Number that the host should have. Absent if they are not counted (`firewall`,
    /// `forwarding`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<usize>,
    /// Number of operations that would make them as they should be.
    pub differences: usize,
}
