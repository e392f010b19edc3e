//! Clock of a node.

use std::time::{Duration, Instant};

use overlay_core::Time;

/// Clock that counts from its creation and never goes back, even if its source does.
pub struct Clock {
    source: Box<dyn Fn() -> Duration + Send>,
    origin: Duration,
    latest: Duration,
}

impl Clock {
    /// Creates a clock that reads the system's monotonic clock.
    pub fn system() -> Clock {
        let origin = Instant::now();
        Clock::new(move || origin.elapsed())
    }

    /// Creates a clock that reads `source`.
    pub fn new(source: impl Fn() -> Duration + Send + 'static) -> Clock {
        let origin = source();
        Clock {
            source: Box::new(source),
            origin,
            latest: Duration::ZERO,
        }
    }

    /// Returns the current time.
    pub fn now(&mut self) -> Time {
        self.latest = (self.source)().saturating_sub(self.origin).max(self.latest);
        Time(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn never_goes_back() {
        let source = Arc::new(AtomicU64::new(1000));
        let mut clock = Clock::new({
            let source = source.clone();
            move || Duration::from_millis(source.load(Ordering::Relaxed))
        });
        assert_eq!(clock.now(), Time(Duration::ZERO));
        for (source_ms, expected_ms) in [(1500, 500), (1200, 500), (0, 500), (1501, 501)] {
            source.store(source_ms, Ordering::Relaxed);
            assert_eq!(clock.now(), Time(Duration::from_millis(expected_ms)));
        }
    }
}
