//! Agents as the log stores them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use litemap::LiteMap;

use super::checks::HeldNet;
use super::damaged;
use crate::allocation::allocator::{Allocation, DualStackNet};
use crate::config::Network;
use crate::proto;

/// An agent in the log.
pub struct StoredAgent {
    /// The address.
    pub ip: Ipv4Addr,
    /// The stored message, without reported states.
    pub info: proto::AgentInfo,
    /// The addresses and subnets that it holds.
    pub allocation: Allocation,
}

impl StoredAgent {
    /// Reads an agent.
    ///
    /// # Errors
    /// The message is damaged. The error is a sentence.
    pub fn read(network: &Network, mut info: proto::AgentInfo) -> Result<StoredAgent, String> {
        let ip: Ipv4Addr = info.ip.parse().map_err(|_| {
            damaged(&format!(
                "\"{}\" is not the IPv4 address of an agent",
                info.ip
            ))
        })?;
        let overlays = LiteMap::with_capacity(info.overlays.len());
        let mut allocation = Allocation {
            overlays,
            ..Allocation::default()
        };
        for overlay in &mut info.overlays {
            // A reported status does not belong into the log.
            overlay.state = None;
            let name = overlay.info.name.clone();
            let nets = DualStackNet {
                v4: parse(ip, &name, overlay.subnet.as_deref(), IpAddr::is_ipv4)?,
                v6: parse(ip, &name, overlay.subnet6.as_deref(), IpAddr::is_ipv6)?,
            };
            if let Some(vxlan) = &overlay.backend.vxlan {
                let v4 = parse(ip, &name, Some(&vxlan.vtep_ip), IpAddr::is_ipv4)?;
                let v6 = parse(ip, &name, vxlan.vtep_ip6.as_deref(), IpAddr::is_ipv6)?;
                merge_vtep(ip, &mut allocation.vtep.v4, v4)?;
                merge_vtep(ip, &mut allocation.vtep.v6, v6)?;
            }
            if allocation.overlays.insert(name.clone(), nets).is_some() {
                return Err(damaged(&format!("agent {ip} has overlay {name} twice")));
            }
        }
        let with_prefix_of = |net: Option<IpNet>, range: Option<IpNet>| match (net, range) {
            (Some(net), Some(range)) => IpNet::new(net.addr(), range.prefix_len()).ok(),
            _ => net,
        };
        let vtep = &mut allocation.vtep;
        vtep.v4 = with_prefix_of(vtep.v4, Some(network.vtep_subnet.into()));
        vtep.v6 = with_prefix_of(vtep.v6, network.vtep_subnet6.map(Into::into));
        Ok(StoredAgent {
            ip,
            info,
            allocation,
        })
    }

    /// Returns the addresses and subnets that the agent holds.
    pub fn held(&self) -> Vec<HeldNet<'_>> {
        let held = |overlay, net| HeldNet {
            agent: self.ip,
            overlay,
            net,
        };
        let mut all: Vec<_> = self
            .allocation
            .vtep
            .iter()
            .flatten()
            .map(|net| held(None, net.addr().into()))
            .collect();
        for (name, nets) in &self.allocation.overlays {
            all.extend(
                nets.iter()
                    .flatten()
                    .map(|net| held(Some(name.as_str()), *net)),
            );
        }
        all
    }
}

/// Reads a network, or an address, which becomes a network of full length.
fn parse(
    agent: Ipv4Addr,
    overlay: &str,
    text: Option<&str>,
    family: impl Fn(&IpAddr) -> bool,
) -> Result<Option<IpNet>, String> {
    let Some(text) = text else { return Ok(None) };
    let net = text
        .parse()
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    match net {
        Ok(net) if family(&IpNet::addr(&net)) => Ok(Some(net)),
        _ => Err(damaged(&format!(
            "\"{text}\" of overlay {overlay} of agent {agent} is not a network of its family"
        ))),
    }
}

/// Merges the VTEP address of another overlay. All overlays of an agent have the same VTEP.
fn merge_vtep(
    agent: Ipv4Addr,
    known: &mut Option<IpNet>,
    found: Option<IpNet>,
) -> Result<(), String> {
    match (*known, found) {
        (Some(known), Some(found)) if known.addr() != found.addr() => Err(damaged(&format!(
            "agent {agent} has two VTEPs, {} and {}",
            known.addr(),
            found.addr()
        ))),
        _ => {
            *known = known.or(found);
            Ok(())
        }
    }
}
