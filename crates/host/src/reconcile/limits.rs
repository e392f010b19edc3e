//! What may be on the VXLAN device of a host, by the overlays and by the host's other networks.
//!
//! The master's values were checked against each other before. Only here it is known which
//! addresses and networks the host has, at the moment in which the plan is made. What collides
//! with them is left out, and reported.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::{CONTAINER_TABLE, Desired, Overlay, Peer, Vtep};
use overlay_core::util::family::Family;
use overlay_core::util::special_purpose;

use super::constants::MAIN_TABLE;
use super::observed::{HostNetwork, HostNetworks};
use super::op::RouteKey;
use super::types::Draining;

/// Limits of the objects on a VXLAN device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Own VTEP addresses, with the prefix lengths of the VTEPs' ranges.
    vteps: Vec<IpNet>,
    /// Ranges of overlays, also of those that are removed and still have containers.
    ranges: Vec<IpNet>,
    /// Networks of the host's other devices.
    networks: HostNetworks,
}

impl Limits {
    pub(super) fn new(
        desired: &Desired,
        vtep: &Vtep,
        draining: &[Draining],
        networks: &HostNetworks,
    ) -> Limits {
        let overlays = desired.overlays.values();
        let ranges = overlays.flat_map(|overlay| &overlay.ranges);
        let draining = draining.iter().flat_map(|part| &part.ranges);
        Limits {
            vteps: vtep.addresses.clone(),
            ranges: ranges.chain(draining).copied().collect(),
            networks: networks.clone(),
        }
    }

    /// Returns why the VTEP cannot have its address, as a sentence.
    pub(super) fn vtep_fault(&self, name: &str) -> Option<String> {
        let collision = |own: &IpNet| Some((own.addr(), containing(&self.networks, own.addr())?));
        let (ip, HostNetwork { device, net }) = self.vteps.iter().find_map(collision)?;
        Some(format!(
            "cannot create VXLAN device {name}: its address {ip} lies in {net} of device {device}; give the VTEPs a \
             range that this host does not have"
        ))
    }

    /// Returns why a peer cannot have its addresses, as a phrase.
    pub(super) fn peer_fault(&self, ip: Ipv4Addr, peer: &Peer) -> Option<String> {
        let ip = IpAddr::V4(ip);
        if let Some(own) = self.networks.iter().find(|own| own.net.addr() == ip) {
            return Some(format!(
                "device {} of this host has its address",
                own.device
            ));
        }
        let collision = |ip: &IpAddr| Some((*ip, containing(&self.networks, *ip)?));
        let (ip, HostNetwork { device, net }) = peer.vtep_ips.iter().find_map(collision)?;
        Some(format!(
            "its VTEP address {ip} lies in {net} of device {device}"
        ))
    }

    /// Returns why containers of peers cannot have a subnet, as a phrase.
    pub(super) fn subnet_fault(&self, subnet: IpNet) -> Option<String> {
        if !self.ranges.iter().any(|range| range.contains(&subnet)) {
            return Some("lies in no overlay of this host".to_owned());
        }
        let HostNetwork { device, net } = overlapping(&self.networks, subnet)?;
        Some(format!("overlaps {net} of device {device}"))
    }

    /// Returns whether a peer can need this route, whoever the peers are.
    pub(super) fn permit_route(&self, key: RouteKey) -> bool {
        match key.table {
            MAIN_TABLE => self.subnet_fault(key.dst).is_none(),
            CONTAINER_TABLE => {
                let is_host = key.dst.prefix_len() == key.dst.max_prefix_len();
                is_host && self.permit_destination(key.dst.addr())
            }
            _ => true,
        }
    }

    /// Returns whether a peer can have this VTEP address, whoever the peers are.
    pub(super) fn permit_neighbour(&self, ip: IpAddr) -> bool {
        let own = Family::from(ip).find(&self.vteps);
        own.is_none_or(|own| own.contains(&ip)) && containing(&self.networks, ip).is_none()
    }

    /// Returns whether a peer can have this address on the underlay, whoever the peers are.
    pub(super) fn permit_destination(&self, ip: IpAddr) -> bool {
        let is_own = self.networks.iter().any(|own| own.net.addr() == ip);
        let is_fit = match special_purpose::of_address(ip) {
            // Hosts of the same range can have such addresses.
            Some(special) => overlapping(&self.networks, special.net).is_some(),
            None => true,
        };
        is_fit && !is_own && !self.vteps.iter().any(|range| range.contains(&ip))
    }
}

/// Returns why an overlay's bridge of Mesos cannot have its subnets, as a sentence.
pub(super) fn bridge_fault(overlay: &Overlay, networks: &HostNetworks) -> Option<String> {
    let bridge = overlay.mesos_bridge.as_ref()?;
    let collision = |net: &IpNet| Some((*net, overlapping(networks, *net)?));
    let (subnet, HostNetwork { device, net }) = bridge.subnets.iter().find_map(collision)?;
    Some(format!(
        "cannot set up bridge {}: its subnet {subnet} overlaps {net} of device {device}; give the overlay a range \
         that this host does not have",
        bridge.name
    ))
}

/// Returns the network of the host that contains an address.
pub(super) fn containing(networks: &HostNetworks, ip: IpAddr) -> Option<&HostNetwork> {
    networks.iter().find(|own| own.net.contains(&ip))
}

/// Returns a network of the host that overlaps another one.
pub(super) fn overlapping(networks: &HostNetworks, net: IpNet) -> Option<&HostNetwork> {
    let overlaps = |own: &&HostNetwork| own.net.contains(&net) || net.contains(&own.net);
    networks.iter().find(overlaps)
}
