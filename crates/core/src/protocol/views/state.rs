//! The state of a master: `/overlay-master/state`.

use proto::agent_overlay_info::State;
use serde::Serialize;

use super::agents::Agent;
use super::messages::OverlayInfo;
use super::write;
use crate::allocation::allocator::Capacity;
use crate::proto;

/// Returns the state of a master. `capacity` returns the capacity of an overlay, or of the VTEPs
/// for `None`; `problems` are sentences about the cluster, and `release` is that of the master's
/// module.
pub fn state<'a>(
    network: &'a proto::NetworkConfig,
    capacity: impl Fn(Option<&str>) -> Capacity,
    agents: impl Iterator<Item = Agent<'a, impl Fn(&str) -> Option<&'a State>>>,
    problems: &[String],
    release: Option<&str>,
) -> Vec<u8> {
    let overlay = |overlay: &'a proto::OverlayInfo| OverlayInfo {
        agent_subnets: Some(capacity(Some(&overlay.name))),
        ..OverlayInfo::from(overlay)
    };
    let overlays = network.overlays.iter().map(overlay).collect();
    let network = NetworkConfig {
        overlays,
        ..NetworkConfig::without_overlays(network, capacity(None))
    };
    // An agent with one overlay takes about 400 bytes.
    let mut out = Vec::with_capacity(1000 + 512 * agents.size_hint().0);
    out.push(b'{');
    for (index, agent) in agents.enumerate() {
        out.extend_from_slice(if index == 0 { b"\"agents\":[" } else { b"," });
        agent.write(&mut out);
    }
    out.extend_from_slice(if out.len() > 1 {
        b"],\"network\":"
    } else {
        b"\"network\":"
    });
    write(&mut out, &network);
    if !problems.is_empty() {
        out.extend_from_slice(b",\"problems\":");
        write(&mut out, &problems);
    }
    if let Some(release) = release {
        out.extend_from_slice(b",\"release\":");
        write(&mut out, &release);
    }
    out.push(b'}');
    out
}

/// The networks.
#[derive(Serialize)]
pub struct NetworkConfig<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<OverlayInfo<'a>>,
    vtep_mac_oui: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_mtu: Option<u32>,
    vtep_subnet: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_subnet6: Option<&'a str>,
    vteps: Capacity,
}

impl<'a> NetworkConfig<'a> {
    /// Returns the networks except the overlays. `vteps` is the capacity for VTEPs.
    pub fn without_overlays(
        network: &'a proto::NetworkConfig,
        vteps: Capacity,
    ) -> NetworkConfig<'a> {
        NetworkConfig {
            overlays: Vec::new(),
            vtep_mac_oui: &network.vtep_mac_oui,
            vtep_mtu: network.vtep_mtu,
            vtep_subnet: &network.vtep_subnet,
            vtep_subnet6: network.vtep_subnet6.as_deref(),
            vteps,
        }
    }
}
