//! Names of addresses: `2.1.0.9.in-addr.arpa`, and the zones that a range of addresses has.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::zone::{DomainName, parse_name};

/// Number of bits of an address that one label stands for, in IPv4 and in IPv6.
const LABEL_BITS: [u8; 2] = [8, 4];
/// Longest prefix with zones of its own. The addresses of a longer one are in the zone of this length.
const LONGEST: [u8; 2] = [24, 124];

/// Returns the name of an address.
pub fn owner(ip: IpAddr) -> DomainName {
    name(ip, if ip.is_ipv4() { 32 } else { 128 })
}

/// Returns the names of the zones of a range: one, or several where the prefix ends inside a label.
/// A prefix longer than /24 (IPv6: /124) has the zone of this length, in which it may not be alone.
pub fn zones(range: IpNet) -> Vec<DomainName> {
    let family = usize::from(range.addr().is_ipv6());
    let (bits, longest) = (LABEL_BITS[family], LONGEST[family]);
    let length = range
        .prefix_len()
        .next_multiple_of(bits)
        .clamp(bits, longest);
    let Ok(widest) = IpNet::new(range.network(), range.prefix_len().min(length)) else {
        return Vec::new();
    };
    match widest.subnets(length) {
        Ok(subnets) => subnets
            .map(|subnet| name(subnet.network(), length))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Returns the name of the first `length` bits of an address.
fn name(ip: IpAddr, length: u8) -> DomainName {
    let mut text = String::new();
    let labels = usize::from(length / LABEL_BITS[usize::from(ip.is_ipv6())]);
    // Writing to a String cannot fail.
    match ip {
        IpAddr::V4(ip) => {
            for byte in ip.octets().iter().take(labels).rev() {
                let _ = write!(text, "{byte}.");
            }
            text += "in-addr.arpa";
        }
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digits: Vec<u8> = digits.take(labels).collect();
            for digit in digits.iter().rev() {
                let _ = write!(text, "{digit:x}.");
            }
            text += "ip6.arpa";
        }
    }
    parse_name(&text).unwrap_or_else(|_| DomainName::root())
}
