//! The master's numbers.

use std::time::Duration;

use super::{Master, Phase};
use crate::StoreOutcome;
use crate::allocation::allocator::{Capacity, Exhausted};
use crate::machine::outbox;
use crate::machine::outbox::MessageCounters;
use crate::metrics::{Description, FAMILIES, Histogram, Kind, Numbers, counter, gauge};
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage,
    UpdateAgentOverlaysMessage,
};
use crate::protocol::messages::Named;

/// The outbox of a master.
pub type Outbox = outbox::Outbox<Counters>;

/// Counters since the machine was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// VTEP addresses that were wanted and not there, by family.
    pub ips: [u64; 2],
    /// Subnets that were wanted and not there, by family.
    pub subnets: [u64; 2],
    /// `RegisterAgentMessage`s.
    pub registers: Taken,
    /// `AgentRegisteredMessage`s.
    pub reports: Taken,
    /// `UpdateAgentOverlaysMessage`s sent.
    pub updates_sent: u64,
    /// `AgentRegisteredAcknowledgement`s sent.
    pub acknowledgements_sent: u64,
    /// Writes to the log.
    pub log: LogCounters,
}

/// Messages of one kind that came.
#[derive(Debug, Default)]
pub struct Taken {
    /// All of them.
    pub received: u64,
    /// Those of them that were of no use.
    pub dropped: u64,
}

impl MessageCounters for Counters {
    fn count_sent(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_sent += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_sent += 1,
            _ => {}
        }
    }
}

impl Counters {
    /// Messages were of no use.
    pub fn dropped(&mut self, name: &str, count: u64) {
        match name {
            RegisterAgentMessage::NAME => self.registers.dropped += count,
            AgentRegisteredMessage::NAME => self.reports.dropped += count,
            _ => {}
        }
    }

    /// Something could not be given.
    pub fn exhausted(&mut self, exhausted: &Exhausted) {
        let counters = if exhausted.overlay.is_none() {
            &mut self.ips
        } else {
            &mut self.subnets
        };
        counters[usize::from(exhausted.range.addr().is_ipv6())] += 1;
    }
}

const RESTARTS: Description = counter(
    "mesos_overlay_master_process_restarts_total",
    "How often the module was started again after a panic.",
);
const SERVING: Description = gauge(
    "mesos_overlay_master_serving",
    "1 on the master that leads and serves, else 0.",
);
const RECOVERING: Description = gauge(
    "mesos_overlay_master_recovering",
    "1 while this master leads and has not read the replicated log, else 0.",
);
const REGISTERED: Description = gauge(
    "mesos_overlay_master_agents_registered",
    "Agents that hold addresses, as the replicated log has it.",
);
const CONNECTED: Description = gauge(
    "mesos_overlay_master_agents_connected",
    "Agents that registered with this master and whose connection is up.",
);
const PEERS_BEHIND: Description = gauge(
    "mesos_overlay_master_peers_behind",
    "Connected agents that have not acknowledged the newest peers yet.",
);
const VTEPS: [Description; 3] = [
    gauge(
        "mesos_overlay_master_vteps_free",
        "VTEP addresses that can still be given out.",
    ),
    gauge(
        "mesos_overlay_master_vteps_used",
        "VTEP addresses that agents hold.",
    ),
    gauge(
        "mesos_overlay_master_vteps_capacity",
        "VTEP addresses that there are.",
    ),
];
const SUBNETS: [Description; 3] = [
    gauge(
        "mesos_overlay_master_subnets_free",
        "Subnets of the present prefix that can still be given to agents.",
    ),
    gauge(
        "mesos_overlay_master_subnets_used",
        "Subnets that agents hold.",
    ),
    gauge(
        "mesos_overlay_master_subnets_capacity",
        "Subnets of the present prefix that the range is cut into.",
    ),
];
const FAILURES: Description = counter(
    "mesos_overlay_master_allocation_failures_total",
    "Registrations that found no VTEP address or no subnet.",
);
const RECEIVED: Description = counter(
    "mesos_overlay_master_messages_received_total",
    "Messages that came from agents.",
);
const DROPPED: Description = counter(
    "mesos_overlay_master_messages_dropped_total",
    "Messages that came and were of no use.",
);
const SENT: Description = counter(
    "mesos_overlay_master_messages_sent_total",
    "Messages sent to agents.",
);
const LOG_WRITES: Description = counter(
    "mesos_overlay_master_log_writes_total",
    "Writes to the replicated log that ended, by how they did.",
);
const LOG_SECONDS: Description = Description {
    name: "mesos_overlay_master_log_write_seconds",
    kind: Kind::Histogram,
    help: "How long writes to the replicated log took.",
};
const LOG_BYTES: Description = gauge(
    "mesos_overlay_master_log_state_bytes",
    "Size of the state that was last written to the replicated log.",
);

impl Master {
    /// All numbers, as they are now.
    pub(super) fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::default();
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        numbers.prometheus_only(&RESTARTS, &[], self.restarts as f64);
        numbers.add(
            &SERVING,
            &[],
            "overlay/master/serving",
            flag(matches!(self.phase, Phase::Serving(_))),
        );
        let recovering = matches!(self.phase, Phase::Recovering(_));
        numbers.add(
            &RECOVERING,
            &[],
            "overlay/master/recovering",
            flag(recovering),
        );
        // What only the leader knows is absent elsewhere, rather than 0.
        if let Phase::Serving(serving) = &self.phase {
            let connected = self
                .sessions
                .iter()
                .filter(|(_, session)| session.connected)
                .count();
            numbers.count(
                &REGISTERED,
                &[],
                "overlay/master/agents_registered",
                serving.agents().len() as u64,
            );
            numbers.count(
                &CONNECTED,
                &[],
                "overlay/master/agents_connected",
                connected as u64,
            );
            numbers.count(
                &PEERS_BEHIND,
                &[],
                "overlay/master/peers_behind",
                serving.peers_behind() as u64,
            );
            room(
                &mut numbers,
                &VTEPS,
                "overlay/master/vteps",
                None,
                &serving.capacity(None),
            );
            for overlay in serving.overlays() {
                let name = format!("overlay/master/overlays/{overlay}/subnets");
                room(
                    &mut numbers,
                    &SUBNETS,
                    &name,
                    Some(overlay),
                    &serving.capacity(Some(overlay)),
                );
            }
        }
        self.out.counters.add_to(&mut numbers);
        numbers
    }
}

impl Counters {
    fn add_to(&self, numbers: &mut Numbers) {
        for (of, snapshot, counts) in [
            (
                "vtep",
                [
                    "overlay/master/ip_allocation_failures",
                    "overlay/master/ip6_allocation_failures",
                ],
                self.ips,
            ),
            (
                "subnet",
                [
                    "overlay/master/subnet_allocation_failures",
                    "overlay/master/subnet6_allocation_failures",
                ],
                self.subnets,
            ),
        ] {
            for ((family, snapshot), count) in FAMILIES.into_iter().zip(snapshot).zip(counts) {
                numbers.count(
                    &FAILURES,
                    &[("of", of), ("family", family)],
                    snapshot,
                    count,
                );
            }
        }
        // A bridge is half of a subnet that is there.
        numbers.snapshot_only("overlay/master/bridge_allocation_failures", 0.0);
        self.log.add_to(numbers);
        let register = [("message", "RegisterAgentMessage")];
        let report = [("message", "AgentRegisteredMessage")];
        let internal = |name: &str| format!("overlay/master/internal/{name}");
        for (of, labels, snapshot, count) in [
            (
                &RECEIVED,
                register,
                "register_agent_messages_received",
                self.registers.received,
            ),
            (
                &RECEIVED,
                report,
                "agent_registered_messages_received",
                self.reports.received,
            ),
            (
                &DROPPED,
                register,
                "register_agent_messages_dropped",
                self.registers.dropped,
            ),
            (
                &DROPPED,
                report,
                "agent_registered_messages_dropped",
                self.reports.dropped,
            ),
            (
                &SENT,
                [("message", "UpdateAgentOverlaysMessage")],
                "update_agent_overlays_messages_sent",
                self.updates_sent,
            ),
            (
                &SENT,
                [("message", "AgentRegisteredAcknowledgement")],
                "agent_registered_acknowledgements_sent",
                self.acknowledgements_sent,
            ),
        ] {
            numbers.count(of, &labels, internal(snapshot), count);
        }
    }
}

/// Writes to the replicated log.
#[derive(Debug, Default)]
pub struct LogCounters {
    stored: u64,
    superseded: u64,
    failed: u64,
    times: Histogram,
    state_bytes: u64,
}

impl LogCounters {
    /// A state of this size, in bytes, is written.
    pub fn writing(&mut self, size: usize) {
        self.state_bytes = size as u64;
    }

    /// A write ended.
    pub fn answered(&mut self, outcome: &StoreOutcome, took: Duration) {
        match outcome {
            StoreOutcome::Stored => self.stored += 1,
            StoreOutcome::Superseded => self.superseded += 1,
            StoreOutcome::Failed(_) => self.failed += 1,
        }
        self.times.observe(took);
    }

    fn add_to(&self, numbers: &mut Numbers) {
        let failures = self.superseded + self.failed;
        for (outcome, count) in [
            ("stored", self.stored),
            ("superseded", self.superseded),
            ("failed", self.failed),
        ] {
            numbers.prometheus_only(&LOG_WRITES, &[("outcome", outcome)], count as f64);
        }
        numbers.snapshot_only("overlay/master/log/writes", (self.stored + failures) as f64);
        numbers.snapshot_only("overlay/master/log/write_failures", failures as f64);
        numbers.histogram(&LOG_SECONDS, &self.times);
        numbers.snapshot_only(
            "overlay/master/log/write_seconds_total",
            self.times.sum().as_secs_f64(),
        );
        numbers.snapshot_only(
            "overlay/master/log/write_seconds_last",
            self.times.last().as_secs_f64(),
        );
        numbers.count(
            &LOG_BYTES,
            &[],
            "overlay/master/log/state_bytes",
            self.state_bytes,
        );
    }
}

/// How much of a range is left. In Mesos the names begin with `prefix`.
fn room(
    numbers: &mut Numbers,
    of: &'static [Description; 3],
    prefix: &str,
    overlay: Option<&str>,
    room: &Capacity,
) {
    let values = [
        [
            room.free.map(|free| free as f64),
            room.used.map(|used| used as f64),
            room.total.map(|total| total as f64),
        ],
        [
            room.free6.map(|free| free as f64),
            room.used6.map(|used| used as f64),
            room.total6.map(|total| total as f64),
        ],
    ];
    for ((family, digit), values) in FAMILIES.into_iter().zip(["", "6"]).zip(values) {
        for ((of, what), value) in of.iter().zip(["free", "used", "total"]).zip(values) {
            let Some(value) = value else { continue };
            let overlay = overlay.map(|overlay| ("overlay", overlay));
            let labels: Vec<_> = overlay.into_iter().chain([("family", family)]).collect();
            numbers.add(of, &labels, format!("{prefix}{digit}_{what}"), value);
        }
    }
}
