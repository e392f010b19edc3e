//! Points on a monotonic clock, as arguments.

use std::fmt;
use std::time::Duration;

/// A point on a monotonic clock, as the time since an origin that the caller chooses and
/// keeps for the life of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    /// Saturates: the end of time is as good as never.
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by))
    }
}

impl Time {
    /// Returns the time since `earlier`, or zero if that is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the number of seconds that began since `earlier`, or zero if that is later. All
    /// results for one clock change together, once a second.
    pub fn seconds_since(self, earlier: Time) -> u64 {
        self.0.as_secs().saturating_sub(earlier.0.as_secs())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}
