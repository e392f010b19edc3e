//! Watches: round trips with another task every few milliseconds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::Echo;

/// Pause between two round trips of a watch.
const INTERVAL: Duration = Duration::from_millis(5);
/// Timeout of a round trip of a watch; the next one uses a new connection.
const LIMIT: Duration = Duration::from_millis(500);

/// All watches of a task.
#[derive(Clone, Default)]
pub(super) struct Watches(Arc<Mutex<Vec<Watch>>>);

struct Watch {
    to: SocketAddr,
    round_trips: u64,
    failures: u64,
    last: Instant,
    longest_gap: Duration,
}

impl Watches {
    pub(super) fn start(&self, to: SocketAddr) {
        let watch = Watch {
            to,
            round_trips: 0,
            failures: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = all.len();
        all.push(watch);
        let watches = self.clone();
        thread::spawn(move || {
            let mut echo = None;
            loop {
                let outcome = watched_round_trip(to, &mut echo);
                watches.note(index, outcome.is_ok());
                thread::sleep(INTERVAL);
            }
        });
    }

    fn note(&self, index: usize, good: bool) {
        let watch = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[index];
        if good {
            watch.round_trips += 1;
            watch.longest_gap = watch.longest_gap.max(watch.last.elapsed());
            watch.last = Instant::now();
        } else {
            watch.failures += 1;
        }
    }

    pub(super) fn report(&self) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = |watch: &Watch| {
            json!({
                "to": watch.to.to_string(),
                "round_trips": watch.round_trips,
                "failures": watch.failures,
                // A gap that has not ended counts too.
                "longest_gap_ms": watch.longest_gap.max(watch.last.elapsed()).as_millis(),
            })
        };
        json!({ "watches": all.iter().map(watch).collect::<Vec<_>>() })
    }
}

/// Makes one round trip. After a failure the next one uses a new connection.
fn watched_round_trip(to: SocketAddr, echo: &mut Option<Echo>) -> Result<()> {
    let mut this = match echo.take() {
        Some(echo) => echo,
        None => Echo::connect(to, LIMIT)?,
    };
    this.round_trip()?;
    *echo = Some(this);
    Ok(())
}
