//! Making the host match: which pass is under way, how each overlay fares, and
//! when to try again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::assignment::{Given, Share};
use crate::host_api::desired::Vtep;
use crate::proto::AgentOverlayInfo;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::util::backoff::Backoff;
use crate::{HostReport, Time};

/// The host's side of the agent.
#[derive(Debug)]
pub(super) struct Configuration {
    /// `None` until a master has said what there is to be: until then the host is
    /// not touched.
    given: Option<Given>,
    /// How each share of `given` fares, in the same order.
    health: Vec<Health>,
    /// What is wrong with the host as a whole, as of the last pass.
    host_errors: Vec<String>,
    /// Overlays that are gone but for their containers, as of the last pass.
    draining: Vec<String>,
    /// Their names.
    used: BTreeSet<String>,
    /// Passes that the present configuration took, or takes so far.
    attempts: u32,
    /// Whether the last pass found or made everything right.
    settled: bool,
    /// The number of the last pass that was started.
    generation: u64,
    under_way: bool,
    /// Something changed since the pass under way was started.
    again: bool,
    /// What changed was the master's word.
    news: bool,
    backoff: Backoff,
    retry_at: Option<Time>,
}

/// How one overlay fares.
#[derive(Clone, Debug, Default)]
struct Health {
    /// The first pass that had to do with the overlay as it is now.
    since: Option<u64>,
    /// Passes that went wrong since the last good one.
    failures: u32,
    last: Option<Result<(), String>>,
}

impl Configuration {
    /// Returns a configuration whose first pass has the number after `generation`.
    pub fn after(generation: u64) -> Configuration {
        Configuration {
            given: None,
            health: Vec::new(),
            host_errors: Vec::new(),
            draining: Vec::new(),
            used: BTreeSet::new(),
            attempts: 0,
            settled: false,
            generation,
            under_way: false,
            again: false,
            news: false,
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(60)),
            retry_at: None,
        }
    }

    /// The master's word; gives whether it is news. What stays as it was keeps its
    /// state.
    pub fn give(&mut self, given: Given) -> bool {
        if self.given.as_ref() == Some(&given) {
            return false;
        }
        let old = self.given.take().unwrap_or_default();
        let kept = |share: &Share| {
            let at = old.shares.iter().position(|before| before == share);
            at.map_or_else(Health::default, |at| self.health[at].clone())
        };
        self.health = given.shares.iter().map(kept).collect();
        self.given = Some(given);
        self.attempts = 0;
        self.settled = false;
        self.news = true;
        self.backoff.reset();
        true
    }

    pub fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }

    pub fn vtep(&self) -> Option<&Vtep> {
        self.given.as_ref()?.vtep.as_ref()
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn host_errors(&self) -> &[String] {
        &self.host_errors
    }

    pub fn draining(&self) -> &[String] {
        &self.draining
    }

    /// The names of overlays that are gone but for their containers.
    pub fn used(&self) -> &BTreeSet<String> {
        &self.used
    }

    /// Whether the last pass found or made everything as the master's latest list says.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// When the next attempt is due. While a pass is under way nobody has to come
    /// back for one.
    pub fn retry_at(&self) -> Option<Time> {
        self.retry_at.filter(|_| !self.under_way)
    }

    /// Begins a pass and gives its number; `None` if there is nothing to go by yet,
    /// or if one is under way: then another one follows it.
    ///
    /// It stands for the retry only if that is due, or if the master wants something
    /// else now. A pass for news of peers that fails must not put the retry off.
    pub fn begin(&mut self, now: Time) -> Option<u64> {
        self.given.as_ref()?;
        if self.under_way {
            self.again = true;
            return None;
        }
        if self.news || self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.under_way = true;
        self.again = false;
        self.news = false;
        self.generation += 1;
        if !self.settled {
            self.attempts += 1;
        }
        for health in &mut self.health {
            health.since.get_or_insert(self.generation);
        }
        Some(self.generation)
    }

    /// A pass ended; gives whether it is about what is wanted now. It is the one
    /// that was waited for, or a repair after it that ended otherwise. Afterwards
    /// either [`wants_another`](Self::wants_another) or, if not all is well, the
    /// retry is due at [`retry_at`](Self::retry_at).
    pub fn end(&mut self, now: Time, report: HostReport, random: &mut fastrand::Rng) -> bool {
        // Generation 0 is none.
        if report.generation != self.generation || self.generation == 0 {
            return false;
        }
        self.under_way = false;
        let well = report.is_ok();
        if !well && self.settled {
            // What was right went wrong: this pass is the first attempt to mend it.
            self.attempts = 1;
        }
        self.settled = well && !self.news;
        let Some(given) = &self.given else {
            return true;
        };
        for (share, health) in given.shares.iter().zip(&mut self.health) {
            if share.overlay.is_ok() && health.since.is_some_and(|since| since <= report.generation)
            {
                health.pass(report.overlays.get(share.name()));
            }
        }
        self.host_errors = report.host;
        self.draining = report.draining;
        // A pass that could not look has not seen that something is gone.
        match well {
            true => self.used = report.used,
            false => self.used.extend(report.used),
        }
        if well {
            self.backoff.reset();
            self.retry_at = None;
        } else if !self.again && self.retry_at.is_none() {
            self.retry_at = Some(now + self.backoff.next(random));
        }
        true
    }

    /// Whether something changed while the last pass was under way.
    pub fn wants_another(&self) -> bool {
        self.again && !self.under_way
    }

    /// Whether each overlay has been through a pass as it is now. (Peers may have
    /// changed meanwhile; on a joining cluster they always have.)
    pub fn all_tried(&self) -> bool {
        let tried =
            |(share, health): (&Share, &Health)| share.overlay.is_err() || health.last.is_some();
        self.given
            .as_ref()
            .is_some_and(|given| given.shares.iter().zip(&self.health).all(tried))
            && !self.news
    }

    /// Whether the host is as the master wants it.
    pub fn is_whole(&self) -> bool {
        let well = |(share, health): (&Share, &Health)| {
            share.overlay.is_ok() && matches!(health.last, Some(Ok(())))
        };
        self.given
            .as_ref()
            .is_some_and(|given| given.shares.iter().zip(&self.health).all(well))
            && self.host_errors.is_empty()
    }

    /// Whether some overlay is such that no pass can ever mend it.
    pub fn has_faults(&self) -> bool {
        self.given
            .as_ref()
            .is_some_and(|given| given.shares.iter().any(|share| share.overlay.is_err()))
    }

    /// The overlays with their states. An overlay counts as failed after
    /// `max_attempts` attempts.
    pub fn overlays(&self, max_attempts: u32) -> Vec<AgentOverlayInfo> {
        let Some(given) = &self.given else {
            return Vec::new();
        };
        let state = |(share, health): (&Share, &Health)| {
            let (status, error) = health.status(share, max_attempts);
            let state = State {
                status: Some(status.into()),
                error: error.map(str::to_owned),
            };
            AgentOverlayInfo {
                state: Some(state),
                ..share.info.clone()
            }
        };
        given.shares.iter().zip(&self.health).map(state).collect()
    }
}

impl Health {
    /// A pass was over the overlay.
    fn pass(&mut self, error: Option<&String>) {
        match error {
            None => {
                *self = Health {
                    since: self.since,
                    failures: 0,
                    last: Some(Ok(())),
                }
            }
            Some(error) => {
                self.failures = self.failures.saturating_add(1);
                self.last = Some(Err(error.clone()));
            }
        }
    }

    fn status<'a>(&'a self, share: &'a Share, max_attempts: u32) -> (Status, Option<&'a str>) {
        match (&share.overlay, &self.last) {
            (Err(fault), _) => (Status::Failed, Some(fault)),
            (Ok(_), None) => (Status::Configuring, None),
            (Ok(_), Some(Ok(()))) => (Status::Ok, None),
            (Ok(_), Some(Err(error))) if self.failures < max_attempts => {
                (Status::Configuring, Some(error))
            }
            (Ok(_), Some(Err(error))) => (Status::Failed, Some(error)),
        }
    }
}
