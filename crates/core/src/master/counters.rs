//! Counters of the master, and the outbox that counts.

use std::time::Duration;

use ipnet::IpNet;

use crate::StoreOutcome;
use crate::allocation::allocator::{DualStack, Exhausted};
use crate::machine::outbox;
use crate::machine::outbox::MessageCounters;
use crate::metrics::Histogram;
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage,
    UpdateAgentOverlaysMessage,
};
use crate::protocol::messages::Named;

/// The outbox of a master.
pub type Outbox = outbox::Outbox<Counters>;

/// Counters since the machine was created.
#[derive(Debug, Default)]
pub struct Counters {
    /// Registrations for which a VTEP range was exhausted.
    pub ips: DualStack<u64>,
    /// Registrations for which the range of an overlay was exhausted.
    pub subnets: DualStack<u64>,
    /// `RegisterAgentMessage`s.
    pub registers: Received,
    /// `AgentRegisteredMessage`s.
    pub reports: Received,
    /// `UpdateAgentOverlaysMessage`s sent.
    pub updates_sent: u64,
    /// `AgentRegisteredAcknowledgement`s sent.
    pub acknowledgements_sent: u64,
    /// Writes to the log.
    pub log: LogCounters,
}

/// Messages of one type that arrived.
#[derive(Debug, Default)]
pub struct Received {
    /// Messages that arrived.
    pub received: u64,
    /// Messages that were malformed, unexpected or refused.
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
    /// Counts dropped messages of a type.
    pub fn dropped(&mut self, name: &str, count: u64) {
        match name {
            RegisterAgentMessage::NAME => self.registers.dropped += count,
            AgentRegisteredMessage::NAME => self.reports.dropped += count,
            _ => {}
        }
    }

    /// Counts an exhausted range.
    pub fn exhausted(&mut self, exhausted: &Exhausted) {
        let counters = if exhausted.overlay.is_none() {
            &mut self.ips
        } else {
            &mut self.subnets
        };
        match exhausted.range {
            IpNet::V4(_) => counters.v4 += 1,
            IpNet::V6(_) => counters.v6 += 1,
        }
    }
}

/// Counters of the writes to the replicated log.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Writes that succeeded.
    pub stored: u64,
    /// Writes that were rejected, because another master took the log over.
    pub superseded: u64,
    /// Writes with an unknown outcome.
    pub failed: u64,
    /// Durations of the writes.
    pub times: Histogram,
    /// Size of the latest state, in bytes.
    pub state_bytes: u64,
}

impl LogCounters {
    /// Records the size of a state that is written, in bytes.
    pub fn writing(&mut self, size: usize) {
        self.state_bytes = size as u64;
    }

    /// Counts a write that ended, and how long it took.
    pub fn answered(&mut self, outcome: &StoreOutcome, took: Duration) {
        match outcome {
            StoreOutcome::Stored => self.stored += 1,
            StoreOutcome::Superseded => self.superseded += 1,
            StoreOutcome::Failed(_) => self.failed += 1,
        }
        self.times.observe(took);
    }
}
