//! Addresses of agents.

use std::net::{IpAddr, Ipv4Addr};

use crate::Upid;

/// Returns the address by which an agent is known, or `None` if it is not an IPv4 address.
pub fn agent_address(pid: &Upid) -> Option<Ipv4Addr> {
    match pid.address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}
