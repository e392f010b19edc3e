//! Keeps the log readable when something goes wrong ten thousand times.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Time;

/// At most one line in this time for the same reason.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many reasons are remembered. Reasons are kinds of trouble, not values that
/// came over the network, so there are few; the bound is for the one that slips in.
const REASONS: usize = 256;

/// Lets one line a second through for each reason, and counts the others.
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
    /// Whether a line for `reason` may be written at `now`; if so, how many were
    /// left out since the one before.
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

    /// The line to write for `reason` at `now`, if any; it says how many were left
    /// out before it.
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
