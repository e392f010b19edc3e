//! Reads the objects of the kernel that may be ours.
//!
//! The kernel filters its dumps where it can. Everything is filtered again here, since an old
//! kernel ignores filters that it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use overlay_core::host_api::desired::{CONTAINER_TABLE, ContainerTable, Desired, Mac, VXLAN_PORT};
use overlay_core::host_api::names::vtep_name;
use rtnetlink::LinkUnspec;

use super::bridges;
pub(crate) use super::bridges::loose_ports;
use super::links::{FAMILIES, addresses, is_ours, link, name};
use super::netlink::{Error, Netlink};
use super::nexthop;
use super::parse::{self, Entry};
use super::request::link_named;
use super::routes::{self, FoundRoute};
use super::sysctl;
use crate::reconcile::observed::{
    Device, DeviceKind, FdbEntry, HostNetwork, HostNetworks, Kernel, Neighbour, Nexthop, Rule,
};
use crate::reconcile::{MAIN_TABLE, PROTOCOL, Unassigned};

/// Reads the objects of the kernel that may be ours.
///
/// # Errors
/// Part of them cannot be read; a sentence for operators.
pub(crate) async fn observe(netlink: &Netlink, desired: &Desired) -> Result<Kernel, String> {
    let cannot_read =
        |what| move |error: Error| format!("cannot read the kernel's {what}: {error}");
    let name = desired.vtep.as_ref().map(|vtep| vtep.name.as_str());
    let ContainerTable(table) = desired.container_table;
    let rules = rules(netlink, table).await.map_err(cannot_read("rules"))?;
    let all = routes::all(netlink, &tables(&rules, table))
        .await
        .map_err(cannot_read("routes"))?;
    let device = match name {
        Some(name) => device(netlink, name, &all)
            .await
            .map_err(cannot_read("VXLAN device"))?,
        None => None,
    };
    let ranges = desired
        .overlays
        .values()
        .flat_map(|overlay| overlay.ranges.iter().copied());
    let ranges: Vec<IpNet> = ranges.chain(rules.iter().map(|rule| rule.from)).collect();
    Ok(Kernel {
        device,
        foreign_routes: routes::foreign(netlink, &all, name, &ranges, table)
            .await
            .map_err(cannot_read("routes"))?,
        stale_devices: stale_devices(netlink, name)
            .await
            .map_err(cannot_read("VXLAN devices"))?,
        rules,
        bridges: bridges::bridges(netlink, desired)
            .await
            .map_err(cannot_read("bridges"))?,
        nexthops: nexthops(netlink, name)
            .await
            .map_err(cannot_read("nexthop objects"))?,
        mesos_bridges: bridges::mesos_bridges(netlink, desired)
            .await
            .map_err(cannot_read("bridges"))?,
        docker_bridges: bridges::docker_bridges(netlink, desired)
            .await
            .map_err(cannot_read("bridges"))?,
        loose_ports: {
            let ports = bridges::loose_ports(netlink).await;
            let routed = routes::outputs(&all);
            let mut ports = ports.map_err(cannot_read("veth devices"))?;
            ports.retain(|port| !routed.contains(&port.index));
            ports
        },
        networks: networks(netlink, name)
            .await
            .map_err(cannot_read("addresses"))?,
    })
}

/// Returns the indexes of the devices over which somebody routes in the main table.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn routed_devices(netlink: &Netlink) -> Result<BTreeSet<u32>, Error> {
    let all = routes::all(netlink, &[MAIN_TABLE].into()).await?;
    Ok(routes::outputs(&all))
}

/// Reads what is known of a host before any overlay is known.
///
/// # Errors
/// A part cannot be read; a sentence for operators.
pub(crate) async fn unassigned(netlink: &Netlink) -> Result<Unassigned, String> {
    let cannot_read =
        |what| move |error: Error| format!("cannot read the kernel's {what}: {error}");
    let names = stale_devices(netlink, None).await;
    let rules = rules(netlink, CONTAINER_TABLE)
        .await
        .map_err(cannot_read("rules"))?;
    let all = routes::all(netlink, &tables(&rules, CONTAINER_TABLE))
        .await
        .map_err(cannot_read("routes"))?;
    let mut vteps = BTreeMap::new();
    for name in names.map_err(cannot_read("VXLAN devices"))? {
        let vtep = device(netlink, &name, &all).await;
        if let Some(vtep) = vtep.map_err(cannot_read("VXLAN device"))? {
            vteps.insert(name, vtep);
        }
    }
    Ok(Unassigned {
        vteps,
        rules,
        networks: networks(netlink, None)
            .await
            .map_err(cannot_read("addresses"))?,
    })
}

/// Returns the index of a device; `None`: there is none of this name.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn index_of(netlink: &Netlink, name: &str) -> Result<Option<u32>, Error> {
    Ok(link(netlink, link_named(name))
        .await?
        .map(|message| message.header.index))
}

/// Reads the device of this name with everything on it, and its routes in the main table and
/// `table`; `None`: there is none of this name.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn whole_device(
    netlink: &Netlink,
    name: &str,
    table: u32,
) -> Result<Option<Device>, Error> {
    let all = routes::all(netlink, &[MAIN_TABLE, table].into()).await?;
    device(netlink, name, &all).await
}

/// Reads the device of this name with everything on it. `all` are the host's routes.
async fn device(
    netlink: &Netlink,
    name: &str,
    all: &[FoundRoute],
) -> Result<Option<Device>, Error> {
    let Some(message) = link(netlink, link_named(name)).await? else {
        return Ok(None);
    };
    let (index, kind) = (message.header.index, parse::kind(&message));
    let mut device = Device {
        mac: Mac::default(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        is_without_ipv6: sysctl::is_without_ipv6(name),
        tunnel: parse::tunnel(&message),
        addresses: BTreeSet::new(),
        neighbours: BTreeMap::new(),
        fdb: BTreeMap::new(),
        routes: BTreeSet::new(),
        kind,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => device.mac = parse::mac(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            _ => {}
        }
    }
    // Objects on a device of another kind are not ours.
    if matches!(device.kind, DeviceKind::Vxlan { .. }) {
        for family in FAMILIES {
            device
                .addresses
                .append(&mut addresses(netlink, index, family).await?);
            device
                .neighbours
                .append(&mut neighbours(netlink, index, family).await?);
        }
        device.routes = routes::over(all, index);
        device.fdb = fdb(netlink, index).await?;
    }
    Ok(Some(device))
}

/// Returns the names of VXLAN devices that look like ours, other than the wanted one.
pub(crate) async fn stale_devices(
    netlink: &Netlink,
    wanted: Option<&str>,
) -> Result<BTreeSet<String>, Error> {
    let mut filter = LinkMessage::default();
    filter
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Vxlan,
        )]));
    let mut stale = BTreeSet::new();
    for object in netlink.dump(RouteNetlinkMessage::GetLink(filter)).await? {
        let RouteNetlinkMessage::NewLink(message) = object else {
            continue;
        };
        let DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            ..
        } = parse::kind(&message)
        else {
            continue;
        };
        let names = message
            .attributes
            .into_iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
        stale.extend(names.filter(|name| *name == vtep_name(vni) && Some(name.as_str()) != wanted));
    }
    Ok(stale)
}

/// Returns the neighbours of a device or, with the family "bridge", its FDB entries.
async fn entries(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
) -> Result<Vec<Entry>, Error> {
    let mut filter = NeighbourMessage::default();
    filter.header.family = family;
    if family == AddressFamily::Bridge {
        filter.header.ifindex = index;
    } else {
        filter.attributes.push(NeighbourAttribute::IfIndex(index));
    }
    let objects = netlink
        .dump(RouteNetlinkMessage::GetNeighbour(filter))
        .await?;
    let parsed = objects.into_iter().filter_map(|object| match object {
        RouteNetlinkMessage::NewNeighbour(message)
            if message.header.ifindex == index
                && message.header.family == family
                && !message.header.flags.contains(NeighbourFlags::Proxy) =>
        {
            Some(parse::entry(&message))
        }
        _ => None,
    });
    Ok(parsed.collect())
}

/// Returns the neighbours of a device in a family.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn neighbours(
    netlink: &Netlink,
    index: u32,
    family: AddressFamily,
) -> Result<BTreeMap<IpAddr, Neighbour>, Error> {
    let entries = entries(netlink, index, family).await?.into_iter();
    Ok(entries
        .filter_map(
            |Entry {
                 ip, mac, permanent, ..
             }| Some((ip?, Neighbour { mac, permanent })),
        )
        .collect())
}

/// Returns the FDB of a device. (Entries without a destination are its own addresses.)
async fn fdb(netlink: &Netlink, index: u32) -> Result<BTreeMap<(Mac, IpAddr), FdbEntry>, Error> {
    let entries = entries(netlink, index, AddressFamily::Bridge)
        .await?
        .into_iter();
    Ok(entries
        .filter_map(
            |Entry {
                 ip,
                 mac,
                 permanent,
                 plain,
             }| Some(((mac?, ip?), FdbEntry { permanent, plain })),
        )
        .collect())
}

/// Returns the hosts to which a VXLAN device of this name sends packets by permanent FDB entries;
/// none if there is no such device.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(super) async fn destinations(
    netlink: &Netlink,
    name: &str,
) -> Result<BTreeSet<Ipv4Addr>, Error> {
    let message = link(netlink, link_named(name)).await?;
    let is_vxlan = |message: &LinkMessage| matches!(parse::kind(message), DeviceKind::Vxlan { .. });
    let Some(message) = message.filter(is_vxlan) else {
        return Ok(BTreeSet::new());
    };
    let fdb = fdb(netlink, message.header.index).await?.into_iter();
    let hosts = fdb.filter_map(|((_, destination), entry)| match destination {
        IpAddr::V4(ip) if entry.permanent && !ip.is_unspecified() => Some(ip),
        _ => None,
    });
    Ok(hosts.collect())
}

/// Returns all nexthop objects: an id that somebody else uses cannot be ours.
async fn nexthops(
    netlink: &Netlink,
    name: Option<&str>,
) -> Result<Option<BTreeMap<u32, Nexthop>>, Error> {
    let Some(name) = name.filter(|_| nexthop::are_usable()) else {
        return Ok(None);
    };
    let index = index_of(netlink, name).await?;
    let objects = netlink.dump_nexthops().await?.into_iter();
    let nexthops = objects.filter_map(|object| {
        let on_vtep = index.is_some() && object.index == index;
        Some((
            object.id?,
            Nexthop {
                via: object.via,
                on_vtep,
                protocol: object.protocol,
            },
        ))
    });
    Ok(Some(nexthops.collect()))
}

/// Returns the tables in which routes of ours may be: `table`, the predecessor's, and those of
/// rules with our mark.
fn tables(rules: &BTreeSet<Rule>, table: u32) -> BTreeSet<u32> {
    let marked = rules.iter().filter(|rule| rule.protocol == PROTOCOL);
    let former = marked.map(|rule| rule.table);
    former.chain([MAIN_TABLE, CONTAINER_TABLE, table]).collect()
}

/// Returns the rules that have our mark, or lead to `table` or the predecessor's.
///
/// # Errors
/// The kernel refuses or does not answer.
pub(crate) async fn rules(netlink: &Netlink, table: u32) -> Result<BTreeSet<Rule>, Error> {
    let matters =
        |rule: &Rule| rule.protocol == PROTOCOL || [table, CONTAINER_TABLE].contains(&rule.table);
    let mut rules = BTreeSet::new();
    for family in FAMILIES {
        let mut filter = RuleMessage::default();
        filter.header.family = family;
        let objects = match netlink.dump(RouteNetlinkMessage::GetRule(filter)).await {
            // The kernel has no rules of this family.
            Err(Error::Refused {
                errno: Errno::EAFNOSUPPORT,
                ..
            }) => continue,
            objects => objects?,
        };
        rules.extend(objects.iter().filter_map(|object| match object {
            RouteNetlinkMessage::NewRule(message) if message.header.family == family => {
                parse::rule(message).filter(matters)
            }
            _ => None,
        }));
    }
    Ok(rules)
}

/// Reads the networks of all devices but ours: VXLAN devices and overlays' bridges. `vtep` is
/// the name of the desired VTEP.
async fn networks(netlink: &Netlink, vtep: Option<&str>) -> Result<HostNetworks, Error> {
    let mut filter = AddressMessage::default();
    filter.header.family = AddressFamily::Unspec;
    let objects = netlink
        .dump(RouteNetlinkMessage::GetAddress(filter))
        .await?;
    let mut of_devices = BTreeMap::<u32, Vec<IpNet>>::new();
    for object in objects {
        let RouteNetlinkMessage::NewAddress(message) = object else {
            continue;
        };
        let net = parse::address(&message)
            .filter(|net| !net.addr().is_loopback() && !parse::is_link_local(net.addr()));
        let nets = of_devices.entry(message.header.index).or_default();
        nets.extend(net);
    }
    of_devices.retain(|_, nets| !nets.is_empty());
    let mut networks = HostNetworks::new();
    for (index, nets) in of_devices {
        let query = LinkUnspec::new_with_index(index).build();
        // A device that is gone has no networks any more.
        let Some(message) = link(netlink, query).await? else {
            continue;
        };
        if let Some(device) = name(&message).filter(|name| !is_ours(name, &message, vtep)) {
            let network = |net| HostNetwork {
                net,
                device: device.to_owned(),
            };
            networks.extend(nets.into_iter().map(network));
        }
    }
    Ok(networks)
}
