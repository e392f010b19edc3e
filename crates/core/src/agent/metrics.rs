//! The agent's numbers: what it counts, and the addresses of its host.

use std::collections::BTreeMap;

use super::{Agent, Phase, progress};
use crate::Level;
use crate::host_api::usage::{AddressCount, Addresses, Containerizer, InUse, Quantity};
use crate::metrics::{AGENT_PREFIX, Description, Numbers, counter, gauge};
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use crate::protocol::messages::Named;

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
    pub peers_received: u64,
    pub peers_dropped: u64,
}

impl Counters {
    /// A message came.
    pub fn received(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_received += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_received += 1,
            UpdatePeersMessage::NAME => self.peers_received += 1,
            _ => {}
        }
    }

    /// A message was of no use.
    pub fn dropped(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_dropped += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_dropped += 1,
            UpdatePeersMessage::NAME => self.peers_dropped += 1,
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
                let limit = if self.samples.scarce.contains(of) {
                    FREE_AGAIN
                } else {
                    SCARCE
                };
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
            overlays
                .entry(name)
                .or_default()
                .insert(containerizer.name(), addresses);
        }
        overlays
    }

    fn all_addresses(&self) -> Vec<(String, Containerizer, Addresses)> {
        let shares = self
            .configuration
            .given()
            .into_iter()
            .flat_map(|given| &given.shares);
        let of = |share: &super::assignment::Share| {
            let Ok(overlay) = &share.overlay else {
                return Vec::new();
            };
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
                let addresses =
                    Addresses::new(&bridge(containerizer)?.subnets, in_use(containerizer));
                Some((share.name().to_owned(), containerizer, addresses))
            };
            Containerizer::ALL
                .into_iter()
                .filter_map(addresses)
                .collect()
        };
        shares.flat_map(of).collect()
    }

    /// All numbers, as they are now.
    pub(super) fn numbers(&self) -> Numbers {
        let overlays = self.overlays();
        let failed = overlays
            .iter()
            .filter(|overlay| progress::status(overlay) == Status::Failed)
            .count();
        let without = overlays
            .iter()
            .filter(|overlay| overlay.subnet.is_none() && overlay.subnet6.is_none());
        let registering = matches!(
            self.registration.phase,
            Phase::NoMaster | Phase::Registering
        );
        let mut numbers = Numbers::default();
        numbers.prometheus_only(&RESTARTS, &[], self.restarts as f64);
        numbers.count(
            &REGISTERING,
            &[],
            "overlay/slave/registering",
            registering.into(),
        );
        numbers.count(
            &FAILED,
            &[],
            "overlay/slave/overlay_config_failed",
            failed as u64,
        );
        numbers.count(
            &WITHOUT,
            &[],
            "overlay/slave/overlays_without_subnets",
            without.count() as u64,
        );
        if let Some(peers) = self.peers.count(self.own_ip()) {
            numbers.count(&PEERS, &[], "overlay/slave/peers", peers as u64);
        }
        for (name, containerizer, addresses) in self.all_addresses() {
            add_addresses(&mut numbers, &name, containerizer.name(), &addresses);
        }
        self.counters.add_to(&mut numbers);
        numbers
    }
}

impl Counters {
    fn add_to(&self, numbers: &mut Numbers) {
        numbers.count(
            &FAILURES,
            &[],
            "overlay/slave/overlay_config_failures",
            self.overlay_failures,
        );
        numbers.count(
            &DOCKER_FAILURES,
            &[],
            "overlay/slave/docker_cmd_failures",
            self.docker_failures,
        );
        let register = [("message", "RegisterAgentMessage")];
        let update = [("message", "UpdateAgentOverlaysMessage")];
        let report = [("message", "AgentRegisteredMessage")];
        let acknowledgement = [("message", "AgentRegisteredAcknowledgement")];
        let peers = [("message", "UpdatePeersMessage")];
        for (of, labels, snapshot, count) in [
            (
                &SENT,
                register,
                "register_agent_messages_sent",
                self.registers_sent,
            ),
            (
                &SENT,
                report,
                "agent_registered_messages_sent",
                self.reports_sent,
            ),
            (
                &RECEIVED,
                update,
                "update_agent_overlays_messages_received",
                self.updates_received,
            ),
            (
                &RECEIVED,
                acknowledgement,
                "agent_registered_acknowledgements_received",
                self.acknowledgements_received,
            ),
            (
                &RECEIVED,
                peers,
                "update_peers_messages_received",
                self.peers_received,
            ),
            (
                &DROPPED,
                update,
                "update_agent_overlays_messages_dropped",
                self.updates_dropped,
            ),
            (
                &DROPPED,
                peers,
                "update_peers_messages_dropped",
                self.peers_dropped,
            ),
            (
                &DROPPED,
                report,
                "agent_registered_messages_dropped",
                self.reports_dropped,
            ),
            (
                &DROPPED,
                acknowledgement,
                "agent_registered_acknowledgements_dropped",
                self.acknowledgements_dropped,
            ),
        ] {
            numbers.count(
                of,
                &labels,
                format!("overlay/slave/internal/{snapshot}"),
                count,
            );
        }
    }
}

fn add_addresses(numbers: &mut Numbers, overlay: &str, containerizer: &str, addresses: &Addresses) {
    for count in addresses.counts() {
        let AddressCount {
            quantity,
            family,
            key,
            value,
        } = count;
        let description = match quantity {
            Quantity::InUse => &IN_USE,
            Quantity::Total => &CAPACITY,
        };
        let labels = [
            ("overlay", overlay),
            ("containerizer", containerizer),
            ("family", family.name()),
        ];
        numbers.add(
            description,
            &labels,
            format!("{AGENT_PREFIX}addresses/{overlay}/{containerizer}/{key}"),
            value,
        );
    }
}

const RESTARTS: Description = counter(
    "mesos_overlay_agent_process_restarts_total",
    "How often the module was started again after a panic.",
);
const REGISTERING: Description = gauge(
    "mesos_overlay_agent_registering",
    "1 while no master has answered, else 0.",
);
const FAILED: Description = gauge(
    "mesos_overlay_agent_overlays_failed",
    "Overlays that are STATUS_FAILED now.",
);
const WITHOUT: Description = gauge(
    "mesos_overlay_agent_overlays_without_subnets",
    "Overlays of which this agent has no subnet.",
);
const PEERS: Description = gauge(
    "mesos_overlay_agent_peers",
    "Other agents that this one was told of.",
);
const FAILURES: Description = counter(
    "mesos_overlay_agent_configuration_failures_total",
    "Attempts at an overlay that failed.",
);
const DOCKER_FAILURES: Description = counter(
    "mesos_overlay_agent_docker_failures_total",
    "Attempts at a network of the container engine that failed.",
);
const RECEIVED: Description = counter(
    "mesos_overlay_agent_messages_received_total",
    "Messages that came from masters.",
);
const DROPPED: Description = counter(
    "mesos_overlay_agent_messages_dropped_total",
    "Messages that came and were of no use, and reports that could not be sent.",
);
const SENT: Description = counter(
    "mesos_overlay_agent_messages_sent_total",
    "Messages sent to masters.",
);
const IN_USE: Description = gauge(
    "mesos_overlay_agent_addresses_in_use",
    "Addresses that containers on this host have.",
);
const CAPACITY: Description = gauge(
    "mesos_overlay_agent_addresses_capacity",
    "Addresses that containers on this host can have.",
);
