//! Search for an address.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::host_api::desired;

use super::report::{Match, Role};
use crate::answers::{Agent, AgentOverlay, Bridge, MasterState};

/// Place of an address in the cluster.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What is known of it.
    pub found: Match,
    /// True if a container may have it, which its agent knows.
    pub may_be_container: bool,
}

impl Placed {
    fn certain(found: Match) -> Placed {
        Placed {
            found,
            may_be_container: false,
        }
    }
}

/// Finds the place of an address by the master's state; `None`: it has none.
pub fn place(ip: IpAddr, state: &MasterState) -> Option<Placed> {
    let agents = || state.agents.iter();
    if let Some(agent) = agents().find(|agent| IpAddr::V4(agent.ip) == ip) {
        return Some(Placed::certain(of_agent(Role::Agent, agent)));
    }
    let has_vtep = |agent: &&Agent| vteps(agent).any(|vtep| vtep.addr() == ip);
    if let Some(agent) = agents().find(has_vtep) {
        return Some(Placed::certain(of_agent(Role::Vtep, agent)));
    }
    let subnets = agents().flat_map(|agent| agent.overlays.iter().map(move |of| (agent, of)));
    let mut holders = subnets.filter(|(_, overlay)| overlay.subnets().any(|net| net.contains(&ip)));
    if let Some((agent, overlay)) = holders.next() {
        return Some(in_subnet(ip, agent, overlay));
    }
    in_range(ip, state).map(Placed::certain)
}

/// Finds the agent whose VTEP has a hardware address.
pub fn of_mac(mac: desired::Mac, state: &MasterState) -> Option<Match> {
    let text = mac.to_string();
    let mut agents = state.agents.iter();
    let agent = agents.find(|agent| {
        let mut vxlans = agent
            .overlays
            .iter()
            .filter_map(|of| of.backend.vxlan.as_ref());
        vxlans.any(|vxlan| vxlan.vtep_mac.eq_ignore_ascii_case(&text))
    })?;
    Some(of_agent(Role::Vtep, agent))
}

/// Returns an agent with all that it has.
pub fn of_agent(role: Role, agent: &Agent) -> Match {
    let vxlan = agent
        .overlays
        .iter()
        .find_map(|of| of.backend.vxlan.as_ref());
    let subnets = agent.overlays.iter().flat_map(|overlay| {
        let name = &overlay.info.name;
        overlay.subnets().map(move |net| format!("{net} of {name}"))
    });
    Match {
        role,
        agent: Some(agent.ip.to_string()),
        subnets: subnets.collect(),
        vtep: vteps(agent).map(|vtep| vtep.addr().to_string()).collect(),
        vtep_mac: vxlan.map(|vxlan| vxlan.vtep_mac.clone()),
        ..Match::default()
    }
}

/// Returns the VTEP addresses of an agent, each once.
fn vteps(agent: &Agent) -> impl Iterator<Item = IpNet> {
    let vxlan = agent
        .overlays
        .iter()
        .find_map(|of| of.backend.vxlan.as_ref());
    vxlan
        .into_iter()
        .flat_map(|vxlan| std::iter::once(vxlan.vtep_ip).chain(vxlan.vtep_ip6))
}

/// Returns the place of an address in the subnet of an agent.
fn in_subnet(ip: IpAddr, agent: &Agent, overlay: &AgentOverlay) -> Placed {
    let mut found = Match {
        overlay: Some(overlay.info.name.clone()),
        subnets: overlay.subnets().map(|net| net.to_string()).collect(),
        ..of_agent(Role::Free, agent)
    };
    let bridges = [
        ("mesos", &overlay.mesos_bridge),
        ("docker", &overlay.docker_bridge),
    ];
    let mut networks = bridges.into_iter().filter_map(|(containerizer, bridge)| {
        let bridge = bridge.as_ref()?;
        let net = networks(bridge).find(|net| net.contains(&ip))?;
        Some((containerizer, bridge, net))
    });
    let Some((containerizer, bridge, net)) = networks.next() else {
        // No bridge of the agent has this half of the subnet.
        return Placed::certain(found);
    };
    found.bridge = Some(bridge.name.clone());
    found.containerizer = Some(containerizer.to_owned());
    found.role = role_in(ip, net);
    Placed {
        may_be_container: found.role == Role::Free,
        found,
    }
}

fn networks(bridge: &Bridge) -> impl Iterator<Item = IpNet> {
    bridge.ip.into_iter().chain(bridge.ip6)
}

/// Returns the role of an address in the network of a bridge, as far as that alone tells.
fn role_in(ip: IpAddr, net: IpNet) -> Role {
    let bridge = desired::Bridge {
        name: String::new(),
        subnets: vec![net],
    };
    let is_gateway = bridge.gateways().iter().any(|gateway| gateway.addr() == ip);
    match ip {
        _ if is_gateway => Role::Gateway,
        _ if ip == net.network() => Role::NetworkAddress,
        IpAddr::V4(_) if ip == net.broadcast() => Role::BroadcastAddress,
        _ => Role::Free,
    }
}

/// Returns the overlay or the VTEPs whose range has an address that no agent has.
fn in_range(ip: IpAddr, state: &MasterState) -> Option<Match> {
    for overlay in &state.network.overlays {
        let mut ranges = overlay.subnet.iter().chain(&overlay.subnet6);
        if let Some(range) = ranges.find(|range| range.contains(&ip)) {
            return Some(Match {
                role: Role::Unassigned,
                overlay: Some(overlay.name.clone()),
                ranges: vec![range.to_string()],
                ..Match::default()
            });
        }
    }
    let network = &state.network;
    let vteps = std::iter::once(&network.vtep_subnet).chain(&network.vtep_subnet6);
    let mut ranges = vteps.filter_map(|range| range.parse::<IpNet>().ok());
    let range = ranges.find(|range| range.contains(&ip))?;
    Some(Match {
        role: Role::Unassigned,
        ranges: vec![format!("{range} (VTEPs)")],
        ..Match::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state() -> MasterState {
        serde_json::from_value(json!({
            "agents": [{
                "ip": "10.0.0.1",
                "overlays": [{
                    "info": {"name": "dcos", "subnet": "9.0.0.0/8"},
                    "subnet": "9.0.1.0/24",
                    "subnet6": "fd01:b::1:0:0:0/80",
                    "mesos_bridge": {"name": "m-dcos", "ip": "9.0.1.0/25", "ip6": "fd01:b::1:0:0:0/81"},
                    "backend": {"vxlan": {
                        "vni": 1024, "vtep_ip": "44.128.0.1/20", "vtep_ip6": "fd01:a::1/64",
                        "vtep_mac": "70:b3:d5:80:00:01", "vtep_name": "vtep1024"
                    }},
                }],
            }],
            "network": {
                "vtep_subnet": "44.128.0.0/20",
                "vtep_subnet6": "fd01:a::/64",
                "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "subnet6": "fd01:b::/64"}],
            },
        }))
        .unwrap()
    }

    fn role(ip: &str) -> Option<(Role, bool)> {
        let placed = place(ip.parse().unwrap(), &state())?;
        Some((placed.found.role, placed.may_be_container))
    }

    #[test]
    fn each_address_has_its_role() {
        for (ip, expected) in [
            ("10.0.0.1", Some((Role::Agent, false))),
            ("44.128.0.1", Some((Role::Vtep, false))),
            ("fd01:a::1", Some((Role::Vtep, false))),
            ("44.128.0.2", Some((Role::Unassigned, false))),
            ("9.0.1.0", Some((Role::NetworkAddress, false))),
            ("9.0.1.1", Some((Role::Gateway, false))),
            ("fd01:b::1:0:0:1", Some((Role::Gateway, false))),
            ("9.0.1.2", Some((Role::Free, true))),
            ("9.0.1.127", Some((Role::BroadcastAddress, false))),
            // The half for Docker, which the agent does not have.
            ("9.0.1.129", Some((Role::Free, false))),
            ("9.9.9.9", Some((Role::Unassigned, false))),
            ("8.8.8.8", None),
        ] {
            assert_eq!(role(ip), expected, "{ip}");
        }
        let found = of_mac("70:B3:D5:80:00:01".parse().unwrap(), &state()).unwrap();
        assert_eq!(found.agent.as_deref(), Some("10.0.0.1"));
        assert_eq!(
            found.subnets,
            ["9.0.1.0/24 of dcos", "fd01:b:0:0:1::/80 of dcos"]
        );
    }
}
