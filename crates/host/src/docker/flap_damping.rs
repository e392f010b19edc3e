//! Flap damping: delays repairs that another program keeps undoing. Pure: time is an
//! argument.
//!
//! A removed network is normally recreated at once. Two programs that each take the other's
//! networks for leftovers (two agents with one engine) would do so several times a second
//! without end. Therefore repairs in quick succession are delayed more and more.

use std::collections::BTreeSet;
use std::time::Duration;

use overlay_core::host_api::problem::{Problem, ProblemKind};
use tokio::time::Instant;

/// Number of repairs in succession from which on the next one is delayed.
const UNDELAYED: u32 = 6;

/// Delay after [`UNDELAYED`] repairs. Doubles with each further repair.
const MIN_DELAY: Duration = Duration::from_secs(2);
/// Upper bound of the delay.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Time without a repair, beyond the delay, after which the count starts again.
const RESET_AFTER: Duration = Duration::from_secs(60);

/// Recent repairs.
#[derive(Debug, Default)]
pub(super) struct FlapDamping {
    /// Number of repairs in succession.
    count: u32,
    last: Option<Instant>,
    /// Names of the repaired networks.
    networks: BTreeSet<String>,
}

impl FlapDamping {
    /// Records that networks had been removed by another program and were recreated.
    pub(super) fn record_repair(&mut self, now: Instant, networks: Vec<String>) {
        self.expire(now);
        self.networks.extend(networks);
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// Starts the count again if the last repair is long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        let expires_after = self.delay() + RESET_AFTER;
        if self
            .last
            .is_some_and(|last| now.duration_since(last) >= expires_after)
        {
            *self = FlapDamping::default();
        }
    }

    /// Returns the earliest time of the next repair; `None` if it need not be delayed.
    pub(super) fn delayed_until(&self) -> Option<Instant> {
        self.last
            .filter(|_| self.is_active())
            .map(|last| last + self.delay())
    }

    fn is_active(&self) -> bool {
        self.count >= UNDELAYED
    }

    /// Returns a note for the operator while repairs are delayed. It does not change with
    /// each repair.
    pub(super) fn note(&self) -> Option<Problem> {
        let networks: Vec<&str> = self.networks.iter().map(String::as_str).collect();
        self.is_active().then(|| {
            let text = format!(
                "another program keeps removing or replacing Docker networks of this agent ({}); check that \
                 no other agent has the same docker_socket. They are recreated at growing intervals of up to \
                 {} s",
                networks.join(", "),
                MAX_DELAY.as_secs(),
            );
            Problem::new(ProblemKind::FlappingNetworks, "", text)
        })
    }

    fn delay(&self) -> Duration {
        match self.count.checked_sub(UNDELAYED) {
            Some(more) => MIN_DELAY.saturating_mul(1 << more.min(16)).min(MAX_DELAY),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_repairs_are_not_delayed() {
        let (start, mut damping) = (Instant::now(), FlapDamping::default());
        for n in 1..UNDELAYED {
            damping.record_repair(start + Duration::from_secs(n.into()), vec!["dcos".into()]);
            assert_eq!(damping.delayed_until(), None);
        }
        // An hour later the count has started again.
        for n in 1..UNDELAYED {
            damping.record_repair(start + Duration::from_secs(3600 + u64::from(n)), Vec::new());
            assert_eq!(damping.delayed_until(), None);
        }
    }

    /// Another program undoes every repair after 300 ms.
    #[test]
    fn repairs_that_are_undone_become_rare() {
        let (start, mut damping) = (Instant::now(), FlapDamping::default());
        let (mut now, mut repairs) = (start, 0);
        while now.duration_since(start) < Duration::from_secs(600) {
            damping.record_repair(now, vec!["dcos".into()]);
            repairs += 1;
            now = damping
                .delayed_until()
                .unwrap_or(now + Duration::from_millis(300));
        }
        assert!(
            (15..=22).contains(&repairs),
            "{repairs} repairs in ten minutes"
        );
        assert!(
            damping
                .note()
                .is_some_and(|note| note.text.contains("(dcos)"))
        );
        damping.expire(now + RESET_AFTER + MAX_DELAY);
        assert!(damping.note().is_none() && damping.delayed_until().is_none());
    }

    #[test]
    fn delay_begins_with_the_sixth_repair_and_doubles() {
        let (start, mut damping) = (Instant::now(), FlapDamping::default());
        let after = |damping: &FlapDamping, now: Instant| {
            damping.delayed_until().map(|rest| (rest - now).as_secs())
        };
        for _ in 0..5 {
            damping.record_repair(start, vec!["dcos".into()]);
        }
        assert_eq!((after(&damping, start), damping.note()), (None, None));
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            damping.record_repair(start, vec!["dcos".into()]);
            assert_eq!(after(&damping, start), Some(expected));
            assert!(damping.note().is_some());
        }
    }

    /// The count starts again a minute after the end of the delay.
    #[test]
    fn count_expires_after_a_time_that_grows_with_the_delay() {
        let instant = |start: Instant, milliseconds| start + Duration::from_millis(milliseconds);
        for (repairs, expires_after) in [
            (1, 60_000),
            (5, 60_000),
            (6, 62_000),
            (8, 68_000),
            (20, 120_000),
        ] {
            let (start, mut damping) = (Instant::now(), FlapDamping::default());
            for _ in 0..repairs {
                damping.record_repair(start, vec!["dcos".into()]);
            }
            damping.expire(instant(start, expires_after - 1));
            assert_eq!(damping.count, repairs, "too early");
            damping.expire(instant(start, expires_after));
            assert_eq!((damping.count, damping.networks.len()), (0, 0), "{repairs}");
        }
    }

    #[test]
    fn note_names_all_networks() {
        let (now, mut damping) = (Instant::now(), FlapDamping::default());
        for n in 0..6 {
            damping.record_repair(now, vec![if n % 2 == 0 { "b" } else { "a" }.into()]);
        }
        assert!(damping.note().unwrap().text.contains("(a, b)"));
    }
}
