//! The metrics of the agent.

use super::Agent;
use super::addresses::AddressPool;
use super::registration::Phase;
use super::report::status;
use super::session::Trust;
use crate::host_api::usage::{AddressCount, Quantity};
use crate::machine::outbox::MessageCounters;
use crate::metrics::{AGENT_PREFIX, Description, Numbers, counter, gauge};
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage,
    RegistrationChallengeMessage, RegistrationRefusedMessage, UpdateAgentOverlaysMessage,
    UpdatePeersMessage,
};
use crate::protocol::messages::Named;

/// Counters since the machine was made.
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
    pub challenges_received: u64,
    pub challenges_dropped: u64,
    pub refusals_received: u64,
    pub refusals_dropped: u64,
    pub peers_received: u64,
    pub peers_dropped: u64,
}

impl MessageCounters for Counters {
    fn count_sent(&mut self, name: &str) {
        match name {
            RegisterAgentMessage::NAME => self.registers_sent += 1,
            AgentRegisteredMessage::NAME => self.reports_sent += 1,
            _ => {}
        }
    }
}

impl Counters {
    /// Counts a received message of this protobuf type.
    pub fn count_received(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_received += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_received += 1,
            RegistrationChallengeMessage::NAME => self.challenges_received += 1,
            RegistrationRefusedMessage::NAME => self.refusals_received += 1,
            UpdatePeersMessage::NAME => self.peers_received += 1,
            _ => {}
        }
    }

    /// Counts a message of this protobuf type that was malformed, unexpected or not known to be
    /// the leading master's.
    pub fn count_dropped(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_dropped += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_dropped += 1,
            RegistrationChallengeMessage::NAME => self.challenges_dropped += 1,
            RegistrationRefusedMessage::NAME => self.refusals_dropped += 1,
            UpdatePeersMessage::NAME => self.peers_dropped += 1,
            _ => {}
        }
    }
}

impl Agent {
    /// Returns the present values of all metrics.
    pub(super) fn numbers(&self) -> Numbers {
        let overlays = self.overlays();
        let failed = overlays
            .iter()
            .filter(|overlay| status(overlay) == Status::Failed)
            .count();
        let without = overlays
            .iter()
            .filter(|overlay| overlay.subnet.is_none() && overlay.subnet6.is_none());
        let mut numbers = Numbers::default();
        numbers.prometheus_only(&RESTARTS, &[], self.restarts as f64);
        self.count_registration(&mut numbers);
        for (description, name, count) in [
            (&FAILED, "overlay_config_failed", failed),
            (&WITHOUT, "overlays_without_subnets", without.count()),
        ] {
            numbers.count(
                description,
                &[],
                format!("{AGENT_PREFIX}{name}"),
                count as u64,
            );
        }
        if let Some(peers) = self.peers.count(self.own_ip()) {
            numbers.count(&PEERS, &[], "overlay/slave/peers", peers as u64);
        }
        for pool in self.address_pools() {
            add_addresses(&mut numbers, &pool);
        }
        self.out.counters.add_to(&mut numbers);
        numbers
    }

    fn count_registration(&self, numbers: &mut Numbers) {
        let registering = matches!(
            self.registration.phase,
            Phase::NoMaster | Phase::Registering
        );
        let leads = self.registration.master().is_some();
        let confirmed = leads && self.session.trust() == Trust::Confirmed;
        for (description, name, is_so) in [
            (&REGISTERING, "registering", registering),
            (&CONFIRMED, "master_confirmed", confirmed),
        ] {
            numbers.count(
                description,
                &[],
                format!("{AGENT_PREFIX}{name}"),
                is_so.into(),
            );
        }
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
        self.add_messages(numbers);
    }

    fn add_messages(&self, numbers: &mut Numbers) {
        let sent = |count| (&SENT, "sent", count);
        let received = |count| (&RECEIVED, "received", count);
        let dropped = |count| (&DROPPED, "dropped", count);
        for (message, prefix, counts) in [
            (
                "RegisterAgentMessage",
                "register_agent_messages",
                vec![sent(self.registers_sent)],
            ),
            (
                "AgentRegisteredMessage",
                "agent_registered_messages",
                vec![sent(self.reports_sent), dropped(self.reports_dropped)],
            ),
            (
                "UpdateAgentOverlaysMessage",
                "update_agent_overlays_messages",
                vec![
                    received(self.updates_received),
                    dropped(self.updates_dropped),
                ],
            ),
            (
                "AgentRegisteredAcknowledgement",
                "agent_registered_acknowledgements",
                vec![
                    received(self.acknowledgements_received),
                    dropped(self.acknowledgements_dropped),
                ],
            ),
            (
                "RegistrationChallengeMessage",
                "registration_challenge_messages",
                vec![
                    received(self.challenges_received),
                    dropped(self.challenges_dropped),
                ],
            ),
            (
                "RegistrationRefusedMessage",
                "registration_refused_messages",
                vec![
                    received(self.refusals_received),
                    dropped(self.refusals_dropped),
                ],
            ),
            (
                "UpdatePeersMessage",
                "update_peers_messages",
                vec![received(self.peers_received), dropped(self.peers_dropped)],
            ),
        ] {
            for (description, suffix, count) in counts {
                let snapshot = format!("{AGENT_PREFIX}internal/{prefix}_{suffix}");
                numbers.count(description, &[("message", message)], snapshot, count);
            }
        }
    }
}

fn add_addresses(numbers: &mut Numbers, pool: &AddressPool) {
    let overlay = pool.overlay.as_str();
    let containerizer = pool.containerizer.name();
    for count in pool.addresses.counts() {
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
    "Restarts of the module after a panic.",
);
const REGISTERING: Description = gauge(
    "mesos_overlay_agent_registering",
    "1 while no master has answered, else 0.",
);
const CONFIRMED: Description = gauge(
    "mesos_overlay_agent_master_confirmed",
    "1 if the leading master has confirmed the session, else 0.",
);
const FAILED: Description = gauge(
    "mesos_overlay_agent_overlays_failed",
    "Overlays that are STATUS_FAILED now.",
);
const WITHOUT: Description = gauge(
    "mesos_overlay_agent_overlays_without_subnets",
    "Overlays without a subnet of this agent.",
);
const PEERS: Description = gauge("mesos_overlay_agent_peers", "Peers that the master listed.");
const FAILURES: Description = counter(
    "mesos_overlay_agent_configuration_failures_total",
    "Failed attempts to configure an overlay.",
);
const DOCKER_FAILURES: Description = counter(
    "mesos_overlay_agent_docker_failures_total",
    "Failed attempts to configure a network of the container engine.",
);
const RECEIVED: Description = counter(
    "mesos_overlay_agent_messages_received_total",
    "Messages received from masters.",
);
const DROPPED: Description = counter(
    "mesos_overlay_agent_messages_dropped_total",
    "Messages that were dropped, and reports that could not be sent.",
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
