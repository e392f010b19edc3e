//! Resolvers of this host, from `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};

/// Most resolvers that are used.
const MAX_RESOLVERS: usize = 16;

/// Port of name servers.
const PORT: u16 = 53;

/// Returns the resolvers that a text in the form of `resolv.conf` names. Those with the address of a
/// link, which needs the name of a device, are left out.
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let mut resolvers: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        let resolver = SocketAddr::new(address, PORT);
        if !resolvers.contains(&resolver) && resolvers.len() < MAX_RESOLVERS {
            resolvers.push(resolver);
        }
    }
    resolvers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_found_among_other_lines() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.1\noptions timeout:1\n\
                    nameserver\t::1 # local\nnameserver fe80::1%eth0\nnameserver\nnameserver 10.0.0.1\n";
        let expected: [SocketAddr; 2] =
            ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(parse(text), expected);
    }
}
