//! Counters of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::base::iana::{OptRcode, Rtype};
use parking_lot::Mutex;

/// Types that are counted on their own, with their names.
const TYPES: [(Rtype, &str); 10] = [
    (Rtype::A, "A"),
    (Rtype::AAAA, "AAAA"),
    (Rtype::SRV, "SRV"),
    (Rtype::PTR, "PTR"),
    (Rtype::NS, "NS"),
    (Rtype::SOA, "SOA"),
    (Rtype::HTTPS, "HTTPS"),
    (Rtype::ANY, "ANY"),
    (Rtype::AXFR, "AXFR"),
    (Rtype::IXFR, "IXFR"),
];

/// Codes that are counted on their own, with their names.
const CODES: [(OptRcode, &str); 7] = [
    (OptRcode::NOERROR, "NOERROR"),
    (OptRcode::NXDOMAIN, "NXDOMAIN"),
    (OptRcode::SERVFAIL, "SERVFAIL"),
    (OptRcode::REFUSED, "REFUSED"),
    (OptRcode::FORMERR, "FORMERR"),
    (OptRcode::NOTIMP, "NOTIMP"),
    (OptRcode::BADVERS, "BADVERS"),
];

/// Upper bounds of the times, in microseconds.
pub const BOUNDS: [u64; 12] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 25_000, 250_000, 1_000_000,
];

/// Counters of one thread, which shares them with nobody but the reader.
#[derive(Debug, Default)]
pub struct Counters {
    questions: [AtomicU64; TYPES.len() + 1],
    answers: [AtomicU64; CODES.len() + 1],
    /// Answers that were cut to the client's size.
    pub truncated: AtomicU64,
    /// Questions above the rate limit that were not answered.
    pub dropped: AtomicU64,
    /// Questions above the rate limit that were sent to TCP.
    pub slipped: AtomicU64,
    /// Messages that were not answered because they are no requests.
    pub ignored: AtomicU64,
    /// Connections that were closed because there are too many.
    pub refused_connections: AtomicU64,
    /// Questions over TCP.
    pub tcp: AtomicU64,
    /// Questions that were asked of upstream resolvers.
    pub forwarded: AtomicU64,
    /// Questions that no upstream resolver answered.
    pub forward_failures: AtomicU64,
    /// Whole zones that were sent.
    pub axfr: AtomicU64,
    /// Changes of zones that were sent.
    pub ixfr: AtomicU64,
    /// Zone transfers that were not allowed.
    pub refused_transfers: AtomicU64,
    /// NOTIFY messages that secondaries answered.
    pub notified: AtomicU64,
    /// NOTIFY messages that were not answered.
    pub notify_failures: AtomicU64,
    /// Times to answers from the zones.
    pub answer_time: Histogram,
    /// Times to answers of upstream resolvers.
    pub forward_time: Histogram,
}

/// Counts of times.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Times up to each bound, and above all, not cumulated.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Sum, in nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts a time, several times over.
    pub fn observe(&self, time: Duration, times: u64) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS.partition_point(|bound| *bound < micros);
        add(&self.counts[index], times);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        add(&self.sum, nanos.saturating_mul(times));
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl Counters {
    /// Counts a question by its type.
    pub fn question(&self, rtype: Rtype) {
        let index = TYPES.iter().position(|(known, _)| *known == rtype);
        add(&self.questions[index.unwrap_or(TYPES.len())], 1);
    }

    /// Counts an answer by its code.
    pub fn answer(&self, code: OptRcode) {
        let index = CODES.iter().position(|(known, _)| *known == code);
        add(&self.answers[index.unwrap_or(CODES.len())], 1);
    }
}

/// Counters of all threads.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Vec<Arc<Counters>>>);

impl Metrics {
    /// Returns counters for one more thread.
    pub fn counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.0.lock().push(Arc::clone(&counters));
        counters
    }

    /// Returns the sum of one counter over all threads.
    pub fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        let counters = self.0.lock();
        counters
            .iter()
            .map(|counters| counter(counters).load(Ordering::Relaxed))
            .sum()
    }

    /// Returns questions by type.
    pub fn questions(&self) -> Vec<(&'static str, u64)> {
        let name = |index| TYPES.get(index).map_or("other", |(_, name)| *name);
        let sum = |index: usize| self.sum(move |counters| &counters.questions[index]);
        (0..=TYPES.len())
            .map(|index| (name(index), sum(index)))
            .collect()
    }

    /// Returns answers by code.
    pub fn answers(&self) -> Vec<(&'static str, u64)> {
        let name = |index| CODES.get(index).map_or("other", |(_, name)| *name);
        let sum = |index: usize| self.sum(move |counters| &counters.answers[index]);
        (0..=CODES.len())
            .map(|index| (name(index), sum(index)))
            .collect()
    }

    /// Returns the counts of a histogram, not cumulated, one more than [`BOUNDS`], and the sum of its
    /// times.
    pub fn times(&self, histogram: impl Fn(&Counters) -> &Histogram) -> (Vec<u64>, Duration) {
        let counts =
            (0..=BOUNDS.len()).map(|index| self.sum(|counters| &histogram(counters).counts[index]));
        let sum = self.sum(|counters| &histogram(counters).sum);
        (counts.collect(), Duration::from_nanos(sum))
    }
}
