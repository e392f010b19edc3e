//! What the master wants done, collected in order.

use std::collections::VecDeque;

use super::metrics::Counters;
use crate::protocol::messages::Named;
use crate::util::throttle::Throttle;
use crate::{Effect, Io, Level, RequestId, Response, Time, Upid};

/// How much of a line is logged, in characters.
const LONGEST_LINE: usize = 2000;

/// The room for effects that is kept while there are none.
const MANY: usize = 256;

/// The effects of the input at hand, and of those before it that nobody took yet.
#[derive(Debug, Default)]
pub struct Out {
    now: Time,
    effects: VecDeque<Effect>,
    throttle: Throttle,
    /// What happened so far.
    pub counters: Counters,
}

impl Out {
    /// The time of the input at hand.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// The time of the input at hand.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The next effect.
    pub fn pop(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() && self.effects.capacity() > MANY {
            // There was a message for each of thousands of agents.
            self.effects = VecDeque::new();
        }
        effect
    }

    /// Wants this done.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Sends a message.
    pub fn send<M: Named>(&mut self, to: &Upid, message: &M) {
        self.counters.sent(M::NAME);
        self.push(Effect::send(to.clone(), message));
    }

    /// Answers a request.
    pub fn respond(&mut self, id: RequestId, response: Response) {
        self.push(Effect::Io(Io::Respond { id, response }));
    }

    /// Tells the operator: one line of bounded length, whatever others sent is in it.
    pub fn log(&mut self, level: Level, line: impl Into<String>) {
        let mut line = line.into();
        if line.contains(char::is_control) {
            line = line.replace(char::is_control, " ");
        }
        if let Some((end, _)) = line.char_indices().nth(LONGEST_LINE) {
            line.truncate(end);
            line.push('…');
        }
        self.push(Effect::Log(level, line));
    }

    /// A WARNING, at most one a second for the same reason: what others can cause
    /// as often as they like must not fill the log.
    pub fn warn(&mut self, reason: &str, text: impl FnOnce() -> String) {
        if let Some(line) = self.throttle.line(self.now, reason, text) {
            self.log(Level::Warning, line);
        }
    }
}
