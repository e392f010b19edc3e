//! The allocation of an agent in all its forms: for the allocator, the log, the endpoints, the
//! agent and its peers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use prost::Message;

use super::bridges::{AllocatedBridges, Bridges};
use super::state_codec::put_message;
use super::trust::Trust;
use crate::allocation::allocator::{Allocation, AllocationRequest, DualStack, DualStackNet};
use crate::allocation::prefix::halves;
use crate::config::overlay::Definition;
use crate::config::{Network, OverlayConfig};
use crate::host_api::desired::Mac;
use crate::host_api::names::vtep_name;
use crate::host_api::usage::Containerizer;
use crate::proto;
use crate::proto::internal::{Peer, PeerSubnet};
use crate::protocol::peer_list_codec::PEERS;
use crate::protocol::views::AgentJson;

/// VXLAN network identifier of every overlay, as in every existing cluster.
pub const VNI: u32 = 1024;

/// Encoded forms of an agent for the log. Immutable: a change creates a new value.
///
/// A master has thousands of agents, and a stored state, a response of an endpoint or a list of
/// peers contains all of them. So each form is encoded once, and later only joined.
#[derive(Debug, PartialEq)]
pub struct EncodedAgent {
    /// The form that is stored: an encoded [`proto::AgentInfo`].
    pub agent_info: Box<[u8]>,
    /// The form that endpoints show.
    pub json: AgentJson,
    /// The form that other agents get: an encoded `peers` field of their message. `None` if
    /// the agent takes part in no overlay, or is provisional.
    pub peer: Option<Box<[u8]>>,
}

impl EncodedAgent {
    /// Encodes an agent. `sent` are the overlays that the agent gets at present. Returns
    /// `before` if nothing changed.
    pub fn renew<'a>(
        before: Option<&Arc<EncodedAgent>>,
        info: &proto::AgentInfo,
        sent: impl Iterator<Item = &'a proto::AgentOverlayInfo> + Clone,
    ) -> Arc<EncodedAgent> {
        let agent_info = info.encode_to_vec();
        let is_peer = Trust::stored(info) != Trust::Provisional;
        let peer = peer(&info.ip, sent).filter(|_| is_peer);
        let peer = peer.map(|peer| encode_peer(&peer));
        match before {
            Some(before) if *before.agent_info == *agent_info && before.peer == peer => {
                before.clone()
            }
            _ => Arc::new(EncodedAgent {
                agent_info: agent_info.into(),
                json: AgentJson::new(info),
                peer,
            }),
        }
    }

    /// Decodes the stored form.
    pub fn decode(&self) -> proto::AgentInfo {
        // The bytes were encoded above, so this does not fail.
        proto::AgentInfo::decode(self.agent_info.as_ref()).unwrap_or_default()
    }
}

fn encode_peer(peer: &Peer) -> Box<[u8]> {
    let body = peer.encode_to_vec();
    let mut encoded = Vec::with_capacity(body.len() + 4);
    put_message(PEERS, &body, &mut encoded);
    encoded.into()
}

/// Returns the overlays of `overlays` that are not in force in `network`.
pub fn inactive_overlays(
    network: &Network,
    overlays: &[proto::AgentOverlayInfo],
) -> Vec<proto::AgentOverlayInfo> {
    overlays
        .iter()
        .filter(|overlay| network.overlay(&overlay.info.name).is_none())
        .cloned()
        .collect()
}

/// An agent with an allocation. The log may not have it yet.
#[derive(Clone, Debug)]
pub struct AgentRecord {
    /// The content.
    pub content: RecordContent,
    /// The content in its encoded forms.
    pub encoded: Arc<EncodedAgent>,
}

/// The content of an agent's record, from which its other forms are made.
#[derive(Clone, Debug)]
pub struct RecordContent {
    /// All addresses and subnets, including those of overlays that are not in force.
    pub allocation: Allocation,
    /// All bridges, including those that the agent does not request any more.
    pub bridges: AllocatedBridges,
    /// The latest request.
    pub requested: AllocationRequest,
    /// The trust in the agent.
    pub trust: Trust,
    /// Overlays that are not in force any more, as they were stored. They stay in the
    /// log, so that nobody else gets the subnets that the agent may still use.
    pub inactive: Vec<proto::AgentOverlayInfo>,
}

impl AgentRecord {
    /// Makes the record of the agent at `ip`, and the overlays that the agent gets. `before` are
    /// the encoded forms that it had, which are kept if nothing changed.
    pub fn new(
        network: &Network,
        ip: Ipv4Addr,
        content: RecordContent,
        before: Option<&Arc<EncodedAgent>>,
    ) -> (AgentRecord, Vec<proto::AgentOverlayInfo>) {
        let Description { stored, sent } = content.describe(network, ip);
        let encoded = EncodedAgent::renew(before, &stored, sent.iter());
        (AgentRecord { content, encoded }, sent)
    }

    /// Encodes the record anew after a change of its content.
    pub(super) fn renew(&mut self, network: &Network, ip: Ipv4Addr) {
        let Description { stored, sent } = self.content.describe(network, ip);
        self.encoded = EncodedAgent::renew(None, &stored, sent.iter());
    }
}

/// The overlays of an agent, as they are stored and as they are sent.
pub struct Description {
    /// All overlays of the allocation, for the log.
    pub stored: proto::AgentInfo,
    /// The overlays that the agent takes part in at present, for the agent.
    pub sent: Vec<proto::AgentOverlayInfo>,
}

impl RecordContent {
    /// Describes the overlays of `agent`, in the order of those of `network` and with the inactive
    /// ones behind.
    pub(super) fn describe(&self, network: &Network, agent: Ipv4Addr) -> Description {
        let vtep = self.allocation.vtep;
        let sent_vtep = requested_vtep(network, vtep, self.requested);
        let (mut stored, mut sent) = (Vec::new(), Vec::new());
        for definition in &network.overlays {
            let Some(nets) = self.allocation.overlays.get(definition.name()) else {
                continue;
            };
            let allocated = OverlayParts {
                nets: *nets,
                bridges: self.bridges.of(definition.name()),
                vtep,
            };
            let whole = allocated.describe(network, definition);
            if let Some(families) = self.requested.requested_families(definition.config()) {
                let used = OverlayParts {
                    nets: nets.only(families),
                    bridges: Bridges::requested(self.requested),
                    vtep: sent_vtep,
                };
                sent.push(match used == allocated {
                    true => whole.clone(),
                    false => used.describe(network, definition),
                });
            }
            stored.push(whole);
        }
        stored.extend_from_slice(&self.inactive);
        let (confirmed, provisional) = self.trust.to_stored();
        let stored = proto::AgentInfo {
            confirmed,
            provisional,
            ip: agent.to_string(),
            overlays: stored,
            configuration_attempts: None,
        };
        Description { stored, sent }
    }
}

/// The parts of an agent's overlay that differ between the log and the agent.
#[derive(Clone, Copy, PartialEq)]
struct OverlayParts {
    nets: DualStackNet,
    bridges: Bridges,
    vtep: DualStackNet,
}

impl OverlayParts {
    fn describe(self, network: &Network, definition: &Definition) -> proto::AgentOverlayInfo {
        let OverlayParts {
            nets,
            bridges,
            vtep,
        } = self;
        let bridge = |exists, of| bridge(exists, of, definition.config(), nets);
        proto::AgentOverlayInfo {
            echo: None,
            info: definition.info().clone(),
            subnet: to_text(nets.v4),
            subnet6: to_text(nets.v6),
            mesos_bridge: bridge(bridges.mesos, Containerizer::Mesos),
            docker_bridge: bridge(bridges.docker, Containerizer::Docker),
            backend: backend(network, vtep),
            state: None,
        }
    }
}

/// Returns the VTEP addresses that are configured and that the agent requests.
fn requested_vtep(
    network: &Network,
    allocated: DualStackNet,
    requested: AllocationRequest,
) -> DualStackNet {
    let configured = DualStack {
        v4: true,
        v6: network.vtep_subnet6.is_some(),
    };
    let vtep = allocated.only(configured);
    vtep.only(requested.vtep_families())
}

fn to_text(net: Option<IpNet>) -> Option<String> {
    net.map(|net| net.to_string())
}

/// Returns the bridge of a containerizer if it `exists`: Mesos's has the lower half of the agent's
/// subnets, Docker's the upper one. Without subnets there is none.
fn bridge(
    exists: bool,
    containerizer: Containerizer,
    overlay: &OverlayConfig,
    subnets: DualStackNet,
) -> Option<proto::BridgeInfo> {
    let half = |net: Option<IpNet>| {
        let (lower, upper) = halves(net?)?;
        Some(match containerizer {
            Containerizer::Mesos => lower.to_string(),
            Containerizer::Docker => upper.to_string(),
        })
    };
    (exists && !subnets.is_empty()).then(|| proto::BridgeInfo {
        name: containerizer.bridge_name(&overlay.name),
        ip: half(subnets.v4),
        ip6: half(subnets.v6),
    })
}

fn backend(network: &Network, vtep: DualStackNet) -> proto::BackendInfo {
    let vxlan = vtep.v4.map(|v4| proto::VxLanInfo {
        vni: VNI,
        vtep_name: vtep_name(VNI),
        vtep_ip: v4.to_string(),
        vtep_mac: mac(network.vtep_mac_oui, v4.addr()).to_string(),
        vtep_ip6: to_text(vtep.v6),
        vtep_mtu: network.vtep_mtu,
    });
    proto::BackendInfo { vxlan }
}

/// Returns the MAC address of a VTEP: the OUI and the low three bytes of its IPv4 address.
fn mac([a, b, c]: [u8; 3], vtep: IpAddr) -> Mac {
    let [_, d, e, f] = match vtep {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    Mac([a, b, c, d, e, f])
}

/// Returns the entry of the agent in lists of peers, or `None` if it has no VTEP.
fn peer<'a>(
    agent: &str,
    sent: impl Iterator<Item = &'a proto::AgentOverlayInfo> + Clone,
) -> Option<Peer> {
    let address = |net: &str| net.split('/').next().unwrap_or_default().to_owned();
    let vxlan = sent
        .clone()
        .find_map(|overlay| overlay.backend.vxlan.as_ref())?;
    let subnet = |overlay: &proto::AgentOverlayInfo| PeerSubnet {
        overlay: overlay.info.name.clone(),
        subnet: overlay.subnet.clone(),
        subnet6: overlay.subnet6.clone(),
    };
    Some(Peer {
        ip: agent.to_owned(),
        vni: vxlan.vni,
        vtep_ip: address(&vxlan.vtep_ip),
        vtep_ip6: vxlan.vtep_ip6.as_deref().map(address),
        vtep_mac: vxlan.vtep_mac.clone(),
        subnets: sent
            .filter(|overlay| overlay.subnet.is_some() || overlay.subnet6.is_some())
            .map(subnet)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_ends_in_the_address_of_the_vtep() {
        let vtep = "44.128.0.1".parse().unwrap();
        assert_eq!(
            mac([0x70, 0xb3, 0xd5], vtep).to_string(),
            "70:b3:d5:80:00:01"
        );
    }
}
