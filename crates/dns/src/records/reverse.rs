//! Names of addresses: `2.1.0.9.in-addr.arpa`, and the zones that a range of addresses has.

use std::fmt::Write;
use std::net::IpAddr;

use domain::base::Name;
use domain::base::name::ToLabelIter;
use ipnet::IpNet;

use crate::zone::{DomainName, parse_name};

/// Number of bits of an address that one label stands for, in IPv4 and in IPv6.
const LABEL_BITS: [u8; 2] = [8, 4];
/// Longest prefix with zones of its own. The addresses of a longer one are in the zone of this length.
const LONGEST: [u8; 2] = [24, 124];

/// Domains of the names of addresses, in wire form.
const IPV4: &[u8] = b"\x07in-addr\x04arpa\0";
const IPV6: &[u8] = b"\x03ip6\x04arpa\0";

/// Returns the name of an address.
pub fn owner(ip: IpAddr) -> DomainName {
    name(ip, if ip.is_ipv4() { 32 } else { 128 })
}

/// Tells whether a name in wire form and in lower case is in `in-addr.arpa` or `ip6.arpa`.
pub fn is_reverse(name: &[u8]) -> bool {
    name.ends_with(IPV4) || name.ends_with(IPV6)
}

/// Returns the address that a name in wire form and in lower case stands for. `None`: it is not the
/// name of a whole address.
pub fn address(name: &[u8]) -> Option<IpAddr> {
    if !is_reverse(name) {
        return None;
    }
    let is_ipv6 = name.ends_with(IPV6);
    let name = Name::from_octets(name).ok()?;
    let labels = || name.iter_labels().map(|label| label.as_slice());
    let text = |label| std::str::from_utf8(label).ok();
    match name.label_count() {
        // Four bytes, two labels and the root.
        7 if !is_ipv6 => {
            let mut bytes = [0; 4];
            for (byte, label) in bytes.iter_mut().rev().zip(labels()) {
                *byte = text(label)?.parse().ok()?;
            }
            Some(IpAddr::from(bytes))
        }
        35 if is_ipv6 => {
            let mut number = 0_u128;
            for (at, label) in (0..32).zip(labels()) {
                let digit = u128::from_str_radix(text(label)?, 16).ok()?;
                (label.len() == 1).then_some(())?;
                number |= digit << (4 * at);
            }
            Some(IpAddr::from(number.to_be_bytes()))
        }
        _ => None,
    }
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
