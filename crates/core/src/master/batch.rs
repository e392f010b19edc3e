//! Changes and the answers that depend on them, on their way into the log.
//!
//! One write is under way at a time. What comes meanwhile is gathered and goes with
//! the next one; its answers are released when that one is done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::metrics::Outbox;
use super::networks::Networks;
use super::pending::Registration;
use super::record::EncodedAgent;
use crate::proto;
use crate::proto::internal::UpdateAgentOverlaysMessage;
use crate::{Effect, Io, RequestId, StoreOutcome, Time};

/// What is gathered for one write.
#[derive(Debug, Default)]
pub struct Batch {
    /// The agents that are not in the log as they are in memory.
    pub changed: BTreeSet<Ipv4Addr>,
    /// The networks are not in the log as they are in memory.
    pub networks: bool,
    /// What to answer when it is written.
    pub held: Held,
}

impl Batch {
    /// Whether there is a reason to write. An operator's request is one even if it
    /// changes nothing: a master that leads no more, and has not heard of it, finds out
    /// by writing before it says that something is so.
    pub fn is_due(&self) -> bool {
        let Held {
            deletions, changes, ..
        } = &self.held;
        self.networks || !(self.changed.is_empty() && deletions.is_empty() && changes.is_empty())
    }
}

/// Answers that wait for a write.
#[derive(Debug, Default)]
pub struct Held {
    /// The latest registration of each agent, and its answer.
    pub registrations: BTreeMap<Ipv4Addr, (Registration, UpdateAgentOverlaysMessage)>,
    /// Agents that lost all that they held.
    pub gone: Vec<Gone>,
    /// Requests to delete agents, or to reclaim what they hold.
    pub deletions: Vec<Deletion>,
    /// Requests to change overlays.
    pub changes: Vec<Changed>,
    /// What agents are to be told that did not ask.
    pub pushes: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
}

/// A change of an overlay that is made, but for the log.
#[derive(Debug)]
pub struct Changed {
    /// For the answer.
    pub request: RequestId,
    /// The overlay.
    pub name: String,
    /// The answer's status.
    pub status: u16,
    /// The overlay as it was, for an answer when there is none any more.
    pub before: Option<proto::OverlayInfo>,
}

/// An agent that lost all that it held.
#[derive(Clone, Copy, Debug)]
pub struct Gone {
    /// The agent.
    pub ip: Ipv4Addr,
    /// The serial of its session then: if it has not registered again since, it is told.
    pub session: Option<u64>,
    /// Its lease ended (or it was deleted).
    pub reclaimed: bool,
}

/// A request to delete agents, or to reclaim what they hold.
#[derive(Debug)]
pub struct Deletion {
    /// For the answer.
    pub request: RequestId,
    /// The function to wrap the answer in.
    pub jsonp: Option<String>,
    /// Agents whose leases ended are meant.
    pub reclaims: bool,
}

/// A batch as it was written.
#[derive(Debug)]
pub struct WrittenBatch {
    /// The changed agents as they are in the log then; `None`: deleted.
    pub entries: BTreeMap<Ipv4Addr, Option<Arc<EncodedAgent>>>,
    /// The networks as they are in the log then, if they changed.
    pub networks: Option<Arc<Networks>>,
    /// What to answer.
    pub held: Held,
}

/// The log's writer. It outlives a lead: the answer to a write may come later.
#[derive(Debug)]
pub struct Writer {
    /// Number of the latest write.
    number: u64,
    in_flight: Option<InFlight>,
    /// No write begins before: the one before it was a large one.
    rest_until: Option<Time>,
}

/// Time after which a write without an answer counts as failed. Mesos gives the writes of
/// its registry the same time (`--registry_store_timeout`). A write that was under way when
/// the replicas of other masters went away is never answered, not even when they are back.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// A state of this size, in bytes, takes a part of the master's time that counts.
const LARGE: usize = 64 << 10;
/// After a write of a large state the next one begins no sooner than after twice the time
/// that it took, and no later than after this time. So writing takes a third of the
/// time, and a cluster that starts is written in few batches.
const LONGEST_REST: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct InFlight {
    /// What depends on the write; `None`: nothing any more, since the master stopped
    /// leading meanwhile.
    batch: Option<WrittenBatch>,
    began: Time,
    size: usize,
}

impl Writer {
    /// Returns a writer with no write under way, whose first write has the number after
    /// `number`.
    pub fn after(number: u64) -> Writer {
        Writer {
            number,
            in_flight: None,
            rest_until: None,
        }
    }

    /// Whether a write is under way, and there must not be a second one, or was only just.
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some() || self.rest_until.is_some()
    }

    /// Writes `state`, which `batch` is the latest part of.
    pub fn write(&mut self, out: &mut Outbox, batch: WrittenBatch, state: Bytes) {
        self.number += 1;
        self.in_flight = Some(InFlight {
            batch: Some(batch),
            began: out.now(),
            size: state.len(),
        });
        out.counters.log.writing(state.len());
        out.push(Effect::Io(Io::Store {
            number: self.number,
            state,
        }));
    }

    /// The write of this number is answered; what depends on it, if anything does.
    pub fn answered(
        &mut self,
        out: &mut Outbox,
        number: u64,
        outcome: &StoreOutcome,
    ) -> Option<WrittenBatch> {
        if number != self.number {
            return None;
        }
        let InFlight {
            batch, began, size, ..
        } = self.in_flight.take()?;
        let took = out.now().since(began);
        out.counters.log.answered(outcome, took);
        self.rest_until = (size > LARGE).then(|| out.now() + (2 * took).min(LONGEST_REST));
        batch
    }

    /// Nothing depends on the write under way any more; what did.
    pub fn abandon(&mut self) -> Option<WrittenBatch> {
        self.in_flight.as_mut()?.batch.take()
    }

    /// What to answer when the write under way is done, if it is about one of these
    /// agents or about the networks, and so about all of them.
    pub fn held_for(&mut self, ips: &[Ipv4Addr]) -> Option<&mut Held> {
        let batch = self.in_flight.as_mut()?.batch.as_mut()?;
        let concerned =
            batch.networks.is_some() || ips.iter().any(|ip| batch.entries.contains_key(ip));
        concerned.then_some(&mut batch.held)
    }

    /// Whether the answer to this agent's registration waits for the write under way.
    pub fn is_to_answer(&self, ip: Ipv4Addr) -> bool {
        let batch = self
            .in_flight
            .as_ref()
            .and_then(|flight| flight.batch.as_ref());
        batch.is_some_and(|batch| batch.held.registrations.contains_key(&ip))
    }

    /// Whether the answer to any registration waits for the write under way.
    pub fn is_to_answer_any(&self) -> bool {
        let batch = self
            .in_flight
            .as_ref()
            .and_then(|flight| flight.batch.as_ref());
        batch.is_some_and(|batch| !batch.held.registrations.is_empty())
    }

    /// When [`overdue`](Self::overdue) or [`end_rest`](Self::end_rest) has something to do.
    pub fn due(&self) -> Option<Time> {
        self.in_flight
            .as_ref()
            .map(|flight| flight.began + WRITE_TIMEOUT)
            .or(self.rest_until)
    }

    /// The number of the write under way and its outcome, if it took [`WRITE_TIMEOUT`].
    pub fn overdue(&self, now: Time) -> Option<(u64, StoreOutcome)> {
        let flight = self.in_flight.as_ref()?;
        (flight.began + WRITE_TIMEOUT <= now).then(|| {
            let error = format!(
                "no answer within {} s; is a quorum of the masters up?",
                WRITE_TIMEOUT.as_secs()
            );
            (self.number, StoreOutcome::Failed(error))
        })
    }

    /// Ends the rest after a large write if its time is over.
    pub fn end_rest(&mut self, now: Time) {
        self.rest_until = self.rest_until.filter(|until| *until > now);
    }
}

/// Returns the log line for a read of the replicated log that has taken `time`.
pub fn read_hangs(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    format!(
        "The replicated log could not be read for {seconds:.0} s; is a quorum of the masters up?"
    )
}
