//! Reconciliation of a target with its desired state: attempts, their results, and retries.
//!
//! The agent has two targets: its [host](super::host_sync) and the
//! [container engine](super::engine_sync). Each overlay succeeds or fails on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::Time;
use crate::host_api::problem::Problem;
use crate::util::backoff::Backoff;

/// Delays before retries, from 1 s to 60 s.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// Desired state of a target.
pub(super) trait DesiredState: PartialEq {
    /// Part of the state that belongs to one overlay.
    type Overlay: PartialEq;

    /// Returns the overlays that the target can be reconciled with, by name.
    fn overlays(&self) -> BTreeMap<&str, &Self::Overlay>;
}

/// Handling of a change while an attempt is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concurrency {
    /// The attempt ends first, and another one follows.
    Queue,
    /// A new attempt supersedes it.
    Supersede,
}

/// Result of an attempt.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Number of the attempt.
    pub generation: u64,
    /// The target matches the desired state.
    pub is_ok: bool,
    /// Errors by overlay.
    pub overlays: BTreeMap<String, String>,
    /// Problems that do not concern a single overlay.
    pub problems: Vec<Problem>,
    /// Names of removed overlays of which the target still has something.
    pub draining: BTreeSet<String>,
}

/// An attempt to carry out.
#[derive(Debug)]
pub(super) struct Attempt<D> {
    /// Number of the attempt.
    pub generation: u64,
    /// State that the target shall have.
    pub desired: Arc<D>,
}

/// Health of one overlay on a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// An attempt began with the current desired state of the overlay.
    attempted: bool,
    /// Failures since the last success.
    pub failures: u32,
    /// Result of the last attempt; `None`: there was none yet.
    pub last: Option<Result<(), String>>,
}

impl Health {
    /// Records the result of an attempt.
    fn record(&mut self, error: Option<&String>) {
        match error {
            None => {
                self.failures = 0;
                self.last = Some(Ok(()));
            }
            Some(error) => {
                self.failures = self.failures.saturating_add(1);
                self.last = Some(Err(error.clone()));
            }
        }
    }
}

/// Reconciliation of a target (host or container engine) with its desired state.
#[derive(Debug)]
pub(super) struct Target<D> {
    concurrency: Concurrency,
    /// `None` until a master has assigned something, and until then the target is not touched.
    desired: Option<Arc<D>>,
    health: BTreeMap<String, Health>,
    problems: Vec<Problem>,
    draining: BTreeSet<String>,
    /// Attempts that the present desired state took so far.
    attempts: u32,
    /// The last attempt succeeded with the current desired state.
    settled: bool,
    /// Number of the last attempt.
    generation: u64,
    running: bool,
    /// Another attempt follows the running one.
    rerun: bool,
    /// The desired state changed after the last attempt began.
    desired_changed: bool,
    backoff: Backoff,
    retry_at: Option<Time>,
}

impl<D: DesiredState> Target<D> {
    /// Creates a target whose first attempt has the number after `generation`.
    pub fn new(concurrency: Concurrency, generation: u64) -> Target<D> {
        Target {
            concurrency,
            desired: None,
            health: BTreeMap::new(),
            problems: Vec::new(),
            draining: BTreeSet::new(),
            attempts: 0,
            settled: false,
            generation,
            running: false,
            rerun: false,
            desired_changed: false,
            backoff: RETRY_BACKOFF,
            retry_at: None,
        }
    }

    /// Sets the desired state and returns whether it changed. Overlays that are desired as
    /// before keep their health.
    pub fn set_desired(&mut self, desired: D) -> bool {
        if self.desired.as_deref() == Some(&desired) {
            return false;
        }
        let before = self.desired.as_deref().map(D::overlays).unwrap_or_default();
        let health = desired
            .overlays()
            .into_iter()
            .map(|(name, overlay)| {
                let kept = self.health.get(name);
                let kept = kept.filter(|_| before.get(name) == Some(&overlay));
                (name.to_owned(), kept.cloned().unwrap_or_default())
            })
            .collect();
        self.health = health;
        self.desired = Some(Arc::new(desired));
        self.attempts = 0;
        self.settled = false;
        self.desired_changed = true;
        self.backoff.reset();
        true
    }

    /// Returns the desired state; `None`: no master has assigned anything yet.
    pub fn desired(&self) -> Option<&D> {
        self.desired.as_deref()
    }

    /// Returns the health of an overlay; `None`: it is not desired.
    pub fn health(&self, overlay: &str) -> Option<&Health> {
        self.health.get(overlay)
    }

    /// Returns the problems of the last attempt that do not concern a single overlay.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the names of removed overlays of which the target still has something.
    pub fn draining(&self) -> &BTreeSet<String> {
        &self.draining
    }

    /// Returns how many attempts the present desired state took so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns whether the last attempt succeeded with the current desired state.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Returns whether no overlay is desired.
    pub fn desires_no_overlay(&self) -> bool {
        self.health.is_empty()
    }

    /// Returns whether each overlay of the current desired state was attempted. (Peers may
    /// have changed since, as they do all the time while a cluster starts.)
    pub fn all_attempted(&self) -> bool {
        self.desired.is_some()
            && !self.desired_changed
            && self.health.values().all(|health| health.last.is_some())
    }

    /// Returns whether the last attempts at all overlays succeeded.
    pub fn is_healthy(&self) -> bool {
        let is_ok = |health: &Health| matches!(health.last, Some(Ok(())));
        self.desired.is_some() && self.health.values().all(is_ok)
    }

    /// Returns when the next attempt is due; `None` while one is running.
    pub fn retry_at(&self) -> Option<Time> {
        self.retry_at.filter(|_| !self.running)
    }

    /// Begins an attempt. Returns `None` if nothing is desired yet, or if one is running that
    /// must end first: another one follows it.
    ///
    /// The attempt replaces the pending retry only if that is due, or if the desired state
    /// changed: a failed update of peers must not postpone the retry.
    pub fn begin(&mut self, now: Time) -> Option<Attempt<D>> {
        let desired = self.desired.clone()?;
        if self.running && self.concurrency == Concurrency::Queue {
            self.rerun = true;
            return None;
        }
        if self.desired_changed || self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.running = true;
        self.rerun = false;
        self.desired_changed = false;
        self.generation += 1;
        if !self.settled {
            self.attempts += 1;
        }
        for health in self.health.values_mut() {
            health.attempted = true;
        }
        Some(Attempt {
            generation: self.generation,
            desired,
        })
    }

    /// Ends an attempt, or records a later result of the last one. Returns `false` if the
    /// result belongs to an earlier attempt and is ignored. Afterwards either
    /// [`needs_rerun`](Self::needs_rerun) is true, or a retry is due if something failed.
    pub fn complete(&mut self, now: Time, outcome: Outcome, random: &mut fastrand::Rng) -> bool {
        if outcome.generation != self.generation || self.desired.is_none() {
            return false;
        }
        self.running = false;
        if !outcome.is_ok && self.settled {
            // This was the first attempt to repair what had been right.
            self.attempts = 1;
        }
        self.settled = outcome.is_ok && !self.desired_changed;
        for (name, health) in &mut self.health {
            if health.attempted {
                health.record(outcome.overlays.get(name));
            }
        }
        self.problems = outcome.problems;
        // A failed attempt may have seen only a part of the target.
        if outcome.is_ok {
            self.draining.clear();
        }
        self.draining.extend(outcome.draining);
        if outcome.is_ok {
            self.backoff.reset();
            self.retry_at = None;
        } else if !self.rerun && self.retry_at.is_none() {
            self.retry_at = Some(now + self.backoff.next(random));
        }
        true
    }

    /// Returns whether another attempt has to follow the last one, because something changed
    /// while it was running.
    pub fn needs_rerun(&self) -> bool {
        self.rerun && !self.running
    }
}
