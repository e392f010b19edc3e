//! Ranges of IP addresses with a special purpose, which no overlay network and no host uses in
//! the ordinary way.
//!
//! Ranges that clusters do use are not among them, whatever their formal purpose: private and
//! shared addresses, unique local ones, those of documentation and benchmarks, and public ranges
//! that are not announced, such as 9.0.0.0/8.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range with its purpose. Prints as `the multicast range 224.0.0.0/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialRange {
    /// The range.
    pub net: IpNet,
    /// The purpose of its addresses.
    pub purpose: Purpose,
}

/// Purpose of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// No address, or a host that does not know its own yet.
    Unspecified,
    /// The same host.
    Loopback,
    /// Hosts on the same link, which choose their addresses themselves.
    LinkLocal,
    /// Groups of hosts.
    Multicast,
    /// All hosts on a link.
    Broadcast,
    /// Not assigned. Kernels forward such packets, and some clusters use the range.
    Reserved,
    /// IPv4 addresses written as IPv6 ones.
    Ipv4InIpv6,
}

const fn v4(a: u8, b: u8, prefix: u8, purpose: Purpose) -> SpecialRange {
    let net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), prefix);
    SpecialRange {
        net: IpNet::V4(net),
        purpose,
    }
}

const fn v6(net: u128, prefix: u8, purpose: Purpose) -> SpecialRange {
    let net = Ipv6Net::new_assert(std::net::Ipv6Addr::from_bits(net), prefix);
    SpecialRange {
        net: IpNet::V6(net),
        purpose,
    }
}

const BROADCAST: SpecialRange = SpecialRange {
    net: IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::BROADCAST, 32)),
    purpose: Purpose::Broadcast,
};

/// All ranges. The smaller of two overlapping ones comes first.
const RANGES: [SpecialRange; 11] = [
    v4(0, 0, 8, Purpose::Unspecified),
    v4(127, 0, 8, Purpose::Loopback),
    v4(169, 254, 16, Purpose::LinkLocal),
    v4(224, 0, 4, Purpose::Multicast),
    BROADCAST,
    v4(240, 0, 4, Purpose::Reserved),
    v6(1, 128, Purpose::Loopback),
    v6(0, 96, Purpose::Unspecified),
    v6(0xffff << 32, 96, Purpose::Ipv4InIpv6),
    v6(0xfe80 << 112, 10, Purpose::LinkLocal),
    v6(0xff << 120, 8, Purpose::Multicast),
];

/// Returns the special range that an address lies in.
pub fn of_address(ip: IpAddr) -> Option<SpecialRange> {
    RANGES.into_iter().find(|range| range.net.contains(&ip))
}

/// Returns the special range that makes an address unfit for a host that communicates with the
/// host `own`. Addresses for hosts in a loopback, link-local or reserved range are fit where
/// `own` is in the same range.
pub fn of_host(ip: IpAddr, own: IpAddr) -> Option<SpecialRange> {
    of_address(ip).filter(|range| !(range.is_of_hosts() && range.net.contains(&own)))
}

/// Returns a special range that a network overlaps, and that makes it unfit for containers and
/// VTEPs. They may use the reserved range.
pub fn of_network(net: IpNet) -> Option<SpecialRange> {
    let unfit = |range: &SpecialRange| {
        range.purpose != Purpose::Reserved && (range.net.contains(&net) || net.contains(&range.net))
    };
    RANGES.into_iter().find(unfit)
}

impl SpecialRange {
    /// Returns what an operator can do about a Mesos agent at this address in the range, as the
    /// last part of a sentence; empty for a range in which no process is.
    pub fn remedy(&self, ip: IpAddr) -> String {
        match self.purpose {
            Purpose::Loopback | Purpose::Unspecified | Purpose::LinkLocal => format!(
                "; start its Mesos agent with --ip or LIBPROCESS_IP, the address of its host on the network \
                 (/etc/hosts may map the name of the host to {ip})"
            ),
            Purpose::Multicast | Purpose::Broadcast | Purpose::Reserved | Purpose::Ipv4InIpv6 => {
                String::new()
            }
        }
    }

    /// Returns whether single hosts can have addresses of the range.
    fn is_of_hosts(&self) -> bool {
        match self.purpose {
            Purpose::Loopback | Purpose::LinkLocal | Purpose::Reserved => true,
            Purpose::Unspecified
            | Purpose::Multicast
            | Purpose::Broadcast
            | Purpose::Ipv4InIpv6 => false,
        }
    }
}

impl fmt::Display for SpecialRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = match self.purpose {
            Purpose::Unspecified => "unspecified",
            Purpose::Loopback => "loopback",
            Purpose::LinkLocal => "link-local",
            Purpose::Multicast => "multicast",
            Purpose::Broadcast => "broadcast",
            Purpose::Reserved => "reserved",
            Purpose::Ipv4InIpv6 => "IPv4-mapped",
        };
        write!(f, "the {purpose} range {}", self.net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn clusters_may_use_what_routers_forward() {
        for text in [
            "9.0.0.0/8",
            "10.0.0.0/8",
            "11.0.0.0/8",
            "44.128.0.0/20",
            "44.0.0.0/8",
            "100.64.0.0/10",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "192.0.2.0/24",
            "198.18.0.0/15",
            "203.0.113.0/24",
            "250.0.0.0/8",
            "fd00::/8",
            "fd01:b::/64",
            "2001:db8::/32",
            "fec0::/10",
        ] {
            assert_eq!(of_network(net(text)), None, "{text}");
            let host = net(text).hosts().next().unwrap();
            let is_reserved = text.starts_with("250.");
            assert_eq!(of_address(host).is_some(), is_reserved, "{text}");
        }
    }

    #[test]
    fn special_ranges_are_named() {
        for (text, named) in [
            ("0.0.0.0", "the unspecified range 0.0.0.0/8"),
            ("127.0.0.1", "the loopback range 127.0.0.0/8"),
            ("169.254.169.254", "the link-local range 169.254.0.0/16"),
            ("224.0.0.1", "the multicast range 224.0.0.0/4"),
            ("239.255.255.255", "the multicast range 224.0.0.0/4"),
            ("255.255.255.255", "the broadcast range 255.255.255.255/32"),
            ("240.0.0.1", "the reserved range 240.0.0.0/4"),
            ("::", "the unspecified range ::/96"),
            ("::1", "the loopback range ::1/128"),
            ("::ffff:9.0.0.1", "the IPv4-mapped range ::ffff:0.0.0.0/96"),
            ("fe80::1", "the link-local range fe80::/10"),
            ("ff02::1", "the multicast range ff00::/8"),
        ] {
            let range = of_address(text.parse().unwrap()).expect(text);
            assert_eq!(range.to_string(), named);
        }
    }

    /// Routes to such prefixes would take over a host's traffic, or that of a part of it.
    #[test]
    fn a_network_that_contains_or_lies_in_a_special_range_is_unfit() {
        for text in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "64.0.0.0/2",
            "127.0.0.0/30",
            "169.254.169.254/32",
            "224.0.0.0/3",
            "239.0.0.0/8",
            "240.0.0.0/4",
            "255.255.255.0/24",
            "::/0",
            "::/1",
            "8000::/1",
            "fe00::/7",
            "fe80::/64",
        ] {
            assert!(of_network(net(text)).is_some(), "{text}");
        }
    }

    #[test]
    fn loopback_is_fit_beside_loopback_only() {
        let of_host = |ip: &str, own: &str| of_host(ip.parse().unwrap(), own.parse().unwrap());
        assert_eq!(of_host("127.0.0.7", "127.0.0.1"), None);
        assert!(of_host("127.0.0.7", "10.0.0.1").is_some());
        assert_eq!(of_host("169.254.0.7", "169.254.0.1"), None);
        assert_eq!(of_host("240.0.0.7", "241.0.0.1"), None);
        assert!(of_host("240.0.0.7", "10.0.0.1").is_some());
        assert!(of_host("255.255.255.255", "241.0.0.1").is_some());
        assert!(of_host("0.0.0.0", "0.0.0.0").is_some());
        assert!(of_host("224.0.0.9", "224.0.0.1").is_some());
    }

    proptest! {
        /// Addresses and prefixes are judged by the same ranges.
        #[test]
        fn a_network_is_unfit_if_its_first_or_last_address_is(bits: u128, prefix in 0u8..=128, is_v4: bool) {
            let net = match is_v4 {
                true => IpNet::new(std::net::Ipv4Addr::from_bits(bits as u32).into(), prefix.min(32)),
                false => IpNet::new(std::net::Ipv6Addr::from_bits(bits).into(), prefix),
            };
            let net = net.unwrap().trunc();
            let is_unfit = |ip| of_address(ip).is_some_and(|range| range.purpose != Purpose::Reserved);
            if is_unfit(net.network()) || is_unfit(net.broadcast()) {
                prop_assert!(of_network(net).is_some());
            }
        }
    }
}
