//! Agents that still have subnets of overlays that are not in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::networks::Networks;
use super::record::AgentRecord;

/// Agents that still hold subnets, per draining overlay.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DrainHolders {
    overlays: BTreeMap<String, BTreeSet<Ipv4Addr>>,
}

impl DrainHolders {
    /// Finds the holders of every overlay that is not in force.
    pub fn new(networks: &Networks, records: &BTreeMap<Ipv4Addr, AgentRecord>) -> DrainHolders {
        let mut overlays: BTreeMap<String, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for (ip, record) in records
            .iter()
            .filter(|(_, record)| !record.content.inactive.is_empty())
        {
            for name in record
                .content
                .allocation
                .overlays
                .keys()
                .filter(|name| networks.overlay(name).is_none())
            {
                overlays.entry(name.clone()).or_default().insert(*ip);
            }
        }
        DrainHolders { overlays }
    }

    /// Returns whether an overlay has holders.
    pub fn has(&self, overlay: &str) -> bool {
        let holders = self.overlays.get(overlay);
        holders.is_some_and(|holders| !holders.is_empty())
    }

    /// Removes an agent from the holders of one overlay.
    pub fn remove(&mut self, ip: Ipv4Addr, overlay: &str) {
        if let Some(holders) = self.overlays.get_mut(overlay) {
            holders.remove(&ip);
        }
    }

    /// Removes an agent from the holders of all overlays.
    pub fn remove_agent(&mut self, ip: Ipv4Addr) {
        for holders in self.overlays.values_mut() {
            holders.remove(&ip);
        }
    }

    /// Removes and returns the overlays without holders.
    pub fn take_drained(&mut self) -> Vec<String> {
        let drained = self
            .overlays
            .extract_if(.., |_, holders| holders.is_empty())
            .map(|(name, _)| name);
        drained.collect()
    }
}
