//! Checks of the stored allocations against the configuration and each other.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::{contradiction, damaged};
use crate::allocation::prefix::{ends, overlap};
use crate::config::{Network, Range};
use crate::master::networks::{Networks, SubnetsByOverlay};

/// An address or subnet that an agent holds.
pub struct HeldNet<'a> {
    /// The agent.
    pub agent: Ipv4Addr,
    /// The overlay of the subnet, or `None` for the address of the VTEP.
    pub overlay: Option<&'a str>,
    /// The subnet, or the address as a network of full length.
    pub net: IpNet,
}

/// Checks that the networks in force can contain what an agent holds.
///
/// # Errors
/// The networks cannot contain it. The error is a sentence with the remedy.
pub fn check_fits(
    networks: &Networks,
    subnets: &SubnetsByOverlay,
    held: &HeldNet<'_>,
) -> Result<(), String> {
    let network = &networks.network;
    match held.overlay {
        None => {
            let is_same_family =
                |range: &IpNet| range.addr().is_ipv4() == held.net.addr().is_ipv4();
            match network.vtep_ranges().find(is_same_family) {
                Some(range) => check_vtep(range, held),
                None => check_unconfigured(network, held),
            }
        }
        Some(name) => {
            let overlay = network.overlay(name);
            match overlay.and_then(|overlay| overlay.config().range_like(held.net)) {
                Some(range) => {
                    let may_be_mixed = || may_be_mixed(networks, subnets, name);
                    check_subnet(range, held, name, may_be_mixed)
                }
                None => check_unconfigured(network, held),
            }
        }
    }
}

fn check_vtep(range: IpNet, held: &HeldNet<'_>) -> Result<(), String> {
    let (first, last) = ends(range);
    let (number, _) = ends(held.net);
    if first < number && number < last {
        return Ok(());
    }
    Err(contradiction(&format!(
        "agent {} has the VTEP address {}, which is not among those of the VTEP subnet {range} (the first and \
         the last one are not used): configure a VTEP subnet that contains it",
        held.agent,
        held.net.addr()
    )))
}

fn check_subnet(
    range: Range,
    held: &HeldNet<'_>,
    name: &str,
    may_be_mixed: impl FnOnce() -> bool,
) -> Result<(), String> {
    let HeldNet { agent, net, .. } = held;
    if range.index_of(*net).is_some() {
        return Ok(());
    }
    if !range.net.contains(net) {
        return Err(contradiction(&format!(
            "agent {agent} holds {net} of overlay {name}, which is outside of its subnet {} in the \
             configuration: configure a subnet that contains it, or give the changed overlay a new name",
            range.net
        )));
    }
    if net.prefix_len() == range.prefix || may_be_mixed() {
        return Ok(());
    }
    Err(contradiction(&format!(
        "agent {agent} holds {net} of overlay {name}, whose subnets have the prefix length {} in the \
         configuration: put {} back (while the master serves, PUT /overlay-master/overlays/{name} changes \
         the length for new agents), or give the changed overlay a new name and a range of its own",
        range.prefix,
        net.prefix_len()
    )))
}

/// Checks that no configured range overlaps a subnet or address that an agent holds from a
/// range that is not configured any more.
fn check_unconfigured(network: &Network, held: &HeldNet<'_>) -> Result<(), String> {
    let HeldNet {
        agent,
        overlay,
        net,
    } = held;
    let overlays = network.overlays.iter().flat_map(|overlay| {
        let ranges = overlay.config().ranges();
        ranges.map(move |range| (format!("overlay {}", overlay.name()), range.net))
    });
    let vteps = network
        .vtep_ranges()
        .map(|net| ("the VTEPs".to_owned(), net));
    let mut ranges = overlays.chain(vteps);
    let Some((other, range)) = ranges.find(|(_, range)| overlap(*range, *net)) else {
        return Ok(());
    };
    let (what, was) = match overlay {
        Some(name) => (
            format!("{net} of overlay {name}"),
            format!("overlay {name}"),
        ),
        None => (
            format!("the VTEP address {}", net.addr()),
            "the VTEPs' range".to_owned(),
        ),
    };
    Err(contradiction(&format!(
        "agent {agent} holds {what}, a range that the configuration does not have under this name, but \
         gives to {other} ({range}): put {was} back as it was, or give {other} another range"
    )))
}

/// Checks that no two agents hold the same address.
///
/// # Errors
/// Two agents do. The error is a sentence with the remedy.
pub fn check_nothing_is_held_twice(mut held: Vec<HeldNet<'_>>) -> Result<(), String> {
    // Sorted by family and first address, networks that overlap follow each other.
    held.sort_by_key(|held| (held.net.addr().is_ipv6(), ends(held.net)));
    for pair in held.windows(2) {
        let [a, b] = pair else { continue };
        if overlap(a.net, b.net) {
            return Err(damaged(&format!(
                "agent {} holds {} and agent {} holds {}, which overlap",
                a.agent, a.net, b.agent, b.net
            )));
        }
    }
    Ok(())
}

/// Returns whether agents may hold subnets of different lengths, because the prefix of the
/// overlay was changed while the cluster ran. An older master may have dropped the change from
/// the log since; then the subnets show it.
fn may_be_mixed(networks: &Networks, subnets: &SubnetsByOverlay, name: &str) -> bool {
    let nets = || {
        subnets
            .get(name)
            .into_iter()
            .flatten()
            .map(|held| held.nets)
    };
    let is_mixed = |nets: &mut dyn Iterator<Item = IpNet>| {
        let lengths: BTreeSet<u8> = nets.map(|net| net.prefix_len()).collect();
        lengths.len() > 1
    };
    networks.override_of(name).is_some()
        || is_mixed(&mut nets().filter_map(|nets| nets.v4))
        || is_mixed(&mut nets().filter_map(|nets| nets.v6))
}
