//! Limit of answers over UDP, so that this server does not help to flood somebody whose address
//! others forge.
//!
//! Answers of a second are counted for each /32 or /64. An address that asks over TCP or with a cookie
//! of this server has shown that it is its own, and is not limited; neither is this host.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters. Addresses with the same one share a limit: with a thousand clients, one of 66 does.
const COUNTERS: usize = 65_536;

/// Of so many questions above the limit, one is answered with "truncated", so that a resolver whose
/// address is forged can still ask over TCP.
const SLIP: u32 = 2;

/// Decision about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer it.
    Answer,
    /// Answer that it is to be asked over TCP.
    Truncate,
    /// Do nothing.
    Drop,
}

/// Counters of answers.
#[derive(Debug)]
pub struct RateLimit {
    /// Answers a second. 0: no limit.
    limit: u32,
    /// Second in the upper half, answers in it in the lower.
    counters: Box<[AtomicU64]>,
    /// So that nobody can choose an address which shares somebody's counter.
    hasher: RandomState,
}

impl RateLimit {
    /// Makes a limit of so many answers a second. 0: no limit.
    pub fn new(limit: u32) -> Self {
        let counters = if limit == 0 { 0 } else { COUNTERS };
        Self {
            limit,
            counters: (0..counters).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a question of an address at a time in seconds.
    pub fn count(&self, address: IpAddr, now: u32) -> Verdict {
        if self.limit == 0 || address.is_loopback() {
            return Verdict::Answer;
        }
        let hash = self.hasher.hash_one(prefix(address));
        let index = usize::try_from(hash % COUNTERS as u64).unwrap_or_default();
        let Some(counter) = self.counters.get(index) else {
            return Verdict::Answer;
        };
        let now = u64::from(now) << 32;
        let next = |value: u64| {
            let old = if value & !0xffff_ffff == now {
                value
            } else {
                now
            };
            old.checked_add(1)
        };
        // It only fails at the end of time, which counts as above the limit.
        let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let count = match before {
            Ok(value) if value & !0xffff_ffff == now => (value & 0xffff_ffff) as u32 + 1,
            Ok(_) => 1,
            Err(_) => u32::MAX,
        };
        match count {
            _ if count <= self.limit => Verdict::Answer,
            _ if count.is_multiple_of(SLIP) => Verdict::Truncate,
            _ => Verdict::Drop,
        }
    }
}

/// Returns the part of an address by which clients are counted: all of an IPv4 address, and the first
/// half of an IPv6 address.
pub fn prefix(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_address_and_second() {
        let limit = RateLimit::new(3);
        let one = "10.0.0.1".parse().unwrap();
        let verdicts: Vec<_> = (0..7).map(|_| limit.count(one, 1)).collect();
        assert_eq!(verdicts[..3], [Verdict::Answer; 3]);
        let truncated = verdicts[3..]
            .iter()
            .filter(|v| **v == Verdict::Truncate)
            .count();
        let dropped = verdicts[3..]
            .iter()
            .filter(|v| **v == Verdict::Drop)
            .count();
        assert_eq!((truncated, dropped), (2, 2));
        assert_eq!(limit.count("10.0.0.2".parse().unwrap(), 1), Verdict::Answer);
        assert_eq!(limit.count(one, 2), Verdict::Answer);
        assert_eq!(limit.count(one, u32::MAX), Verdict::Answer);
    }

    #[test]
    fn addresses_of_one_subnet_share_a_limit() {
        let limit = RateLimit::new(1);
        assert_eq!(
            limit.count("2001:db8::1".parse().unwrap(), 1),
            Verdict::Answer
        );
        assert_ne!(
            limit.count("2001:db8::2".parse().unwrap(), 1),
            Verdict::Answer
        );
    }

    #[test]
    fn this_host_and_no_limit_are_not_limited() {
        let limit = RateLimit::new(1);
        for address in ["127.0.0.1", "::1"] {
            for _ in 0..3 {
                assert_eq!(limit.count(address.parse().unwrap(), 1), Verdict::Answer);
            }
        }
        let none = RateLimit::new(0);
        for _ in 0..3 {
            assert_eq!(none.count("10.0.0.1".parse().unwrap(), 1), Verdict::Answer);
        }
    }
}
