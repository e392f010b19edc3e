//! Desired networks of the container engine. Plain values: the agent's state machine computes
//! them, the engine's worker compares them with the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::desired::{Overlay, Vtep};

/// Default of `docker_socket`.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Desired state of the host's container engine. Networks of this module that are not part of
/// it are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineDesired {
    /// Unix socket that the engine listens on.
    pub socket: PathBuf,
    /// Timeout of one call: `command_timeout`.
    pub timeout: Duration,
    /// Networks by name. If there are none, an absent engine is no error.
    pub networks: BTreeMap<String, Network>,
    /// MTUs are lowered to what fits into the underlay, because the operator configured none.
    pub fit_mtu: bool,
    /// Rules of this module accept the overlays' packets to containers, whichever interfaces a
    /// network trusts.
    pub firewall_accepts: bool,
}

impl Default for EngineDesired {
    /// Returns the state without networks, for the engine at [`DEFAULT_SOCKET`].
    fn default() -> EngineDesired {
        EngineDesired {
            socket: DEFAULT_SOCKET.into(),
            timeout: Duration::from_secs(15),
            networks: BTreeMap::new(),
            fit_mtu: false,
            firewall_accepts: false,
        }
    }
}

impl EngineDesired {
    /// Returns the state with MTUs of at most `limit`, the largest that fits into the underlay,
    /// unless the operator configured an MTU. `None`: the limit is unknown.
    pub fn with_mtu_at_most(&self, limit: Option<u32>) -> EngineDesired {
        let mut desired = self.clone();
        if let Some(limit) = limit.filter(|_| self.fit_mtu) {
            for network in desired.networks.values_mut() {
                network.mtu = network.mtu.min(limit);
            }
        }
        desired
    }
}

/// Network of the engine's `bridge` driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Name of the bridge device.
    pub bridge: String,
    /// Prefixes that containers get addresses from, at most one of each family.
    pub subnets: Vec<IpNet>,
    /// MTU of the containers' interfaces, in bytes.
    pub mtu: u32,
    /// Devices from which packets to containers are accepted, in this order. Docker 28 and
    /// later drops packets from other devices, unless rules in front of its own accept them.
    pub trusted: Vec<String>,
}

impl Network {
    /// Returns the network of an overlay; `None`: it has no bridge for Docker, or one without
    /// subnets.
    pub fn of(overlay: &Overlay, vtep: Option<&Vtep>) -> Option<Network> {
        let bridge = overlay
            .docker_bridge
            .as_ref()
            .filter(|bridge| !bridge.subnets.is_empty())?;
        let vtep = vtep.map(|vtep| vtep.name.clone());
        let mesos = overlay
            .mesos_bridge
            .as_ref()
            .map(|bridge| bridge.name.clone());
        Some(Network {
            bridge: bridge.name.clone(),
            subnets: bridge.subnets.clone(),
            mtu: overlay.mtu,
            trusted: vtep.into_iter().chain(mesos).collect(),
        })
    }
}
