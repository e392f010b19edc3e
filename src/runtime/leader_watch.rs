//! The watch for the leading Mesos master.

use std::net::SocketAddr;
use std::time::Duration;

use overlay_core::util::backoff::Backoff;
use overlay_core::{Time, Upid};

use super::Action;

/// Watch for the leading Mesos master, which is started again after a failure.
pub(super) struct LeaderWatch {
    /// Argument of [`Action::Detect`]; `None` if this Mesos master always leads.
    master: Option<String>,
    /// Leader as of the last change; `None` before the first.
    leader: Option<Option<Upid>>,
    backoff: Backoff,
    /// Time of the next attempt after a failure.
    retry_at: Option<Time>,
}

impl LeaderWatch {
    pub(super) fn new(master: Option<String>) -> LeaderWatch {
        LeaderWatch {
            master,
            leader: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            retry_at: None,
        }
    }

    /// Starts the watch for a process at `address`. Without anything to watch, the Mesos
    /// master at that address leads.
    pub(super) fn start(&mut self, address: SocketAddr) -> Option<Action> {
        if self.master.is_none() {
            self.leader = Some(Some(Upid::new("master", address)));
        }
        self.detect()
    }

    fn detect(&self) -> Option<Action> {
        let master = self.master.clone()?;
        Some(Action::Detect { master })
    }

    /// Notes a change of the leader.
    pub(super) fn changed(&mut self, leader: Option<Upid>) {
        self.backoff.reset();
        self.retry_at = None;
        self.leader = Some(leader);
    }

    /// Notes the end of the watch. Returns the delay before the next attempt.
    pub(super) fn failed(&mut self, now: Time, random: &mut fastrand::Rng) -> Duration {
        let delay = self.backoff.next(random);
        self.retry_at = Some(now + delay);
        delay
    }

    /// Starts the next attempt if it is due.
    pub(super) fn tick(&mut self, now: Time) -> Option<Action> {
        self.retry_at.take_if(|at| *at <= now)?;
        self.detect()
    }

    /// Returns when [`tick`](LeaderWatch::tick) is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.retry_at
    }

    /// Returns the leader as of the last change; `None` before the first.
    pub(super) fn leader(&self) -> Option<&Option<Upid>> {
        self.leader.as_ref()
    }

    /// Returns whether the Mesos master at `address` leads.
    pub(super) fn leads(&self, address: SocketAddr) -> bool {
        self.leader
            .iter()
            .flatten()
            .any(|leader| leader.address == address)
    }
}
