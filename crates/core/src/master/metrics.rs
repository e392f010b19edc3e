//! The metrics of the master.

use super::counters::{Counters, LogCounters, Received};
use super::leadership::Leadership;
use super::{Master, Phase};
use crate::allocation::allocator::Capacity;
use crate::metrics::{Description, Kind, Numbers, counter, gauge};
use crate::util::family::Family;

const RESTARTS: Description = counter(
    "mesos_overlay_master_process_restarts_total",
    "Restarts of the module after a panic.",
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
    "Agents with addresses in the replicated log.",
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
        "VTEP addresses that are free.",
    ),
    gauge(
        "mesos_overlay_master_vteps_used",
        "VTEP addresses that agents have.",
    ),
    gauge(
        "mesos_overlay_master_vteps_capacity",
        "VTEP addresses of the range, free or not.",
    ),
];
const SUBNETS: [Description; 3] = [
    gauge(
        "mesos_overlay_master_subnets_free",
        "Subnets of the present prefix length that are free.",
    ),
    gauge(
        "mesos_overlay_master_subnets_used",
        "Subnets that agents have.",
    ),
    gauge(
        "mesos_overlay_master_subnets_capacity",
        "Subnets of the present prefix length in the range, free or not.",
    ),
];
const FAILURES: Description = counter(
    "mesos_overlay_master_allocation_failures_total",
    "Registrations that found no VTEP address or no subnet.",
);
const RECEIVED: Description = counter(
    "mesos_overlay_master_messages_received_total",
    "Messages that arrived from agents.",
);
const DROPPED: Description = counter(
    "mesos_overlay_master_messages_dropped_total",
    "Messages that arrived and were dropped.",
);
const SENT: Description = counter(
    "mesos_overlay_master_messages_sent_total",
    "Messages sent to agents.",
);
const LOG_WRITES: Description = counter(
    "mesos_overlay_master_log_writes_total",
    "Writes to the replicated log that ended, by outcome.",
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
    /// Returns all metrics at present.
    pub(super) fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::default();
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let is_serving = matches!(self.phase, Phase::Serving(_));
        let is_recovering = matches!(self.phase, Phase::Recovering(_));
        numbers.prometheus_only(&RESTARTS, &[], self.restarts as f64);
        for (of, snapshot, is) in [
            (&SERVING, "overlay/master/serving", is_serving),
            (&RECOVERING, "overlay/master/recovering", is_recovering),
        ] {
            numbers.add(of, &[], snapshot, flag(is));
        }
        // Metrics that only the leader knows are absent elsewhere, rather than 0.
        if let Phase::Serving(leadership) = &self.phase {
            self.add_leadership(&mut numbers, leadership);
        }
        self.out.counters.add_to(&mut numbers);
        numbers
    }

    fn add_leadership(&self, numbers: &mut Numbers, leadership: &Leadership) {
        let ledger = leadership.ledger();
        let sessions = self.sessions.iter();
        let connected = sessions.filter(|(_, session)| session.is_connected).count();
        for (of, snapshot, count) in [
            (
                &REGISTERED,
                "overlay/master/agents_registered",
                ledger.agents().len(),
            ),
            (&CONNECTED, "overlay/master/agents_connected", connected),
            (
                &PEERS_BEHIND,
                "overlay/master/peers_behind",
                leadership.peers_behind(),
            ),
        ] {
            numbers.count(of, &[], snapshot, count as u64);
        }
        let vteps = "overlay/master/vteps";
        add_capacity(numbers, &VTEPS, vteps, None, &ledger.capacity(None));
        for overlay in &ledger.networks().network.overlays {
            let overlay = overlay.name();
            let prefix = format!("overlay/master/overlays/{overlay}/subnets");
            let capacity = ledger.capacity(Some(overlay));
            add_capacity(numbers, &SUBNETS, &prefix, Some(overlay), &capacity);
        }
    }
}

impl Counters {
    fn add_to(&self, numbers: &mut Numbers) {
        self.add_failures(numbers);
        // A bridge has half of an allocated subnet, so its allocation never fails.
        numbers.snapshot_only("overlay/master/bridge_allocation_failures", 0.0);
        self.log.add_to(numbers);
        self.add_messages(numbers);
    }

    fn add_failures(&self, numbers: &mut Numbers) {
        for (of, prefix, counts) in [("vtep", "ip", self.ips), ("subnet", "subnet", self.subnets)] {
            let counts = [("", counts.v4), ("6", counts.v6)];
            for (family, (digit, count)) in Family::BOTH.into_iter().zip(counts) {
                let name = format!("overlay/master/{prefix}{digit}_allocation_failures");
                numbers.count(
                    &FAILURES,
                    &[("of", of), ("family", family.name())],
                    name,
                    count,
                );
            }
        }
    }

    fn add_messages(&self, numbers: &mut Numbers) {
        let mut add = |of, message, name: &str, count| {
            let name = format!("overlay/master/internal/{name}");
            numbers.count(of, &[("message", message)], name, count);
        };
        for (message, name, received) in [
            (
                "RegisterAgentMessage",
                "register_agent_messages",
                &self.registers,
            ),
            (
                "AgentRegisteredMessage",
                "agent_registered_messages",
                &self.reports,
            ),
        ] {
            let Received { received, dropped } = *received;
            add(&RECEIVED, message, &format!("{name}_received"), received);
            add(&DROPPED, message, &format!("{name}_dropped"), dropped);
        }
        for (message, name, sent) in [
            (
                "UpdateAgentOverlaysMessage",
                "update_agent_overlays_messages",
                self.updates_sent,
            ),
            (
                "AgentRegisteredAcknowledgement",
                "agent_registered_acknowledgements",
                self.acknowledgements_sent,
            ),
        ] {
            add(&SENT, message, &format!("{name}_sent"), sent);
        }
    }
}

impl LogCounters {
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

/// Adds the capacity of a range. In Mesos the names begin with `prefix`.
fn add_capacity(
    numbers: &mut Numbers,
    of: &'static [Description; 3],
    prefix: &str,
    overlay: Option<&str>,
    capacity: &Capacity,
) {
    let values = [
        [
            capacity.free.map(|free| free as f64),
            capacity.used.map(|used| used as f64),
            capacity.total.map(|total| total as f64),
        ],
        [
            capacity.free6.map(|free| free as f64),
            capacity.used6.map(|used| used as f64),
            capacity.total6.map(|total| total as f64),
        ],
    ];
    for ((family, digit), values) in Family::BOTH.into_iter().zip(["", "6"]).zip(values) {
        for ((of, what), value) in of.iter().zip(["free", "used", "total"]).zip(values) {
            let Some(value) = value else { continue };
            let overlay = overlay.map(|overlay| ("overlay", overlay));
            let labels: Vec<_> = overlay
                .into_iter()
                .chain([("family", family.name())])
                .collect();
            numbers.add(of, &labels, format!("{prefix}{digit}_{what}"), value);
        }
    }
}
