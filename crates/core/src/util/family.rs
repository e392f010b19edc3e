//! The two address families.

use std::net::IpAddr;

use ipnet::IpNet;

/// An address family. Code that handles IPv4 and IPv6 alike takes it as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Returns the one of two values that belongs to this family.
    pub fn select<T>(self, v4: T, v6: T) -> T {
        match self {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Returns the first of `items` that is of this family.
    pub fn find<T: HasFamily>(self, items: &[T]) -> Option<&T> {
        items.iter().find(|item| item.family() == self)
    }

    /// Returns the name in metrics and JSON: `ipv4` or `ipv6`.
    pub fn name(self) -> &'static str {
        self.select("ipv4", "ipv6")
    }
}

/// A value that is of one address family.
pub trait HasFamily {
    /// Returns the address family.
    fn family(&self) -> Family;
}

impl HasFamily for IpAddr {
    fn family(&self) -> Family {
        match self {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl HasFamily for IpNet {
    fn family(&self) -> Family {
        match self {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_finds_its_own() {
        let nets: Vec<IpNet> = ["fd01::/64", "9.0.0.0/8", "10.0.0.0/8"]
            .map(|net| net.parse().unwrap())
            .to_vec();
        assert_eq!(Family::V4.find(&nets), Some(&nets[1]));
        assert_eq!(Family::V6.find(&nets), Some(&nets[0]));
        assert_eq!(Family::V6.find(&nets[1..]), None);
        assert_eq!(nets[0].addr().family(), Family::V6);
        assert_eq!(Family::ALL.map(Family::name), ["ipv4", "ipv6"]);
    }
}
