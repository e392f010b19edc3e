//! What has to happen by when.
//!
//! An agent's own delays hold whatever goes wrong around it. What takes a master, a network
//! and a log has a deadline in fair weather only.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay_core::Time;

/// The longest that an agent waits before it registers with a new leader.
pub const SPREAD: Duration = Duration::from_millis(101);
/// The longest until an agent registers whose connection to its master broke.
pub const RECONNECT: Duration = Duration::from_millis(1001);
/// The longest until an agent asks again that waits for an answer.
pub const RETRY: Duration = Duration::from_millis(30_001);
/// The longest until an agent registers anew with which all is well.
pub const REFRESH: Duration = Duration::from_millis(75_001);
/// The longest until a registration is answered, in fair weather.
pub const ANSWER: Duration = Duration::from_secs(1);
/// The longest until agents are told that the peers are others, in fair weather.
pub const TELL: Duration = Duration::from_secs(1);
/// The longest until an agent has acknowledged what it was told, in fair weather.
pub const ACKNOWLEDGE: Duration = Duration::from_millis(500);

/// What has to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// This agent registers.
    Register(String),
    /// This agent's registration is answered.
    Answer(String),
    /// This agent is told who its peers are now.
    Tell(String),
    /// This agent's acknowledgement of its peers arrives.
    Acknowledge(String),
}

/// What has to happen, and by when.
#[derive(Default)]
pub struct Deadlines {
    due: BTreeMap<Duty, Time>,
}

impl Deadlines {
    /// This has to happen by then, whatever was said of it before.
    pub fn set(&mut self, duty: Duty, at: Time) {
        self.due.insert(duty, at);
    }

    /// This has to happen by then, or earlier if that was said before.
    pub fn at_most(&mut self, duty: Duty, at: Time) {
        let due = self.due.entry(duty).or_insert(at);
        *due = at.min(*due);
    }

    /// This happened, or is not to happen any more.
    pub fn done(&mut self, duty: &Duty) {
        self.due.remove(duty);
    }

    /// Nothing is expected of this agent any more, or of its master for it.
    pub fn forget(&mut self, agent: &str) {
        self.due.retain(|duty, _| {
            let (Duty::Register(ip) | Duty::Answer(ip) | Duty::Tell(ip) | Duty::Acknowledge(ip)) =
                duty;
            ip != agent
        });
    }

    /// Another master leads, or the master was started anew: it owes nobody anything yet.
    pub fn forget_master(&mut self) {
        self.due.retain(|duty, _| matches!(duty, Duty::Register(_)));
    }

    /// The error: something has not happened in time.
    pub fn check(&self, now: Time) -> Result<(), String> {
        match self.due.iter().find(|(_, at)| **at < now) {
            Some((duty, at)) => Err(format!("{duty:?} was due at {at}, and it is {now}")),
            None => Ok(()),
        }
    }
}
