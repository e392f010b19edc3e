//! The time of the next reconciliation of the engine's networks. Pure, except for random
//! jitter: time is an argument.

use std::time::Duration;

use overlay_core::host_api::problem::Problem;
use tokio::time::Instant;

use super::client::Event;
use super::flap_damping::FlapDamping;

/// Interval of reconciliations without an event, give or take a quarter. They also refresh
/// the numbers of addresses in use.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// Delay after an event of a network. Several networks are often created or removed together.
const NETWORK_DELAY: Duration = Duration::from_millis(100);

/// Delay after an event of an endpoint, which changes only the numbers of addresses in use.
const ENDPOINT_DELAY: Duration = Duration::from_secs(1);

/// Delay after the loss of a subscription to events that lasted for a shorter time than this.
/// A longer one is restored after [`NETWORK_DELAY`].
const STEADY: Duration = Duration::from_secs(1);

/// Schedule of reconciliations.
pub(super) struct Schedule {
    /// Time of the next reconciliation; `None`: after the next event only.
    due: Option<Instant>,
    flap_damping: FlapDamping,
    random: fastrand::Rng,
}

/// Reconciliations after the one that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Periodic,
    /// Only after an event: nothing is expected of the engine before.
    OnEvent,
}

impl Schedule {
    pub(super) fn new() -> Schedule {
        Schedule {
            due: None,
            flap_damping: FlapDamping::default(),
            random: fastrand::Rng::new(),
        }
    }

    /// Returns the time of the next reconciliation, if there is one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// A new desired state is reconciled at once, in spite of flap damping.
    pub(super) fn on_desired(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// Reacts to an event of the engine.
    pub(super) fn on_event(&mut self, now: Instant, event: Event) {
        let delay = match event {
            Event::Network => NETWORK_DELAY,
            Event::Endpoint => ENDPOINT_DELAY,
        };
        self.bring_forward(now, delay);
    }

    /// Reacts to the loss of the subscription to events, which lasted for this time.
    pub(super) fn on_events_lost(&mut self, now: Instant, lasted: Duration) {
        let delay = if lasted >= STEADY {
            NETWORK_DELAY
        } else {
            STEADY
        };
        self.bring_forward(now, delay);
    }

    /// Reacts to a change of anything else that the result of a reconciliation depends on.
    pub(super) fn on_change(&mut self, now: Instant) {
        self.bring_forward(now, Duration::ZERO);
    }

    /// Records that a reconciliation recreated networks that another program had removed.
    pub(super) fn on_repair(&mut self, now: Instant, networks: Vec<String>) {
        self.flap_damping.record_repair(now, networks);
    }

    /// Returns a note for the operator while repairs are delayed.
    pub(super) fn note(&mut self, now: Instant) -> Option<Problem> {
        self.flap_damping.expire(now);
        self.flap_damping.note()
    }

    /// Plans the reconciliation after one that has ended.
    pub(super) fn on_reconciled(&mut self, now: Instant, next: Next) {
        self.due = None;
        if next == Next::Periodic {
            let jitter = 0.75 + self.random.f64() / 2.0;
            self.bring_forward(now, PERIOD.mul_f64(jitter));
        }
    }

    /// Makes the next reconciliation due after `delay`, unless it is due before. Flap damping
    /// may delay it further.
    fn bring_forward(&mut self, now: Instant, delay: Duration) {
        let due = now + delay;
        let due = self.due.map_or(due, |before| before.min(due));
        let earliest = self.flap_damping.delayed_until();
        self.due = Some(earliest.map_or(due, |earliest| earliest.max(due)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn due_after(now: Instant, schedule: &Schedule) -> Duration {
        schedule.next().unwrap() - now
    }

    #[test]
    fn events_bring_the_next_reconciliation_forward_and_never_delay_it() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        schedule.bring_forward(now, Duration::from_secs(60));
        assert_eq!(due_after(now, &schedule), Duration::from_secs(60));
        schedule.bring_forward(now, HOUR);
        assert_eq!(due_after(now, &schedule), Duration::from_secs(60));
        schedule.on_event(now, Event::Endpoint);
        assert_eq!(due_after(now, &schedule), ENDPOINT_DELAY);
        schedule.on_event(now, Event::Network);
        assert_eq!(due_after(now, &schedule), NETWORK_DELAY);
        assert!(!schedule.is_due(now) && schedule.is_due(now + NETWORK_DELAY));
        schedule.on_change(now);
        assert!(schedule.is_due(now));
    }

    /// A connection that breaks as soon as it is made must not be made without a pause.
    #[test]
    fn short_subscription_is_restored_after_a_pause() {
        let after = |lasted| {
            let (now, mut schedule) = (Instant::now(), Schedule::new());
            schedule.on_events_lost(now, lasted);
            due_after(now, &schedule)
        };
        let almost = STEADY.saturating_sub(Duration::from_nanos(1));
        assert_eq!(after(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(after(almost), Duration::from_secs(1));
        assert_eq!(after(STEADY), Duration::from_millis(100));
        assert_eq!(after(HOUR), Duration::from_millis(100));
    }

    #[test]
    fn flap_damping_delays_events_and_not_a_new_desired_state() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        for n in 1..=6 {
            assert_eq!(schedule.note(now), None);
            schedule.on_repair(now, vec!["dcos".into()]);
            schedule.on_change(now);
            assert_eq!(schedule.is_due(now), n < 6);
            schedule.on_reconciled(now, Next::OnEvent);
        }
        assert!(schedule.note(now).is_some());
        schedule.on_change(now);
        assert!(!schedule.is_due(now));
        schedule.on_desired(now);
        assert!(schedule.is_due(now));
    }

    #[test]
    fn periodic_reconciliation_has_jitter() {
        let (now, mut schedule) = (Instant::now(), Schedule::new());
        for _ in 0..100 {
            schedule.on_reconciled(now, Next::Periodic);
            let after = due_after(now, &schedule);
            assert!(
                (PERIOD * 3 / 4..=PERIOD * 5 / 4).contains(&after),
                "{after:?}"
            );
        }
        schedule.on_reconciled(now, Next::OnEvent);
        assert_eq!(schedule.next(), None);
    }
}
