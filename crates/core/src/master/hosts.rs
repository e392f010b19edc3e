//! Addresses and networks of hosts within the ranges of overlays and VTEPs.
//!
//! Where a range and the underlay share addresses, a host cannot tell containers and hosts apart:
//! it does not reach the one or the other. Such networks exist and are served, with a warning.
//! New ones are refused.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::ledger::Ledger;
use super::networks::{Change, Override, Refusal};
use super::sessions::Sessions;
use crate::allocation::prefix::overlap;
use crate::config::OverlayConfig;
use crate::config::overlay::Definition;

/// A range of containers or VTEPs.
pub struct TakenRange {
    /// The owner, for a sentence.
    pub owner: String,
    /// The range.
    pub net: IpNet,
}

/// Returns the ranges of the networks in force, and of removed overlays that still drain.
pub fn taken_ranges(ledger: &Ledger) -> impl Iterator<Item = TakenRange> {
    let networks = ledger.networks();
    let vteps = networks.network.vtep_ranges().map(|net| TakenRange {
        owner: "the VTEPs".to_owned(),
        net,
    });
    let in_force = networks.network.overlays.iter().map(Definition::config);
    let changed = networks.overrides();
    let draining = changed.filter(|change| ledger.is_draining(change.name()));
    let overlays = in_force.chain(draining.filter_map(Override::config));
    vteps.chain(overlays.flat_map(of_overlay))
}

fn of_overlay(overlay: &OverlayConfig) -> impl Iterator<Item = TakenRange> {
    overlay.ranges().map(|range| TakenRange {
        owner: format!("overlay {}", overlay.name),
        net: range.net,
    })
}

/// The hosts of a cluster, as far as its master knows them.
pub struct Hosts<'a> {
    /// The address of this master.
    pub master: IpAddr,
    /// The agents that have allocations.
    pub ledger: &'a Ledger,
    /// The agents that have registered, with the networks that they reported.
    pub sessions: &'a Sessions,
}

impl Hosts<'_> {
    /// Returns what of the hosts lies in a range, as a phrase without a subject.
    pub fn find_in(&self, range: IpNet) -> Option<String> {
        if range.contains(&self.master) {
            return Some(format!(
                "contains {}, the address of this master",
                self.master
            ));
        }
        let contains = |ip: &Ipv4Addr| range.contains(&IpAddr::V4(*ip));
        if let Some(first) = self.ledger.agents().find(contains) {
            let count = self.ledger.agents().filter(contains).count();
            return Some(format!(
                "contains addresses of agents: {count}, among them {first}"
            ));
        }
        let of_hosts = || {
            self.sessions.iter().filter_map(|(ip, session)| {
                let net = find_overlap(&session.host_networks, range)?;
                Some((ip, net))
            })
        };
        let (ip, net) = of_hosts().next()?;
        Some(format!(
            "overlaps networks of agents' own hosts: {}, among them {net} of agent {ip}",
            of_hosts().count()
        ))
    }

    /// Returns a sentence for each range of the networks in force that hosts lie in.
    pub fn problems(&self) -> Vec<String> {
        let ranges = taken_ranges(self.ledger);
        let problems = ranges.filter_map(|range| {
            let what = self.find_in(range.net)?;
            Some(format!(
                "The range {} of {} {what}. An agent sets up nothing that takes such addresses from its host, and \
                 reports it; give {} a range without hosts.",
                range.net, range.owner, range.owner
            ))
        });
        problems.collect()
    }

    /// Checks that no host lies in the ranges that a change would add.
    ///
    /// # Errors
    /// The refusal, which names the way around it.
    pub fn check(&self, change: &Change) -> Result<(), Refusal> {
        let (Change::Add(definition) | Change::Replace(definition)) = change else {
            return Ok(());
        };
        let config = definition.config();
        let before = self.ledger.networks().overlay(&config.name);
        let is_new = |net: IpNet| {
            let mut present = before
                .into_iter()
                .flat_map(|before| before.config().ranges());
            !present.any(|range| range.net.contains(&net))
        };
        let mut added = config.ranges().filter(|range| is_new(range.net));
        let Some((net, what)) = added.find_map(|range| Some((range.net, self.find_in(range.net)?)))
        else {
            return Ok(());
        };
        Err(Refusal::conflict(format!(
            "Overlay {} cannot be like that: its range {net} {what}; containers and these hosts would not reach each \
             other; give a range without hosts, or add \"force\": true to the body.",
            config.name
        )))
    }
}

/// Returns the first of an agent's networks that a range overlaps.
pub fn find_overlap(networks: &[IpNet], range: IpNet) -> Option<IpNet> {
    let mut networks = networks.iter().copied();
    networks.find(|net| overlap(*net, range))
}
