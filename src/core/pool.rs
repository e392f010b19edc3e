//! A range of subnets or addresses of which the lowest free one is given out.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::config::Range;

/// The free ones of a row of indexes, as intervals: taking, reserving and giving
/// back cost the logarithm of the number of gaps, whatever the size of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FreeIndexes {
    /// First index of each interval to its last one. Two intervals never touch.
    intervals: BTreeMap<u128, u128>,
}

impl FreeIndexes {
    fn new(first: u128, last: u128) -> FreeIndexes {
        FreeIndexes { intervals: BTreeMap::from([(first, last)]) }
    }

    fn take_lowest(&mut self) -> Option<u128> {
        let (first, last) = self.intervals.pop_first()?;
        if first < last {
            self.intervals.insert(first + 1, last);
        }
        Some(first)
    }

    /// The interval that `index` lies in.
    fn around(&self, index: u128) -> Option<(u128, u128)> {
        let (&first, &last) = self.intervals.range(..=index).next_back()?;
        (index <= last).then_some((first, last))
    }

    /// Takes one that may be anywhere; `false`: it is not free.
    fn take(&mut self, index: u128) -> bool {
        let Some((first, last)) = self.around(index) else { return false };
        self.intervals.remove(&first);
        if first < index {
            self.intervals.insert(first, index - 1);
        }
        if index < last {
            self.intervals.insert(index + 1, last);
        }
        true
    }

    /// Gives one back; `false`: it is free already.
    fn give_back(&mut self, index: u128) -> bool {
        if self.around(index).is_some() {
            return false;
        }
        let before = index.checked_sub(1).and_then(|below| self.around(below));
        let after = index.checked_add(1).and_then(|above| self.around(above));
        let first = before.map_or(index, |(first, _)| first);
        let last = after.map_or(index, |(_, last)| last);
        if let Some((above, _)) = after {
            self.intervals.remove(&above);
        }
        self.intervals.insert(first, last);
        true
    }
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

/// A range of subnets or addresses, and which of them are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    range: Range,
    form: Form,
    first: u128,
    last: u128,
    free: FreeIndexes,
}

impl Pool {
    /// The subnets that `range` is cut into, all free.
    pub fn subnets(range: Range) -> Pool {
        let (first, last) = (0, range.last_index());
        Pool { range, form: Form::Subnets, first, last, free: FreeIndexes::new(first, last) }
    }

    /// The addresses of `net`, which has more than two, all free but the first and
    /// the last.
    pub fn addresses(net: IpNet) -> Pool {
        let range = Range { net, prefix: net.max_prefix_len() };
        let (first, last) = (1, range.last_index().saturating_sub(1));
        let free = if first <= last {
            FreeIndexes::new(first, last)
        } else {
            FreeIndexes { intervals: BTreeMap::new() }
        };
        Pool { range, form: Form::Addresses, first, last, free }
    }

    /// The range that this is a pool of.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Takes the lowest free one; `None`: all are taken.
    pub fn take(&mut self) -> Option<IpNet> {
        let index = self.free.take_lowest()?;
        let subnet = self.range.subnet(index)?;
        match self.form {
            Form::Subnets => Some(subnet),
            Form::Addresses => IpNet::new(subnet.addr(), self.range.net.prefix_len()).ok(),
        }
    }

    /// Whether `net` is one that this pool can give out, free or not.
    pub fn covers(&self, net: IpNet) -> bool {
        self.index_of(net).is_some()
    }

    /// Takes this very one; `false`: it is taken already, or not of this pool.
    pub fn reserve(&mut self, net: IpNet) -> bool {
        self.index_of(net).is_some_and(|index| self.free.take(index))
    }

    /// Gives back what was taken; `false`: it was not taken, or is not of this pool.
    pub fn give_back(&mut self, net: IpNet) -> bool {
        self.index_of(net).is_some_and(|index| self.free.give_back(index))
    }

    fn index_of(&self, net: IpNet) -> Option<u128> {
        let index = match self.form {
            Form::Subnets => self.range.index_of(net)?,
            Form::Addresses => self.range.index_of(net.addr().into())?,
        };
        (self.first..=self.last).contains(&index).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn subnets(net: &str, prefix: u8) -> Pool {
        Pool::subnets(Range { net: net.parse().unwrap(), prefix })
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
        assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "lowest first");
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
        assert!(!pool.give_back("9.0.5.0/24".parse().unwrap()), "it was never taken");
        assert!(!pool.give_back("10.0.0.0/24".parse().unwrap()), "it is not ours");
        assert_eq!(pool, subnets("9.0.0.0/8", 24));
    }

    #[test]
    fn the_whole_of_ipv6_is_no_problem() {
        let mut pool = subnets("::/0", 127);
        assert_eq!(pool.take().unwrap().to_string(), "::/127");
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127".parse().unwrap();
        assert!(pool.reserve(last) && pool.give_back(last));
        assert!(addresses("::/0").reserve("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/0".parse().unwrap()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take,
        Reserve(u8),
        GiveBack(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Take),
            any::<u8>().prop_map(Step::Reserve),
            any::<u8>().prop_map(Step::GiveBack)
        ]
    }

    proptest! {
        /// Against the obvious model: a set of taken indexes.
        #[test]
        fn behaves_like_a_set(
            steps in proptest::collection::vec(step(), 0..400),
            (net, prefix) in prop_oneof![Just(("9.0.0.0/24", 30)), Just(("fd01::/64", 70))],
        ) {
            let range = Range { net: net.parse().unwrap(), prefix };
            let mut pool = Pool::subnets(range);
            let mut taken = BTreeSet::new();
            let count = range.last_index() + 1;
            for step in steps {
                match step {
                    Step::Take => {
                        let lowest = (0..count).find(|index| !taken.contains(index));
                        taken.extend(lowest);
                        prop_assert_eq!(pool.take(), lowest.and_then(|index| range.subnet(index)));
                    }
                    Step::Reserve(index) => {
                        let index = u128::from(index) % count;
                        prop_assert_eq!(pool.reserve(range.subnet(index).unwrap()), taken.insert(index));
                    }
                    Step::GiveBack(index) => {
                        let index = u128::from(index) % count;
                        prop_assert_eq!(pool.give_back(range.subnet(index).unwrap()), taken.remove(&index));
                    }
                }
            }
            for &index in &taken {
                prop_assert!(pool.give_back(range.subnet(index).unwrap()));
            }
            prop_assert_eq!(pool, Pool::subnets(range), "returned to where it began");
        }
    }
}
