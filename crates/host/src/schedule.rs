//! When the host is looked at without being asked to. Pure: time is an argument.
//!
//! What an event tells is mended at once, but a storm of events leads to few
//! passes: the next one waits the longer, the longer a pass takes. What gives no
//! event is looked at twice in three seconds, which is cheap; everything is
//! compared now and then, in case that an event got lost or was misread.

use std::time::Duration;

use overlay_core::Time;

use crate::reconcile::Meaning;

/// How long events are gathered before the first pass: a device that goes away
/// is many.
const GATHER: Duration = Duration::from_millis(20);

/// The least time from the end of a pass to the next one that events lead to.
const LEAST_GAP: Duration = Duration::from_millis(200);
/// The most. Together with a look's interval and a pass it stays below the two
/// seconds within which everything has to be right.
const MOST_GAP: Duration = Duration::from_secs(1);
/// Between, this many times as long as the last pass took: whoever fights with us
/// gets a fifth of one processor.
const GAP_FACTOR: u32 = 4;

/// How often the things are looked at that give no event.
const LOOK: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(1500));

/// The least time between two looks that events lead to. Some of what is looked
/// at (the firewall, if others change it all the time) needs programs to be run.
const LOOK_GAP: Duration = Duration::from_millis(500);

/// How often everything is compared.
const COMPARE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(60));
/// The same on a host whose events cannot be had.
const COMPARE_BLIND: (Duration, Duration) =
    (Duration::from_millis(1000), Duration::from_millis(1500));
/// But never more often than this many times as long as it takes.
const COMPARE_FACTOR: u32 = 20;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// A look at what gives no event.
    Look,
    /// A pass, because of an event.
    Repair,
    /// A pass for its own sake.
    Compare,
}

/// Decides when.
#[derive(Debug)]
pub(super) struct Pace {
    random: fastrand::Rng,
    blind: bool,
    repair_at: Option<Time>,
    look_at: Time,
    /// Until then no event leads to a look.
    unseen_until: Time,
    compare_at: Time,
    /// Until then no event leads to a pass.
    rest_until: Time,
}

impl Pace {
    /// `seed` is for the jitter.
    pub(super) fn new(seed: u64) -> Pace {
        let random = fastrand::Rng::with_seed(seed);
        let never = Time(Duration::MAX);
        Pace {
            random,
            blind: false,
            repair_at: None,
            look_at: never,
            unseen_until: Time::default(),
            compare_at: never,
            rest_until: Time::default(),
        }
    }

    /// Whether events can be had.
    pub(super) fn set_blind(&mut self, blind: bool) {
        self.blind = blind;
    }

    /// A pass that took this long has just ended.
    pub(super) fn passed(&mut self, now: Time, took: Duration) {
        self.repair_at = None;
        self.rest_until = now + took.saturating_mul(GAP_FACTOR).clamp(LEAST_GAP, MOST_GAP);
        let compare = self.jittered(if self.blind { COMPARE_BLIND } else { COMPARE });
        self.compare_at = now + compare.max(took.saturating_mul(COMPARE_FACTOR));
        self.looked(now);
    }

    /// The look that was due has just ended, and found nothing.
    pub(super) fn looked(&mut self, now: Time) {
        self.unseen_until = now + LOOK_GAP;
        self.look_at = now + self.jittered(LOOK);
    }

    /// The kernel told something.
    pub(super) fn noticed(&mut self, now: Time, meaning: Meaning) {
        match meaning {
            Meaning::Nothing => {}
            Meaning::Look => self.look_at = self.look_at.min((now + GATHER).max(self.unseen_until)),
            Meaning::Pass => {
                let at = (now + GATHER).max(self.rest_until);
                self.repair_at = Some(self.repair_at.map_or(at, |before| before.min(at)));
            }
        }
    }

    /// Whether events can add nothing, because a pass is due anyway.
    pub(super) fn is_alarmed(&self) -> bool {
        self.repair_at.is_some()
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Time {
        self.repair_at
            .unwrap_or(self.compare_at)
            .min(self.look_at)
            .min(self.compare_at)
    }

    /// What is due.
    pub(super) fn due(&self, now: Time) -> Due {
        match () {
            () if self.repair_at.is_some_and(|at| at <= now) => Due::Repair,
            () if self.compare_at <= now => Due::Compare,
            () if self.look_at <= now => Due::Look,
            () => Due::Nothing,
        }
    }

    fn jittered(&mut self, (least, most): (Duration, Duration)) -> Duration {
        least + (most - least).mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time(Duration::from_millis(ms))
    }

    /// A pace after a pass that ended at 0.
    fn pace(took: u64) -> Pace {
        let mut pace = Pace::new(1);
        pace.passed(Time::default(), Duration::from_millis(took));
        pace
    }

    /// How many passes a storm of events (one each millisecond) leads to.
    fn passes_in_a_storm(took: u64, milliseconds: u64) -> u64 {
        let mut pace = pace(took);
        let (mut passes, mut busy_until) = (0, 0);
        for now in 0..milliseconds {
            pace.noticed(ms(now), Meaning::Pass);
            if now >= busy_until && pace.due(ms(now)) == Due::Repair {
                passes += 1;
                busy_until = now + took;
                pace.passed(ms(busy_until), Duration::from_millis(took));
            }
        }
        passes
    }

    #[test]
    fn the_first_event_is_followed_by_a_pass_soon() {
        let mut pace = pace(10);
        pace.noticed(ms(5000), Meaning::Pass);
        assert_eq!(
            pace.due(ms(5019)),
            Due::Nothing.max_look(pace.look_at, ms(5019))
        );
        assert_eq!(pace.due(ms(5020)), Due::Repair);
        assert!(pace.is_alarmed() && pace.next() <= ms(5020));
    }

    #[test]
    fn a_storm_leads_to_few_passes() {
        assert!((40..=50).contains(&passes_in_a_storm(1, 10_000)));
        assert!(
            (7..=10).contains(&passes_in_a_storm(250, 10_000)),
            "at most a fifth of the time"
        );
        // However long a pass takes, the next one comes within two seconds.
        let mut pace = pace(5_000);
        pace.noticed(ms(1), Meaning::Pass);
        assert_eq!(pace.due(ms(1_000)), Due::Repair);
    }

    #[test]
    fn what_gives_no_event_is_looked_at_within_a_second_and_a_half() {
        for seed in 0..100 {
            let mut pace = Pace::new(seed);
            pace.passed(Time::default(), Duration::from_millis(1));
            assert_eq!(pace.due(ms(999)), Due::Nothing);
            assert_eq!(pace.due(ms(1500)), Due::Look);
            pace.looked(ms(1500));
            assert_eq!(pace.due(ms(2499)), Due::Nothing);
            assert_eq!(pace.due(ms(60_000)), Due::Compare);
        }
    }

    #[test]
    fn everything_is_compared_now_and_then_but_does_not_eat_the_processor() {
        let mut pace = pace(0);
        assert!((30_000..=60_000).contains(&pace.compare_at.0.as_millis()));
        pace.set_blind(true);
        pace.passed(ms(0), Duration::ZERO);
        assert!(
            pace.compare_at <= ms(1500),
            "without events there is nothing else to go by"
        );
        pace.passed(ms(0), Duration::from_millis(400));
        assert_eq!(pace.compare_at, ms(8000));
    }

    /// Whatever else is due, events about what is quickly read lead to a look soon, but
    /// not too soon after the last one.
    #[test]
    fn an_event_brings_the_look_forward_and_never_puts_it_off() {
        let mut pace = pace(1);
        pace.noticed(ms(600), Meaning::Look);
        for now in [610, 619] {
            pace.noticed(ms(now), Meaning::Look);
            assert_eq!(
                (pace.due(ms(now)), pace.next()),
                (Due::Nothing, ms(620)),
                "{now}"
            );
        }
        assert_eq!(pace.due(ms(620)), Due::Look);
        // Right after a look the next one has to wait.
        pace.looked(ms(630));
        pace.noticed(ms(631), Meaning::Look);
        assert_eq!(
            (pace.due(ms(1129)), pace.due(ms(1130))),
            (Due::Nothing, Due::Look)
        );
        // The regular look is not put off by an event that comes shortly before it.
        pace.looked(ms(2000));
        let regular = pace.next();
        pace.noticed(Time(regular.0 - Duration::from_millis(1)), Meaning::Look);
        assert_eq!((pace.next(), pace.due(regular)), (regular, Due::Look));
        assert!(!pace.is_alarmed(), "a look is no pass");
    }

    #[test]
    fn a_storm_leads_to_few_looks() {
        let (mut pace, mut looks) = (pace(1), 0);
        for now in 0..10_000 {
            pace.noticed(ms(now), Meaning::Look);
            if pace.due(ms(now)) == Due::Look {
                looks += 1;
                pace.looked(ms(now));
            }
        }
        assert_eq!(looks, 19, "one each half second, none at the start");
    }

    #[test]
    fn a_pass_rests_for_four_times_as_long_as_it_took_within_bounds() {
        for (took, rest) in [
            (0, 200),
            (49, 200),
            (51, 204),
            (100, 400),
            (249, 996),
            (251, 1000),
            (9000, 1000),
        ] {
            let mut pace = pace(took);
            // Further events do not put it off.
            for now in [1, 50, 99] {
                pace.noticed(ms(now), Meaning::Pass);
            }
            assert_ne!(pace.due(ms(rest - 1)), Due::Repair, "{took}");
            assert_eq!(pace.due(ms(rest)), Due::Repair, "{took}");
        }
        // Later ones are gathered from the first one on.
        let mut pace = pace(10);
        for now in [300, 310, 319] {
            pace.noticed(ms(now), Meaning::Pass);
            assert_eq!((pace.due(ms(now)), pace.next()), (Due::Nothing, ms(320)));
        }
        assert_eq!(pace.due(ms(320)), Due::Repair);
    }

    #[test]
    fn a_pass_is_the_end_of_what_was_due_and_begins_everything_anew() {
        let mut pace = pace(1);
        pace.noticed(ms(700), Meaning::Look);
        pace.noticed(ms(700), Meaning::Pass);
        assert!(pace.is_alarmed());
        pace.passed(ms(5000), Duration::from_millis(1));
        assert!(!pace.is_alarmed());
        assert_eq!(pace.due(ms(5999)), Due::Nothing);
        assert!(
            (ms(6000)..=ms(6500)).contains(&pace.next()),
            "the next look: {:?}",
            pace.next()
        );
        // A look is not: what is wrong stays wrong.
        pace.noticed(ms(5500), Meaning::Pass);
        pace.looked(ms(5510));
        assert_eq!((pace.is_alarmed(), pace.due(ms(5520))), (true, Due::Repair));
    }

    #[test]
    fn what_means_nothing_changes_nothing() {
        let mut pace = pace(1);
        let next = pace.next();
        pace.noticed(ms(800), Meaning::Nothing);
        assert_eq!((pace.is_alarmed(), pace.next()), (false, next));
    }

    #[test]
    fn before_the_first_pass_nothing_is_due_by_itself() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.due(ms(1_000_000_000)), Due::Nothing);
        pace.noticed(ms(5), Meaning::Pass);
        assert_eq!(
            (pace.due(ms(24)), pace.due(ms(25))),
            (Due::Nothing, Due::Repair)
        );
    }

    /// The one that covers more comes first.
    #[test]
    fn of_several_things_that_are_due_the_most_thorough_is_done() {
        let mut pace = pace(1);
        let (look, compare) = (pace.look_at, pace.compare_at);
        assert_eq!(pace.due(look), Due::Look);
        assert_eq!(
            pace.due(Time(compare.0 - Duration::from_nanos(1))),
            Due::Look
        );
        assert_eq!(pace.due(compare), Due::Compare);
        pace.noticed(ms(10), Meaning::Pass);
        assert_eq!(pace.due(compare), Due::Repair);
    }

    /// One wakes for whatever comes first, also while a pass has to wait.
    #[test]
    fn the_next_thing_is_the_first_one() {
        let mut pace = pace(9000);
        pace.noticed(ms(1), Meaning::Pass);
        pace.noticed(ms(600), Meaning::Look);
        assert_eq!((pace.next(), pace.due(ms(620))), (ms(620), Due::Look));
        pace.looked(ms(621));
        assert_eq!(pace.next(), ms(1000));
        // Everything is compared although there is always a look before.
        pace.set_blind(true);
        pace.passed(ms(0), Duration::ZERO);
        pace.looked(pace.compare_at);
        assert_eq!(pace.next(), pace.compare_at);
        pace.noticed(
            Time(pace.compare_at.0 - Duration::from_millis(1)),
            Meaning::Pass,
        );
        assert_eq!(pace.next(), pace.compare_at, "rather than 19 ms later");
    }

    /// Many hosts do not do it at the same time.
    #[test]
    fn intervals_are_spread_over_their_whole_range() {
        let after = |seed, blind| {
            let mut pace = Pace::new(seed);
            pace.set_blind(blind);
            pace.passed(Time::default(), Duration::from_millis(1));
            (pace.compare_at.0.as_millis(), pace.look_at.0.as_millis())
        };
        for (blind, compare) in [(false, [30_000, 60_000]), (true, [1000, 1500])] {
            let all: Vec<(u128, u128)> = (0..200).map(|seed| after(seed, blind)).collect();
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
    fn a_host_whose_events_are_back_is_compared_seldom_again() {
        let mut pace = pace(0);
        pace.set_blind(true);
        pace.passed(ms(0), Duration::from_millis(75));
        assert!(
            pace.compare_at >= ms(1500),
            "twenty times as long as it takes"
        );
        pace.set_blind(false);
        pace.passed(ms(0), Duration::from_millis(75));
        assert!(pace.compare_at >= ms(30_000));
        pace.passed(ms(0), Duration::from_secs(4));
        assert_eq!(pace.compare_at, ms(80_000));
    }

    impl Due {
        /// A look that is due by chance does not matter to a test about passes.
        fn max_look(self, look_at: Time, now: Time) -> Due {
            if look_at <= now { Due::Look } else { self }
        }
    }
}
