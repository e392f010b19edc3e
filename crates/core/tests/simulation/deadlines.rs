//! Deadlines of agents and masters.
//!
//! Deadlines of an agent's own delays hold during faults as well. Those of anything that needs a
//! master, the network or the log hold only without faults.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay_core::Time;

/// Maximum delay of a registration after a change of leader.
pub const SPREAD: Duration = Duration::from_millis(101);
/// Maximum delay of a registration after the connection broke.
pub const RECONNECT: Duration = Duration::from_millis(1001);
/// Maximum time for which an agent holds messages without a session.
pub const HOLD: Duration = Duration::from_secs(10);
/// Maximum delay until an unanswered registration is repeated.
pub const RETRY: Duration = Duration::from_millis(30_001);
/// Maximum interval between registrations of a settled agent.
pub const REFRESH: Duration = Duration::from_millis(75_001);
/// Maximum delay of an answer to a registration, without faults.
pub const ANSWER: Duration = Duration::from_secs(1);
/// Maximum delay of a message about changed peers, without faults.
pub const TELL: Duration = Duration::from_secs(1);
/// Maximum delay of an acknowledgement of peers, without faults.
pub const ACKNOWLEDGE: Duration = Duration::from_millis(500);

/// Obligation of the cluster, with a deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    /// An agent registers.
    Register(String),
    /// A registration of an agent is answered.
    Answer(String),
    /// An agent is sent its present peers.
    Tell(String),
    /// An acknowledgement of peers by an agent arrives.
    Acknowledge(String),
}

/// Duties with their deadlines.
#[derive(Default)]
pub struct Deadlines {
    due: BTreeMap<Duty, Time>,
}

impl Deadlines {
    /// Sets a deadline, and replaces an earlier one.
    pub fn set(&mut self, duty: Duty, at: Time) {
        self.due.insert(duty, at);
    }

    /// Sets a deadline, unless an earlier one exists.
    pub fn at_most(&mut self, duty: Duty, at: Time) {
        let due = self.due.entry(duty).or_insert(at);
        *due = at.min(*due);
    }

    /// Returns a deadline.
    pub fn get(&self, duty: &Duty) -> Option<Time> {
        self.due.get(duty).copied()
    }

    /// Removes a deadline.
    pub fn done(&mut self, duty: &Duty) {
        self.due.remove(duty);
    }

    /// Removes all deadlines of an agent, and of its master concerning it.
    pub fn forget(&mut self, agent: &str) {
        self.due.retain(|duty, _| {
            let (Duty::Register(ip) | Duty::Answer(ip) | Duty::Tell(ip) | Duty::Acknowledge(ip)) =
                duty;
            ip != agent
        });
    }

    /// Removes all deadlines of masters, because another one leads or the master restarted.
    pub fn forget_master(&mut self) {
        self.due.retain(|duty, _| matches!(duty, Duty::Register(_)));
    }

    /// Checks that no deadline has passed.
    pub fn check(&self, now: Time) -> Result<(), String> {
        match self.due.iter().find(|(_, at)| **at < now) {
            Some((duty, at)) => Err(format!("{duty:?} was due at {at}, and it is {now}")),
            None => Ok(()),
        }
    }
}
