//! Which values of the master can be right on this host.
//!
//! Values that are well-formed can still take traffic from where it belongs: a route to a peer
//! that covers the master, or a VTEP with the address of another host. Networks of the host that
//! only the kernel knows are compared where the host is reconciled.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::announced::AnnouncedPeer;
use crate::allocation::prefix::overlap;
use crate::host_api::desired::{Overlay, Vtep};
use crate::util::family::Family;
use crate::util::special_purpose;

/// Hosts that must be reached over the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnderlayHosts {
    /// This host.
    pub own: Ipv4Addr,
    /// The leading master; `None`: not known.
    pub master: Option<IpAddr>,
}

impl UnderlayHosts {
    /// Returns a host that a network contains, as a phrase.
    fn find_in(&self, net: IpNet) -> Option<String> {
        let own = IpAddr::V4(self.own);
        let master = self.master.filter(|master| net.contains(master));
        match master {
            Some(ip) => Some(format!("{ip}, the address of the leading master")),
            None => net
                .contains(&own)
                .then(|| format!("{own}, the address of this agent")),
        }
    }
}

/// Checks the address of this host's VTEP with the prefix length of the VTEPs' range.
///
/// # Errors
/// The address cannot be right. The text follows it in a sentence.
pub(super) fn check_vtep(hosts: &UnderlayHosts, address: IpNet) -> Result<(), String> {
    let shortest = Vtep::shortest_prefix(address.into());
    if address.prefix_len() < shortest {
        return Err(format!("whose prefix is shorter than /{shortest}"));
    }
    if let Some(special) = special_purpose::of_network(address.trunc()) {
        return Err(format!("which overlaps {special}"));
    }
    check_host_part(address.addr(), address)?;
    match hosts.find_in(address.trunc()) {
        Some(host) => Err(format!("whose range contains {host}")),
        None => Ok(()),
    }
}

/// Checks that an address is neither the first nor the last one of a range, which no VTEP has.
fn check_host_part(ip: IpAddr, range: IpNet) -> Result<(), String> {
    match ip == range.network() || ip == range.broadcast() {
        true => Err(format!(
            "which is the first or last address of {}",
            range.trunc()
        )),
        false => Ok(()),
    }
}

/// Checks the range of an overlay.
///
/// # Errors
/// The range cannot be right. The text follows it in a sentence.
pub(super) fn check_range(range: IpNet) -> Result<(), String> {
    match special_purpose::of_network(range) {
        Some(special) => Err(format!("which overlaps {special}")),
        None => Ok(()),
    }
}

/// Checks the subnet of an agent. `vteps` are the ranges of the VTEPs.
///
/// # Errors
/// The subnet cannot be right. The text follows it in a sentence.
pub(super) fn check_subnet(
    hosts: &UnderlayHosts,
    vteps: &[IpNet],
    subnet: IpNet,
) -> Result<(), String> {
    if let Some(host) = hosts.find_in(subnet) {
        return Err(format!("which contains {host}"));
    }
    match vteps.iter().find(|vteps| overlap(**vteps, subnet)) {
        Some(vteps) => Err(format!(
            "which overlaps {}, the range of the VTEPs",
            vteps.trunc()
        )),
        None => Ok(()),
    }
}

/// Ranges that the values of peers must lie in, by the overlays that this host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges {
    hosts: UnderlayHosts,
    /// Own VTEP addresses, with the prefix lengths of the VTEPs' ranges.
    vteps: Vec<IpNet>,
    overlays: BTreeMap<String, OverlayRanges>,
}

/// Ranges of one overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OverlayRanges {
    /// Ranges of the whole overlay, at most one of each family.
    ranges: Vec<IpNet>,
    /// Own subnets.
    subnets: Vec<IpNet>,
}

impl Ranges {
    /// Returns the ranges of a host with this VTEP and these overlays, by name.
    pub fn new<'a>(
        hosts: UnderlayHosts,
        vtep: Option<&Vtep>,
        overlays: impl Iterator<Item = (&'a str, &'a Overlay)>,
    ) -> Ranges {
        let overlays = overlays.map(|(name, overlay)| {
            let ranges = OverlayRanges {
                ranges: overlay.ranges.clone(),
                subnets: overlay.subnets.clone(),
            };
            (name.to_owned(), ranges)
        });
        Ranges {
            hosts,
            vteps: vtep.map_or(Vec::new(), |vtep| vtep.addresses.clone()),
            overlays: overlays.collect(),
        }
    }

    /// Returns this host's underlay address.
    pub fn own(&self) -> Ipv4Addr {
        self.hosts.own
    }

    /// Returns whether the host has a VTEP with an address of a family; without one it
    /// exchanges no packets of that family with peers.
    pub fn has(&self, family: Family) -> bool {
        family.find(&self.vteps).is_some()
    }

    /// Returns whether this host uses a subnet that a peer has of an overlay. It does not have
    /// every overlay, and a subnet of its own is not a peer's: a list from before the
    /// assignment may say so.
    pub fn uses(&self, subnet: IpNet, overlay: &str) -> bool {
        let overlay = self.overlays.get(overlay);
        overlay.is_some_and(|known| !known.subnets.iter().any(|own| overlap(*own, subnet)))
    }

    /// Checks a peer, as far as this host [uses](Self::uses) its values.
    ///
    /// # Errors
    /// A sentence about the first value that cannot be right.
    pub fn check_peer(&self, ip: Ipv4Addr, announced: &AnnouncedPeer) -> Result<(), String> {
        self.check_underlay(ip)?;
        for vtep_ip in &announced.peer.vtep_ips {
            self.check_vtep_of_peer(*vtep_ip)?;
        }
        announced
            .subnets()
            .try_for_each(|(subnet, overlay)| self.check_subnet_of_peer(subnet, overlay))
    }

    /// Checks that a peer's own address can be one of a host. A range that also contains this
    /// host's address excludes nobody: then the overlay overlaps the underlay.
    fn check_underlay(&self, ip: Ipv4Addr) -> Result<(), String> {
        let (ip, own) = (IpAddr::V4(ip), IpAddr::V4(self.hosts.own));
        if let Some(special) = special_purpose::of_host(ip, own) {
            return Err(format!("its address lies in {special}"));
        }
        let excludes = |range: &IpNet| range.contains(&ip) && !range.contains(&own);
        if let Some(range) = self.vteps.iter().find(|range| excludes(range)) {
            let range = range.trunc();
            return Err(format!(
                "its address lies in {range}, the range of the VTEPs"
            ));
        }
        for (name, overlay) in &self.overlays {
            if let Some(range) = overlay.ranges.iter().find(|range| excludes(range)) {
                return Err(format!(
                    "its address lies in {range}, the range of overlay {name}"
                ));
            }
        }
        Ok(())
    }

    fn check_vtep_of_peer(&self, ip: IpAddr) -> Result<(), String> {
        let Some(own) = Family::from(ip).find(&self.vteps) else {
            return Ok(());
        };
        let result = match own.contains(&ip) {
            true => check_host_part(ip, own),
            false => Err(format!("which does not lie within {}", own.trunc())),
        };
        result.map_err(|rule| format!("the master sent VTEP address {ip}, {rule}"))
    }

    fn check_subnet_of_peer(&self, subnet: IpNet, overlay: &str) -> Result<(), String> {
        let family = Family::from(subnet);
        let Some(known) = self.overlays.get(overlay).filter(|_| self.has(family)) else {
            return Ok(());
        };
        let result = match family.find(&known.ranges) {
            None => Err("which has no range of this family".to_owned()),
            Some(range) if !range.contains(&subnet) => {
                Err(format!("which does not lie within {range}"))
            }
            Some(_) => check_subnet(&self.hosts, &self.vteps, subnet),
        };
        result.map_err(|rule| format!("the master sent subnet {subnet} of {overlay}, {rule}"))
    }
}

#[cfg(test)]
mod tests;
