//! Answer of `/overlay-agent/overlay`.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::AgentOverlay;

/// Agent, as it shows itself.
#[derive(Clone, Debug, Deserialize)]
pub struct OwnAgent {
    /// Address.
    pub ip: Ipv4Addr,
    /// True if the master has acknowledged its latest report.
    #[serde(default)]
    pub registered: bool,
    /// Libprocess id of the leading overlay master, `overlay-master@ip:port`.
    pub master: Option<String>,
    /// How it knows that messages are from that master.
    pub master_authentication: Option<String>,
    /// Number of attempts to configure the host.
    pub configuration_attempts: Option<u32>,
    /// What the master could not assign, or why it refused the agent.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Subnets that it lost.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Errors of the host.
    #[serde(default)]
    pub host_errors: Vec<String>,
    /// Removed overlays that containers still use.
    #[serde(default)]
    pub draining: Vec<String>,
    /// Overlays.
    #[serde(default)]
    pub overlays: Vec<AgentOverlay>,
}
