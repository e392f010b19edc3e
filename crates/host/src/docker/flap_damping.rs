//! Telling a quarrel from an accident. Pure: time is an argument.
//!
//! What somebody deletes is made again at once. Two who each take the other's networks
//! for leftovers (two agents on one engine) would do so for ever, several times a
//! second; then one repair has to wait longer than the one before.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// So many repairs in a row are made at once.
const AT_ONCE: u32 = 6;

/// How long the next one waits, at least. It doubles.
const FIRST: Duration = Duration::from_secs(2);
/// The most that it waits.
const MOST: Duration = Duration::from_secs(60);

/// Without a repair for so much longer than it had to wait, the quarrel is over.
const CALM: Duration = Duration::from_secs(60);

/// The repairs of late.
#[derive(Debug, Default)]
pub(super) struct Quarrel {
    /// How many there were without a calm between them.
    count: u32,
    last: Option<Instant>,
    /// What it is about.
    networks: BTreeSet<String>,
}

impl Quarrel {
    /// Networks that were there before were not, and have been made again.
    pub(super) fn repaired(&mut self, now: Instant, networks: Vec<String>) {
        self.settle(now);
        self.networks.extend(networks);
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// Forgets a quarrel that is over.
    pub(super) fn settle(&mut self, now: Instant) {
        if self
            .last
            .is_some_and(|last| now.duration_since(last) >= self.gap() + CALM)
        {
            *self = Quarrel::default();
        }
    }

    /// Before when there must be no further repair.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        self.last
            .filter(|_| self.is_on())
            .map(|last| last + self.gap())
    }

    fn is_on(&self) -> bool {
        self.count >= AT_ONCE
    }

    /// What an operator should know of it, in a sentence that stays the same.
    pub(super) fn sentence(&self) -> Option<String> {
        let networks: Vec<&str> = self.networks.iter().map(String::as_str).collect();
        self.is_on().then(|| {
            format!(
                "somebody else removes or replaces Docker networks as often as this agent makes them ({}): is \
                 another agent at the same docker_socket? They are made again more and more slowly now, at \
                 least every {} s",
                networks.join(", "),
                MOST.as_secs(),
            )
        })
    }

    fn gap(&self) -> Duration {
        match self.count.checked_sub(AT_ONCE) {
            Some(more) => FIRST.saturating_mul(1 << more.min(16)).min(MOST),
            None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accidents_are_repaired_at_once() {
        let (start, mut quarrel) = (Instant::now(), Quarrel::default());
        for n in 1..AT_ONCE {
            quarrel.repaired(start + Duration::from_secs(n.into()), vec!["dcos".into()]);
            assert_eq!(quarrel.rest_until(), None);
        }
        // And so they are an hour later.
        for n in 1..AT_ONCE {
            quarrel.repaired(start + Duration::from_secs(3600 + u64::from(n)), Vec::new());
            assert_eq!(quarrel.rest_until(), None);
        }
    }

    /// Somebody undoes every repair at once.
    #[test]
    fn a_quarrel_leads_to_few_repairs_until_it_is_over() {
        let (start, mut quarrel) = (Instant::now(), Quarrel::default());
        let (mut now, mut repairs) = (start, 0);
        while now.duration_since(start) < Duration::from_secs(600) {
            quarrel.repaired(now, vec!["dcos".into()]);
            repairs += 1;
            now = quarrel
                .rest_until()
                .unwrap_or(now + Duration::from_millis(300));
        }
        assert!(
            (15..=22).contains(&repairs),
            "{repairs} repairs in ten minutes"
        );
        assert!(
            quarrel
                .sentence()
                .is_some_and(|sentence| sentence.contains("(dcos)"))
        );
        quarrel.settle(now + CALM + MOST);
        assert!(quarrel.sentence().is_none() && quarrel.rest_until().is_none());
    }

    #[test]
    fn the_sixth_repair_in_a_row_is_the_first_one_that_is_waited_after() {
        let (start, mut quarrel) = (Instant::now(), Quarrel::default());
        let after = |quarrel: &Quarrel, now: Instant| {
            quarrel.rest_until().map(|rest| (rest - now).as_secs())
        };
        for _ in 0..5 {
            quarrel.repaired(start, vec!["dcos".into()]);
        }
        assert_eq!((after(&quarrel, start), quarrel.sentence()), (None, None));
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            quarrel.repaired(start, vec!["dcos".into()]);
            assert_eq!(after(&quarrel, start), Some(expected));
            assert!(quarrel.sentence().is_some());
        }
    }

    /// It is over a minute after the time that had to be waited for.
    #[test]
    fn a_quarrel_is_over_after_a_calm_that_grows_with_it() {
        let instant = |start: Instant, milliseconds| start + Duration::from_millis(milliseconds);
        for (repairs, calm) in [
            (1, 60_000),
            (5, 60_000),
            (6, 62_000),
            (8, 68_000),
            (20, 120_000),
        ] {
            let (start, mut quarrel) = (Instant::now(), Quarrel::default());
            for _ in 0..repairs {
                quarrel.repaired(start, vec!["dcos".into()]);
            }
            quarrel.settle(instant(start, calm - 1));
            assert_eq!(quarrel.count, repairs, "too early");
            quarrel.settle(instant(start, calm));
            assert_eq!((quarrel.count, quarrel.networks.len()), (0, 0), "{repairs}");
        }
    }

    #[test]
    fn it_tells_of_all_networks_that_it_is_about() {
        let (now, mut quarrel) = (Instant::now(), Quarrel::default());
        for n in 0..6 {
            quarrel.repaired(now, vec![if n % 2 == 0 { "b" } else { "a" }.into()]);
        }
        assert!(quarrel.sentence().unwrap().contains("(a, b)"));
    }
}
