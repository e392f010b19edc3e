//! Registration with the leading master: the leader, the phase, and the timer for the next
//! registration.

use std::time::Duration;

use crate::util::backoff::Backoff;
use crate::{MASTER_ID, Time, Upid};

/// Period over which the agents of a new leader spread their registrations.
const SPREAD: Duration = Duration::from_millis(100);

/// Interval at which a settled agent registers again, plus or minus a quarter. This repairs the
/// loss of a message on a connection of which only the master noticed the end.
const REFRESH: Duration = Duration::from_secs(60);

/// Registrations in a row without an answer after which the connection counts as dead and is
/// replaced. Not fewer: the Mesos agent in this process uses the same connection.
const SILENT_ATTEMPTS: u32 = 4;

/// The first delay is 0.5 s to 1 s, the longest 30 s.
const DELAYS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Progress of the registration with the leading master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No master leads.
    NoMaster,
    /// The master has to answer a registration, or the next one is due when the timer expires.
    Registering,
    /// The master answered, and the host is being reconciled.
    Configuring,
    /// The master has to acknowledge a report.
    Reporting,
    /// The master acknowledged the last report.
    Settled,
}

/// The leader that an agent has to register with.
#[derive(Debug)]
pub(super) struct NewLeader {
    /// The overlay master.
    pub master: Upid,
    /// No master has led before, so the agent registers at once.
    pub is_first: bool,
}

/// Connection that a registration needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// The one that exists.
    Existing,
    /// A new one, since the old one broke.
    Restored,
    /// A new one even if one exists, which may be dead.
    Replaced,
}

/// Completeness of the allocation that the master assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllocationCompleteness {
    /// The agent got all that it requested.
    Complete,
    /// A part is missing, since a range is exhausted or a request is invalid.
    Short,
}

/// The agent's side of the registration protocol.
#[derive(Debug)]
pub(super) struct Registration {
    pub phase: Phase,
    master: Option<Upid>,
    /// A master has led before.
    led_before: bool,
    /// Time of the next registration or repeated report; `None`: no master leads.
    timer: Option<Time>,
    /// Delays while the master does not answer.
    silence_backoff: Backoff,
    /// Delays while the master cannot assign all that was requested.
    shortage_backoff: Backoff,
    /// Registrations since the last answer.
    unanswered: u32,
    /// No list of overlays has arrived since the last registration.
    pub awaits_list: bool,
    /// The present master has acknowledged a report.
    pub acknowledged: bool,
    connection_broken: bool,
    /// Revision of the latest list of overlays from this master.
    revision: Option<u64>,
}

impl Registration {
    pub fn new() -> Registration {
        Registration {
            phase: Phase::NoMaster,
            master: None,
            led_before: false,
            timer: None,
            silence_backoff: DELAYS,
            shortage_backoff: DELAYS,
            unanswered: 0,
            awaits_list: false,
            acknowledged: false,
            connection_broken: false,
            revision: None,
        }
    }

    /// Returns the leading overlay master.
    pub fn master(&self) -> Option<&Upid> {
        self.master.as_ref()
    }

    /// Returns the number of registrations since the latest answer.
    pub fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Returns when the next registration is due.
    pub fn timer(&self) -> Option<Time> {
        self.timer
    }

    /// Begins to register with a new leader.
    pub fn set_leader(
        &mut self,
        now: Time,
        leader: &Upid,
        random: &mut fastrand::Rng,
    ) -> NewLeader {
        let master = Upid::new(MASTER_ID, leader.address);
        let is_first = !self.led_before;
        let delay = if is_first {
            Duration::ZERO
        } else {
            SPREAD.mul_f64(random.f64())
        };
        *self = Registration {
            phase: Phase::Registering,
            master: Some(master.clone()),
            led_before: true,
            timer: Some(now + delay),
            ..Registration::new()
        };
        NewLeader { master, is_first }
    }

    /// Stops, since there is no leader any more.
    pub fn clear_leader(&mut self) {
        *self = Registration {
            led_before: self.led_before,
            ..Registration::new()
        };
    }

    /// Handles the end of the connection to the master: registers again after a short delay,
    /// or when a registration was due anyway.
    pub fn on_connection_broken(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.connection_broken = true;
        self.acknowledged = false;
        // Another process may run at the same address, with a new log and new revisions.
        self.revision = None;
        if self.phase != Phase::Registering {
            self.restart(now, random);
        }
    }

    /// Registers again after the first, short delay.
    pub fn restart(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Registering;
        self.acknowledged = false;
        self.awaits_list = false;
        self.silence_backoff.reset();
        self.timer = Some(now + self.silence_backoff.next(random));
    }

    /// Records that a registration is sent. Returns the connection that it needs.
    pub fn on_register_sent(&mut self, now: Time, random: &mut fastrand::Rng) -> Connection {
        // A settled agent remains settled while it only refreshes its registration.
        if self.phase != Phase::Settled || self.awaits_list {
            self.phase = Phase::Registering;
            self.acknowledged = false;
        }
        let broken = std::mem::take(&mut self.connection_broken);
        let connection = if self.unanswered >= SILENT_ATTEMPTS {
            // The master may have restarted unnoticed, with a new log and new revisions.
            self.revision = None;
            Connection::Replaced
        } else if broken {
            Connection::Restored
        } else {
            Connection::Existing
        };
        self.unanswered += 1;
        self.awaits_list = true;
        self.timer = Some(now + self.silence_backoff.next(random));
        connection
    }

    /// Decides whether to accept a list of overlays of this revision. A list can arrive late,
    /// over a connection that was replaced since; the subnets in it that the agent released
    /// meanwhile may belong to others.
    ///
    /// # Errors
    /// The revision of a later list that was already received.
    pub fn accept_revision(&mut self, revision: Option<u64>) -> Result<(), u64> {
        match (self.revision, revision) {
            (Some(known), Some(revision)) if revision < known => Err(known),
            _ => {
                self.revision = revision;
                Ok(())
            }
        }
    }

    /// Handles a list of overlays.
    pub fn on_list_received(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Configuring;
        self.on_answer();
        self.timer = Some(now + refresh_delay(random));
    }

    /// Handles a refusal: registers again, at growing intervals.
    pub fn on_refused(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Registering;
        self.acknowledged = false;
        self.on_answer();
        self.timer = Some(now + self.shortage_backoff.next(random));
    }

    /// Records that a report is sent.
    pub fn on_report_sent(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Reporting;
        self.timer = Some(now + self.silence_backoff.next(random));
    }

    /// Handles the acknowledgement of a report. After a shortage the agent registers again at
    /// growing intervals.
    pub fn on_acknowledged(
        &mut self,
        now: Time,
        completeness: AllocationCompleteness,
        random: &mut fastrand::Rng,
    ) {
        self.phase = Phase::Settled;
        self.acknowledged = true;
        self.on_answer();
        let delay = match completeness {
            AllocationCompleteness::Complete => {
                self.shortage_backoff.reset();
                refresh_delay(random)
            }
            AllocationCompleteness::Short => self.shortage_backoff.next(random),
        };
        self.timer = Some(now + delay);
    }

    /// Handles a challenge: the master is there, though it has not answered the registration.
    pub fn on_challenged(&mut self) {
        self.unanswered = 0;
    }

    /// Returns whether it makes sense to register before the timer expires: the master has not
    /// just answered a registration, and has not been silent for long.
    pub fn can_be_early(&self) -> bool {
        let is_waiting = matches!(self.phase, Phase::Registering | Phase::Settled);
        is_waiting && self.unanswered < SILENT_ATTEMPTS
    }

    /// Registers no later than at this time.
    pub fn hasten(&mut self, at: Time) {
        self.timer = self.timer.map(|timer| timer.min(at));
    }

    fn on_answer(&mut self) {
        self.awaits_list = false;
        self.unanswered = 0;
        self.silence_backoff.reset();
    }
}

fn refresh_delay(random: &mut fastrand::Rng) -> Duration {
    REFRESH.mul_f64(0.75 + random.f64() / 2.0)
}
