//! Ranges of addresses that may ask.

use std::net::IpAddr;

use ipnet::IpNet;

/// Ranges that may ask where nothing else is configured: this host, private addresses, those of
/// carriers' networks (RFC 6598), and addresses of a link.
pub const DEFAULT_ALLOWED: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// A list of ranges.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Vec<IpNet>);

impl Ranges {
    /// Returns the ranges of [`DEFAULT_ALLOWED`].
    pub fn default_allowed() -> Self {
        Self(
            DEFAULT_ALLOWED
                .iter()
                .filter_map(|range| range.parse().ok())
                .collect(),
        )
    }

    /// Adds a range.
    pub fn push(&mut self, range: IpNet) {
        self.0.push(range);
    }

    /// Tells whether an address is in one of the ranges. An IPv4 address in IPv6 form counts as the
    /// IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Tells whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<IpNet> for Ranges {
    fn from_iter<T: IntoIterator<Item = IpNet>>(ranges: T) -> Self {
        Self(ranges.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_may_ask_and_others_may_not() {
        let ranges = Ranges::default_allowed();
        assert_eq!(ranges.0.len(), DEFAULT_ALLOWED.len());
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "100.64.0.1",
            "::1",
            "fd01:b::5",
            "::ffff:10.0.0.1",
        ] {
            assert!(ranges.contains(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "9.0.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!ranges.contains(address.parse().unwrap()), "{address}");
        }
    }
}
