//! Netlink queries about the firewall, cheap enough for every reconciliation: the
//! generation of nf_tables, the ipsets and the uplinks. They apply to the network
//! namespace of the calling thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NetlinkSerializable, Parseable};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_indextoname;

use crate::kernel::raw::{self, Attributes, Request, Socket, find};

use super::op::{IpSet, Membership};

// From linux/netfilter/nfnetlink.h, nf_tables.h and ipset/ip_set.h.
const SUBSYSTEM_IPSET: u16 = 6;
const SUBSYSTEM_NFTABLES: u16 = 10;
const GET_GENERATION: u16 = 16;
const GENERATION_ID: u16 = 1;
const IPSET_LIST: u16 = 7;
const IPSET_PROTOCOL: u16 = 1;
const IPSET_NAME: u16 = 2;
const IPSET_KIND: u16 = 3;
const IPSET_FAMILY: u16 = 5;
const IPSET_DATA: u16 = 7;
const IPSET_MEMBERS: u16 = 8;
const MEMBER_IP: u16 = 1;
const MEMBER_PREFIX: u16 = 3;
const MEMBER_FLAGS: u16 = 8;
const MEMBER_NOMATCH: u32 = 1 << 2;
/// Version of the ipset protocol that all kernels support.
const IPSET_VERSION: u8 = 6;
/// Length of the header of a netfilter message in bytes: family, version, resource.
const HEADER: usize = 4;

/// A netlink socket of the family `NETLINK_NETFILTER`.
pub(super) struct Netfilter(Socket);

impl Netfilter {
    pub(super) fn open() -> io::Result<Netfilter> {
        Socket::open(NETLINK_NETFILTER).map(Netfilter)
    }

    /// Returns the generation of nf_tables, which changes with every change of its rules
    /// (and of the rules of an iptables that is built on it); `None` without nf_tables.
    pub(super) fn generation(&self) -> Option<u32> {
        let mut generation = None;
        let (kind, none) = (
            SUBSYSTEM_NFTABLES << 8 | GET_GENERATION,
            Attributes::default(),
        );
        self.query(kind, Request::Single, 0, &none, |attributes| {
            let id = find(attributes, GENERATION_ID);
            generation = id.and_then(|id| Some(u32::from_be_bytes(id.try_into().ok()?)));
        })
        .ok()?;
        generation
    }

    /// Reads an ipset; `None` if there is none of this name.
    pub(super) fn set(&self, name: &str) -> io::Result<Option<IpSet>> {
        let query = Attributes::default()
            .with(IPSET_PROTOCOL, &[IPSET_VERSION])
            .with_text(IPSET_NAME, name);
        let kind = SUBSYSTEM_IPSET << 8 | IPSET_LIST;
        let mut set = None;
        let found = self.query(kind, Request::Dump, 0, &query, |attributes| {
            read_set(attributes, set.get_or_insert_default())
        });
        match found {
            Ok(()) => Ok(set),
            // ENOENT: unknown name. EINVAL: the kernel has no ipset.
            Err(error) if matches!(errno(&error), Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a request and calls `take` with the attributes of each answer. `family` is an address
    /// family, or 0 for all.
    pub(super) fn query(
        &self,
        kind: u16,
        request: Request,
        family: u8,
        attributes: &Attributes,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let header: [u8; HEADER] = [family, 0, 0, 0];
        let payload = [&header, attributes.bytes()].concat();
        self.0.ask(kind, request, &payload, |payload| {
            take(payload.get(HEADER..).unwrap_or_default());
        })
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Reads one message of a set. A large set is spread over several messages.
fn read_set(attributes: &[u8], set: &mut IpSet) {
    for attribute in raw::attributes(attributes).flatten() {
        let value = attribute.value;
        match attribute.kind {
            IPSET_KIND => {
                set.kind = String::from_utf8_lossy(value)
                    .trim_end_matches('\0')
                    .to_owned()
            }
            IPSET_FAMILY => set.family = value.first().copied().unwrap_or_default(),
            IPSET_MEMBERS => {
                let members = raw::attributes(value).flatten();
                let members = members.filter(|member| member.kind == IPSET_DATA);
                set.members
                    .extend(members.filter_map(|member| read_member(member.value)));
            }
            _ => {}
        }
    }
}

/// Reads a member of a set. Its packet counters are ignored.
fn read_member(attributes: &[u8]) -> Option<(IpNet, Membership)> {
    let (mut address, mut prefix, mut membership) = (None, None, Membership::Match);
    for attribute in raw::attributes(attributes).flatten() {
        let value = attribute.value;
        match attribute.kind {
            MEMBER_IP => address = read_address(value),
            MEMBER_PREFIX => prefix = value.first().copied(),
            MEMBER_FLAGS => {
                let flags = u32::from_be_bytes(value.try_into().ok()?);
                if flags & MEMBER_NOMATCH != 0 {
                    membership = Membership::NoMatch;
                }
            }
            _ => {}
        }
    }
    let address: IpAddr = address?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    Some((
        IpNet::new(address, prefix.unwrap_or(longest)).ok()?,
        membership,
    ))
}

fn read_address(nested: &[u8]) -> Option<IpAddr> {
    raw::address(raw::attributes(nested).flatten().next()?.value)
}

/// Public addresses for the route lookup: those of the root name server a.root-servers.net.
/// No packet is sent to them.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];

/// Returns the devices of the kernel's routes to [`OUTSIDE`].
pub(super) fn uplinks() -> io::Result<BTreeSet<String>> {
    let socket = Socket::open(NETLINK_ROUTE)?;
    let devices = OUTSIDE.map(|address| route_device(&socket, address));
    Ok(devices.into_iter().flatten().collect())
}

/// Returns the device of the route to an address; `None` without a route.
fn route_device(socket: &Socket, address: IpAddr) -> Option<String> {
    let mut query = RouteMessage::default();
    let (family, length) = if address.is_ipv4() {
        (AddressFamily::Inet, 32)
    } else {
        (AddressFamily::Inet6, 128)
    };
    query.header.address_family = family;
    query.header.destination_prefix_length = length;
    query.attributes = vec![RouteAttribute::Destination(address.into())];
    let query = RouteNetlinkMessage::GetRoute(query);
    let mut payload = vec![0; query.buffer_len()];
    query.serialize(&mut payload);
    let mut route = None;
    let answered = socket.ask(query.message_type(), Request::Single, &payload, |answer| {
        route = RouteMessage::parse(answer).ok();
    });
    answered.ok()?;
    let route: RouteMessage = route?;
    let index = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })?;
    if_indextoname(index).ok()?.into_string().ok()
}

/// Returns the device that has an address.
pub(super) fn device_of(address: Ipv4Addr) -> Option<String> {
    let found = getifaddrs().ok()?.find(|found| {
        let own = found
            .address
            .and_then(|own| Some(own.as_sockaddr_in()?.ip()));
        own == Some(address)
    });
    Some(found?.interface_name)
}

/// Reads the sets of these names that exist.
pub(super) fn sets<'a>(
    netfilter: &Netfilter,
    names: impl Iterator<Item = &'a str>,
) -> io::Result<BTreeMap<String, IpSet>> {
    let mut sets = BTreeMap::new();
    for name in names {
        if let Some(set) = netfilter.set(name)? {
            sets.insert(name.to_owned(), set);
        }
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Encodes a member as the kernel does.
    fn member(address: &[u8], prefix: Option<u8>, flags: Option<u32>) -> Vec<u8> {
        let address = attribute(MEMBER_IP, &attribute(1, address));
        let prefix = prefix.map(|prefix| attribute(MEMBER_PREFIX, &[prefix]));
        let flags = flags.map(|flags| attribute(MEMBER_FLAGS, &flags.to_be_bytes()));
        let parts = [Some(address), prefix, flags].into_iter().flatten();
        parts.collect::<Vec<_>>().concat()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn reads_members_of_both_families_with_their_flag() {
        let v6 = Ipv6Addr::new(0xfd01, 0xb, 0, 0, 0, 0, 0, 0).octets();
        use Membership::{Match, NoMatch};
        for (address, prefix, flags, expected) in [
            (&[9, 0, 0, 0][..], Some(8), None, ("9.0.0.0/8", Match)),
            (
                &[9, 0, 0, 0],
                Some(8),
                Some(MEMBER_NOMATCH),
                ("9.0.0.0/8", NoMatch),
            ),
            // Another flag.
            (&[9, 0, 0, 0], Some(8), Some(1 << 3), ("9.0.0.0/8", Match)),
            (&[9, 0, 0, 1], None, None, ("9.0.0.1/32", Match)),
            (
                &v6,
                Some(64),
                Some(MEMBER_NOMATCH),
                ("fd01:b::/64", NoMatch),
            ),
            (&v6, None, None, ("fd01:b::/128", Match)),
        ] {
            let found = read_member(&member(address, prefix, flags));
            assert_eq!(found, Some((net(expected.0), expected.1)));
        }
        assert_eq!(read_member(&member(&[9, 0, 0], Some(8), None)), None);
        assert_eq!(read_member(&member(&[9, 0, 0, 0], Some(33), None)), None);
    }

    #[test]
    fn reads_a_set_from_several_messages() {
        let members = |members: &[Vec<u8>]| {
            let data: Vec<u8> = members
                .iter()
                .flat_map(|member| attribute(IPSET_DATA, member))
                .collect();
            attribute(IPSET_MEMBERS, &data)
        };
        let head = [
            attribute(IPSET_KIND, b"hash:net\0"),
            attribute(IPSET_FAMILY, &[10]),
        ]
        .concat();
        let mut set = IpSet::default();
        read_set(
            &[head, members(&[member(&[9, 0, 0, 0], Some(8), None)])].concat(),
            &mut set,
        );
        let more = [
            member(&[10, 0, 0, 0], Some(8), None),
            member(&[11, 0, 0, 0], Some(8), None),
        ];
        read_set(&members(&more), &mut set);
        assert_eq!((set.kind.as_str(), set.family), ("hash:net", 10));
        let nets: Vec<IpNet> = set.members.into_keys().collect();
        assert_eq!(nets, ["9.0.0.0/8", "10.0.0.0/8", "11.0.0.0/8"].map(net));
    }
}
