//! The effects of a machine, collected in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Effect, Io, Level};
use crate::protocol::http::{RequestId, Response};
use crate::protocol::messages::Named;
use crate::protocol::upid::Upid;
use crate::util::line::one_line;
use crate::util::throttle::Throttle;
use crate::util::time::Time;

/// Longest log line, in characters.
const MAX_LINE: usize = 2000;

/// Capacity of the queue that is kept while it is empty, in effects.
const KEPT_CAPACITY: usize = 256;

/// Counters of a machine that count the messages that it sends.
pub trait MessageCounters {
    /// Counts a sent message of this protobuf type.
    fn count_sent(&mut self, name: &str);
}

/// The effects that were not polled yet, with the time of the present input, the throttle of
/// repeated warnings and the machine's counters.
#[derive(Debug, Default)]
pub struct Outbox<C> {
    now: Time,
    effects: VecDeque<Effect>,
    throttle: Throttle,
    /// Counters of what happened since the machine was made.
    pub counters: C,
}

impl<C> Outbox<C> {
    /// Begins the handling of an input that arrived at `now`.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Returns the time of the present input.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Takes the next effect.
    pub fn pop(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() && self.effects.capacity() > KEPT_CAPACITY {
            // A message to each of thousands of agents made it that large.
            self.effects = VecDeque::new();
        }
        effect
    }

    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Answers an HTTP request.
    pub fn respond(&mut self, id: RequestId, response: Response) {
        self.push(Effect::Io(Io::Respond { id, response }));
    }

    /// Logs one line of at most 2000 characters. Control characters in it become spaces.
    pub fn log(&mut self, level: Level, line: impl Into<String>) {
        let line = line.into();
        let clean = match one_line(&line, MAX_LINE) {
            std::borrow::Cow::Borrowed(_) => line,
            std::borrow::Cow::Owned(clean) => clean,
        };
        self.push(Effect::Log(level, clean));
    }

    /// Returns whether lines about this reason may be logged now, at most once each second.
    pub fn permits(&mut self, reason: &str) -> bool {
        self.throttle.allow(self.now, reason).is_some()
    }

    /// Logs a warning, at most one each second for the same reason, so that nobody can fill
    /// the log from outside.
    pub fn warn(&mut self, reason: &str, text: impl FnOnce() -> String) {
        if let Some(line) = self.throttle.line(self.now, reason, text) {
            self.log(Level::Warning, line);
        }
    }
}

impl<C: MessageCounters> Outbox<C> {
    /// Sends a message.
    pub fn send<M: Named>(&mut self, to: &Upid, message: &M) {
        self.counters.count_sent(M::NAME);
        self.push(Effect::send(to.clone(), message));
    }

    /// Sends a message of this protobuf type, of which `session` is the last field.
    pub fn send_sealed(&mut self, to: &Upid, name: &'static str, body: Bytes, session: Bytes) {
        self.counters.count_sent(name);
        self.push(Effect::Io(Io::Send {
            to: to.clone(),
            name,
            body,
            session,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(outbox: &mut Outbox<()>) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop())
            .map(|effect| match effect {
                Effect::Log(_, line) => line,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn log_lines_are_clean_and_bounded() {
        let mut outbox = Outbox::<()>::default();
        outbox.log(Level::Info, "plain");
        outbox.log(Level::Info, format!("two\nlines{}", "x".repeat(3000)));
        let lines = logged(&mut outbox);
        assert_eq!(lines[0], "plain");
        assert!(lines[1].starts_with("two linesx") && lines[1].ends_with("x…"));
        assert_eq!(lines[1].chars().count(), MAX_LINE + 1);
    }

    #[test]
    fn warnings_are_throttled_by_reason() {
        let mut outbox = Outbox::<()>::default();
        for _ in 0..3 {
            outbox.warn("first", || "a line".to_owned());
            outbox.warn("second", || "another".to_owned());
        }
        assert_eq!(logged(&mut outbox), ["a line", "another"]);
        outbox.set_now(outbox.now() + std::time::Duration::from_secs(1));
        outbox.warn("first", || "a line".to_owned());
        assert_eq!(
            logged(&mut outbox),
            ["a line (2 more like this were left out before)"]
        );
    }
}
