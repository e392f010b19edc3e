//! The networks of a master and numbers of its agents: `/overlay-master/overview`.

use serde::Serialize;

use super::overlays::Overlay;
use super::state::NetworkConfig;
use super::to_bytes;

/// The networks of a master, and how many agents they have.
#[derive(Serialize)]
pub struct Overview<'a> {
    /// All agents.
    pub agents: AgentNumbers,
    /// The domain of the containers' names.
    pub dns_domain: &'a str,
    /// The seconds without contact after which an agent's subnets may be reclaimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
    /// The networks except the overlays.
    pub network: NetworkConfig<'a>,
    /// All overlays, without holders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay<'a>>,
    /// Sentences about the cluster as a whole.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub problems: &'a [String],
    /// The release of the master's module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<&'a str>,
    /// The number of changes by operators.
    pub revision: u64,
}

/// Numbers of agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AgentNumbers {
    /// The connected ones.
    pub connected: usize,
    /// Agents that report an error.
    pub failing: usize,
    /// All.
    pub total: usize,
}

impl Overview<'_> {
    /// Returns the overview as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        to_bytes(self)
    }
}
