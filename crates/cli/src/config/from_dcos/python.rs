//! What Python's `int` and `ipaddress.ip_network` take, as DC/OS's generator uses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

/// Returns the whole number that `int` reads from a text. It ends at the limits of the type.
pub fn int(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    // One underscore may stand between two digits.
    let parts: Vec<&str> = digits.split('_').collect();
    let is_part = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !parts.iter().all(is_part) {
        return None;
    }
    let number = parts.concat().parse().unwrap_or(i128::MAX);
    Some(if negative { -number } else { number })
}

/// Returns the whole number that `int` makes of a value of JSON.
pub fn int_of(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(value) => Some(i128::from(*value)),
        Value::String(text) => int(text),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Some(number.into()),
            (_, Some(number)) => Some(number.into()),
            // The fraction is cut off.
            _ => number.as_f64().map(|number| number as i128),
        },
        _ => None,
    }
}

/// Returns the network that `ipaddress.ip_network` makes of a value.
pub fn ip_network(value: &Value) -> Option<IpNet> {
    match value {
        Value::String(text) => network(text),
        // A number is an address, and `True` is a number.
        Value::Bool(value) => Some(single(Ipv4Addr::from(u32::from(*value)).into())),
        Value::Number(number) => {
            let number = number.as_u64()?;
            let v4 = u32::try_from(number).map(|bits| Ipv4Addr::from(bits).into());
            Some(single(v4.unwrap_or_else(|_| {
                Ipv6Addr::from(u128::from(number)).into()
            })))
        }
        _ => None,
    }
}

fn single(address: IpAddr) -> IpNet {
    address.into()
}

fn network(text: &str) -> Option<IpNet> {
    let (address, mask) = match text.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (text, None),
    };
    let net: IpNet = match address.parse::<Ipv4Addr>() {
        Ok(address) => {
            let prefix = mask.map_or(Some(32), |mask| prefix(mask, 32).or_else(|| netmask(mask)));
            Ipv4Net::new(address, prefix?).ok()?.into()
        }
        Err(_) => {
            let address = match address.split_once('%') {
                Some((address, zone)) if !zone.is_empty() && !zone.contains('%') => address,
                Some(_) => return None,
                None => address,
            };
            let prefix = mask.map_or(Some(128), |mask| prefix(mask, 128));
            Ipv6Net::new(address.parse().ok()?, prefix?).ok()?.into()
        }
    };
    (net.addr() == net.network()).then_some(net)
}

fn prefix(text: &str, longest: u8) -> Option<u8> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = text.parse().ok().filter(|_| is_number)?;
    (prefix <= longest).then_some(prefix)
}

/// Returns the prefix length of a mask such as `255.0.0.0`, or of its inverse.
fn netmask(text: &str) -> Option<u8> {
    let bits = u32::from(text.parse::<Ipv4Addr>().ok()?);
    let length = |bits: u32| {
        let ones = bits.leading_ones();
        (ones + bits.trailing_zeros().min(32) >= 32).then_some(ones as u8)
    };
    length(bits).or_else(|| length(!bits))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        let good = [("1420", 1420), (" +1_420 ", 1420), ("-0", 0), ("007", 7)];
        for (text, number) in good {
            assert_eq!(int(text), Some(number), "{text}");
        }
        for text in ["", "-", "1__0", "_1", "1_", "0x10", "1.0", "1e3", "+ 1"] {
            assert_eq!(int(text), None, "{text}");
        }
        assert_eq!(int(&"9".repeat(50)), Some(i128::MAX));
        assert_eq!(int_of(&json!(1420.9)), Some(1420));
        assert_eq!(int_of(&json!(true)), Some(1));
        assert_eq!(int_of(&json!(null)), None);
    }

    #[test]
    fn networks_are_those_of_python() {
        let good = [
            (json!("9.0.0.0/8"), "9.0.0.0/8"),
            (json!("9.0.0.0/08"), "9.0.0.0/8"),
            (json!("9.0.0.0/255.0.0.0"), "9.0.0.0/8"),
            (json!("9.0.0.0/0.255.255.255"), "9.0.0.0/8"),
            (json!("0.0.0.0/0.0.0.0"), "0.0.0.0/0"),
            (json!("9.0.0.1"), "9.0.0.1/32"),
            (json!("fd01:b::/64"), "fd01:b::/64"),
            (json!("fd01:b::"), "fd01:b::/128"),
            (json!(5), "0.0.0.5/32"),
            (json!(true), "0.0.0.1/32"),
            (json!(4_294_967_296_u64), "::1:0:0/128"),
        ];
        for (value, net) in good {
            assert_eq!(ip_network(&value), net.parse().ok(), "{value}");
        }
        for text in [
            "172.16/12",
            "9.0.0.1/8",
            "9.0.0.0/33",
            "9.0.0.0/",
            "9.0.0.0/255.0.255.0",
            "09.0.0.0/8",
            " 9.0.0.0/8",
            "fd01::/129",
            "fd01::1/64",
            "x",
            "",
        ] {
            assert_eq!(ip_network(&json!(text)), None, "{text}");
        }
        for value in [json!(null), json!(-1), json!(1.5), json!([]), json!({})] {
            assert_eq!(ip_network(&value), None, "{value}");
        }
    }
}
