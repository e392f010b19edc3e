//! What an agent holds, in the forms that the master needs: as the allocator
//! counts it, as the log keeps it, as the agent and its peers are told.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, message};

use super::encoded::EncodedAgents;
use super::networks::Networks;
use super::reclaimed::ReclaimedAllocations;
use crate::allocation::allocator::{Allocation, AllocationRequest, DualStack, DualStackNet};
use crate::allocation::prefix::halves;
use crate::config::{Network, OverlayConfig};
use crate::host_api::desired::Mac;
use crate::proto;
use crate::proto::internal::{AgentNetworkConfig, Peer, PeerSubnet};
use crate::protocol::peer_list_codec::PEERS;
use crate::protocol::views::AgentJson;

/// VXLAN network identifier of every overlay, as in every cluster there is.
pub const VNI: u32 = 1024;
/// The VXLAN device on every agent's host.
pub const VTEP_NAME: &str = "vtep1024";

/// Field numbers of the stored `State`.
const STATE_NETWORK: u32 = 1;
const STATE_AGENTS: u32 = 2;
const STATE_NETWORKS: u32 = 100;

/// What the log has, or is to have, of one agent. Never changed, only replaced.
///
/// There are thousands of these, so what is done with all of them at once finds its part
/// ready: writing the state, showing it and telling the peers means joining bytes.
#[derive(Debug, PartialEq)]
pub struct EncodedAgent {
    /// What is written: an encoded [`proto::AgentInfo`].
    pub stored: Box<[u8]>,
    /// The same as endpoints show it.
    pub shown: AgentJson,
    /// What other agents are told, as it stands in the message; `None`: it has no part in
    /// any overlay.
    pub peer: Option<Box<[u8]>>,
}

impl EncodedAgent {
    /// `sent`: those of the overlays that the agent gets at present. The entry of `before`
    /// if it says the same.
    pub fn renewed<'a>(
        before: Option<&Arc<EncodedAgent>>,
        info: &proto::AgentInfo,
        sent: impl Iterator<Item = &'a proto::AgentOverlayInfo> + Clone,
    ) -> Arc<EncodedAgent> {
        let stored = info.encode_to_vec();
        let peer = peer(&info.ip, sent).map(|peer| encode_peer(&peer));
        match before {
            Some(before) if *before.stored == *stored && before.peer == peer => before.clone(),
            _ => Arc::new(EncodedAgent {
                stored: stored.into(),
                shown: AgentJson::new(info),
                peer,
            }),
        }
    }

    /// What is written, decoded.
    pub fn info(&self) -> proto::AgentInfo {
        // It was encoded here.
        proto::AgentInfo::decode(self.stored.as_ref()).unwrap_or_default()
    }
}

fn encode_peer(peer: &Peer) -> Box<[u8]> {
    let body = peer.encode_to_vec();
    let mut encoded = Vec::with_capacity(body.len() + 4);
    put(PEERS, &body, &mut encoded);
    encoded.into()
}

/// Puts an encoded message into another one, as this field.
pub fn put(field: u32, message: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

/// Puts what is stored of an agent into an encoded `State`.
pub fn put_agent(entry: &EncodedAgent, state: &mut Vec<u8>) {
    put(STATE_AGENTS, &entry.stored, state);
}

/// The stored `State` with these agents.
pub fn encode_state(
    networks: &Networks,
    agents: &EncodedAgents,
    former: &ReclaimedAllocations,
) -> Bytes {
    let mut state = Vec::with_capacity(4096 + agents.len());
    message::encode(STATE_NETWORK, &networks.network.wire, &mut state);
    agents
        .pieces()
        .for_each(|piece| state.extend_from_slice(piece));
    if let Some(networks) = networks.to_wire() {
        message::encode(STATE_NETWORKS, &networks, &mut state);
    }
    former.encode(&mut state);
    state.into()
}

/// Those of an agent's overlays that are not in force.
pub fn orphans(
    network: &Network,
    overlays: &[proto::AgentOverlayInfo],
) -> Vec<proto::AgentOverlayInfo> {
    let in_force = |name: &String| network.overlays.iter().any(|overlay| overlay.name == *name);
    overlays
        .iter()
        .filter(|overlay| !in_force(&overlay.info.name))
        .cloned()
        .collect()
}

/// One agent, as the master's memory has it (stored already or not).
#[derive(Clone, Debug)]
pub struct AgentRecord {
    /// All that it holds; of overlays out of the configuration, too.
    pub allocation: Allocation,
    /// What it asked for last.
    pub requested: AllocationRequest,
    /// Overlays that are not in force any more, as they were stored. They stay in the log, so that nobody else can get what the agent may use.
    pub orphans: Vec<proto::AgentOverlayInfo>,
    /// All this as the log is to have it.
    pub entry: Arc<EncodedAgent>,
}

/// What an agent's `network_config` asks for.
pub fn ask_of(config: &AgentNetworkConfig) -> AllocationRequest {
    AllocationRequest {
        allocate_subnet: config.allocate_subnet(),
        mesos_bridge: config.mesos_bridge(),
        docker_bridge: config.docker_bridge(),
        enable_ipv6: config.enable_ipv6(),
    }
}

/// An agent's overlays in both forms.
pub struct Description {
    /// For the log: all that it holds.
    pub stored: proto::AgentInfo,
    /// For the agent: what it takes part in at present.
    pub sent: Vec<proto::AgentOverlayInfo>,
}

/// Describes what `agent` holds, in the configuration's order.
pub fn describe(
    network: &Network,
    agent: Ipv4Addr,
    allocation: &Allocation,
    requested: AllocationRequest,
    orphans: &[proto::AgentOverlayInfo],
) -> Description {
    let configured = DualStack {
        v4: true,
        v6: network.vtep_subnet6.is_some(),
    };
    let sent_vtep = allocation
        .vtep
        .only(configured)
        .only(requested.vtep_families());
    let (mut stored, mut sent) = (Vec::new(), Vec::new());
    for (overlay, info) in network.overlays.iter().zip(&network.wire.overlays) {
        let Some(nets) = allocation.overlays.get(&overlay.name) else {
            continue;
        };
        let share = requested.requested_families(overlay);
        let used = nets.only(share.unwrap_or_default());
        let describe = |nets: DualStackNet, vtep: DualStackNet| proto::AgentOverlayInfo {
            info: info.clone(),
            subnet: text(nets.v4),
            subnet6: text(nets.v6),
            mesos_bridge: bridge(requested.mesos_bridge, 'm', overlay, used),
            docker_bridge: bridge(requested.docker_bridge, 'd', overlay, used),
            backend: proto::BackendInfo {
                vxlan: vxlan(network, vtep),
            },
            state: None,
        };
        let all = describe(*nets, allocation.vtep);
        if share.is_some() {
            let is_all = used == *nets && sent_vtep == allocation.vtep;
            sent.push(if is_all {
                all.clone()
            } else {
                describe(used, sent_vtep)
            });
        }
        stored.push(all);
    }
    stored.extend_from_slice(orphans);
    let stored = proto::AgentInfo {
        ip: agent.to_string(),
        overlays: stored,
        configuration_attempts: None,
    };
    Description { stored, sent }
}

fn text(net: Option<IpNet>) -> Option<String> {
    net.map(|net| net.to_string())
}

/// The lower half of the subnets is for Mesos's containers (`m-`), the upper one
/// for Docker's (`d-`).
fn bridge(
    wanted: bool,
    kind: char,
    overlay: &OverlayConfig,
    subnets: DualStackNet,
) -> Option<proto::BridgeInfo> {
    let half = |net: Option<IpNet>| {
        let (lower, upper) = halves(net?)?;
        Some(if kind == 'm' { lower } else { upper }.to_string())
    };
    (wanted && !subnets.is_empty()).then(|| proto::BridgeInfo {
        name: format!("{kind}-{}", overlay.name),
        ip: half(subnets.v4),
        ip6: half(subnets.v6),
    })
}

fn vxlan(network: &Network, vtep: DualStackNet) -> Option<proto::VxLanInfo> {
    let v4 = vtep.v4?;
    Some(proto::VxLanInfo {
        vni: VNI,
        vtep_name: VTEP_NAME.to_owned(),
        vtep_ip: v4.to_string(),
        vtep_mac: mac(network.vtep_mac_oui, v4.addr()).to_string(),
        vtep_ip6: text(vtep.v6),
        vtep_mtu: network.vtep_mtu,
    })
}

/// The OUI and the low three bytes of the VTEP's IPv4 address.
fn mac([a, b, c]: [u8; 3], vtep: IpAddr) -> Mac {
    let [_, d, e, f] = match vtep {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    Mac([a, b, c, d, e, f])
}

/// What the peers of an agent with these overlays need to know.
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
    use crate::config::master::parse;
    use crate::master::networks::Held;

    #[test]
    fn joined_entries_are_the_encoded_state() {
        let text =
            r#"{"network": {"vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00"}}"#;
        let file = Arc::new(parse("m", text).unwrap().config.network);
        let agent = |ip: &str| proto::AgentInfo {
            ip: ip.into(),
            ..Default::default()
        };
        let agents = vec![agent("10.0.0.1"), agent("10.0.0.2")];
        let record = |info: &proto::AgentInfo| AgentRecord {
            allocation: Allocation::default(),
            requested: ask_of(&AgentNetworkConfig::default()),
            orphans: Vec::new(),
            entry: EncodedAgent::renewed(None, info, std::iter::empty()),
        };
        let records = agents
            .iter()
            .map(|info| (info.ip.parse().unwrap(), record(info)))
            .collect();
        let encoded = EncodedAgents::new(&records);
        let info = proto::OverlayInfo {
            name: "web".into(),
            subnet: Some("9.0.0.0/8".into()),
            prefix: Some(24),
            ..Default::default()
        };
        let overlay = proto::StoredOverlay {
            info: info.clone(),
            ..Default::default()
        };
        let changed = proto::StoredNetworks {
            revision: Some(7),
            overlays: vec![overlay],
        };
        for (networks, overlays) in [(None, vec![]), (Some(changed), vec![info])] {
            let (in_force, _) =
                Networks::from_log(&file, networks.clone(), &Held::default()).unwrap();
            let network = proto::NetworkConfig {
                overlays,
                ..file.wire.clone()
            };
            let mut former = ReclaimedAllocations::default();
            let gone = agent("10.0.0.3");
            former.add(
                "10.0.0.3".parse().unwrap(),
                Allocation::default(),
                gone.encode_to_vec().into(),
            );
            let (network, agents) = (Some(network), agents.clone());
            let state = proto::State {
                network,
                agents,
                networks,
                former: vec![gone],
            };
            assert_eq!(
                encode_state(&in_force, &encoded, &former),
                state.encode_to_vec()
            );
        }
    }

    #[test]
    fn a_mac_ends_in_the_vteps_address() {
        let vtep = "44.128.0.1".parse().unwrap();
        assert_eq!(
            mac([0x70, 0xb3, 0xd5], vtep).to_string(),
            "70:b3:d5:80:00:01"
        );
    }
}
