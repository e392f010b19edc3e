//! Reading the log at the beginning of a term, or after a write that failed.

use std::time::Duration;

use super::counters::Outbox;
use crate::util::backoff::Backoff;
use crate::{Effect, Level, Time};

/// Time after which a read takes longer than it does where a quorum of replicas answers.
const SLOW_READ: Duration = Duration::from_secs(5);

/// The state of a master that leads and has not read the log yet.
#[derive(Debug)]
pub struct Recovering {
    /// Reads of the log in this term that are not answered yet.
    unanswered: u32,
    /// Time of the next read; `None`: a read is under way.
    fetch_at: Option<Time>,
    /// Beginning of the first of the unanswered reads.
    fetched_at: Time,
    /// Time from which an unanswered read counts as hanging.
    overdue_at: Time,
    /// `replicated_log_timeout`: the time for which a read may take.
    timeout: Duration,
    /// The error of the latest attempt.
    error: Option<String>,
    /// Whether the log is opened anew before the next read.
    reopen: bool,
    /// Whether it was before the latest read.
    reopened: bool,
}

impl Recovering {
    /// Begins to read the log at `at`; with `reopen` it is opened anew before.
    pub fn new(at: Time, timeout: Duration, reopen: bool) -> Recovering {
        Recovering {
            unanswered: 0,
            fetch_at: Some(at),
            fetched_at: at,
            overdue_at: at + timeout,
            timeout,
            error: None,
            reopen,
            reopened: false,
        }
    }

    /// Returns the reads of the log that are not answered yet.
    pub fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Returns the error of the latest attempt, if it failed.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Returns for how long reads have been without an answer; `None`: not for long.
    pub fn unanswered_for(&self, now: Time) -> Option<Duration> {
        let waited = now.since(self.fetched_at);
        (self.unanswered > 0 && waited >= SLOW_READ).then_some(waited)
    }

    /// Returns when [`tick`](Self::tick) has to be called.
    pub fn due(&self) -> Time {
        self.fetch_at
            .map_or(self.overdue_at, |at| at.min(self.overdue_at))
    }

    /// Returns whether the log was opened anew before the latest read.
    pub fn reopened(&self) -> bool {
        self.reopened
    }

    /// Reads the log if that is due, and once more if the read hangs; with `reopen` the log is
    /// opened anew before.
    pub fn tick(&mut self, out: &mut Outbox, reopen: bool) {
        let now = out.now();
        if self.overdue_at <= now {
            self.overdue_at = now + self.timeout;
            self.fetch_at = Some(now);
            self.reopen = true;
            let line = format!(
                "The replicated log could not be read for {:.0} s; is a quorum of the masters up?",
                self.timeout.as_secs_f64()
            );
            out.log(Level::Error, line);
        }
        if self.fetch_at.is_some_and(|at| at <= now) {
            self.fetch_at = None;
            if self.unanswered == 0 {
                self.fetched_at = now;
            }
            self.unanswered += 1;
            self.reopened = self.reopen || reopen;
            out.push(Effect::Fetch {
                reopen: self.reopened,
            });
        }
    }

    /// Handles an answer that is attributed to a read of an earlier term. If that read is never
    /// answered, this was the answer of this term. So the log is read again.
    pub fn handle_stale_answer(&mut self, now: Time, delay: Duration) {
        self.fetch_at.get_or_insert(now + delay);
    }

    /// Handles an answer to a read of this term.
    pub fn handle_answer(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Handles the error of a read. The log is read again, unless a newer attempt is under way.
    pub fn handle_error(
        &mut self,
        out: &mut Outbox,
        error: String,
        backoff: &mut Backoff,
        random: &mut fastrand::Rng,
    ) {
        self.reopen = true;
        if self.unanswered == 0 {
            let delay = backoff.next(random);
            self.fetch_at = Some(out.now() + delay);
            let seconds = delay.as_secs_f64();
            let line = format!(
                "The replicated log cannot be read, trying again in {seconds:.1} s: {error}"
            );
            out.log(Level::Warning, line);
        }
        self.error = Some(error);
    }
}
