//! Answer of `/overlay-agent/overlay`.

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::AgentOverlay;
use crate::connection::{AskError, Http};

/// Agent, as it shows itself.
#[derive(Clone, Debug, Deserialize)]
pub struct OwnAgent {
    /// Address.
    pub ip: Ipv4Addr,
    /// True if the master has acknowledged its latest report. Agents of the C++ module do not tell.
    pub registered: Option<bool>,
    /// Libprocess id of the leading overlay master, `overlay-master@ip:port`.
    pub master: Option<String>,
    /// Reasons why the master refused the agent, or could not assign something.
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

/// Answer of `/overlay-agent/peers`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Peers {
    /// Number of peers; `None`: no master has sent them yet, or the agent needs none.
    pub count: Option<usize>,
    /// The peers.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// Another agent, as an agent knows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Address.
    pub ip: String,
    /// Address of its VTEP.
    pub vtep_ip: String,
    /// IPv6 address of its VTEP.
    pub vtep_ip6: Option<String>,
    /// Hardware address of its VTEP.
    pub vtep_mac: String,
    /// Subnets.
    #[serde(default)]
    pub subnets: Vec<PeerSubnet>,
}

/// Subnet of a peer.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerSubnet {
    /// Name of the overlay.
    pub overlay: String,
    /// IPv4 subnet.
    pub subnet: Option<String>,
    /// IPv6 subnet.
    pub subnet6: Option<String>,
}

/// Asks the overlay agent at `address` (`ip:port`) for itself and its overlays.
///
/// # Errors
/// The agent does not answer, or wants a login.
pub fn own_agent(http: &Http, address: &str) -> Result<OwnAgent, AskError> {
    http.json(address, "/overlay-agent/overlay")
}
