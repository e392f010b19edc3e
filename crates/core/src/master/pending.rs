//! Registrations that came before they can be served.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::metrics::Outbox;
use crate::proto::internal::RegisterAgentMessage;
use crate::{Time, Upid};

/// How long a master that does not lead keeps them: it may be about to hear that it
/// does. Agents ask again sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many are kept, more than agents of the largest clusters.
const LIMIT: usize = 65_536;

/// A registration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The agent's key.
    pub ip: Ipv4Addr,
    /// The agent.
    pub from: Upid,
    /// What it says.
    pub message: RegisterAgentMessage,
}

/// The latest registration of each agent.
#[derive(Debug, Default)]
pub struct PendingRegistrations {
    waiting: BTreeMap<Ipv4Addr, (Time, Registration)>,
    /// None of them came before this; `None`: there is none.
    oldest: Option<Time>,
}

impl PendingRegistrations {
    /// Keeps one; an older one of the same agent goes.
    pub fn add(&mut self, out: &mut Outbox, registration: Registration) {
        if self.waiting.len() >= LIMIT && !self.waiting.contains_key(&registration.ip) {
            out.counters.registers.dropped += 1;
            out.warn("registrations wait", || {
                format!(
                    "{LIMIT} registrations wait already; that of {} is dropped",
                    registration.from
                )
            });
            return;
        }
        self.oldest.get_or_insert(out.now());
        self.waiting
            .insert(registration.ip, (out.now(), registration));
    }

    /// Takes all of them.
    pub fn take(&mut self) -> impl Iterator<Item = Registration> + use<> {
        std::mem::take(self)
            .waiting
            .into_values()
            .map(|(_, registration)| registration)
    }

    /// When the first one has waited for too long, or sooner.
    pub fn due(&self) -> Option<Time> {
        self.oldest.map(|oldest| oldest + PATIENCE)
    }

    /// Drops those that have waited for too long; `why` they could not be served.
    pub fn expire(&mut self, out: &mut Outbox, why: &str) {
        let now = out.now();
        let (mut count, mut example) = (0, None);
        self.waiting.retain(|_, (since, registration)| {
            let keep = now < *since + PATIENCE;
            if !keep {
                count += 1;
                example.get_or_insert_with(|| registration.from.clone());
            }
            keep
        });
        self.oldest = self.waiting.values().map(|(since, _)| *since).min();
        out.counters.registers.dropped += count;
        if let Some(example) = example {
            out.warn("registrations expired", || {
                format!(
                    "Dropped registrations that waited for {} s: {count}, among them that of {example}. {why}",
                    PATIENCE.as_secs()
                )
            });
        }
    }
}
