//! The two address families.

use std::net::IpAddr;

use ipnet::IpNet;

/// Address family of IP. Code that handles IPv4 and IPv6 alike takes it as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// All families, IPv4 first.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Returns whichever of two values is this family's.
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Returns whether an address or prefix is of this family.
    pub fn includes(self, other: impl Into<Family>) -> bool {
        self == other.into()
    }

    /// Returns the first address or prefix of this family.
    pub fn find<T: Copy + Into<Family>>(self, items: &[T]) -> Option<T> {
        items.iter().copied().find(|item| self.includes(*item))
    }

    /// Returns the name in metrics: `ipv4` or `ipv6`.
    pub fn name(self) -> &'static str {
        self.pick("ipv4", "ipv6")
    }
}

impl From<IpAddr> for Family {
    fn from(ip: IpAddr) -> Family {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl From<IpNet> for Family {
    fn from(net: IpNet) -> Family {
        Family::from(net.addr())
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
        assert_eq!(Family::V4.find(&nets), Some(nets[1]));
        assert_eq!(Family::V6.find(&nets), Some(nets[0]));
        assert_eq!(Family::V6.find(&nets[1..]), None);
        assert_eq!(Family::from(nets[0].addr()), Family::V6);
        assert_eq!(Family::BOTH.map(Family::name), ["ipv4", "ipv6"]);
    }
}
