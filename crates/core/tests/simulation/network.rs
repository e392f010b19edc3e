//! Network between the processes, as libprocess uses it.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use overlay_core::{Time, Upid};

/// Unreliability of the network, in percent of all messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// Messages that are lost.
    pub lost: u8,
    /// Messages that are delivered a second time, later.
    pub repeated: u8,
    /// Messages that later ones overtake.
    pub reordered: u8,
    /// Usual maximum delay.
    pub delay: Duration,
}

impl Conditions {
    /// Returns conditions without faults, with a negligible delay.
    pub fn good() -> Conditions {
        Conditions {
            delay: Duration::from_millis(3),
            ..Conditions::default()
        }
    }

    pub fn faulty(random: &mut Rng) -> Conditions {
        Conditions {
            lost: random.u8(0..20),
            repeated: random.u8(0..10),
            reordered: random.u8(0..20),
            delay: Duration::from_millis(random.u64(1..500)),
        }
    }
}

/// Simulated network.
pub struct Network {
    pub conditions: Conditions,
    /// Pairs of processes that cannot reach each other.
    pub cut: Vec<(usize, usize)>,
    /// Last arrival between two processes. Messages keep their order.
    order: BTreeMap<(Upid, Upid), Time>,
}

impl Network {
    pub fn new() -> Network {
        Network {
            conditions: Conditions::good(),
            cut: Vec::new(),
            order: BTreeMap::new(),
        }
    }

    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Returns the arrivals of a message that is sent now: none, one or two.
    pub fn arrivals(&mut self, now: Time, from: &Upid, to: &Upid, random: &mut Rng) -> Vec<Time> {
        let conditions = self.conditions;
        if random.u8(0..100) < conditions.lost {
            return Vec::new();
        }
        let mut arrival = now + conditions.delay.mul_f64(random.f64());
        if random.u8(0..100) < conditions.reordered {
            return vec![arrival + conditions.delay];
        }
        let last = self.order.entry((from.clone(), to.clone())).or_default();
        arrival = arrival.max(*last);
        *last = arrival;
        let repeated = random.u8(0..100) < conditions.repeated;
        let again = repeated.then(|| arrival + conditions.delay.mul_f64(random.f64() * 4.0));
        std::iter::once(arrival).chain(again).collect()
    }
}
