//! Growing, jittered delays between attempts.

use std::time::Duration;

/// A sequence of delays. Each is drawn uniformly from the upper half of a window that doubles
/// up to a limit, so that agents that lost the same master at the same moment do not return at
/// the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    /// Upper end of the next delay.
    window: Duration,
}

impl Backoff {
    /// Creates delays from the upper half of `first`, then of twice as much, and so on up to
    /// `limit`.
    pub const fn new(first: Duration, limit: Duration) -> Backoff {
        Backoff {
            first,
            limit,
            window: first,
        }
    }

    /// Resets the window to the first one.
    pub fn reset(&mut self) {
        self.window = self.first;
    }

    /// Returns the next delay.
    pub fn next(&mut self, random: &mut fastrand::Rng) -> Duration {
        let window = self.window;
        self.window = (window * 2).min(self.limit);
        window.mul_f64(0.5 + random.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_can_be_reset() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for window in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let delay = backoff.next(&mut random).as_secs_f64();
            assert!(
                (window / 2.0..=window).contains(&delay),
                "{delay} s in a window of {window} s"
            );
        }
        backoff.reset();
        assert!(backoff.next(&mut random) <= Duration::from_secs(1));
    }

    #[test]
    fn delays_are_jittered() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut delays = std::collections::BTreeSet::new();
        for _ in 0..100 {
            delays.insert(
                Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).next(&mut random),
            );
        }
        assert!(delays.len() > 90, "only {} different delays", delays.len());
    }
}
