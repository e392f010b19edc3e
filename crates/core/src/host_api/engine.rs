//! The container engine's networks as an agent wants them. Plain values, computed
//! by the agent's state machine; the worker compares them with what the engine has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::desired::{Overlay, Vtep};

/// Where an engine listens unless something else is said.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// What the module wants of the host's container engine. What is of ours in the
/// engine and not in here is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineDesired {
    /// The unix socket that the engine listens on.
    pub socket: PathBuf,
    /// How long one call may take: `command_timeout`.
    pub timeout: Duration,
    /// The networks by name. Without any, there need be no engine.
    pub networks: BTreeMap<String, Network>,
    /// Whether their MTUs are lowered to what fits into the underlay: the operator set
    /// none.
    pub fit_mtu: bool,
}

impl Default for EngineDesired {
    /// No networks in the engine at [`DEFAULT_SOCKET`].
    fn default() -> EngineDesired {
        EngineDesired {
            socket: DEFAULT_SOCKET.into(),
            timeout: Duration::from_secs(15),
            networks: BTreeMap::new(),
            fit_mtu: false,
        }
    }
}

impl EngineDesired {
    /// The same with MTUs that fit into the underlay, `fits` being the largest.
    pub fn fitted(&self, fits: Option<u32>) -> EngineDesired {
        let mut fitted = self.clone();
        if let Some(fits) = fits.filter(|_| self.fit_mtu) {
            for network in fitted.networks.values_mut() {
                network.mtu = network.mtu.min(fits);
            }
        }
        fitted
    }
}

/// A network of the engine's `bridge` driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Name of the bridge device.
    pub bridge: String,
    /// The prefixes that containers get addresses from, at most one of each family.
    pub subnets: Vec<IpNet>,
    /// MTU of the containers' interfaces, in bytes.
    pub mtu: u32,
    /// Devices that packets for containers may come in by, in this order. Engines
    /// from 28 on drop those from everywhere else.
    pub trusted: Vec<String>,
}

impl Network {
    /// The network of an overlay that has a bridge for Docker with at least one
    /// subnet.
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
