//! Desired states of the host and of the container engine, which follow from the configuration and
//! from what the master sent.
//!
//! The agent and programs that examine its host compute them with the same functions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::assignment::{self, Assignment};
use super::peers::Peers;
use super::ranges::UnderlayHosts;
use crate::config::AgentConfig;
use crate::host_api::desired::{Backend, Cni, Desired, Firewall, PeerMap, Removal};
use crate::host_api::engine::{DEFAULT_SOCKET, EngineDesired, Network};
use crate::proto::AgentOverlayInfo;
use crate::proto::internal::{Peer, UpdatePeersMessage};

/// Values that a master sent to an agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MasterData {
    /// Address of the master; `None`: not known.
    pub master: Option<IpAddr>,
    /// Overlays of the agent.
    pub overlays: Vec<AgentOverlayInfo>,
    /// Peers. `None`: not known, so that nothing is desired of the peers' objects.
    pub peers: Option<Vec<Peer>>,
}

/// Desired states of an agent's host and of its container engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DesiredStates {
    /// State of the host.
    pub host: Desired,
    /// State of the container engine.
    pub engine: EngineDesired,
    /// Overlays with invalid values, of which the agent keeps what the host had before. The
    /// states have nothing of them. Each with a sentence about its first invalid value.
    pub invalid: BTreeMap<String, String>,
}

/// Returns the states that an agent with this configuration at the address `own` desires by what a
/// master sent.
pub fn desired_states(config: &AgentConfig, own: Ipv4Addr, data: MasterData) -> DesiredStates {
    let hosts = UnderlayHosts {
        own,
        master: data.master,
    };
    let assignment = assignment::parse(config, &hosts, data.overlays);
    let mut peers = Peers::default();
    peers.set_ranges(assignment.ranges(hosts));
    if let Some(list) = data.peers {
        peers.update(UpdatePeersMessage {
            peers: list,
            ..UpdatePeersMessage::default()
        });
    }
    let invalid = assignment.overlays.iter().filter_map(|assigned| {
        let fault = assigned.overlay.as_ref().err()?;
        Some((assigned.name().to_owned(), fault.clone()))
    });
    DesiredStates {
        host: host(config, own, Some(&assignment), peers.desired()),
        engine: engine(config, &assignment),
        invalid: invalid.collect(),
    }
}

/// Returns the desired state of the host. `assignment` is `None` before a master has answered, and
/// `peers` before it has sent a list of them.
pub(super) fn host(
    config: &AgentConfig,
    own: Ipv4Addr,
    assignment: Option<&Assignment>,
    peers: Option<Arc<PeerMap>>,
) -> Desired {
    let assigned = assignment.into_iter().flat_map(|all| &all.overlays);
    let overlays = assigned.filter_map(|assigned| {
        let overlay = assigned.desired()?.clone();
        Some((assigned.name().to_owned(), overlay))
    });
    Desired {
        cni: Cni {
            dir: config.cni_dir.clone(),
            data_dir: config.cni_data_dir.clone(),
            file_prefix: config.cni_file_prefix.clone(),
        },
        backend: config.backend,
        firewall: config.firewall,
        underlay_ip: Some(own),
        fit_mtu: config.network.overlay_mtu.is_none(),
        tx_checksum: config.tx_checksum,
        removal: Removal::Careful,
        container_table: config.container_table,
        vtep: assignment.and_then(|assignment| assignment.vtep.clone()),
        overlays: overlays.collect(),
        peers: match config.backend {
            Backend::Internal => peers,
            Backend::External => None,
        },
    }
}

/// Returns the desired state of the container engine.
pub(super) fn engine(config: &AgentConfig, assignment: &Assignment) -> EngineDesired {
    let networks = assignment.overlays.iter().filter_map(|assigned| {
        let overlay = assigned.desired()?;
        let network = Network::of(overlay, assignment.vtep.as_ref())?;
        Some((assigned.name().to_owned(), network))
    });
    let socket = config.docker_socket.clone();
    EngineDesired {
        socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
        timeout: config.network.command_timeout,
        networks: networks.collect(),
        fit_mtu: config.network.overlay_mtu.is_none(),
        firewall_accepts: config.firewall != Firewall::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::internal::PeerSubnet;
    use crate::proto::{BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};

    fn overlay(name: &str, subnet: &str) -> AgentOverlayInfo {
        AgentOverlayInfo {
            info: OverlayInfo {
                name: name.to_owned(),
                subnet: Some("9.0.0.0/8".to_owned()),
                prefix: Some(24),
                ..OverlayInfo::default()
            },
            subnet: Some(subnet.to_owned()),
            mesos_bridge: Some(BridgeInfo {
                name: format!("m-{name}"),
                ip: Some("9.0.0.0/25".to_owned()),
                ip6: None,
            }),
            backend: BackendInfo {
                vxlan: Some(VxLanInfo {
                    vni: 1024,
                    vtep_name: "vtep1024".to_owned(),
                    vtep_ip: "44.128.0.1/20".to_owned(),
                    vtep_mac: "70:b3:d5:80:00:01".to_owned(),
                    ..VxLanInfo::default()
                }),
            },
            ..AgentOverlayInfo::default()
        }
    }

    fn peer(number: u8) -> Peer {
        Peer {
            ip: format!("10.77.1.{number}"),
            vni: 1024,
            vtep_ip: format!("44.128.0.{number}"),
            vtep_ip6: None,
            vtep_mac: format!("70:b3:d5:80:00:0{number}"),
            subnets: vec![PeerSubnet {
                overlay: "dcos".to_owned(),
                subnet: Some(format!("9.0.{number}.0/24")),
                subnet6: None,
            }],
        }
    }

    #[test]
    fn states_have_overlays_with_valid_values_and_the_other_agents() {
        let own = "10.77.1.1".parse().unwrap();
        let overlays = vec![overlay("dcos", "9.0.0.0/24"), overlay("web", "10.0.0.0/24")];
        let data = MasterData {
            master: Some("10.77.0.1".parse().unwrap()),
            overlays,
            peers: Some(vec![peer(1), peer(2)]),
        };
        let states = desired_states(&AgentConfig::new("/cni"), own, data.clone());
        assert_eq!(states.host.overlays.keys().collect::<Vec<_>>(), ["dcos"]);
        assert!(states.invalid["web"].contains("10.0.0.0/24"));
        let peers: Vec<_> = states.host.peers.iter().flat_map(|p| p.keys()).collect();
        assert_eq!(peers, [&"10.77.1.2".parse::<Ipv4Addr>().unwrap()]);

        let unknown = MasterData {
            peers: None,
            ..data
        };
        let states = desired_states(&AgentConfig::new("/cni"), own, unknown);
        assert_eq!(states.host.peers, None);
    }
}
