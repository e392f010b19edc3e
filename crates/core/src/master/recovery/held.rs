//! Comparison of a configuration with what agents hold, for programs that know both without the log.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use super::checks::{HeldNet, check_fits};
use crate::allocation::allocator::DualStackNet;
use crate::config::Network;
use crate::master::networks::{AgentSubnets, Networks, SubnetsByOverlay};

/// An address or subnet that an agent holds, as a master shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldNetwork {
    /// The agent.
    pub agent: Ipv4Addr,
    /// The overlay of the subnet, or `None` for the address of the VTEP.
    pub overlay: Option<String>,
    /// The subnet, or the address as a network of full length.
    pub net: IpNet,
}

/// Returns the sentence that a master with this configuration would say instead of serving agents that
/// hold all this; `None`: it would serve. Overlays that were changed while the cluster ran must not be among
/// them: the log counts for these.
pub fn contradiction_of(network: &Network, held: &[HeldNetwork]) -> Option<String> {
    let mut subnets = SubnetsByOverlay::new();
    for HeldNetwork {
        agent,
        overlay,
        net,
    } in held
    {
        if let Some(overlay) = overlay {
            let mut nets = DualStackNet::default();
            match net {
                IpNet::V4(_) => nets.v4 = Some(*net),
                IpNet::V6(_) => nets.v6 = Some(*net),
            }
            let held = AgentSubnets {
                agent: *agent,
                nets,
            };
            subnets.entry(overlay.clone()).or_default().push(held);
        }
    }
    let configured = Arc::new(network.clone());
    let (networks, _) = Networks::from_log(&configured, None, &subnets).ok()?;
    held.iter().find_map(
        |HeldNetwork {
             agent,
             overlay,
             net,
         }| {
            let held = HeldNet {
                agent: *agent,
                overlay: overlay.as_deref(),
                net: *net,
            };
            check_fits(&networks, &subnets, &held).err()
        },
    )
}
