//! The two address families.

use std::net::IpAddr;

use ipnet::IpNet;

/// Address family of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, IPv4 first.
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
