//! Prefix arithmetic in 128 bits, for both address families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::Range;

/// Converts an address to a number.
pub fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// Converts a number to the network of length `prefix` that begins there, in the family of
/// `like`. Bits and lengths beyond that family are cut off.
pub fn from_number(number: u128, prefix: u8, like: IpNet) -> IpNet {
    let address: IpAddr = match like {
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    };
    let prefix = prefix.min(like.max_prefix_len());
    IpNet::new(address, prefix).unwrap_or(like)
}

/// Returns the first and the last address of a network as numbers.
pub fn ends(net: IpNet) -> (u128, u128) {
    (to_number(net.network()), to_number(net.broadcast()))
}

/// Returns whether two networks share an address.
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Returns the lower and the upper half of a network, or `None` for a single address.
pub fn halves(net: IpNet) -> Option<(IpNet, IpNet)> {
    let prefix = net.prefix_len() + 1;
    if prefix > net.max_prefix_len() {
        return None;
    }
    let range = Range {
        net: net.trunc(),
        prefix,
    };
    Some((range.subnet(0)?, range.subnet(1)?))
}

impl Range {
    /// Returns the number of bits that number the subnets.
    fn index_bits(&self) -> u32 {
        self.prefix.saturating_sub(self.net.prefix_len()).into()
    }

    /// Returns the number of bits behind a subnet's prefix.
    fn host_bits(&self) -> u32 {
        self.net.max_prefix_len().saturating_sub(self.prefix).into()
    }

    /// Returns the index of the last subnet; the first one has index 0. (The number of subnets
    /// of the largest range would need 129 bits.)
    pub fn last_index(&self) -> u128 {
        match self.index_bits() {
            0 => 0,
            bits => u128::MAX >> (128 - bits),
        }
    }

    /// Returns the subnet with an index, or `None` if the range has fewer.
    pub fn subnet(&self, index: u128) -> Option<IpNet> {
        if index > self.last_index() {
            return None;
        }
        // The only shift by 128 is that of index 0.
        let offset = index.checked_shl(self.host_bits()).unwrap_or(0);
        Some(from_number(
            to_number(self.net.network()) | offset,
            self.prefix,
            self.net,
        ))
    }

    /// Returns the index of a subnet, or `None` if it is not a subnet of this range.
    pub fn index_of(&self, subnet: IpNet) -> Option<u128> {
        if subnet.prefix_len() != self.prefix
            || !self.net.contains(&subnet)
            || subnet != subnet.trunc()
        {
            return None;
        }
        let offset = to_number(subnet.network()) - to_number(self.net.network());
        Some(offset.checked_shr(self.host_bits()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(net: &str, prefix: u8) -> Range {
        Range {
            net: net.parse().unwrap(),
            prefix,
        }
    }

    #[test]
    fn cuts_ranges() {
        for (net, prefix, index, subnet) in [
            ("9.0.0.0/8", 24, 0, "9.0.0.0/24"),
            ("9.0.0.0/8", 24, 65535, "9.255.255.0/24"),
            ("9.0.0.0/8", 8, 0, "9.0.0.0/8"),
            ("0.0.0.0/0", 32, 0xffff_ffff, "255.255.255.255/32"),
            ("fd01:b::/64", 80, 1, "fd01:b:0:0:1::/80"),
            ("fd01:b::/64", 80, 65535, "fd01:b:0:0:ffff::/80"),
            ("::/0", 0, 0, "::/0"),
            (
                "::/0",
                128,
                u128::MAX,
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
            ),
        ] {
            let range = range(net, prefix);
            assert_eq!(
                range.subnet(index).map(|net| net.to_string()).as_deref(),
                Some(subnet)
            );
            assert_eq!(range.index_of(subnet.parse().unwrap()), Some(index));
        }
        assert_eq!(range("9.0.0.0/8", 24).subnet(65536), None);
        for stranger in ["9.0.0.0/25", "10.0.0.0/24", "9.0.0.1/24", "fd01::/24"] {
            assert_eq!(
                range("9.0.0.0/8", 24).index_of(stranger.parse().unwrap()),
                None,
                "{stranger}"
            );
        }
    }

    #[test]
    fn halves_are_the_bridges() {
        let halves =
            |net: &str| super::halves(net.parse().unwrap()).map(|(a, b)| format!("{a} {b}"));
        assert_eq!(
            halves("9.0.0.0/24").as_deref(),
            Some("9.0.0.0/25 9.0.0.128/25")
        );
        assert_eq!(
            halves("fd01:b::/80").as_deref(),
            Some("fd01:b::/81 fd01:b::8000:0:0/81")
        );
        assert_eq!(
            halves("9.0.0.0/31").as_deref(),
            Some("9.0.0.0/32 9.0.0.1/32")
        );
        assert_eq!(halves("9.0.0.0/32"), None);
        assert_eq!(halves("::1/128"), None);
    }

    #[test]
    fn a_network_overlaps_what_it_holds_and_what_holds_it() {
        for (a, b, expected) in [
            ("9.0.0.0/8", "9.1.0.0/16", true),
            ("9.1.0.0/16", "9.0.0.0/8", true),
            ("9.1.0.0/16", "9.1.0.0/16", true),
            ("9.1.0.0/16", "9.2.0.0/16", false),
            ("fd01::/32", "fd01:0:1::/48", true),
            ("fd01:0:1::/48", "fd01::/32", true),
            ("::/0", "0.0.0.0/0", false),
        ] {
            assert_eq!(
                overlap(a.parse().unwrap(), b.parse().unwrap()),
                expected,
                "{a} {b}"
            );
        }
    }

    fn any_range() -> impl Strategy<Value = Range> {
        let v4 = (any::<u32>(), 0..=32u8, 0..=32u8).prop_map(|(bits, a, b)| {
            let net = IpNet::new(Ipv4Addr::from(bits).into(), a.min(b))
                .unwrap()
                .trunc();
            Range {
                net,
                prefix: a.max(b),
            }
        });
        let v6 = (any::<u128>(), 0..=128u8, 0..=128u8).prop_map(|(bits, a, b)| {
            let net = IpNet::new(Ipv6Addr::from(bits).into(), a.min(b))
                .unwrap()
                .trunc();
            Range {
                net,
                prefix: a.max(b),
            }
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn subnets_lie_within_and_know_their_index(range in any_range(), seed in any::<u128>()) {
            let index = seed & range.last_index();
            let subnet = range.subnet(index).unwrap();
            prop_assert!(range.net.contains(&subnet));
            prop_assert_eq!(subnet.prefix_len(), range.prefix);
            prop_assert_eq!(range.index_of(subnet), Some(index));
            // Neighbours touch and do not overlap.
            if let Some(next) = index.checked_add(1).and_then(|next| range.subnet(next)) {
                prop_assert!(!overlap(subnet, next));
                prop_assert_eq!(ends(subnet).1 + 1, ends(next).0);
            }
        }
    }
}
