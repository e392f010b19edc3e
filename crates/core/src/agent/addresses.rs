//! Use of the addresses that containers on this host can get.

use std::collections::BTreeMap;

use super::Agent;
use super::assignment::OverlayAssignment;
use crate::Level;
use crate::host_api::usage::{Addresses, Containerizer, InUse};

/// Percentage of addresses in use above which the agent warns.
const SCARCE_PERCENT: u8 = 90;

/// Percentage of addresses in use up to which a warning is over.
const RECOVERED_PERCENT: u8 = 80;

/// Numbers of addresses in use, and the warnings about them.
#[derive(Debug, Default)]
pub(super) struct AddressUsage {
    /// Numbers of addresses of Mesos's containers, by overlay.
    mesos: BTreeMap<String, InUse>,
    /// Overlays with scarce addresses that were warned about.
    scarce: Vec<(String, Containerizer)>,
}

/// Addresses of one overlay, by containerizer.
pub(super) type OverlayAddresses = BTreeMap<&'static str, Addresses>;

/// Addresses of one overlay and containerizer.
#[derive(Debug)]
pub(super) struct AddressPool {
    pub overlay: String,
    pub containerizer: Containerizer,
    pub addresses: Addresses,
}

impl Agent {
    pub(super) fn handle_usage(&mut self, usage: BTreeMap<String, InUse>) {
        self.usage.mesos = usage;
        self.warn_of_scarce_addresses();
    }

    /// Warns of each overlay whose addresses become scarce: once, until a good part of them
    /// is free again.
    pub(super) fn warn_of_scarce_addresses(&mut self) {
        let mut scarce = Vec::new();
        for pool in self.address_pools() {
            let key = (pool.overlay, pool.containerizer);
            let limit = if self.usage.scarce.contains(&key) {
                RECOVERED_PERCENT
            } else {
                SCARCE_PERCENT
            };
            if pool.addresses.exceeds(limit) {
                scarce.push(key);
            }
        }
        let before = std::mem::replace(&mut self.usage.scarce, scarce);
        for key in &self.usage.scarce {
            if before.contains(key) {
                continue;
            }
            let (name, containerizer) = (&key.0, key.1.name());
            let line = format!(
                "Overlay {name:?}: more than {SCARCE_PERCENT} % of this agent's addresses for {containerizer} \
                 containers are in use; without a free one no container can start on it"
            );
            self.out.log(Level::Warning, line);
        }
    }

    /// Returns the addresses by overlay and containerizer.
    pub(super) fn addresses(&self) -> BTreeMap<String, OverlayAddresses> {
        let mut overlays = BTreeMap::<String, OverlayAddresses>::new();
        for pool in self.address_pools() {
            let overlay = overlays.entry(pool.overlay).or_default();
            overlay.insert(pool.containerizer.name(), pool.addresses);
        }
        overlays
    }

    /// Returns the addresses of each overlay and containerizer that has a bridge.
    pub(super) fn address_pools(&self) -> Vec<AddressPool> {
        let pools = |assigned| {
            let pool = move |containerizer| self.address_pool(assigned, containerizer);
            Containerizer::ALL.into_iter().filter_map(pool)
        };
        self.host.assigned_overlays().flat_map(pools).collect()
    }

    fn address_pool(
        &self,
        assigned: &OverlayAssignment,
        containerizer: Containerizer,
    ) -> Option<AddressPool> {
        let overlay = assigned.desired()?;
        let (bridge, usage) = match containerizer {
            Containerizer::Mesos => (&overlay.mesos_bridge, &self.usage.mesos),
            Containerizer::Docker => (&overlay.docker_bridge, self.engine.usage()),
        };
        let in_use = usage.get(assigned.name()).copied();
        Some(AddressPool {
            overlay: assigned.name().to_owned(),
            containerizer,
            addresses: Addresses::new(&bridge.as_ref()?.subnets, in_use),
        })
    }
}
