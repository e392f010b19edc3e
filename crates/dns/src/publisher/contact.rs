//! Contact with the masters: what the zones know, by when a master was heard.

use std::time::{Duration, SystemTime};

use super::Now;
use crate::zone::Knowledge;

/// Time without a master that tells of everything which a failover may take, in sum. After a longer
/// one, tasks may run that began meanwhile, on agents that the next leader does not know yet.
const MAX_MISSED: Duration = Duration::from_secs(60);
/// Time after a start in which a master that leads is found. Until then a snapshot may lack tasks.
const STARTING: Duration = Duration::from_secs(10);

/// Contact with the masters.
#[derive(Debug, Default)]
pub struct Contact {
    /// True between a master's whole state and the end of its stream.
    is_connected: bool,
    /// True while a master's state is read.
    is_reading: bool,
    /// Time at which a master was heard last. While one is connected: the one before it.
    heard: Option<SystemTime>,
    /// Time without a master since all tasks were known; `None`: they never were.
    missed: Option<Duration>,
    /// Time up to which a table of a snapshot waits for the first state; `None`: nothing to wait for.
    starting: Option<Duration>,
}

impl Contact {
    /// Returns that of a table from a snapshot, which was right at this time.
    pub fn restored(heard: SystemTime, now: Duration) -> Contact {
        Contact {
            heard: Some(heard),
            missed: Some(Duration::ZERO),
            starting: Some(now + STARTING),
            ..Contact::default()
        }
    }

    /// Returns true between a master's whole state and the end of its stream.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Takes note that a master's state begins.
    pub fn begin(&mut self) {
        self.is_reading = true;
    }

    /// Takes note that a master's state is complete, though not that all agents are back.
    pub fn complete(&mut self, now: SystemTime) {
        (self.is_reading, self.starting) = (false, None);
        if !std::mem::replace(&mut self.is_connected, true)
            && let (Some(missed), Some(heard)) = (&mut self.missed, self.heard)
        {
            *missed += now.duration_since(heard).unwrap_or_default();
        }
    }

    /// Takes note that all tasks of the connected master are known.
    pub fn settle(&mut self) {
        if self.is_connected {
            self.missed = Some(Duration::ZERO);
        }
    }

    /// Takes note that the stream of events ended, and when it was heard last.
    pub fn lose(&mut self, heard: SystemTime) {
        self.is_reading = false;
        if std::mem::take(&mut self.is_connected) {
            self.heard = Some(heard);
        }
    }

    /// Returns the time at which all tasks were known. `None`: some may not be.
    pub fn complete_at(&self, now: SystemTime) -> Option<SystemTime> {
        match (self.lacks_tasks(), self.is_connected) {
            (true, _) => None,
            (false, true) => Some(now),
            (false, false) => self.heard,
        }
    }

    /// Returns what is known. Records are not answered any more at an age above `max_age`.
    pub fn knowledge(&self, now: Now, max_age: Duration) -> Knowledge {
        if self.is_connected {
            return match self.lacks_tasks() {
                true => Knowledge::Partial,
                false => Knowledge::Complete,
            };
        }
        let age = |heard| now.calendar.duration_since(heard).unwrap_or_default();
        let Some(heard) = self.heard.filter(|heard| age(*heard) <= max_age) else {
            return Knowledge::Nothing;
        };
        let is_starting = |limit| self.is_reading || now.clock < limit;
        match self.lacks_tasks() || self.starting.is_some_and(is_starting) {
            true => Knowledge::Partial,
            false => Knowledge::Since(heard),
        }
    }

    /// Returns true if tasks may run that are not known.
    fn lacks_tasks(&self) -> bool {
        self.missed.is_none_or(|missed| missed > MAX_MISSED)
    }
}
