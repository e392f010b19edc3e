//! Connections that the kernel tracks. It translates the addresses of a flow as the rules said
//! when the flow began, so a flow that began under other rules of masquerading would keep its
//! source address for as long as it lasts.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use overlay_core::util::family::Family;

use super::desired::{FirewallDesired, set_name};
use super::flows::{Change, Flow, Masquerading};
use super::nat;
use super::netfilter::Netfilter;
use super::op::{Membership, Observed, Op};
use crate::kernel::raw::{self, Attributes, Request, find};
use crate::progress;

// From linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h and nf_conntrack_common.h.
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
/// Attributes of a source address: IPv4, IPv6.
const SOURCE: [u16; 2] = [1, 3];
/// Flag of an attribute that consists of attributes.
const NESTED: u16 = 1 << 15;
/// Bit of the status: the source address is translated.
const SOURCE_TRANSLATED: u32 = 1 << 4;

/// Tells if an operation changes which packets are masqueraded.
pub(super) fn concerns_nat(op: &Op) -> bool {
    match op {
        Op::Rule { table, .. } => *table == nat::TABLE,
        Op::WriteSet { .. } | Op::WriteTable(_) | Op::DeleteTable => true,
        Op::DestroySet(_) => false,
    }
}

/// Returns the change that operations make; `None`: they do not concern masquerading.
pub(super) fn change(ops: &[Op], desired: &FirewallDesired, observed: &Observed) -> Option<Change> {
    let mut before: Vec<Masquerading> = Family::BOTH
        .into_iter()
        .map(|family| in_iptables(family, observed))
        .collect();
    before.extend(observed.table.as_ref().map(|table| Masquerading {
        sources: table.elements(),
        exempt: table.elements(),
    }));
    ops.iter().any(concerns_nat).then(|| Change {
        before,
        after: Masquerading {
            sources: desired.ranges.clone(),
            exempt: desired.ranges.clone(),
        },
    })
}

/// Deletes the entries of flows that began under other rules, so that their next packet is
/// treated by the rules in force. Returns the number of deleted entries.
///
/// # Errors
/// The kernel's table cannot be read.
pub(super) fn delete_stale(change: &Change) -> io::Result<usize> {
    progress::step("read the connections that the kernel tracks");
    let local = local_addresses()?;
    let netfilter = Netfilter::open()?;
    let mut stale = Vec::new();
    let all = Attributes::default();
    netfilter.query(SUBSYSTEM << 8 | GET, Request::Dump, 0, &all, |entry| {
        if read(entry).is_some_and(|flow| change.makes_stale(&flow, &local)) {
            stale.extend(identity(entry));
        }
    })?;
    progress::step("delete connections that began under other rules");
    let mut deleted = 0;
    for (family, identity) in stale {
        let kind = SUBSYSTEM << 8 | DELETE;
        match netfilter.query(kind, Request::Single, family, &identity, |_| ()) {
            Ok(()) => deleted += 1,
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

/// Returns the rules of masquerading in iptables.
fn in_iptables(family: Family, observed: &Observed) -> Masquerading {
    let rules = observed.rules.get(&family);
    let rules = rules
        .into_iter()
        .flat_map(|rules| nat::own_rules(family, rules));
    let members = observed.sets.get(set_name(family));
    let members = members.into_iter().flat_map(|set| &set.members);
    Masquerading {
        sources: rules.filter_map(|rule| nat::source(rule, family)).collect(),
        exempt: members
            .filter(|(_, membership)| **membership == Membership::NoMatch)
            .map(|(net, _)| *net)
            .collect(),
    }
}

/// Returns the addresses of this host.
fn local_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|found| {
        let address = found.address?;
        let v4 = address.as_sockaddr_in().map(|one| IpAddr::V4(one.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|one| IpAddr::V6(one.ip())))
    });
    Ok(addresses.collect())
}

/// Reads an entry of the kernel's table.
fn read(entry: &[u8]) -> Option<Flow> {
    let status: [u8; 4] = find(entry, STATUS)?.try_into().ok()?;
    Some(Flow {
        source: source(find(entry, ORIGINAL)?)?,
        // Answers come from the translated destination.
        destination: source(find(entry, REPLY)?)?,
        is_source_translated: u32::from_be_bytes(status) & SOURCE_TRANSLATED != 0,
    })
}

/// Returns the source address of one direction of a flow.
fn source(tuple: &[u8]) -> Option<IpAddr> {
    let addresses = find(tuple, TUPLE_IP)?;
    SOURCE
        .into_iter()
        .find_map(|kind| raw::address(find(addresses, kind)?))
}

/// Returns the address family and the attributes that name an entry. Without a direction of the
/// flow the kernel would delete all entries.
fn identity(entry: &[u8]) -> Option<(u8, Attributes)> {
    let tuple = find(entry, ORIGINAL)?;
    let family = match source(tuple)? {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let mut identity = Attributes::default().with(NESTED | ORIGINAL, tuple);
    for kind in [ID, ZONE] {
        if let Some(value) = find(entry, kind) {
            identity = identity.with(kind, value);
        }
    }
    Some((u8::try_from(family).ok()?, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_named() {
        let tuple = |address: [u8; 4]| {
            let ip = Attributes::default().with(SOURCE[0], &address);
            Attributes::default().with_nested(TUPLE_IP, &ip)
        };
        let entry = Attributes::default()
            .with_nested(ORIGINAL, &tuple([9, 0, 1, 5]))
            .with_nested(REPLY, &tuple([192, 0, 2, 9]))
            .with(STATUS, &SOURCE_TRANSLATED.to_be_bytes())
            .with(ID, &[0, 0, 0, 7]);
        let flow = read(entry.bytes()).unwrap();
        assert_eq!(flow.source.to_string(), "9.0.1.5");
        assert_eq!(flow.destination.to_string(), "192.0.2.9");
        assert!(flow.is_source_translated);
        let (family, named) = identity(entry.bytes()).unwrap();
        assert_eq!(i32::from(family), libc::AF_INET);
        assert_eq!(find(named.bytes(), ORIGINAL), find(entry.bytes(), ORIGINAL));
        assert_eq!(find(named.bytes(), ID), Some(&[0, 0, 0, 7][..]));
        // An entry without a source must not be named: the kernel would delete all.
        assert!(identity(&[]).is_none() && read(&[]).is_none());
    }
}
