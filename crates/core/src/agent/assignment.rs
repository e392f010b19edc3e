//! Parsing and validation of the overlays that the master assigns to this agent.
//!
//! The values become devices, files and routes on the host, so each is checked. An overlay
//! with an invalid value fails with a sentence, and does not affect the other overlays. What the
//! host had of it before stays.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::ranges::{Ranges, UnderlayHosts, check_range, check_subnet, check_vtep};
use crate::config::overlay::{is_overlay_name, longest_useful_prefix};
use crate::config::{AgentConfig, OVERLAY_MTU};
use crate::host_api::desired::{Bridge, Mac, Overlay, Vtep};
use crate::host_api::names::vtep_name;
use crate::host_api::usage::Containerizer;
use crate::proto::{AgentOverlayInfo, BridgeInfo, VxLanInfo};
use crate::util::family::Family;
pub(super) use crate::util::line::quote;

/// Longest text of an assignment that is kept, in characters. Names, addresses and prefixes are
/// shorter.
const MAX_TEXT: usize = 64;

/// Overlays and VTEP that the master assigned to this agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Assignment {
    /// Tunnel endpoint that all overlays share.
    pub vtep: Option<Vtep>,
    /// Overlays in the master's order.
    pub overlays: Vec<OverlayAssignment>,
}

impl Assignment {
    /// Returns the ranges in which the values of peers must lie.
    pub fn ranges(&self, hosts: UnderlayHosts) -> Ranges {
        let overlays = self
            .overlays
            .iter()
            .filter_map(|assigned| Some((assigned.name(), assigned.desired()?)));
        Ranges::new(hosts, self.vtep.as_ref(), overlays)
    }

    /// Returns the first overlay of this name.
    pub fn find(&self, name: &str) -> Option<&OverlayAssignment> {
        self.overlays.iter().find(|overlay| overlay.name() == name)
    }

    /// Keeps of the assignment `before` what this one has invalid values for.
    pub fn keep(&mut self, before: &Assignment) {
        let mut names = BTreeSet::new();
        let mut keeps_any = false;
        for assigned in &mut self.overlays {
            let is_first = names.insert(assigned.info.info.name.clone());
            if is_first && assigned.overlay.is_err() {
                let earlier = before.find(assigned.name());
                assigned.kept = earlier.and_then(OverlayAssignment::desired).cloned();
                keeps_any |= assigned.kept.is_some();
            }
        }
        if keeps_any && self.vtep.is_none() {
            self.vtep.clone_from(&before.vtep);
        }
    }
}

/// Overlay that the master assigned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OverlayAssignment {
    /// The master's message, without a state.
    pub info: AgentOverlayInfo,
    /// Desired state on the host, or why the message is invalid.
    pub overlay: Result<Overlay, String>,
    /// State on the host before an invalid message, which stays.
    pub kept: Option<Overlay>,
}

impl OverlayAssignment {
    /// Returns the overlay's name.
    pub fn name(&self) -> &str {
        &self.info.info.name
    }

    /// Returns the state that the host should have; `None`: it has nothing of this overlay.
    pub fn desired(&self) -> Option<&Overlay> {
        self.overlay.as_ref().ok().or(self.kept.as_ref())
    }
}

/// Parses an address of this family with a prefix length.
fn parse_address(family: Family, field: &str, text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok();
    net.filter(|net| family.includes(*net)).ok_or_else(|| {
        let example = family.pick(
            "IPv4 prefix such as 9.0.0.0/24",
            "IPv6 prefix such as fd01:b::/80",
        );
        let text = quote(text);
        format!("the master sent {field} {text}, which is not an {example}")
    })
}

/// Parses a network of this family, which must lie within `outer` if that is given.
fn parse_network(
    family: Family,
    field: &str,
    text: &str,
    outer: Option<IpNet>,
) -> Result<IpNet, String> {
    let net = parse_address(family, field, text)?;
    if net.trunc() != net {
        return Err(format!(
            "the master sent {field} {net}, which has bits set behind its prefix"
        ));
    }
    match outer {
        Some(outer) if !outer.contains(&net) => Err(format!(
            "the master sent {field} {net}, which does not lie within {outer}"
        )),
        _ => Ok(net),
    }
}

/// Parses the master's list of overlays. `hosts` are reached over the underlay.
pub(super) fn parse(
    config: &AgentConfig,
    hosts: &UnderlayHosts,
    overlays: Vec<AgentOverlayInfo>,
) -> Assignment {
    let mut assignment = Assignment::default();
    for mut info in overlays {
        info.state = None;
        shorten(&mut info);
        let overlay = match assignment.find(&info.info.name) {
            Some(_) => Err("the master sent this overlay twice".to_owned()),
            None => parse_assigned(config, hosts, &info, &mut assignment.vtep),
        };
        assignment.overlays.push(OverlayAssignment {
            info,
            overlay,
            kept: None,
        });
    }
    assignment
}

/// Cuts texts that are too long to be valid, since reports and endpoints repeat them.
fn shorten(overlay: &mut AgentOverlayInfo) {
    let info = &mut overlay.info;
    let mut texts = vec![&mut info.name];
    texts.extend(info.subnet.iter_mut().chain(&mut info.subnet6));
    texts.extend(overlay.subnet.iter_mut().chain(&mut overlay.subnet6));
    let bridges = overlay.mesos_bridge.iter_mut();
    for bridge in bridges.chain(&mut overlay.docker_bridge) {
        texts.push(&mut bridge.name);
        texts.extend(bridge.ip.iter_mut().chain(&mut bridge.ip6));
    }
    if let Some(vxlan) = &mut overlay.backend.vxlan {
        texts.extend([
            &mut vxlan.vtep_name,
            &mut vxlan.vtep_ip,
            &mut vxlan.vtep_mac,
        ]);
        texts.extend(&mut vxlan.vtep_ip6);
    }
    for text in texts {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(end);
            text.shrink_to_fit();
        }
    }
}

/// Parses one overlay. The first valid VTEP becomes the host's.
fn parse_assigned(
    config: &AgentConfig,
    hosts: &UnderlayHosts,
    info: &AgentOverlayInfo,
    vtep: &mut Option<Vtep>,
) -> Result<Overlay, String> {
    check_name(&info.info.name)?;
    let vxlan = info
        .backend
        .vxlan
        .as_ref()
        .ok_or("the master sent no VXLAN backend")?;
    let own = parse_vtep(hosts, vxlan)?;
    let overlay = parse_overlay(config, info)?;
    check_subnets(hosts, &own, &overlay)?;
    let shared = vtep.get_or_insert_with(|| own.clone());
    if *shared != own {
        let [own, shared] = [&own, shared].map(|vtep| {
            let addresses: Vec<String> = vtep.addresses.iter().map(ToString::to_string).collect();
            format!("{} {} {}", vtep.name, vtep.mac, addresses.join(" "))
        });
        return Err(format!(
            "the master sent another VTEP ({own}) than for the overlay before ({shared}); a host has one"
        ));
    }
    Ok(overlay)
}

/// Checks a name, which becomes part of file and device names.
fn check_name(name: &str) -> Result<(), String> {
    if is_overlay_name(name) {
        return Ok(());
    }
    Err(format!(
        "the master sent {}, which cannot be the name of an overlay",
        quote(name)
    ))
}

/// Checks that traffic to an overlay's subnets can go to its bridges.
fn check_subnets(hosts: &UnderlayHosts, vtep: &Vtep, overlay: &Overlay) -> Result<(), String> {
    for subnet in &overlay.subnets {
        check_subnet(hosts, &vtep.addresses, *subnet)
            .map_err(|rule| format!("the master sent subnet {subnet}, {rule}"))?;
    }
    Ok(())
}

/// Parses the tunnel endpoint.
fn parse_vtep(hosts: &UnderlayHosts, vxlan: &VxLanInfo) -> Result<Vtep, String> {
    if vxlan.vni >= 1 << 24 {
        return Err(format!(
            "the master sent vni {}, which has more than 24 bits",
            vxlan.vni
        ));
    }
    // A device of this name is created, changed and deleted, so it must not be another
    // program's.
    if vxlan.vtep_name != vtep_name(vxlan.vni) {
        return Err(format!(
            "the master sent vtep_name {}; the device of vni {1} is called vtep{1}",
            quote(&vxlan.vtep_name),
            vxlan.vni
        ));
    }
    let mac = vxlan.vtep_mac.parse::<Mac>().ok();
    let mac = mac.filter(Mac::is_of_host).ok_or_else(|| {
        let got = quote(&vxlan.vtep_mac);
        format!(
            "the master sent vtep_mac {got}, which is not a host's MAC such as 70:b3:d5:80:00:01"
        )
    })?;
    let address = |family, field, text| {
        let address = parse_address(family, field, text)?;
        check_vtep(hosts, address)
            .map_err(|rule| format!("the master sent {field} {address}, {rule}"))?;
        Ok::<_, String>(address)
    };
    let mut addresses = vec![address(Family::V4, "vtep_ip", &vxlan.vtep_ip)?];
    if let Some(text) = &vxlan.vtep_ip6 {
        addresses.push(address(Family::V6, "vtep_ip6", text)?);
    }
    Ok(Vtep {
        name: vxlan.vtep_name.clone(),
        vni: vxlan.vni,
        mac,
        addresses,
        mtu: vxlan.vtep_mtu,
    })
}

/// Parses ranges, subnets and bridges.
fn parse_overlay(config: &AgentConfig, info: &AgentOverlayInfo) -> Result<Overlay, String> {
    let network = &config.network;
    // A bridge that this agent did not request is not created.
    let mesos = info.mesos_bridge.as_ref().filter(|_| network.mesos_bridge);
    let docker = info
        .docker_bridge
        .as_ref()
        .filter(|_| network.docker_bridge);
    let bridge = |bridge: Option<&BridgeInfo>, field, containerizer: Containerizer| {
        let name = containerizer.bridge_name(&info.info.name);
        bridge.map(|bridge| parse_bridge(bridge, field, name))
    };
    let mut overlay = Overlay {
        mtu: network.overlay_mtu.unwrap_or(OVERLAY_MTU),
        mesos_bridge: bridge(mesos, "mesos_bridge", Containerizer::Mesos).transpose()?,
        docker_bridge: bridge(docker, "docker_bridge", Containerizer::Docker).transpose()?,
        ..Overlay::default()
    };
    for family in Family::BOTH {
        let Some(Prefixes { range, subnet }) = parse_prefixes(family, info)? else {
            continue;
        };
        overlay.ranges.push(range);
        let Some(subnet) = subnet else { continue };
        overlay.subnets.push(subnet);
        for (info, field, bridge) in [
            (mesos, "mesos_bridge", &mut overlay.mesos_bridge),
            (docker, "docker_bridge", &mut overlay.docker_bridge),
        ] {
            let (Some(info), Some(bridge)) = (info, bridge) else {
                continue;
            };
            if let Some(text) = family.pick(&info.ip, &info.ip6) {
                let net = parse_network(family, field, text, Some(subnet))?;
                check_room(field, net, subnet)?;
                bridge.subnets.push(net);
            }
        }
    }
    Ok(overlay)
}

/// Checks that a bridge's subnet has an address for a container.
fn check_room(field: &str, net: IpNet, subnet: IpNet) -> Result<(), String> {
    let longest = longest_useful_prefix(net);
    if net.prefix_len() <= longest {
        return Ok(());
    }
    let key = Family::from(net).pick("prefix", "prefix6");
    Err(format!(
        "the master sent {field} {net}, which has no address for a container beside the bridge's own: half of \
         the agent's subnet {subnet}; give the overlay a {key} of at most {}",
        longest - 1
    ))
}

/// Prefixes of an overlay in one address family.
struct Prefixes {
    /// Range of the whole overlay.
    range: IpNet,
    /// This agent's part of it.
    subnet: Option<IpNet>,
}

/// Parses the prefixes of an overlay in one family; `None`: it has none.
fn parse_prefixes(family: Family, info: &AgentOverlayInfo) -> Result<Option<Prefixes>, String> {
    let (range, range_field) = family.pick(
        (&info.info.subnet, "info.subnet"),
        (&info.info.subnet6, "info.subnet6"),
    );
    let (subnet, subnet_field) = family.pick((&info.subnet, "subnet"), (&info.subnet6, "subnet6"));
    let Some(range) = range else {
        return match subnet {
            None => Ok(None),
            Some(_) => Err(format!(
                "the master sent {subnet_field} without {range_field}"
            )),
        };
    };
    let range = parse_network(family, range_field, range, None)?;
    check_range(range).map_err(|rule| format!("the master sent {range_field} {range}, {rule}"))?;
    let subnet = subnet
        .as_ref()
        .map(|subnet| parse_network(family, subnet_field, subnet, Some(range)))
        .transpose()?;
    Ok(Some(Prefixes { range, subnet }))
}

/// Parses a bridge without its subnets.
fn parse_bridge(info: &BridgeInfo, field: &str, name: String) -> Result<Bridge, String> {
    if info.name != name {
        return Err(format!(
            "the master sent {field} {}, which must be called {name}",
            quote(&info.name)
        ));
    }
    Ok(Bridge {
        name,
        subnets: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
