//! Answers of the endpoints, as far as the program uses them. Unknown fields are ignored, and
//! fields that an older release lacks are optional.

pub mod agent;
pub mod mesos;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use agent::OwnAgent;

/// Answer of `/overlay-master/state`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MasterState {
    /// Agents, by address.
    #[serde(default)]
    pub agents: Vec<Agent>,
    /// Networks.
    pub network: Network,
    /// Sentences about what is wrong with the cluster as a whole.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Release of the master's module; `None`: it is older than this field.
    pub release: Option<String>,
}

/// Networks of the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Network {
    /// Overlays in force.
    #[serde(default)]
    pub overlays: Vec<OverlayInfo>,
    /// IPv4 range of the VTEPs.
    pub vtep_subnet: String,
    /// IPv6 range of the VTEPs.
    pub vtep_subnet6: Option<String>,
    /// Number of VTEP addresses.
    #[serde(default)]
    pub vteps: Capacity,
}

/// Definition of an overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OverlayInfo {
    /// Name.
    pub name: String,
    /// True if agents get subnets of it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// IPv4 range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subnet: Option<IpNet>,
    /// Prefix length of the agents' IPv4 subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    /// IPv6 range.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subnet6: Option<IpNet>,
    /// Prefix length of the agents' IPv6 subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix6: Option<u8>,
    /// Number of its subnets for agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_subnets: Option<Capacity>,
}

fn yes() -> bool {
    true
}

/// Numbers of subnets or addresses, for IPv4 and (with a 6) for IPv6. Those of a family that is
/// not used are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// Free ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u128>,
    /// All.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u128>,
    /// Used ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u128>,
    /// Free ones, IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free6: Option<u128>,
    /// All, IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total6: Option<u128>,
    /// Used ones, IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used6: Option<u128>,
}

/// Agent, as its master shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Agent {
    /// Address.
    pub ip: Ipv4Addr,
    /// True if it is connected to the master.
    #[serde(default)]
    pub connected: bool,
    /// Seconds since it connected or disconnected.
    pub since_seconds: Option<u64>,
    /// Authentication of its messages: `key <id>`, `confirmed` or `none`.
    pub authentication: Option<String>,
    /// Errors of its host.
    #[serde(default)]
    pub host_errors: Vec<String>,
    /// Last error, even if it was resolved.
    pub last_error: Option<LastError>,
    /// Release of its module; `None`: it is a C++ agent, or older than this field.
    pub release: Option<String>,
    /// Overlays that it has.
    #[serde(default)]
    pub overlays: Vec<AgentOverlay>,
}

/// Last error of an agent.
#[derive(Clone, Debug, Deserialize)]
pub struct LastError {
    /// The sentence.
    pub error: String,
    /// Seconds since it was last reported.
    pub seconds_ago: u64,
}

/// Overlay of an agent.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentOverlay {
    /// Definition of the overlay.
    pub info: OverlayInfo,
    /// The agent's IPv4 subnet.
    pub subnet: Option<IpNet>,
    /// The agent's IPv6 subnet.
    pub subnet6: Option<IpNet>,
    /// Tunnel.
    #[serde(default)]
    pub backend: Backend,
    /// Bridge of Mesos's containers.
    pub mesos_bridge: Option<Bridge>,
    /// Bridge of Docker's containers.
    pub docker_bridge: Option<Bridge>,
    /// State on the host; `None`: the agent has not reported yet.
    pub state: Option<OverlayState>,
    /// Addresses for containers by containerizer (`mesos`, `docker`). Only the agent itself shows
    /// them.
    #[serde(default)]
    pub addresses: BTreeMap<String, Addresses>,
}

impl AgentOverlay {
    /// Returns the agent's subnets of both families.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.subnet.into_iter().chain(self.subnet6)
    }

    /// Returns the bridges.
    pub fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.mesos_bridge.iter().chain(&self.docker_bridge)
    }
}

/// Tunnel of an overlay.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Backend {
    /// VXLAN device.
    pub vxlan: Option<Vxlan>,
}

/// VXLAN device of an agent.
#[derive(Clone, Debug, Deserialize)]
pub struct Vxlan {
    /// Address with the prefix length of the VTEPs' range.
    pub vtep_ip: IpNet,
    /// IPv6 address with the prefix length of the VTEPs' range.
    pub vtep_ip6: Option<IpNet>,
    /// Hardware address, lower case with colons.
    pub vtep_mac: String,
    /// Name of the device.
    pub vtep_name: String,
}

/// Bridge of an overlay on a host.
#[derive(Clone, Debug, Deserialize)]
pub struct Bridge {
    /// Name of the device.
    pub name: String,
    /// Subnet of its containers.
    pub ip: Option<IpNet>,
    /// IPv6 subnet of its containers.
    pub ip6: Option<IpNet>,
}

/// State of an overlay on a host.
#[derive(Clone, Debug, Deserialize)]
pub struct OverlayState {
    /// `STATUS_OK`, `STATUS_CONFIGURING` or `STATUS_FAILED`.
    pub status: String,
    /// Error of the overlay on its host.
    pub error: Option<String>,
}

/// Addresses of an agent for containers of one containerizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Addresses {
    /// Addresses in use; absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<u64>,
    /// Addresses that containers can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// IPv6 addresses in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use6: Option<u64>,
    /// IPv6 addresses that containers can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total6: Option<u128>,
    /// Addresses of containers that Mesos does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaked: Option<u64>,
}

/// Answer of `/overlay-master/overlays`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Overlays {
    /// All overlays.
    #[serde(default)]
    pub overlays: Vec<Overlay>,
    /// Number of changes by operators.
    #[serde(default)]
    pub revision: u64,
}

/// Overlay of a master, in force or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overlay {
    /// Name.
    pub name: String,
    /// `active`, `disabled`, `draining`, `removed`, `left_out` or `orphaned`.
    pub state: String,
    /// Source of the definition: `file`, `stored` or `none`.
    pub source: String,
    /// Number of agents that hold a subnet of it.
    #[serde(default)]
    pub agents: usize,
    /// Number of its subnets, if it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_subnets: Option<Capacity>,
    /// Reason why an overlay of the configuration is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Definition in force, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<OverlayInfo>,
    /// Definition in the file, if another one is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<OverlayInfo>,
    /// Addresses of agents that still hold a subnet of an overlay that is not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
}
