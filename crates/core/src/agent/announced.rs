//! Peers as the master announces them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::assignment::quote;
use crate::config::overlay::is_overlay_name;
use crate::host_api::desired::{Mac, Peer};
use crate::proto::internal as proto;
use crate::protocol::limits::MAX_OVERLAYS;

/// A peer with well-formed values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnnouncedPeer {
    /// Values as a host needs them.
    pub peer: Arc<Peer>,
    /// Overlay of each of the peer's subnets.
    overlays: Vec<Arc<str>>,
}

/// Names of overlays, each of which is kept once.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<Arc<str>>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }

    /// Forgets names that no peer has.
    pub fn forget_unused(&mut self) {
        self.0.retain(|name| Arc::strong_count(name) > 1);
    }
}

impl AnnouncedPeer {
    /// Parses a peer.
    ///
    /// # Errors
    /// A sentence about the first invalid value.
    pub fn parse(peer: &proto::Peer, names: &mut Names) -> Result<AnnouncedPeer, String> {
        let mut subnets = subnets(peer, names)?;
        subnets.sort();
        subnets.dedup();
        let (subnets, overlays) = subnets.into_iter().unzip();
        let peer = Peer {
            vtep_ips: vtep_ips(peer)?,
            vtep_mac: vtep_mac(peer)?,
            subnets,
        };
        Ok(AnnouncedPeer {
            peer: Arc::new(peer),
            overlays,
        })
    }

    /// Returns the peer at this address as a master's message has it. Each subnet has an element
    /// of its own. The VXLAN network identifier, which nobody uses, is 0.
    pub fn to_message(&self, ip: Ipv4Addr) -> proto::Peer {
        let vtep_ip = |is_v4: bool| {
            let mut ips = self.peer.vtep_ips.iter();
            ips.find(|ip| ip.is_ipv4() == is_v4).map(IpAddr::to_string)
        };
        let subnets = self.subnets().map(|(net, overlay)| {
            let text = |is_v4: bool| (net.addr().is_ipv4() == is_v4).then(|| net.to_string());
            proto::PeerSubnet {
                overlay: overlay.to_owned(),
                subnet: text(true),
                subnet6: text(false),
            }
        });
        proto::Peer {
            ip: ip.to_string(),
            vni: 0,
            vtep_ip: vtep_ip(true).unwrap_or_default(),
            vtep_ip6: vtep_ip(false),
            vtep_mac: self.peer.vtep_mac.to_string(),
            subnets: subnets.collect(),
        }
    }

    /// Returns the subnets with the names of their overlays.
    pub fn subnets(&self) -> impl Iterator<Item = (IpNet, &str)> {
        let overlays = self.overlays.iter().map(|name| &**name);
        self.peer.subnets.iter().copied().zip(overlays)
    }
}

fn invalid(field: &str, text: &str) -> String {
    format!("the master sent {field} {}", quote(text))
}

fn vtep_ips(peer: &proto::Peer) -> Result<Vec<IpAddr>, String> {
    let ip = peer.vtep_ip.parse::<Ipv4Addr>();
    let ip = ip.map_err(|_| invalid("vtep_ip", &peer.vtep_ip))?;
    let mut vtep_ips = vec![IpAddr::V4(ip)];
    if let Some(text) = &peer.vtep_ip6 {
        let ip = text.parse::<Ipv6Addr>();
        vtep_ips.push(ip.map_err(|_| invalid("vtep_ip6", text))?.into());
    }
    Ok(vtep_ips)
}

fn vtep_mac(peer: &proto::Peer) -> Result<Mac, String> {
    let mac = peer.vtep_mac.parse::<Mac>().ok();
    mac.filter(Mac::is_of_host)
        .ok_or_else(|| invalid("vtep_mac", &peer.vtep_mac))
}

/// Parses the subnets, each with its overlay.
fn subnets(peer: &proto::Peer, names: &mut Names) -> Result<Vec<(IpNet, Arc<str>)>, String> {
    let overlays = peer.subnets.len();
    if overlays > MAX_OVERLAYS {
        return Err(format!(
            "the master sent subnets of {overlays} overlays, more than {MAX_OVERLAYS}"
        ));
    }
    let mut subnets = Vec::new();
    for of_overlay in &peer.subnets {
        if !is_overlay_name(&of_overlay.overlay) {
            return Err(invalid("overlay", &of_overlay.overlay));
        }
        let v4 = of_overlay.subnet.as_ref();
        let v4 = v4.map(|text| {
            let net = text.parse::<Ipv4Net>();
            net.map(IpNet::V4).map_err(|_| invalid("subnet", text))
        });
        let v6 = of_overlay.subnet6.as_ref();
        let v6 = v6.map(|text| {
            let net = text.parse::<Ipv6Net>();
            net.map(IpNet::V6).map_err(|_| invalid("subnet6", text))
        });
        for net in v4.into_iter().chain(v6) {
            let net = net?;
            // A default route, or a prefix with host bits, is a mistake.
            if net.prefix_len() == 0 || net.trunc() != net {
                return Err(invalid("subnet", &net.to_string()));
            }
            subnets.push((net, names.get(&of_overlay.overlay)));
        }
    }
    Ok(subnets)
}
