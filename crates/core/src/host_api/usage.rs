//! Numbers of addresses that containers on this host can get and have.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::util::family::Family;

/// A program that starts containers. Each has addresses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containerizer {
    /// The Mesos containerizer. The CNI plugin `host-local` assigns the addresses.
    Mesos,
    /// The Docker engine.
    Docker,
}

impl Containerizer {
    /// All containerizers.
    pub const ALL: [Containerizer; 2] = [Containerizer::Mesos, Containerizer::Docker];

    /// Returns the name in JSON keys and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Containerizer::Mesos => "mesos",
            Containerizer::Docker => "docker",
        }
    }
}

/// Numbers of addresses in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// IPv4 addresses.
    pub v4: u64,
    /// IPv6 addresses.
    pub v6: u64,
    /// Addresses among them whose containers are not there any more.
    pub leaked: u64,
}

impl InUse {
    /// Counts these addresses.
    pub fn count(addresses: impl IntoIterator<Item = IpAddr>) -> InUse {
        let mut in_use = InUse::default();
        for address in addresses {
            match Family::from(address) {
                Family::V4 => in_use.v4 += 1,
                Family::V6 => in_use.v6 += 1,
            }
        }
        in_use
    }
}

/// The addresses of one overlay and containerizer on this host, as the endpoint shows them.
/// A number is absent if it is unknown, or of a family that the overlay does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use6: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total6: Option<u128>,
}

/// A quantity of [`Addresses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Addresses that containers have.
    InUse,
    /// Addresses that containers have or can get.
    Total,
}

/// Known number of [`Addresses`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddressCount {
    /// The quantity that was counted.
    pub quantity: Quantity,
    /// The family of the addresses.
    pub family: Family,
    /// The JSON key, which is also the last part of the metric's name in Mesos.
    pub key: &'static str,
    /// The number, rounded to 53 bits.
    pub value: f64,
}

impl Addresses {
    /// Returns the addresses of a bridge with these prefixes.
    pub fn new(subnets: &[IpNet], in_use: Option<InUse>) -> Addresses {
        let total = |family: Family| family.find(subnets).map(assignable);
        let (total, total6) = (total(Family::V4), total(Family::V6));
        Addresses {
            in_use: in_use.filter(|_| total.is_some()).map(|in_use| in_use.v4),
            in_use6: in_use.filter(|_| total6.is_some()).map(|in_use| in_use.v6),
            leaked: in_use
                .map(|in_use| in_use.leaked)
                .filter(|leaked| *leaked > 0),
            total,
            total6,
        }
    }

    /// Returns the known numbers.
    pub fn counts(&self) -> impl Iterator<Item = AddressCount> {
        let float = |count: u64| count as f64;
        let large_float = |count: u128| count as f64;
        [
            (
                Quantity::InUse,
                Family::V4,
                "in_use",
                self.in_use.map(float),
            ),
            (
                Quantity::InUse,
                Family::V6,
                "in_use6",
                self.in_use6.map(float),
            ),
            (
                Quantity::Total,
                Family::V4,
                "total",
                self.total.map(large_float),
            ),
            (
                Quantity::Total,
                Family::V6,
                "total6",
                self.total6.map(large_float),
            ),
        ]
        .into_iter()
        .filter_map(|(quantity, family, key, value)| {
            value.map(|value| AddressCount {
                quantity,
                family,
                key,
                value,
            })
        })
    }

    /// Returns whether more than `percent` percent of the addresses of some family are in use.
    pub fn exceeds(&self, percent: u8) -> bool {
        let percent = u128::from(percent);
        let exceeds = |in_use: Option<u64>, total: Option<u128>| {
            // Divided before it is multiplied: the product may not fit.
            let limit = |total: u128| total / 100 * percent + total % 100 * percent / 100;
            in_use
                .zip(total)
                .is_some_and(|(in_use, total)| u128::from(in_use) > limit(total))
        };
        exceeds(self.in_use, self.total) || exceeds(self.in_use6, self.total6)
    }
}

/// Returns how many addresses of a bridge's prefix containers can have: all but the network's
/// own, the gateway's and, in IPv4, the broadcast address. The CNI plugin `host-local` assigns
/// none of a prefix with fewer than two host bits.
pub fn assignable(net: IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    if bits < 2 {
        return 0;
    }
    let reserved = Family::from(net).pick(3, 2);
    // The number of all IPv6 addresses needs 129 bits.
    1_u128
        .checked_shl(bits)
        .map_or(u128::MAX - reserved + 1, |all| all - reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignable_addresses_exclude_reserved_ones() {
        for (net, expected) in [
            ("9.0.0.0/25", 125),
            ("9.0.0.0/30", 1),
            ("9.0.0.0/31", 0),
            ("9.0.0.0/32", 0),
            ("fd01:b::/81", (1 << 47) - 2),
            ("fd01:b::/126", 2),
            ("fd01:b::/127", 0),
            ("fd01:b::/128", 0),
            ("::/0", u128::MAX - 1),
        ] {
            assert_eq!(assignable(net.parse().unwrap()), expected, "{net}");
        }
    }

    #[test]
    fn shows_the_families_that_there_are() {
        let json = |subnets: &[&str], in_use| {
            let subnets: Vec<IpNet> = subnets
                .iter()
                .map(|subnet| subnet.parse().unwrap())
                .collect();
            serde_json::to_string(&Addresses::new(&subnets, in_use)).unwrap()
        };
        let some = Some(InUse {
            v4: 3,
            v6: 2,
            leaked: 0,
        });
        assert_eq!(json(&["9.0.0.0/25"], some), r#"{"in_use":3,"total":125}"#);
        let leaked = Some(InUse {
            v4: 3,
            v6: 0,
            leaked: 2,
        });
        let with_leaked = r#"{"in_use":3,"leaked":2,"total":125}"#;
        assert_eq!(json(&["9.0.0.0/25"], leaked), with_leaked);
        assert_eq!(json(&["9.0.0.0/25"], None), r#"{"total":125}"#);
        assert_eq!(
            json(&["fd01::/32"], some),
            r#"{"in_use6":2,"total6":79228162514264337593543950334}"#
        );
        let both = r#"{"in_use":3,"in_use6":2,"total":125,"total6":140737488355326}"#;
        assert_eq!(json(&["9.0.0.0/25", "fd01::/81"], some), both);
    }

    #[test]
    fn counts_are_the_known_numbers() {
        let values = |subnets: &[&str], in_use| {
            let subnets: Vec<IpNet> = subnets
                .iter()
                .map(|subnet| subnet.parse().unwrap())
                .collect();
            Addresses::new(&subnets, in_use)
                .counts()
                .map(|count| (count.key, count.value))
                .collect::<Vec<_>>()
        };
        let in_use = Some(InUse {
            v4: 3,
            v6: 2,
            leaked: 0,
        });
        assert_eq!(
            values(&["9.0.0.0/25", "fd01::/120"], in_use),
            [
                ("in_use", 3.0),
                ("in_use6", 2.0),
                ("total", 125.0),
                ("total6", 254.0)
            ]
        );
        assert_eq!(
            values(&["fd01::/120"], in_use),
            [("in_use6", 2.0), ("total6", 254.0)]
        );
        assert_eq!(values(&["9.0.0.0/25"], None), [("total", 125.0)]);
    }

    #[test]
    fn scarcity_of_one_family_is_enough() {
        let addresses = |v4| {
            Addresses::new(
                &["9.0.0.0/25".parse().unwrap()],
                Some(InUse {
                    v4,
                    v6: 0,
                    leaked: 0,
                }),
            )
        };
        assert!(!addresses(112).exceeds(90));
        assert!(addresses(113).exceeds(90));
        assert!(!Addresses::new(&["9.0.0.0/25".parse().unwrap()], None).exceeds(0));
        let both = |v6| {
            let subnets = ["9.0.0.0/25".parse().unwrap(), "fd01::/121".parse().unwrap()];
            Addresses::new(
                &subnets,
                Some(InUse {
                    v4: 1,
                    v6,
                    leaked: 0,
                }),
            )
        };
        assert!(!both(113).exceeds(90));
        assert!(both(114).exceeds(90), "in one family is enough");
    }
}
