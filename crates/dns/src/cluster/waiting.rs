//! Time after a connection to a master in which its state may be incomplete.
//!
//! A master that was elected a moment ago knows from its registry which agents there are, but not what
//! runs on them, until they have registered again. DC/OS's name server waits for all of them, at most
//! ten minutes, and ten seconds more for tasks.

use std::collections::HashSet;
use std::time::Duration;

/// Time after which agents that are not back are not waited for.
const LONGEST: Duration = Duration::from_secs(600);
/// Time after the last agent for its tasks.
const SETTLING: Duration = Duration::from_secs(10);

/// State of the wait.
#[derive(Debug, Default)]
pub struct Waiting {
    phase: Phase,
    /// Agents that are not back.
    missing: HashSet<Box<[u8]>>,
}

#[derive(Debug, Default)]
enum Phase {
    /// No master's state has been complete.
    #[default]
    Before,
    /// Until these times: for agents at most, and for tasks if all agents are back.
    During {
        longest: Duration,
        settled: Option<Duration>,
    },
    After,
}

/// Action that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// No action: there is nothing to wait for, or no master is connected.
    Nothing,
    /// The next look at this time.
    At(Duration),
    /// To forget what was not confirmed.
    Now,
}

impl Waiting {
    /// Returns the state when a master's state begins.
    pub fn begun() -> Waiting {
        Waiting::default()
    }

    /// Adds an agent that is not back.
    pub fn recovers(&mut self, agent: &[u8]) {
        if self.missing.len() < super::MAX_ENTRIES {
            self.missing.insert(agent.into());
        }
    }

    /// Removes an agent that is back, or will never be.
    pub fn is_back(&mut self, agent: &[u8]) {
        self.missing.remove(agent);
    }

    /// Begins the wait at the end of a master's state. With all agents and nothing to confirm there is
    /// nothing to wait for.
    pub fn complete(&mut self, now: Duration, is_complete: bool) {
        self.phase = match is_complete && self.missing.is_empty() {
            true => Phase::After,
            false => Phase::During {
                longest: now + LONGEST,
                settled: None,
            },
        };
    }

    /// Returns true if there is nothing to wait for any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::After)
    }

    /// Returns what is due.
    pub fn due(&mut self, now: Duration) -> Due {
        let Phase::During { longest, settled } = &mut self.phase else {
            return Due::Nothing;
        };
        let time = if self.missing.is_empty() {
            *settled.get_or_insert(now + SETTLING)
        } else {
            *longest + SETTLING
        };
        if now < time {
            return Due::At(time);
        }
        self.phase = Phase::After;
        self.missing = HashSet::new();
        Due::Now
    }
}
