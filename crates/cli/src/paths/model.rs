//! Addresses of the cluster by agent, as the leading master shows them or as the kernel of this host
//! has them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::{Mac, VXLAN_PORT};
use overlay_core::util::family::Family;
use overlay_host::reconcile::MAIN_TABLE;
use overlay_host::reconcile::observed::{Device, Rule};

use crate::answers::{Agent, AgentOverlay, Backend, Bridge, MasterState, OverlayInfo, Vxlan};

/// Agents and ranges of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Agents.
    pub agents: Vec<Agent>,
    /// Overlays with their ranges.
    pub overlays: Vec<OverlayInfo>,
    /// Ranges of the VTEPs.
    pub vtep_ranges: Vec<IpNet>,
    /// Address of the agent on this host; `None`: there is none.
    pub own: Option<Ipv4Addr>,
}

/// Gateway of containers: the address of an agent's bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway<'a> {
    /// Overlay.
    pub overlay: &'a str,
    /// Name of the bridge.
    pub bridge: &'a str,
    /// Subnet of the containers on the bridge.
    pub subnet: IpNet,
    /// Address.
    pub ip: IpAddr,
}

/// Owner of an address.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The host of an agent itself.
    Host(&'a Agent),
    /// The tunnel's end of an agent.
    Vtep(&'a Agent),
    /// The bridge of an agent.
    Gateway(&'a Agent, Gateway<'a>),
    /// A container on the bridge of an agent, if there is one.
    Container(&'a Agent, Gateway<'a>),
    /// Nobody: it is in an agent's subnet, and in that of none of its bridges. Has the subnet.
    WithoutBridge(&'a Agent, IpNet),
    /// Nobody: it is in the range of an overlay, and no agent has that part of it.
    Unassigned(&'a str, IpNet),
    /// Nobody: it is in the range of the VTEPs, and no agent has it.
    UnassignedVtep(IpNet),
    /// Something outside of the overlays.
    Outside,
}

impl<'a> Place<'a> {
    /// Returns the agent whose host has the address, or would have it.
    pub fn agent(&self) -> Option<&'a Agent> {
        match self {
            Place::Host(agent)
            | Place::Vtep(agent)
            | Place::Gateway(agent, _)
            | Place::Container(agent, _)
            | Place::WithoutBridge(agent, _) => Some(agent),
            Place::Unassigned(..) | Place::UnassignedVtep(_) | Place::Outside => None,
        }
    }
}

impl Model {
    /// Creates a model of a master's answer. `own` are the addresses of this host.
    pub fn of_master(state: MasterState, own: &[IpAddr]) -> Model {
        let network = state.network;
        let ranges = [Some(network.vtep_subnet), network.vtep_subnet6];
        let is_own = |agent: &&Agent| own.contains(&agent.ip.into());
        Model {
            own: state.agents.iter().find(is_own).map(|agent| agent.ip),
            agents: state.agents,
            overlays: network.overlays,
            vtep_ranges: ranges
                .into_iter()
                .flatten()
                .filter_map(|range| range.parse().ok())
                .collect(),
        }
    }

    /// Creates a model of the permanent entries of this host's VXLAN device. `own` is the agent on
    /// this host as it shows itself.
    pub fn of_kernel(
        device: &Device,
        name: &str,
        rules: &[Rule],
        own: Option<(Ipv4Addr, Vec<AgentOverlay>)>,
    ) -> Model {
        let known = own.iter().flat_map(|(_, overlays)| overlays);
        let mut overlays: Vec<OverlayInfo> = known.map(|overlay| overlay.info.clone()).collect();
        if overlays.is_empty() {
            overlays = rules.iter().map(|rule| of_range(rule.from)).collect();
        }
        let mut agents = Vec::new();
        let entries = device.fdb.iter().filter(|(_, entry)| entry.permanent);
        for ((mac, host), _) in entries {
            let IpAddr::V4(ip) = *host else { continue };
            let vteps = device.neighbours.iter();
            let vteps = vteps.filter(|(_, neighbour)| neighbour.mac == Some(*mac));
            let vteps: Vec<IpAddr> = vteps.map(|(vtep, _)| *vtep).collect();
            let overlays = of_routes(device, name, *mac, &vteps, &overlays);
            agents.push(agent(ip, overlays));
        }
        let own_ip = own.as_ref().map(|(ip, _)| *ip);
        agents.extend(own.map(|(ip, overlays)| agent(ip, overlays)));
        Model {
            agents,
            overlays,
            vtep_ranges: device.addresses.iter().map(IpNet::trunc).collect(),
            own: own_ip,
        }
    }

    /// Returns the agent on this host.
    pub fn own(&self) -> Option<&Agent> {
        let own = self.own?;
        self.agents.iter().find(|agent| agent.ip == own)
    }

    /// Returns the other agents.
    pub fn peers(&self) -> impl Iterator<Item = &Agent> {
        let agents = self.agents.iter();
        agents.filter(|agent| Some(agent.ip) != self.own)
    }

    /// Returns what has an address.
    pub fn locate(&self, ip: IpAddr) -> Place<'_> {
        for agent in &self.agents {
            if IpAddr::V4(agent.ip) == ip {
                return Place::Host(agent);
            }
            if agent.vteps().any(|vtep| vtep == ip) {
                return Place::Vtep(agent);
            }
            for gateway in agent.gateways() {
                if gateway.ip == ip {
                    return Place::Gateway(agent, gateway);
                }
                if gateway.subnet.contains(&ip) {
                    return Place::Container(agent, gateway);
                }
            }
            let mut subnets = agent.overlays.iter().flat_map(AgentOverlay::subnets);
            if let Some(subnet) = subnets.find(|subnet| subnet.contains(&ip)) {
                return Place::WithoutBridge(agent, subnet);
            }
        }
        for overlay in &self.overlays {
            if let Some(range) = overlay.ranges().find(|range| range.contains(&ip)) {
                return Place::Unassigned(&overlay.name, range);
            }
        }
        let mut vteps = self.vtep_ranges.iter();
        match vteps.find(|range| range.contains(&ip)) {
            Some(range) => Place::UnassignedVtep(range.trunc()),
            None => Place::Outside,
        }
    }
}

impl Agent {
    /// Returns the tunnel's end.
    pub fn vxlan(&self) -> Option<&Vxlan> {
        let mut overlays = self.overlays.iter();
        overlays.find_map(|overlay| overlay.backend.vxlan.as_ref())
    }

    /// Returns the hardware address of the tunnel's end.
    pub fn vtep_mac(&self) -> Option<Mac> {
        self.vxlan()?.vtep_mac.to_lowercase().parse().ok()
    }

    /// Returns the addresses of the tunnel's end, IPv4 first.
    pub fn vteps(&self) -> impl Iterator<Item = IpAddr> {
        let nets = self
            .vxlan()
            .map(|vxlan| std::iter::once(vxlan.vtep_ip).chain(vxlan.vtep_ip6));
        nets.into_iter().flatten().map(|net| net.addr())
    }

    /// Returns the address of the tunnel's end in a family.
    pub fn vtep(&self, family: Family) -> Option<IpAddr> {
        self.vteps().find(|ip| family.includes(*ip))
    }

    /// Returns the gateways of its bridges, those of Mesos's containers first.
    pub fn gateways(&self) -> impl Iterator<Item = Gateway<'_>> {
        self.overlays.iter().flat_map(|overlay| {
            overlay.bridges().flat_map(move |bridge| {
                let nets = bridge.ip.into_iter().chain(bridge.ip6);
                nets.filter_map(move |net| {
                    Some(Gateway {
                        overlay: &overlay.info.name,
                        bridge: &bridge.name,
                        subnet: net.trunc(),
                        ip: first_address(net)?,
                    })
                })
            })
        })
    }

    /// Returns the gateway of an overlay's containers in a family.
    pub fn gateway(&self, overlay: &str, family: Family) -> Option<Gateway<'_>> {
        self.gateways()
            .find(|gateway| gateway.overlay == overlay && family.includes(gateway.ip))
    }

    /// Returns the first of its errors.
    pub fn first_error(&self) -> Option<&str> {
        let states = self.overlays.iter().filter_map(|overlay| {
            let state = overlay.state.as_ref()?;
            let is_failed = state.status == "STATUS_FAILED";
            state.error.as_deref().filter(|_| is_failed)
        });
        let errors = self.host_errors.iter().map(String::as_str);
        errors.chain(states).next()
    }
}

impl OverlayInfo {
    /// Returns the ranges, IPv4 first.
    pub fn ranges(&self) -> impl Iterator<Item = IpNet> {
        self.subnet.into_iter().chain(self.subnet6)
    }
}

/// Returns the address behind the network's own one: that of the gateway.
fn first_address(net: IpNet) -> Option<IpAddr> {
    Some(match net.network() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).checked_add(1)?).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).checked_add(1)?).into(),
    })
}

fn agent(ip: Ipv4Addr, overlays: Vec<AgentOverlay>) -> Agent {
    Agent {
        ip,
        connected: true,
        since_seconds: None,
        authentication: None,
        release: None,
        host_errors: Vec::new(),
        last_error: None,
        overlays,
    }
}

/// Returns an overlay of which only a range is known.
fn of_range(range: IpNet) -> OverlayInfo {
    let family = Family::from(range);
    OverlayInfo {
        name: range.to_string(),
        enabled: true,
        subnet: family.pick(Some(range), None),
        subnet6: family.pick(None, Some(range)),
        ..OverlayInfo::default()
    }
}

/// Returns the overlays of a peer by the routes to it.
fn of_routes(
    device: &Device,
    name: &str,
    mac: Mac,
    vteps: &[IpAddr],
    overlays: &[OverlayInfo],
) -> Vec<AgentOverlay> {
    let length = |family: Family| {
        let mut own = device.addresses.iter().filter(|net| family.includes(**net));
        own.next().map_or(family.pick(32, 128), IpNet::prefix_len)
    };
    let vtep = |family: Family| {
        let ip = family.find(vteps)?;
        IpNet::new(ip, length(family)).ok()
    };
    let Some(vtep_ip) = vtep(Family::V4) else {
        return Vec::new();
    };
    let backend = Backend {
        vxlan: Some(Vxlan {
            vtep_ip,
            vtep_ip6: vtep(Family::V6),
            vtep_mac: mac.to_string(),
            vtep_name: name.to_owned(),
        }),
    };
    let mut found = BTreeMap::<&str, AgentOverlay>::new();
    for route in &device.routes {
        let is_to_peer =
            route.table == MAIN_TABLE && route.via.is_some_and(|via| vteps.contains(&via));
        let is_around = |overlay: &&OverlayInfo| {
            let mut ranges = overlay.ranges();
            ranges.any(|range| range.contains(&route.dst))
        };
        let Some(overlay) = overlays.iter().find(is_around).filter(|_| is_to_peer) else {
            continue;
        };
        let entry = found.entry(&overlay.name);
        let entry = entry.or_insert_with(|| without_subnets(overlay, &backend));
        add_subnet(entry, route.dst);
    }
    found.into_values().collect()
}

/// Returns the part of an agent in an overlay, before its subnets are known.
fn without_subnets(overlay: &OverlayInfo, backend: &Backend) -> AgentOverlay {
    AgentOverlay {
        info: overlay.clone(),
        subnet: None,
        subnet6: None,
        backend: backend.clone(),
        mesos_bridge: Some(Bridge {
            name: format!("m-{}", overlay.name),
            ip: None,
            ip6: None,
        }),
        docker_bridge: None,
        state: None,
        addresses: BTreeMap::new(),
    }
}

/// Sets the subnet of a family, and that of the bridge.
fn add_subnet(entry: &mut AgentOverlay, subnet: IpNet) {
    let net = Some(subnet);
    let bridge = entry.mesos_bridge.as_mut();
    match Family::from(subnet) {
        Family::V4 => {
            entry.subnet = net;
            bridge.into_iter().for_each(|bridge| bridge.ip = net);
        }
        Family::V6 => {
            entry.subnet6 = net;
            bridge.into_iter().for_each(|bridge| bridge.ip6 = net);
        }
    }
}

/// UDP port of the tunnels.
pub const PORT: u16 = VXLAN_PORT;

#[cfg(test)]
pub mod samples {
    //! Models for tests.

    use serde_json::json;

    use super::*;

    /// Returns a cluster of this many agents, 10.0.x.y, with one overlay of both families. This host
    /// is the first one.
    pub fn cluster(agents: u16) -> Model {
        let agent = |number: u16| {
            let [high, low] = number.to_be_bytes();
            json!({
                "ip": format!("10.0.{high}.{low}"),
                "connected": true,
                "overlays": [{
                    "info": {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80},
                    "subnet": format!("9.{high}.{low}.0/24"),
                    "subnet6": format!("fd01:b:0:0:{number:x}::/80"),
                    "backend": {"vxlan": {"vni": 1024, "vtep_name": "vtep1024",
                        "vtep_ip": format!("44.128.{high}.{low}/16"),
                        "vtep_ip6": format!("fd01:a::{number:x}/64"),
                        "vtep_mac": format!("70:b3:d5:80:{high:02x}:{low:02x}")}},
                    "mesos_bridge": {"name": "m-dcos", "ip": format!("9.{high}.{low}.0/25"), "ip6": format!("fd01:b:0:0:{number:x}::/81")},
                    "state": {"status": "STATUS_OK"}
                }]
            })
        };
        let state = json!({
            "agents": (1..=agents).map(agent).collect::<Vec<_>>(),
            "network": {
                "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80}],
                "vtep_subnet": "44.128.0.0/16",
                "vtep_subnet6": "fd01:a::/64"
            }
        });
        let own = [IpAddr::from([10, 0, 0, 1])];
        Model::of_master(serde_json::from_value(state).unwrap(), &own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_place() {
        let model = samples::cluster(3);
        let place = |ip: &str| {
            let place = model.locate(ip.parse().unwrap());
            let agent = place.agent().map(|agent| agent.ip.octets()[3]);
            let text = format!("{place:?}");
            let word = text.split(['(', ' ']).next().unwrap().to_owned();
            (word, agent)
        };
        for (ip, word, agent) in [
            ("10.0.0.2", "Host", Some(2)),
            ("44.128.0.3", "Vtep", Some(3)),
            ("fd01:a::3", "Vtep", Some(3)),
            ("9.0.2.1", "Gateway", Some(2)),
            ("9.0.2.2", "Container", Some(2)),
            ("fd01:b:0:0:2::7", "Container", Some(2)),
            ("9.0.2.200", "WithoutBridge", Some(2)),
            ("9.7.7.7", "Unassigned", None),
            ("44.128.9.9", "UnassignedVtep", None),
            ("192.0.2.1", "Outside", None),
        ] {
            assert_eq!(place(ip), (word.to_owned(), agent), "{ip}");
        }
        assert_eq!(model.own, Some([10, 0, 0, 1].into()));
        assert_eq!(model.peers().count(), 2);
    }
}
