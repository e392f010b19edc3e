//! Pools of subnets or addresses that give out the lowest free one.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::prefix::{from_number, to_number};
use crate::config::Range;

/// The free part of a network, as aligned blocks that are as large as possible, so that
/// equal free parts have equal representations. Each operation costs the logarithm of the
/// number of blocks for each prefix length that occurs, whatever lengths were taken before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FreeBlocks {
    /// The network.
    whole: IpNet,
    /// First addresses of the free blocks by prefix length; no set is empty.
    blocks: BTreeMap<u8, BTreeSet<u128>>,
}

impl FreeBlocks {
    fn new(whole: IpNet) -> FreeBlocks {
        let mut free = FreeBlocks {
            whole,
            blocks: BTreeMap::new(),
        };
        free.insert(whole.prefix_len(), to_number(whole.network()));
        free
    }

    /// Returns the mask of the bits behind a prefix length.
    fn host_mask(&self, prefix: u8) -> u128 {
        let unused = u32::from(128 - self.whole.max_prefix_len());
        u128::MAX
            .checked_shr(unused + u32::from(prefix))
            .unwrap_or(0)
    }

    /// Returns the first address of the block of a prefix length that has `address`.
    fn start(&self, prefix: u8, address: u128) -> u128 {
        address & !self.host_mask(prefix)
    }

    /// Returns the first address of the other half of the block around this one. This one
    /// must not be the whole network.
    fn sibling(&self, prefix: u8, start: u128) -> u128 {
        start ^ (self.host_mask(prefix) + 1)
    }

    fn insert(&mut self, prefix: u8, start: u128) {
        self.blocks.entry(prefix).or_default().insert(start);
    }

    fn remove(&mut self, prefix: u8, start: u128) -> bool {
        let Some(starts) = self.blocks.get_mut(&prefix) else {
            return false;
        };
        let removed = starts.remove(&start);
        if starts.is_empty() {
            self.blocks.remove(&prefix);
        }
        removed
    }

    /// Takes the lowest free block of a prefix length.
    fn take_lowest(&mut self, prefix: u8) -> Option<u128> {
        let firsts = self
            .blocks
            .range(..=prefix)
            .filter_map(|(outer, starts)| Some((*starts.first()?, *outer)));
        let (start, outer) = firsts.min()?;
        self.split_off(outer, prefix, start);
        Some(start)
    }

    /// Takes the block of length `prefix` at `start` out of the free block of length
    /// `outer` around it.
    fn split_off(&mut self, outer: u8, prefix: u8, start: u128) {
        self.remove(outer, self.start(outer, start));
        for prefix in outer + 1..=prefix {
            self.insert(prefix, self.sibling(prefix, self.start(prefix, start)));
        }
    }

    /// Returns the prefix length of the free block that contains this block, if one does.
    fn enclosing(&self, prefix: u8, start: u128) -> Option<u8> {
        let mut outer = self.blocks.range(..=prefix);
        outer
            .find(|(outer, starts)| starts.contains(&self.start(**outer, start)))
            .map(|(outer, _)| *outer)
    }

    /// Takes a given block. Returns `false` if not all of it is free.
    fn take(&mut self, prefix: u8, start: u128) -> bool {
        let Some(outer) = self.enclosing(prefix, start) else {
            return false;
        };
        self.split_off(outer, prefix, start);
        true
    }

    /// Makes a block free. Returns `false` if a part of it is free already.
    fn release(&mut self, mut prefix: u8, mut start: u128) -> bool {
        let last = start | self.host_mask(prefix);
        let within = |starts: &BTreeSet<u128>| starts.range(start..=last).next().is_some();
        if self.enclosing(prefix, start).is_some()
            || self
                .blocks
                .range(prefix..)
                .any(|(_, starts)| within(starts))
        {
            return false;
        }
        while prefix > self.whole.prefix_len() && self.remove(prefix, self.sibling(prefix, start)) {
            prefix -= 1;
            start = self.start(prefix, start);
        }
        self.insert(prefix, start);
        true
    }

    /// Returns the number of free blocks of a prefix length, at most [`u128::MAX`].
    fn count(&self, prefix: u8) -> u128 {
        let count = |(outer, starts): (&u8, &BTreeSet<u128>)| {
            power_of_two(prefix - outer).saturating_mul(starts.len() as u128)
        };
        self.blocks
            .range(..=prefix)
            .map(count)
            .fold(0, u128::saturating_add)
    }
}

/// Returns two to the power of `exponent`, at most [`u128::MAX`].
fn power_of_two(exponent: u8) -> u128 {
    1u128.checked_shl(exponent.into()).unwrap_or(u128::MAX)
}

/// The form of the networks that a pool gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolKind {
    /// Subnets of the range, as `9.0.1.0/24` of `9.0.0.0/8`.
    Subnets,
    /// Addresses with the range's prefix length, as `44.128.0.1/20`. The first and the last
    /// address of the range are never given out.
    Addresses,
}

/// A range of subnets or addresses with the free ones. Subnets that are given out have the
/// range's prefix length; reserved ones may have another, from before it was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    range: Range,
    kind: PoolKind,
    free: FreeBlocks,
    /// The number of subnets or addresses that are not free, of any prefix length.
    used: u64,
}

impl Pool {
    /// Creates a pool of the subnets of `range`, all free.
    pub fn subnets(range: Range) -> Pool {
        Pool {
            range,
            kind: PoolKind::Subnets,
            free: FreeBlocks::new(range.net),
            used: 0,
        }
    }

    /// Creates a pool of the addresses of `net` but for the first and the last, all free.
    pub fn addresses(net: IpNet) -> Pool {
        let range = Range {
            net,
            prefix: net.max_prefix_len(),
        };
        let mut free = FreeBlocks::new(net);
        free.take(range.prefix, to_number(net.network()));
        free.take(range.prefix, to_number(net.broadcast()));
        Pool {
            range,
            kind: PoolKind::Addresses,
            free,
            used: 0,
        }
    }

    /// Returns the range of the pool.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Returns how many can still be allocated, at most [`u128::MAX`].
    pub fn free(&self) -> u128 {
        self.free.count(self.range.prefix)
    }

    /// Returns how many are allocated or reserved, of any prefix length.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Returns how many an unused pool can allocate, at most [`u128::MAX`].
    pub fn total(&self) -> u128 {
        let all = power_of_two(self.range.prefix - self.range.net.prefix_len());
        match self.kind {
            PoolKind::Subnets => all,
            PoolKind::Addresses => all.saturating_sub(2),
        }
    }

    /// Allocates the lowest free subnet or address, or returns `None` if none is free.
    pub fn allocate(&mut self) -> Option<IpNet> {
        let start = self.free.take_lowest(self.range.prefix)?;
        self.used += 1;
        let subnet = from_number(start, self.range.prefix, self.range.net);
        match self.kind {
            PoolKind::Subnets => Some(subnet),
            PoolKind::Addresses => IpNet::new(subnet.addr(), self.range.net.prefix_len()).ok(),
        }
    }

    /// Takes a given subnet or address, of any prefix length. Returns `false` if it is not
    /// free or not of this pool.
    pub fn reserve(&mut self, net: IpNet) -> bool {
        let taken = self
            .block_of(net)
            .is_some_and(|(prefix, start)| self.free.take(prefix, start));
        self.used += u64::from(taken);
        taken
    }

    /// Takes a given subnet or address if [`allocate`](Self::allocate) could return it.
    /// Returns `false` if it could not.
    pub fn allocate_exact(&mut self, net: IpNet) -> bool {
        let prefix = match self.kind {
            PoolKind::Subnets => self.range.prefix,
            PoolKind::Addresses => self.range.net.prefix_len(),
        };
        net.prefix_len() == prefix && self.reserve(net)
    }

    /// Makes a subnet or address free. Returns `false` if it was free or is not of this pool.
    pub fn release(&mut self, net: IpNet) -> bool {
        let released = self
            .block_of(net)
            .is_some_and(|(prefix, start)| self.free.release(prefix, start));
        self.used -= u64::from(released);
        released
    }

    /// Returns the prefix length and first address of the block that `net` takes, or `None`
    /// if it is not of this pool.
    fn block_of(&self, net: IpNet) -> Option<(u8, u128)> {
        let whole = self.range.net;
        let start = to_number(net.addr());
        match self.kind {
            PoolKind::Subnets => {
                (whole.contains(&net) && net == net.trunc()).then_some((net.prefix_len(), start))
            }
            PoolKind::Addresses => {
                let inner = whole.contains(&net.addr())
                    && ![whole.network(), whole.broadcast()].contains(&net.addr());
                inner.then_some((whole.max_prefix_len(), start))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::prefix::overlap;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn subnets(net: &str, prefix: u8) -> Pool {
        Pool::subnets(Range {
            net: net.parse().unwrap(),
            prefix,
        })
    }

    fn addresses(net: &str) -> Pool {
        Pool::addresses(net.parse().unwrap())
    }

    fn drain(pool: &mut Pool) -> Vec<IpNet> {
        std::iter::from_fn(|| pool.allocate()).collect()
    }

    #[test]
    fn a_64_has_65536_subnets_of_length_80() {
        let mut pool = subnets("fd01:b::/64", 80);
        let taken = drain(&mut pool);
        assert_eq!(taken.len(), 65_536);
        assert_eq!(taken[0].to_string(), "fd01:b::/80");
        assert_eq!(taken[65_535].to_string(), "fd01:b:0:0:ffff::/80");
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 65_536);
        assert!(
            taken.windows(2).all(|pair| pair[0] < pair[1]),
            "lowest first"
        );
        assert_eq!(pool.allocate(), None);
    }

    #[test]
    fn first_and_last_address_are_not_given_out() {
        let taken = drain(&mut addresses("44.128.0.0/20"));
        assert_eq!(taken.len(), 4094);
        assert_eq!(taken[0].to_string(), "44.128.0.1/20");
        assert_eq!(taken[4093].to_string(), "44.128.15.254/20");
        assert_eq!(drain(&mut addresses("10.0.0.0/30")).len(), 2);
        assert_eq!(drain(&mut addresses("10.0.0.0/31")).len(), 0);
        let mut pool = addresses("fd01:a::/64");
        assert_eq!(pool.allocate().unwrap().to_string(), "fd01:a::1/64");
        assert!(!pool.reserve("44.128.0.0/20".parse().unwrap()));
        assert!(!addresses("44.128.0.0/20").reserve("44.128.15.255/20".parse().unwrap()));
    }

    #[test]
    fn nothing_is_released_twice() {
        let mut pool = subnets("9.0.0.0/8", 24);
        let first = pool.allocate().unwrap();
        assert!(pool.release(first));
        assert!(!pool.release(first), "it is free already");
        assert!(
            !pool.release("9.0.5.0/24".parse().unwrap()),
            "it was never taken"
        );
        assert!(
            !pool.release("10.0.0.0/24".parse().unwrap()),
            "it is not of this pool"
        );
        assert_eq!(pool, subnets("9.0.0.0/8", 24));
    }

    #[test]
    fn pools_of_all_ipv6_addresses_work() {
        let mut pool = subnets("::/0", 127);
        assert_eq!(pool.allocate().unwrap().to_string(), "::/127");
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"
            .parse()
            .unwrap();
        assert!(pool.reserve(last) && pool.release(last));
        assert!(
            addresses("::/0").reserve("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/0".parse().unwrap())
        );
    }

    #[test]
    fn subnets_of_other_lengths_share_the_range() {
        let mut pool = subnets("9.0.0.0/22", 24);
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(pool.reserve(net("9.0.0.64/26")) && pool.reserve(net("9.0.2.0/25")));
        assert!(!pool.reserve(net("9.0.0.0/24")), "a part of it is taken");
        assert_eq!(pool.free(), 2);
        assert_eq!(drain(&mut pool), [net("9.0.1.0/24"), net("9.0.3.0/24")]);
        assert!(!pool.release(net("9.0.0.0/24")), "a part of it is free");
        assert!(!pool.release(net("9.0.0.0/26")), "it is free");
        assert!(pool.release(net("9.0.0.64/26")));
        assert_eq!(pool.allocate(), Some(net("9.0.0.0/24")));
    }

    #[test]
    fn free_and_total_are_counted() {
        let pool = subnets("9.0.0.0/8", 24);
        assert_eq!((pool.free(), pool.total()), (65_536, 65_536));
        let mut pool = addresses("44.128.0.0/20");
        pool.allocate();
        assert_eq!((pool.free(), pool.total()), (4093, 4094));
        assert_eq!(addresses("10.0.0.0/31").free(), 0);
        assert_eq!(addresses("::/0").total(), u128::MAX - 2, "one bit too many");
        assert_eq!(subnets("::/0", 127).free(), 1 << 127);
    }

    #[test]
    fn the_last_one_is_given_out_and_nothing_behind_it() {
        for (net, prefix, count, last) in [
            ("9.0.0.0/24", 24, 1, "9.0.0.0/24"),
            ("9.0.0.0/23", 24, 2, "9.0.1.0/24"),
            ("9.0.0.0/30", 32, 4, "9.0.0.3/32"),
            ("255.255.255.252/30", 31, 2, "255.255.255.254/31"),
            ("fd01:b::/80", 80, 1, "fd01:b::/80"),
            ("fd01:b::/79", 80, 2, "fd01:b:0:0:1::/80"),
            ("fd01:b::/126", 128, 4, "fd01:b::3/128"),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126",
                127,
                2,
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
            ),
        ] {
            let mut pool = subnets(net, prefix);
            let taken = drain(&mut pool);
            assert_eq!(
                (pool.free(), pool.total(), pool.used()),
                (0, count as u128, count as u64),
                "{net}"
            );
            assert_eq!(
                (taken.len(), taken[count - 1].to_string().as_str()),
                (count, last),
                "{net}"
            );
            assert!(!pool.reserve(taken[count - 1]) && !pool.allocate_exact(taken[count - 1]));
            assert!(pool.release(taken[count - 1]));
            assert_eq!((pool.free(), pool.used()), (1, count as u64 - 1));
            assert!(pool.allocate_exact(taken[count - 1]) && pool.allocate().is_none());
        }
    }

    #[test]
    fn one_that_is_taken_again_has_to_be_of_the_present_length_and_in_its_place() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut pool = subnets("fd01:b::/64", 80);
        for other in [
            "fd01:b::/81",
            "fd01:b::/79",
            "fd01:c::/80",
            "fd01:b::1/80",
            "9.0.0.0/24",
        ] {
            assert!(!pool.allocate_exact(net(other)), "{other}");
        }
        assert!(!pool.reserve(net("fd01:b::1/80")) && !pool.reserve(net("fd01:b::/63")));
        assert!(pool.allocate_exact(net("fd01:b:0:0:ffff::/80")));
        let mut pool = addresses("fd01:a::/126");
        for other in [
            "fd01:a::/126",
            "fd01:a::3/126",
            "fd01:a::4/126",
            "fd01:a::1/128",
            "44.128.0.1/20",
        ] {
            assert!(!pool.allocate_exact(net(other)), "{other}");
        }
        assert!(
            pool.allocate_exact(net("fd01:a::2/126")) && !pool.allocate_exact(net("fd01:a::2/126"))
        );
        for never_taken in [
            "fd01:a::/126",
            "fd01:a::3/126",
            "fd01:a::4/126",
            "fd01:a::1/126",
        ] {
            assert!(!pool.release(net(never_taken)), "{never_taken}");
        }
        assert_eq!((pool.free(), pool.total(), pool.used()), (1, 2, 1));
        assert_eq!(pool.allocate(), Some(net("fd01:a::1/126")));
        assert_eq!(pool.allocate(), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Allocate,
        Reserve(u8, u8),
        Release(prop::sample::Index),
        /// Releases a subnet that may never have been taken.
        ReleaseAny(u8, u8),
        Prefix(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Allocate),
            1 => (any::<u8>(), 0..6u8).prop_map(|(at, bits)| Step::Reserve(at, bits)),
            2 => any::<prop::sample::Index>().prop_map(Step::Release),
            1 => (any::<u8>(), 0..6u8).prop_map(|(at, bits)| Step::ReleaseAny(at, bits)),
            1 => (0..6u8).prop_map(Step::Prefix),
        ]
    }

    /// Returns every subnet of a range, lowest first.
    fn all(range: Range) -> impl Iterator<Item = IpNet> {
        (0..=range.last_index()).filter_map(move |index| range.subnet(index))
    }

    proptest! {
        /// Compares the pool with a model: the list of the subnets that are taken.
        #[test]
        fn behaves_like_the_model(
            steps in proptest::collection::vec(step(), 0..200),
            net in prop_oneof![Just("9.0.0.0/25"), Just("fd01::/64"), Just("128.0.0.0/1"), Just("::/0")],
        ) {
            let net: IpNet = net.parse().unwrap();
            let cut = |bits: u8| Range { net, prefix: net.prefix_len() + bits };
            let mut range = cut(4);
            let mut pool = Pool::subnets(range);
            let mut taken: Vec<IpNet> = Vec::new();
            let is_free = |taken: &[IpNet], net: &IpNet| !taken.iter().any(|other| overlap(*other, *net));
            let pick = |at: u8, bits| all(cut(bits)).nth(usize::from(at) % (1 << bits)).unwrap();
            for step in steps {
                match step {
                    Step::Allocate => {
                        let lowest = all(range).find(|net| is_free(&taken, net));
                        prop_assert_eq!(pool.allocate(), lowest);
                        taken.extend(lowest);
                    }
                    Step::Reserve(at, bits) => {
                        let net = pick(at, bits);
                        let free = is_free(&taken, &net);
                        prop_assert_eq!(pool.reserve(net), free);
                        taken.extend(free.then_some(net));
                    }
                    Step::Release(at) if !taken.is_empty() => {
                        prop_assert!(pool.release(taken.swap_remove(at.index(taken.len()))));
                    }
                    Step::Release(_) => {}
                    Step::ReleaseAny(at, bits) => {
                        let net = pick(at, bits);
                        let position = taken.iter().position(|other| *other == net);
                        // A part of a taken subnet, or several of them, may be refused or not.
                        if position.is_some() || is_free(&taken, &net) {
                            prop_assert_eq!(pool.release(net), position.is_some());
                        }
                        position.map(|position| taken.swap_remove(position));
                    }
                    Step::Prefix(bits) => {
                        range = cut(bits);
                        pool = Pool::subnets(range);
                        prop_assert!(taken.iter().all(|net| pool.reserve(*net)));
                    }
                }
                prop_assert_eq!(pool.free(), all(range).filter(|net| is_free(&taken, net)).count() as u128);
            }
            for net in taken {
                prop_assert!(pool.release(net));
            }
            prop_assert_eq!(pool, Pool::subnets(range), "everything is free again");
        }
    }
}
