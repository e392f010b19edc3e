//! Being known to the leading master: who that is, how far the agent has come with
//! it, and when to try again.

use std::time::Duration;

use crate::util::backoff::Backoff;
use crate::{MASTER_ID, Time, Upid};

/// A new leader's agents register within this time, not all at once.
const SPREAD: Duration = Duration::from_millis(100);

/// How often an agent with which all is well registers anew, give or take a
/// quarter. A message that got lost on a connection whose end only the master saw
/// is made good then.
const REFRESH: Duration = Duration::from_secs(60);

/// From this many registrations in a row without an answer, the connection to the
/// master is taken for a dead one and opened anew. (Not earlier: the Mesos agent
/// in this process talks over the same connection.)
const SILENT_ATTEMPTS: u32 = 4;

/// The first delay is half a second to a second, the longest half a minute.
const DELAYS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How far the agent has come with its master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody leads.
    NoMaster,
    /// The master has to answer, or is asked when the timer goes off.
    Registering,
    /// The master answered; the host is being made to match.
    Configuring,
    /// The master was told how the overlays fare, and has to acknowledge it.
    Reporting,
    /// The master knows how the overlays fare.
    Settled,
}

/// The agent's side of the conversation with the master.
#[derive(Debug)]
pub(super) struct Registration {
    pub phase: Phase,
    master: Option<Upid>,
    /// Somebody led once.
    led_before: bool,
    /// The one timer. It is set whenever somebody leads.
    timer: Option<Time>,
    /// Delays while the master is silent.
    silence: Backoff,
    /// Delays while the master cannot give all that there is to have.
    wanting: Backoff,
    /// Registrations sent since the master's last word.
    unanswered: u32,
    /// A registration was sent that no list of overlays has followed yet.
    pub asked: bool,
    /// The present master has acknowledged a report.
    pub confirmed: bool,
    /// The connection broke.
    broken: bool,
    /// The revision of the networks that the master's newest list was made from.
    revision: Option<u64>,
}

impl Registration {
    pub fn new() -> Registration {
        Registration {
            phase: Phase::NoMaster,
            master: None,
            led_before: false,
            timer: None,
            silence: DELAYS,
            wanting: DELAYS,
            unanswered: 0,
            asked: false,
            confirmed: false,
            broken: false,
            revision: None,
        }
    }

    /// The leading overlay master.
    pub fn master(&self) -> Option<&Upid> {
        self.master.as_ref()
    }

    pub fn timer(&self) -> Option<Time> {
        self.timer
    }

    /// Somebody leads. Gives the overlay master, and whether it is the first one ever.
    pub fn found(&mut self, now: Time, leader: &Upid, random: &mut fastrand::Rng) -> (Upid, bool) {
        let master = Upid::new(MASTER_ID, leader.address);
        let first = !self.led_before;
        *self = Registration {
            phase: Phase::Registering,
            master: Some(master.clone()),
            led_before: true,
            ..Registration::new()
        };
        self.timer = Some(
            now + if first {
                Duration::ZERO
            } else {
                SPREAD.mul_f64(random.f64())
            },
        );
        (master, first)
    }

    /// Nobody leads any more.
    pub fn lost(&mut self) {
        *self = Registration {
            led_before: self.led_before,
            ..Registration::new()
        };
    }

    /// The connection to the master broke: registers anew after a short while, or
    /// when it would have anyway.
    pub fn broke(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.broken = true;
        self.confirmed = false;
        // It may be another process at the same address, with a log that it began anew.
        self.revision = None;
        if self.phase != Phase::Registering {
            self.start_over(now, random);
        }
    }

    /// Registers anew after the first, short delay.
    pub fn start_over(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Registering;
        self.confirmed = false;
        self.asked = false;
        self.silence.reset();
        self.timer = Some(now + self.silence.next(random));
    }

    /// A registration goes out now. Gives whether to link before, and if so, whether
    /// a connection that is there is to be replaced.
    pub fn asks(&mut self, now: Time, random: &mut fastrand::Rng) -> Option<bool> {
        // A settled agent stays what it is while it asks only to be sure.
        if self.phase != Phase::Settled || self.asked {
            self.phase = Phase::Registering;
            self.confirmed = false;
        }
        let silent = self.unanswered >= SILENT_ATTEMPTS;
        if silent {
            // Or it has begun to count anew, and nobody noticed that it was gone.
            self.revision = None;
        }
        let link = (std::mem::take(&mut self.broken) || silent).then_some(silent);
        self.unanswered += 1;
        self.asked = true;
        self.timer = Some(now + self.silence.next(random));
        link
    }

    /// Whether a list that was made from the networks of this revision is to be taken. It
    /// may come late, by a connection that another one has replaced: what the agent has let
    /// go of since may be somebody else's. The error is the revision that is known.
    pub fn takes(&mut self, revision: Option<u64>) -> Result<(), u64> {
        match (self.revision, revision) {
            (Some(known), Some(revision)) if revision < known => Err(known),
            _ => {
                self.revision = revision;
                Ok(())
            }
        }
    }

    /// The master answered.
    pub fn answered(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Configuring;
        self.heard();
        self.timer = Some(now + refresh(random));
    }

    /// The master refused: it is asked again, at growing intervals.
    pub fn refused(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Registering;
        self.confirmed = false;
        self.heard();
        self.timer = Some(now + self.wanting.next(random));
    }

    /// A report goes out now.
    pub fn reports(&mut self, now: Time, random: &mut fastrand::Rng) {
        self.phase = Phase::Reporting;
        self.timer = Some(now + self.silence.next(random));
    }

    /// The master acknowledged the report. If it could not give everything
    /// (`well`), it is asked again, at growing intervals.
    pub fn acknowledged(&mut self, now: Time, well: bool, random: &mut fastrand::Rng) {
        self.phase = Phase::Settled;
        self.confirmed = true;
        self.heard();
        if well {
            self.wanting.reset();
        }
        self.timer = Some(
            now + if well {
                refresh(random)
            } else {
                self.wanting.next(random)
            },
        );
    }

    /// There was a word from the master.
    fn heard(&mut self) {
        self.asked = false;
        self.unanswered = 0;
        self.silence.reset();
    }
}

fn refresh(random: &mut fastrand::Rng) -> Duration {
    REFRESH.mul_f64(0.75 + random.f64() / 2.0)
}
