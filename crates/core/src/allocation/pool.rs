//! A range of subnets or addresses of which the lowest free one is given out.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::prefix::{from_number, to_number};
use crate::config::Range;

/// What is free of a network: blocks that lie on a boundary of their size, each as
/// large as can be, so that what is free is written down in one way only. Taking,
/// reserving and giving back cost the logarithm of the number of blocks for each
/// prefix length that occurs, whatever the lengths of what was taken before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FreeBlocks {
    /// The network that all this is about.
    whole: IpNet,
    /// First addresses by prefix length; no set is empty.
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

    /// The bits behind this prefix length.
    fn mask(&self, prefix: u8) -> u128 {
        let unused = u32::from(128 - self.whole.max_prefix_len());
        u128::MAX
            .checked_shr(unused + u32::from(prefix))
            .unwrap_or(0)
    }

    /// The first address of the block of this prefix length around an address.
    fn start(&self, prefix: u8, address: u128) -> u128 {
        address & !self.mask(prefix)
    }

    /// The first address of the other half of the block around this one, which must
    /// not be the whole.
    fn sibling(&self, prefix: u8, start: u128) -> u128 {
        start ^ (self.mask(prefix) + 1)
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

    /// Takes the lowest free block of this prefix length.
    fn take_lowest(&mut self, prefix: u8) -> Option<u128> {
        let firsts = self
            .blocks
            .range(..=prefix)
            .filter_map(|(outer, starts)| Some((*starts.first()?, *outer)));
        let (start, outer) = firsts.min()?;
        self.carve(outer, prefix, start);
        Some(start)
    }

    /// Takes the block of length `prefix` at `start` out of the free one of length
    /// `outer` around it.
    fn carve(&mut self, outer: u8, prefix: u8, start: u128) {
        self.remove(outer, self.start(outer, start));
        for prefix in outer + 1..=prefix {
            self.insert(prefix, self.sibling(prefix, self.start(prefix, start)));
        }
    }

    /// The prefix length of the free block around this one, if there is one.
    fn around(&self, prefix: u8, start: u128) -> Option<u8> {
        let mut outer = self.blocks.range(..=prefix);
        outer
            .find(|(outer, starts)| starts.contains(&self.start(**outer, start)))
            .map(|(outer, _)| *outer)
    }

    /// Takes a block that may be anywhere; `false`: not all of it is free.
    fn take(&mut self, prefix: u8, start: u128) -> bool {
        let Some(outer) = self.around(prefix, start) else {
            return false;
        };
        self.carve(outer, prefix, start);
        true
    }

    /// Gives a block back; `false`: some of it is free already.
    fn give_back(&mut self, mut prefix: u8, mut start: u128) -> bool {
        let last = start | self.mask(prefix);
        let within = |starts: &BTreeSet<u128>| starts.range(start..=last).next().is_some();
        if self.around(prefix, start).is_some()
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

    /// How many blocks of this prefix length are free; `u128::MAX` if more.
    fn count(&self, prefix: u8) -> u128 {
        let count = |(outer, starts): (&u8, &BTreeSet<u128>)| {
            power(prefix - outer).saturating_mul(starts.len() as u128)
        };
        self.blocks
            .range(..=prefix)
            .map(count)
            .fold(0, u128::saturating_add)
    }
}

/// Two to this power, or the largest number that there is.
fn power(exponent: u8) -> u128 {
    1u128.checked_shl(exponent.into()).unwrap_or(u128::MAX)
}

/// What the networks of a pool look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Subnets of the range, as `9.0.1.0/24` of `9.0.0.0/8`.
    Subnets,
    /// Addresses with the range's prefix length, as `44.128.0.1/20`; the first and
    /// the last address of the range are not among them.
    Addresses,
}

/// A range of subnets or addresses, and which of them are free. Those given out have
/// one prefix length; those that are taken may have another one, from the time before
/// it was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    range: Range,
    form: Form,
    free: FreeBlocks,
    /// How many are taken.
    used: u64,
}

impl Pool {
    /// The subnets that `range` is cut into, all free.
    pub fn subnets(range: Range) -> Pool {
        Pool {
            range,
            form: Form::Subnets,
            free: FreeBlocks::new(range.net),
            used: 0,
        }
    }

    /// The addresses of `net`, all free but the first and the last.
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
            form: Form::Addresses,
            free,
            used: 0,
        }
    }

    /// The range that this is a pool of.
    pub fn range(&self) -> Range {
        self.range
    }

    /// How many can still be taken; `u128::MAX` if more.
    pub fn free(&self) -> u128 {
        self.free.count(self.range.prefix)
    }

    /// How many are taken, of whatever prefix length.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// How many could be taken if all were free; `u128::MAX` if more.
    pub fn total(&self) -> u128 {
        let all = power(self.range.prefix - self.range.net.prefix_len());
        match self.form {
            Form::Subnets => all,
            Form::Addresses => all.saturating_sub(2),
        }
    }

    /// Takes the lowest free one; `None`: all are taken.
    pub fn take(&mut self) -> Option<IpNet> {
        let start = self.free.take_lowest(self.range.prefix)?;
        self.used += 1;
        let subnet = from_number(start, self.range.prefix, self.range.net);
        match self.form {
            Form::Subnets => Some(subnet),
            Form::Addresses => IpNet::new(subnet.addr(), self.range.net.prefix_len()).ok(),
        }
    }

    /// Takes this very one, whatever its prefix length; `false`: it is taken already,
    /// or not of this pool.
    pub fn reserve(&mut self, net: IpNet) -> bool {
        let taken = self
            .block(net)
            .is_some_and(|(prefix, start)| self.free.take(prefix, start));
        self.used += u64::from(taken);
        taken
    }

    /// Takes this very one if it is one that could be given out at present; `false`: it
    /// could not.
    pub fn take_this(&mut self, net: IpNet) -> bool {
        let prefix = match self.form {
            Form::Subnets => self.range.prefix,
            Form::Addresses => self.range.net.prefix_len(),
        };
        net.prefix_len() == prefix && self.reserve(net)
    }

    /// Gives back what was taken; `false`: it was not taken, or is not of this pool.
    pub fn give_back(&mut self, net: IpNet) -> bool {
        let given = self
            .block(net)
            .is_some_and(|(prefix, start)| self.free.give_back(prefix, start));
        self.used -= u64::from(given);
        given
    }

    /// What it takes of the range; `None`: it is not of this pool.
    fn block(&self, net: IpNet) -> Option<(u8, u128)> {
        let whole = self.range.net;
        let start = to_number(net.addr());
        match self.form {
            Form::Subnets => {
                (whole.contains(&net) && net == net.trunc()).then_some((net.prefix_len(), start))
            }
            Form::Addresses => {
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
        std::iter::from_fn(|| pool.take()).collect()
    }

    #[test]
    fn a_64_cut_into_80s_gives_all_65536() {
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
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn vteps_leave_the_first_and_the_last_address_out() {
        let taken = drain(&mut addresses("44.128.0.0/20"));
        assert_eq!(taken.len(), 4094);
        assert_eq!(taken[0].to_string(), "44.128.0.1/20");
        assert_eq!(taken[4093].to_string(), "44.128.15.254/20");
        assert_eq!(drain(&mut addresses("10.0.0.0/30")).len(), 2);
        assert_eq!(drain(&mut addresses("10.0.0.0/31")).len(), 0);
        let mut pool = addresses("fd01:a::/64");
        assert_eq!(pool.take().unwrap().to_string(), "fd01:a::1/64");
        assert!(!pool.reserve("44.128.0.0/20".parse().unwrap()));
        assert!(!addresses("44.128.0.0/20").reserve("44.128.15.255/20".parse().unwrap()));
    }

    #[test]
    fn nothing_is_given_back_twice() {
        let mut pool = subnets("9.0.0.0/8", 24);
        let first = pool.take().unwrap();
        assert!(pool.give_back(first));
        assert!(!pool.give_back(first), "it is free already");
        assert!(
            !pool.give_back("9.0.5.0/24".parse().unwrap()),
            "it was never taken"
        );
        assert!(
            !pool.give_back("10.0.0.0/24".parse().unwrap()),
            "it is not ours"
        );
        assert_eq!(pool, subnets("9.0.0.0/8", 24));
    }

    #[test]
    fn the_whole_of_ipv6_is_no_problem() {
        let mut pool = subnets("::/0", 127);
        assert_eq!(pool.take().unwrap().to_string(), "::/127");
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"
            .parse()
            .unwrap();
        assert!(pool.reserve(last) && pool.give_back(last));
        assert!(
            addresses("::/0").reserve("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/0".parse().unwrap())
        );
    }

    #[test]
    fn other_prefix_lengths_leave_room_as_they_can() {
        let mut pool = subnets("9.0.0.0/22", 24);
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(pool.reserve(net("9.0.0.64/26")) && pool.reserve(net("9.0.2.0/25")));
        assert!(!pool.reserve(net("9.0.0.0/24")), "a part of it is taken");
        assert_eq!(pool.free(), 2);
        assert_eq!(drain(&mut pool), [net("9.0.1.0/24"), net("9.0.3.0/24")]);
        assert!(!pool.give_back(net("9.0.0.0/24")), "a part of it is free");
        assert!(!pool.give_back(net("9.0.0.0/26")), "it is free");
        assert!(pool.give_back(net("9.0.0.64/26")));
        assert_eq!(pool.take(), Some(net("9.0.0.0/24")));
    }

    #[test]
    fn counts() {
        let pool = subnets("9.0.0.0/8", 24);
        assert_eq!((pool.free(), pool.total()), (65_536, 65_536));
        let mut pool = addresses("44.128.0.0/20");
        pool.take();
        assert_eq!((pool.free(), pool.total()), (4093, 4094));
        assert_eq!(addresses("10.0.0.0/31").free(), 0);
        assert_eq!(addresses("::/0").total(), u128::MAX - 2, "one bit too many");
        assert_eq!(subnets("::/0", 127).free(), 1 << 127);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Reserve(u8, u8),
        GiveBack(prop::sample::Index),
        /// Of something that may never have been taken.
        GiveBackAny(u8, u8),
        Prefix(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Take),
            1 => (any::<u8>(), 0..6u8).prop_map(|(at, bits)| Step::Reserve(at, bits)),
            2 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            1 => (any::<u8>(), 0..6u8).prop_map(|(at, bits)| Step::GiveBackAny(at, bits)),
            1 => (0..6u8).prop_map(Step::Prefix),
        ]
    }

    /// Every subnet of a length, lowest first.
    fn all(range: Range) -> impl Iterator<Item = IpNet> {
        (0..=range.last_index()).filter_map(move |index| range.subnet(index))
    }

    proptest! {
        /// Against the obvious model: the list of what is taken.
        #[test]
        fn behaves_like_a_list(
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
                    Step::Take => {
                        let lowest = all(range).find(|net| is_free(&taken, net));
                        prop_assert_eq!(pool.take(), lowest);
                        taken.extend(lowest);
                    }
                    Step::Reserve(at, bits) => {
                        let net = pick(at, bits);
                        let free = is_free(&taken, &net);
                        prop_assert_eq!(pool.reserve(net), free);
                        taken.extend(free.then_some(net));
                    }
                    Step::GiveBack(at) if !taken.is_empty() => {
                        prop_assert!(pool.give_back(taken.swap_remove(at.index(taken.len()))));
                    }
                    Step::GiveBack(_) => {}
                    Step::GiveBackAny(at, bits) => {
                        let net = pick(at, bits);
                        let position = taken.iter().position(|other| *other == net);
                        // A part of what is taken, or several of them, is nobody's to give.
                        if position.is_some() || is_free(&taken, &net) {
                            prop_assert_eq!(pool.give_back(net), position.is_some());
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
                prop_assert!(pool.give_back(net));
            }
            prop_assert_eq!(pool, Pool::subnets(range), "returned to where it began");
        }
    }
}
