//! The network between the processes, as libprocess makes use of it.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use overlay_core::{Time, Upid};

/// What the network does to messages. Percentages of all messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Lost.
    pub lost: u8,
    /// Delivered a second time, later.
    pub repeated: u8,
    /// Overtaken by later ones.
    pub reordered: u8,
    /// The longest that a message usually takes.
    pub delay: Duration,
}

impl Weather {
    /// Nothing but a delay that nobody notices.
    pub fn fair() -> Weather {
        Weather {
            delay: Duration::from_millis(3),
            ..Weather::default()
        }
    }

    pub fn foul(random: &mut Rng) -> Weather {
        Weather {
            lost: random.u8(0..20),
            repeated: random.u8(0..10),
            reordered: random.u8(0..20),
            delay: Duration::from_millis(random.u64(1..500)),
        }
    }
}

/// The network.
pub struct Network {
    pub weather: Weather,
    /// Pairs of addresses (by process number) that cannot reach each other.
    pub cut: Vec<(usize, usize)>,
    /// Messages between two processes keep their order: when the last one arrives.
    order: BTreeMap<(Upid, Upid), Time>,
}

impl Network {
    pub fn new() -> Network {
        Network {
            weather: Weather::fair(),
            cut: Vec::new(),
            order: BTreeMap::new(),
        }
    }

    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// When a message that is sent now arrives: never, once or twice.
    pub fn arrivals(&mut self, now: Time, from: &Upid, to: &Upid, random: &mut Rng) -> Vec<Time> {
        let weather = self.weather;
        if random.u8(0..100) < weather.lost {
            return Vec::new();
        }
        let mut arrival = now + weather.delay.mul_f64(random.f64());
        if random.u8(0..100) < weather.reordered {
            return vec![arrival + weather.delay];
        }
        let last = self.order.entry((from.clone(), to.clone())).or_default();
        arrival = arrival.max(*last);
        *last = arrival;
        let repeated = random.u8(0..100) < weather.repeated;
        let again = repeated.then(|| arrival + weather.delay.mul_f64(random.f64() * 4.0));
        std::iter::once(arrival).chain(again).collect()
    }
}
