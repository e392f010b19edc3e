//! The agent's numbers: what it counts, and the addresses of its host.

use std::collections::BTreeMap;

use super::{Agent, Phase, progress};
use crate::core::Level;
use crate::core::message::Named;
use crate::core::metrics::{AGENT_PREFIX, Metric};
use crate::core::usage::{Addresses, Containerizer, InUse};
use crate::wire::agent_overlay_info::state::Status;
use crate::wire::internal::{AgentRegisteredAcknowledgement, UpdateAgentOverlaysMessage};

/// So many percent of the addresses in use are worth a warning.
const SCARCE: u8 = 90;
/// With no more than this in use the warning is over.
const FREE_AGAIN: u8 = 80;

/// What happened since this machine was made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub overlay_failures: u64,
    pub docker_failures: u64,
    pub registers_sent: u64,
    pub updates_received: u64,
    pub updates_dropped: u64,
    pub reports_sent: u64,
    pub reports_dropped: u64,
    pub acknowledgements_received: u64,
    pub acknowledgements_dropped: u64,
}

impl Counters {
    /// A message came.
    pub fn received(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_received += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_received += 1,
            _ => {}
        }
    }

    /// A message was of no use.
    pub fn dropped(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_dropped += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_dropped += 1,
            _ => {}
        }
    }
}

/// The addresses that Mesos's containers have, and what was said of all addresses.
#[derive(Debug, Default)]
pub(super) struct Samples {
    mesos: BTreeMap<String, InUse>,
    /// Where addresses are scarce, which is said once.
    scarce: Vec<(String, Containerizer)>,
}

/// The addresses of one overlay.
pub(super) type OverlayAddresses = BTreeMap<&'static str, Addresses>;

impl Agent {
    pub(super) fn on_usage(&mut self, usage: BTreeMap<String, InUse>) {
        self.samples.mesos = usage;
        self.warn_scarce();
    }

    /// Warns of each overlay whose addresses get scarce: once, until a good part of them
    /// is free again.
    pub(super) fn warn_scarce(&mut self) {
        let scarce: Vec<_> = self
            .all_addresses()
            .into_iter()
            .map(|(name, containerizer, addresses)| ((name, containerizer), addresses))
            .filter(|(of, addresses)| {
                let limit = if self.samples.scarce.contains(of) { FREE_AGAIN } else { SCARCE };
                addresses.exceeds(limit)
            })
            .map(|(of, _)| of)
            .collect();
        let before = std::mem::replace(&mut self.samples.scarce, scarce.clone());
        for (name, containerizer) in scarce.iter().filter(|new| !before.contains(new)) {
            let containerizer = containerizer.name();
            let line = format!(
                "Overlay {name:?}: more than {SCARCE} % of this agent's addresses for {containerizer} containers are in \
                 use; without a free one no container can start on it"
            );
            self.log(Level::Warning, line);
        }
    }

    /// The addresses by overlay and containerizer.
    pub(super) fn addresses(&self) -> BTreeMap<String, OverlayAddresses> {
        let mut overlays = BTreeMap::<String, OverlayAddresses>::new();
        for (name, containerizer, addresses) in self.all_addresses() {
            overlays.entry(name).or_default().insert(containerizer.name(), addresses);
        }
        overlays
    }

    fn all_addresses(&self) -> Vec<(String, Containerizer, Addresses)> {
        let shares = self.configuration.given().into_iter().flat_map(|given| &given.shares);
        let of = |share: &super::desired::Share| {
            let Ok(overlay) = &share.overlay else { return Vec::new() };
            let bridge = |containerizer| match containerizer {
                Containerizer::Mesos => overlay.mesos_bridge.as_ref(),
                Containerizer::Docker => overlay.docker_bridge.as_ref(),
            };
            let in_use = |containerizer| {
                let usage = match containerizer {
                    Containerizer::Mesos => &self.samples.mesos,
                    Containerizer::Docker => self.engine.usage(),
                };
                usage.get(share.name()).copied()
            };
            let addresses = |containerizer| {
                let addresses = Addresses::new(&bridge(containerizer)?.subnets, in_use(containerizer));
                Some((share.name().to_owned(), containerizer, addresses))
            };
            Containerizer::ALL.into_iter().filter_map(addresses).collect()
        };
        shares.flat_map(of).collect()
    }

    pub(super) fn all_metrics(&self) -> Vec<Metric> {
        let overlays = self.overlays();
        let failed = overlays.iter().filter(|overlay| progress::status(overlay) == Status::Failed).count();
        let without = overlays.iter().filter(|overlay| overlay.subnet.is_none() && overlay.subnet6.is_none());
        let registering = matches!(self.registration.phase, Phase::NoMaster | Phase::Registering);
        let count = |name: &'static str, count: u64| Metric::count(name, count);
        let counted = &self.counters;
        let mut metrics = vec![
            Metric::flag("overlay/slave/registering", registering),
            count("overlay/slave/overlay_config_failed", failed as u64),
            count("overlay/slave/overlay_config_failures", counted.overlay_failures),
            count("overlay/slave/overlays_without_subnets", without.count() as u64),
            count("overlay/slave/docker_cmd_failures", counted.docker_failures),
            count("overlay/slave/internal/register_agent_messages_sent", counted.registers_sent),
            count("overlay/slave/internal/update_agent_overlays_messages_received", counted.updates_received),
            count("overlay/slave/internal/update_agent_overlays_messages_dropped", counted.updates_dropped),
            count("overlay/slave/internal/agent_registered_messages_sent", counted.reports_sent),
            count("overlay/slave/internal/agent_registered_messages_dropped", counted.reports_dropped),
            count(
                "overlay/slave/internal/agent_registered_acknowledgements_received",
                counted.acknowledgements_received,
            ),
            count(
                "overlay/slave/internal/agent_registered_acknowledgements_dropped",
                counted.acknowledgements_dropped,
            ),
        ];
        for (name, containerizer, addresses) in self.all_addresses() {
            let of = |(what, value): (&str, f64)| {
                Metric::new(format!("{AGENT_PREFIX}addresses/{name}/{}/{what}", containerizer.name()), value)
            };
            metrics.extend(addresses.values().map(of));
        }
        metrics
    }
}
