//! Schedule of the reconciliations and checks that nobody requests. Pure: time is an argument.
//!
//! * An event that reports a difference leads to a reconciliation at once, a storm of events
//!   to few: the longer a reconciliation takes, the longer the pause after it.
//! * Things without events are checked about every second, which is cheap.
//! * Everything is compared every minute or so, in case an event was lost or misread.

use std::time::Duration;

use overlay_core::Time;

use crate::reconcile::Reaction;

/// Time for which events are gathered before a reconciliation. (Removing one device causes
/// many events.)
const GATHER: Duration = Duration::from_millis(20);

/// Bounds of the pause between a reconciliation and the next one that events lead to. The
/// upper bound, the interval of quick checks and one reconciliation together stay below two
/// seconds, within which every difference has to be repaired.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// Between these bounds the pause is this many times as long as the last reconciliation, so
/// that a program that keeps undoing our changes costs at most a fifth of one CPU.
const PAUSE_FACTOR: u32 = 4;

/// Interval of quick checks, jittered between two bounds.
const QUICK_CHECK: (Duration, Duration) =
    (Duration::from_millis(1000), Duration::from_millis(1500));

/// Pause between two quick checks that events lead to. Some of them run programs (for the
/// firewall, if others change it all the time).
const QUICK_CHECK_PAUSE: Duration = Duration::from_millis(500);

/// Interval of full comparisons, jittered between two bounds.
const COMPARE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));
/// Interval of full comparisons on a host whose events cannot be had.
const COMPARE_WITHOUT_EVENTS: (Duration, Duration) =
    (Duration::from_millis(1000), Duration::from_millis(1500));
/// Lower bound of that interval, in durations of a reconciliation.
const COMPARE_FACTOR: u32 = 20;

/// Task that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// No task.
    Nothing,
    /// A quick check of the things that give no events.
    QuickCheck,
    /// A reconciliation because of an event.
    Repair,
    /// A reconciliation because the last one is long ago.
    Compare,
}

/// Times at which something is due.
#[derive(Debug)]
pub(crate) struct Schedule {
    random: fastrand::Rng,
    without_events: bool,
    repair_at: Option<Time>,
    /// No event leads to a reconciliation before.
    no_repair_before: Time,
    quick_check_at: Time,
    /// No event leads to a quick check before.
    no_quick_check_before: Time,
    compare_at: Time,
}

impl Schedule {
    /// Returns a schedule on which nothing is due before the first
    /// [`on_reconciled`](Self::on_reconciled). `seed` is for the jitter.
    pub(crate) fn new(seed: u64) -> Schedule {
        let never = Time(Duration::MAX);
        Schedule {
            random: fastrand::Rng::with_seed(seed),
            without_events: false,
            repair_at: None,
            no_repair_before: Time::default(),
            quick_check_at: never,
            no_quick_check_before: Time::default(),
            compare_at: never,
        }
    }

    /// Sets whether the host gives no events.
    pub(crate) fn set_without_events(&mut self, without_events: bool) {
        self.without_events = without_events;
    }

    /// Records the end of a reconciliation that took this long.
    pub(crate) fn on_reconciled(&mut self, now: Time, took: Duration) {
        self.repair_at = None;
        let (shortest, longest) = PAUSE;
        let pause = took.saturating_mul(PAUSE_FACTOR);
        self.no_repair_before = now + pause.clamp(shortest, longest);
        let interval = self.jittered(match self.without_events {
            true => COMPARE_WITHOUT_EVENTS,
            false => COMPARE,
        });
        self.compare_at = now + interval.max(took.saturating_mul(COMPARE_FACTOR));
        self.on_quick_check(now);
    }

    /// Records the end of a quick check that found no difference.
    pub(crate) fn on_quick_check(&mut self, now: Time) {
        self.no_quick_check_before = now + QUICK_CHECK_PAUSE;
        self.quick_check_at = now + self.jittered(QUICK_CHECK);
    }

    /// Records events of the host that ask for this reaction.
    pub(crate) fn on_event(&mut self, now: Time, reaction: Reaction) {
        match reaction {
            Reaction::Ignore => {}
            Reaction::QuickCheck => {
                let at = (now + GATHER).max(self.no_quick_check_before);
                self.quick_check_at = self.quick_check_at.min(at);
            }
            Reaction::Reconcile => {
                let at = (now + GATHER).max(self.no_repair_before);
                self.repair_at = Some(self.repair_at.map_or(at, |before| before.min(at)));
            }
        }
    }

    /// Returns whether an event has led to a reconciliation that has not begun.
    pub(crate) fn is_reconcile_pending(&self) -> bool {
        self.repair_at.is_some()
    }

    /// Returns the time of the next task.
    pub(crate) fn next(&self) -> Time {
        self.repair_at
            .unwrap_or(self.compare_at)
            .min(self.quick_check_at)
            .min(self.compare_at)
    }

    /// Returns the task that is due at `now`.
    pub(crate) fn due(&self, now: Time) -> Due {
        match () {
            () if self.repair_at.is_some_and(|at| at <= now) => Due::Repair,
            () if self.compare_at <= now => Due::Compare,
            () if self.quick_check_at <= now => Due::QuickCheck,
            () => Due::Nothing,
        }
    }

    fn jittered(&mut self, (shortest, longest): (Duration, Duration)) -> Duration {
        shortest + (longest - shortest).mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    /// A schedule after a reconciliation that ended at 0 ms.
    fn schedule(took: u64) -> Schedule {
        let mut schedule = Schedule::new(1);
        schedule.on_reconciled(Time::default(), Duration::from_millis(took));
        schedule
    }

    /// Returns the number of reconciliations in a storm of one event each millisecond.
    fn reconciliations_in_a_storm(took: u64, milliseconds: u64) -> u64 {
        let mut schedule = schedule(took);
        let (mut count, mut busy_until) = (0, 0);
        for now in 0..milliseconds {
            schedule.on_event(ms(now), Reaction::Reconcile);
            if now >= busy_until && schedule.due(ms(now)) == Due::Repair {
                count += 1;
                busy_until = now + took;
                schedule.on_reconciled(ms(busy_until), Duration::from_millis(took));
            }
        }
        count
    }

    #[test]
    fn a_reconciliation_follows_the_first_event_soon() {
        let mut schedule = schedule(10);
        schedule.on_event(ms(5000), Reaction::Reconcile);
        assert_eq!(
            schedule.due(ms(5019)),
            Due::Nothing.or_quick_check(schedule.quick_check_at, ms(5019))
        );
        assert_eq!(schedule.due(ms(5020)), Due::Repair);
        assert!(schedule.is_reconcile_pending() && schedule.next() <= ms(5020));
    }

    #[test]
    fn a_storm_leads_to_few_reconciliations() {
        assert!((40..=50).contains(&reconciliations_in_a_storm(1, 10_000)));
        assert!(
            (7..=10).contains(&reconciliations_in_a_storm(250, 10_000)),
            "at most a fifth of the time"
        );
        // However long a reconciliation takes, the next one comes within two seconds.
        let mut schedule = schedule(5_000);
        schedule.on_event(ms(1), Reaction::Reconcile);
        assert_eq!(schedule.due(ms(1_000)), Due::Repair);
    }

    #[test]
    fn things_without_events_are_checked_every_one_to_one_and_a_half_seconds() {
        for seed in 0..100 {
            let mut schedule = Schedule::new(seed);
            schedule.on_reconciled(Time::default(), Duration::from_millis(1));
            assert_eq!(schedule.due(ms(999)), Due::Nothing);
            assert_eq!(schedule.due(ms(1500)), Due::QuickCheck);
            schedule.on_quick_check(ms(1500));
            assert_eq!(schedule.due(ms(2499)), Due::Nothing);
            assert_eq!(schedule.due(ms(60_000)), Due::Compare);
        }
    }

    #[test]
    fn everything_is_compared_now_and_then_at_a_bounded_cost() {
        let mut schedule = schedule(0);
        assert!((30_000..=60_000).contains(&schedule.compare_at.0.as_millis()));
        schedule.set_without_events(true);
        schedule.on_reconciled(ms(0), Duration::ZERO);
        assert!(
            schedule.compare_at <= ms(1500),
            "without events there is nothing else to go by"
        );
        schedule.on_reconciled(ms(0), Duration::from_millis(400));
        assert_eq!(schedule.compare_at, ms(8000));
    }

    #[test]
    fn an_event_brings_a_quick_check_forward_and_never_delays_it() {
        let mut schedule = schedule(1);
        schedule.on_event(ms(600), Reaction::QuickCheck);
        for now in [610, 619] {
            schedule.on_event(ms(now), Reaction::QuickCheck);
            assert_eq!(
                (schedule.due(ms(now)), schedule.next()),
                (Due::Nothing, ms(620)),
                "{now}"
            );
        }
        assert_eq!(schedule.due(ms(620)), Due::QuickCheck);
        // After a quick check the next one has to wait.
        schedule.on_quick_check(ms(630));
        schedule.on_event(ms(631), Reaction::QuickCheck);
        assert_eq!(
            (schedule.due(ms(1129)), schedule.due(ms(1130))),
            (Due::Nothing, Due::QuickCheck)
        );
        // An event shortly before the regular quick check does not delay it.
        schedule.on_quick_check(ms(2000));
        let regular = schedule.next();
        schedule.on_event(
            Time(regular.0 - Duration::from_millis(1)),
            Reaction::QuickCheck,
        );
        assert_eq!(
            (schedule.next(), schedule.due(regular)),
            (regular, Due::QuickCheck)
        );
        assert!(
            !schedule.is_reconcile_pending(),
            "a quick check is no reconciliation"
        );
    }

    #[test]
    fn a_storm_leads_to_few_quick_checks() {
        let (mut schedule, mut count) = (schedule(1), 0);
        for now in 0..10_000 {
            schedule.on_event(ms(now), Reaction::QuickCheck);
            if schedule.due(ms(now)) == Due::QuickCheck {
                count += 1;
                schedule.on_quick_check(ms(now));
            }
        }
        assert_eq!(count, 19, "one each half second, none at the start");
    }

    #[test]
    fn the_pause_is_four_times_as_long_as_the_reconciliation_within_bounds() {
        for (took, rest) in [
            (0, 200),
            (49, 200),
            (51, 204),
            (100, 400),
            (249, 996),
            (251, 1000),
            (9000, 1000),
        ] {
            let mut schedule = schedule(took);
            // Further events do not delay it.
            for now in [1, 50, 99] {
                schedule.on_event(ms(now), Reaction::Reconcile);
            }
            assert_ne!(schedule.due(ms(rest - 1)), Due::Repair, "{took}");
            assert_eq!(schedule.due(ms(rest)), Due::Repair, "{took}");
        }
        // Later events do not extend the time for which events are gathered.
        let mut schedule = schedule(10);
        for now in [300, 310, 319] {
            schedule.on_event(ms(now), Reaction::Reconcile);
            assert_eq!(
                (schedule.due(ms(now)), schedule.next()),
                (Due::Nothing, ms(320))
            );
        }
        assert_eq!(schedule.due(ms(320)), Due::Repair);
    }

    #[test]
    fn a_reconciliation_restarts_the_schedule() {
        let mut schedule = schedule(1);
        schedule.on_event(ms(700), Reaction::QuickCheck);
        schedule.on_event(ms(700), Reaction::Reconcile);
        assert!(schedule.is_reconcile_pending());
        schedule.on_reconciled(ms(5000), Duration::from_millis(1));
        assert!(!schedule.is_reconcile_pending());
        assert_eq!(schedule.due(ms(5999)), Due::Nothing);
        assert!(
            (ms(6000)..=ms(6500)).contains(&schedule.next()),
            "the next quick check: {:?}",
            schedule.next()
        );
        // A quick check does not cancel a pending reconciliation.
        schedule.on_event(ms(5500), Reaction::Reconcile);
        schedule.on_quick_check(ms(5510));
        assert_eq!(
            (schedule.is_reconcile_pending(), schedule.due(ms(5520))),
            (true, Due::Repair)
        );
    }

    #[test]
    fn ignored_events_change_nothing() {
        let mut schedule = schedule(1);
        let next = schedule.next();
        schedule.on_event(ms(800), Reaction::Ignore);
        assert_eq!(
            (schedule.is_reconcile_pending(), schedule.next()),
            (false, next)
        );
    }

    #[test]
    fn nothing_is_due_before_the_first_reconciliation_without_events() {
        let mut schedule = Schedule::new(1);
        assert_eq!(schedule.due(ms(1_000_000_000)), Due::Nothing);
        schedule.on_event(ms(5), Reaction::Reconcile);
        assert_eq!(
            (schedule.due(ms(24)), schedule.due(ms(25))),
            (Due::Nothing, Due::Repair)
        );
    }

    #[test]
    fn of_several_due_tasks_the_most_thorough_comes_first() {
        let mut schedule = schedule(1);
        let (quick_check, compare) = (schedule.quick_check_at, schedule.compare_at);
        assert_eq!(schedule.due(quick_check), Due::QuickCheck);
        assert_eq!(
            schedule.due(Time(compare.0 - Duration::from_nanos(1))),
            Due::QuickCheck
        );
        assert_eq!(schedule.due(compare), Due::Compare);
        schedule.on_event(ms(10), Reaction::Reconcile);
        assert_eq!(schedule.due(compare), Due::Repair);
    }

    #[test]
    fn the_next_task_is_the_earliest() {
        let mut schedule = schedule(9000);
        schedule.on_event(ms(1), Reaction::Reconcile);
        schedule.on_event(ms(600), Reaction::QuickCheck);
        assert_eq!(
            (schedule.next(), schedule.due(ms(620))),
            (ms(620), Due::QuickCheck)
        );
        schedule.on_quick_check(ms(621));
        assert_eq!(schedule.next(), ms(1000));
        // Quick checks do not delay the full comparison.
        schedule.set_without_events(true);
        schedule.on_reconciled(ms(0), Duration::ZERO);
        schedule.on_quick_check(schedule.compare_at);
        assert_eq!(schedule.next(), schedule.compare_at);
        schedule.on_event(
            Time(schedule.compare_at.0 - Duration::from_millis(1)),
            Reaction::Reconcile,
        );
        assert_eq!(
            schedule.next(),
            schedule.compare_at,
            "rather than 19 ms later"
        );
    }

    /// Hosts must not compare all at the same time.
    #[test]
    fn intervals_are_spread_over_their_whole_range() {
        let after = |seed, without_events| {
            let mut schedule = Schedule::new(seed);
            schedule.set_without_events(without_events);
            schedule.on_reconciled(Time::default(), Duration::from_millis(1));
            (
                schedule.compare_at.0.as_millis(),
                schedule.quick_check_at.0.as_millis(),
            )
        };
        for (without_events, compare) in [(false, [30_000, 60_000]), (true, [1000, 1500])] {
            let all: Vec<(u128, u128)> = (0..200).map(|seed| after(seed, without_events)).collect();
            let (compares, looks): (Vec<u128>, Vec<u128>) = all.into_iter().unzip();
            for (values, [least, most]) in [(compares, compare), (looks, [1000, 1500])] {
                let tenth = (most - least) / 10;
                let (first, last) = (values.iter().min().unwrap(), values.iter().max().unwrap());
                assert!(
                    (least..least + tenth).contains(first),
                    "{first} of {least}..{most}"
                );
                assert!(
                    (most - tenth..=most).contains(last),
                    "{last} of {least}..{most}"
                );
            }
        }
    }

    #[test]
    fn a_host_whose_events_return_is_compared_rarely_again() {
        let mut schedule = schedule(0);
        schedule.set_without_events(true);
        schedule.on_reconciled(ms(0), Duration::from_millis(75));
        assert!(
            schedule.compare_at >= ms(1500),
            "twenty times as long as it takes"
        );
        schedule.set_without_events(false);
        schedule.on_reconciled(ms(0), Duration::from_millis(75));
        assert!(schedule.compare_at >= ms(30_000));
        schedule.on_reconciled(ms(0), Duration::from_secs(4));
        assert_eq!(schedule.compare_at, ms(80_000));
    }

    impl Due {
        /// Allows a quick check that is due by chance, in tests of reconciliations.
        fn or_quick_check(self, quick_check_at: Time, now: Time) -> Due {
            if quick_check_at <= now {
                Due::QuickCheck
            } else {
                self
            }
        }
    }
}
