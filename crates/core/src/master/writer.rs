//! Writes of the replicated log.
//!
//! One write is under way at a time. Changes that are made meanwhile are in the next one. Answers
//! that depend on a change wait for the write with the change.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;

use super::answers::PendingAnswers;
use super::counters::Outbox;
use super::ledger::Delta;
use crate::{Effect, Io, StoreOutcome, Time};

/// Time after which a write without an answer counts as failed. Mesos gives the writes of
/// its registry the same time (`--registry_store_timeout`). A write that was under way when
/// the replicas of other masters went away is never answered, not even when they are back.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Size from which on a state is large, in bytes. Writing it takes a part of the master's
/// time that counts.
const LARGE_STATE: usize = 64 << 10;

/// Longest pause after the write of a large state. The pause is twice the time that the write
/// took, so that writing takes a third of the time at most, and a cluster that starts is
/// written in few batches.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// The changes of a write and the answers that wait for it.
#[derive(Debug)]
pub struct WrittenBatch {
    /// The changes.
    pub delta: Delta,
    /// The answers.
    pub answers: PendingAnswers,
}

/// The writer of the log. It outlives a term, because the answer to a write may come later.
#[derive(Debug)]
pub struct Writer {
    /// Number of the latest write.
    number: u64,
    in_flight: Option<InFlight>,
    /// End of the pause after a large write.
    pause_until: Option<Time>,
    /// A write or a read failed or was not answered since the log was opened. A read writes,
    /// too: a promise not to serve earlier writers.
    has_failed: bool,
}

#[derive(Debug)]
struct InFlight {
    /// The batch of the write; `None` after the end of the term that began it.
    batch: Option<WrittenBatch>,
    began: Time,
    /// Size of the state, in bytes.
    size: usize,
}

impl Writer {
    /// Creates a writer whose first write has the number `number + 1`.
    pub fn with_last_number(number: u64) -> Writer {
        Writer {
            number,
            in_flight: None,
            pause_until: None,
            has_failed: false,
        }
    }

    /// Returns whether the log must be opened anew before it is read: an operation failed or a
    /// write has no answer yet, so this host's replica may end with a part of a record.
    pub fn must_reopen(&self) -> bool {
        self.has_failed || self.in_flight.is_some()
    }

    /// Notes that a read failed, or that earlier operations may have.
    pub fn read_failed(&mut self) {
        self.has_failed = true;
    }

    /// Notes that the log was opened anew and read.
    pub fn reopened(&mut self) {
        self.has_failed = false;
    }

    /// Returns whether no write may begin: one is under way, or a large one has just ended.
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some() || self.pause_until.is_some()
    }

    /// Writes `state`, which has the changes of `batch`.
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

    /// Ends the write with this number, and returns its batch unless the term ended meanwhile.
    /// The answer to any other write is ignored.
    pub fn finish(
        &mut self,
        out: &mut Outbox,
        number: u64,
        outcome: &StoreOutcome,
    ) -> Option<WrittenBatch> {
        if number != self.number {
            return None;
        }
        let InFlight { batch, began, size } = self.in_flight.take()?;
        self.has_failed |= matches!(outcome, StoreOutcome::Failed(_));
        let took = out.now().since(began);
        out.counters.log.answered(outcome, took);
        self.pause_until = (size > LARGE_STATE).then(|| out.now() + (2 * took).min(MAX_PAUSE));
        batch
    }

    /// Takes the answers that wait for the write under way. Its result will be ignored.
    pub fn abandon(&mut self) -> Option<PendingAnswers> {
        let batch = self.in_flight.as_mut()?.batch.take()?;
        Some(batch.answers)
    }

    fn batch(&self) -> Option<&WrittenBatch> {
        self.in_flight.as_ref()?.batch.as_ref()
    }

    /// Returns the answers that wait for the write under way, if that has a change that
    /// matters to the agent.
    pub fn answers_about(&mut self, ip: Ipv4Addr) -> Option<&mut PendingAnswers> {
        let batch = self.in_flight.as_mut()?.batch.as_mut()?;
        batch.delta.concerns(ip).then_some(&mut batch.answers)
    }

    /// Returns whether the answer to this agent's registration waits for the write under way.
    pub fn has_registration(&self, ip: Ipv4Addr) -> bool {
        self.batch()
            .is_some_and(|batch| batch.answers.registrations.contains_key(&ip))
    }

    /// Returns whether the answer to any registration waits for the write under way.
    pub fn has_registrations(&self) -> bool {
        self.batch()
            .is_some_and(|batch| !batch.answers.registrations.is_empty())
    }

    /// Returns when the write under way times out or the pause ends.
    pub fn due(&self) -> Option<Time> {
        self.in_flight
            .as_ref()
            .map(|write| write.began + WRITE_TIMEOUT)
            .or(self.pause_until)
    }

    /// Returns the number and the outcome of the write under way if it has timed out.
    pub fn timed_out(&self, now: Time) -> Option<(u64, StoreOutcome)> {
        let write = self.in_flight.as_ref()?;
        (write.began + WRITE_TIMEOUT <= now).then(|| {
            let error = format!(
                "no quorum of the masters answered within {} s",
                WRITE_TIMEOUT.as_secs()
            );
            (self.number, StoreOutcome::Failed(error))
        })
    }

    /// Ends the pause after a large write if it is over.
    pub fn end_pause(&mut self, now: Time) {
        self.pause_until = self.pause_until.filter(|until| *until > now);
    }
}

#[cfg(test)]
mod tests;
