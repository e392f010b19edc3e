//! Rate limit for repeated log lines.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Time;

/// Least time between two lines for the same reason.
const INTERVAL: Duration = Duration::from_secs(1);

/// Number of reasons that are remembered. Reasons are kinds of errors, so there are few; the
/// limit protects against reasons that contain remote input.
const REASONS: usize = 256;

/// A rate limit of one line each second for each reason. It counts the dropped lines.
#[derive(Debug, Default)]
pub struct Throttle {
    reasons: BTreeMap<String, Reason>,
}

#[derive(Debug)]
struct Reason {
    last_line: Time,
    suppressed: u64,
}

impl Throttle {
    /// Returns `None` if no line for `reason` may be written at `now`, or else the number of
    /// lines that were dropped since the line before.
    pub fn allow(&mut self, now: Time, reason: &str) -> Option<u64> {
        if let Some(known) = self.reasons.get_mut(reason) {
            if now.since(known.last_line) < INTERVAL {
                known.suppressed += 1;
                return None;
            }
            known.last_line = now;
            return Some(std::mem::take(&mut known.suppressed));
        }
        if self.reasons.len() >= REASONS {
            self.forget_oldest();
        }
        self.reasons.insert(
            reason.to_owned(),
            Reason {
                last_line: now,
                suppressed: 0,
            },
        );
        Some(0)
    }

    /// Returns the line to write for `reason` at `now`, if one may be written. The line says
    /// how many were dropped before it.
    pub fn line(
        &mut self,
        now: Time,
        reason: &str,
        text: impl FnOnce() -> String,
    ) -> Option<String> {
        self.allow(now, reason).map(|suppressed| match suppressed {
            0 => text(),
            n => format!("{} ({n} more like this were left out before)", text()),
        })
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .reasons
            .iter()
            .min_by_key(|(_, reason)| reason.last_line);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.reasons.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    #[test]
    fn one_line_a_second_for_each_reason() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.allow(ms(0), "garbage"), Some(0));
        assert_eq!(throttle.allow(ms(0), "stranger"), Some(0));
        for at in [1, 500, 999] {
            assert_eq!(throttle.allow(ms(at), "garbage"), None);
        }
        assert_eq!(
            throttle
                .line(ms(1000), "garbage", || "a line".to_owned())
                .as_deref(),
            Some("a line (3 more like this were left out before)")
        );
        assert_eq!(
            throttle.allow(ms(1999), "garbage"),
            None,
            "the second begins with the latest line"
        );
        assert_eq!(throttle.allow(ms(2000), "garbage"), Some(1));
        assert_eq!(
            throttle
                .line(ms(3000), "garbage", || "a line".to_owned())
                .as_deref(),
            Some("a line")
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..10_000 {
            throttle.allow(ms(n), &n.to_string());
        }
        assert_eq!(throttle.reasons.len(), REASONS);
        assert!(throttle.reasons.contains_key("9999"));
        let oldest = 10_000 - REASONS;
        assert!(
            throttle.reasons.contains_key(&oldest.to_string()),
            "the oldest are forgotten"
        );
    }
}
