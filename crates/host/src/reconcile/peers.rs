//! What it takes to reach the peers: neighbours, FDB entries, routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{CONTAINER_TABLE, Desired, Mac, Peer, VXLAN_PORT, Vtep};
use overlay_core::host_api::peer_map::PeerMap;
use overlay_core::host_api::peer_map::{Differences, Entry};

use super::nexthops;
use super::nexthops::Nexthops;
use super::observed::{Device, DeviceKind, FdbEntry, Neighbour, Route};
use super::{MAIN_TABLE, NewRoute, OldRoute, Op, PROTOCOL, PROTOCOL_BOOT, Plan};

/// The metric that the kernel gives an IPv6 route that is made without one.
const DEFAULT_METRIC6: u32 = 1024;

/// What there should be on the device for the peers. Maps, so that two peers that
/// claim the same (which the master prevents) do not take turns.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) neighbours: BTreeMap<IpAddr, Mac>,
    pub(super) fdb: BTreeMap<Mac, Ipv4Addr>,
    /// Gateways by table and destination.
    pub(super) routes: BTreeMap<(u32, IpNet), IpAddr>,
    /// Whether this is all there should be, so that the rest is removed.
    pub(super) complete: bool,
    /// Ranges of overlays that are gone but for their containers: routes into them
    /// stay.
    pub(super) in_use: Vec<IpNet>,
    /// The nexthop objects of ours that there are, for [`change`]; `None`: the kernel
    /// has no such thing.
    pub(super) nexthops: Option<BTreeSet<u32>>,
    /// Whether something of it is claimed by more than one peer. When one of these goes,
    /// the other's claim counts, which [`change`] does not know.
    pub(super) contested: bool,
}

impl Wanted {
    /// As long as the peers are not known: what the kernel has of them.
    pub(super) fn new(
        desired: &Desired,
        vtep: &Vtep,
        device: Option<&Device>,
        plan: &mut Plan,
    ) -> Wanted {
        let in_use = plan
            .draining
            .iter()
            .flat_map(|overlay| overlay.ranges.clone())
            .collect();
        let mut wanted = Wanted {
            in_use,
            ..Wanted::default()
        };
        match (&desired.peers, device) {
            (None, None) => {}
            (None, Some(device)) => wanted.keep(device, vtep),
            (Some(peers), _) => {
                wanted.complete = true;
                for (ip, peer) in peers.iter().filter(|(_, peer)| !is_self(peer, vtep)) {
                    wanted.add(*ip, peer, vtep, plan);
                }
            }
        }
        wanted
    }

    /// Wants what is there of peers, as far as it can be put back if it gets lost.
    fn keep(&mut self, device: &Device, vtep: &Vtep) {
        for (ip, neighbour) in device
            .neighbours
            .iter()
            .filter(|(_, neighbour)| neighbour.permanent)
        {
            self.neighbours.extend(neighbour.mac.map(|mac| (*ip, mac)));
        }
        for ((mac, dst), _) in device.fdb.iter().filter(|(_, entry)| entry.permanent) {
            if let IpAddr::V4(dst) = dst {
                self.fdb.insert(*mac, *dst);
            }
        }
        let reachable = |via: &IpAddr| vtep.addresses.iter().any(|address| address.contains(via));
        // One with another metric is none that we made: put back as ours are it would take
        // the place of the right one.
        let like_ours = |route: &&Route| is_ours(route) && route.plain && has_default_metric(route);
        for route in device.routes.iter().filter(like_ours) {
            let via = route.via.filter(reachable);
            self.routes
                .extend(via.map(|via| ((route.table, route.dst), via)));
        }
    }

    /// Wants everything that one peer takes, in the families that both sides have.
    fn add(&mut self, ip: Ipv4Addr, peer: &Peer, vtep: &Vtep, plan: &mut Plan) {
        let ours = |family: &IpAddr| {
            vtep.addresses
                .iter()
                .any(|a| a.addr().is_ipv4() == family.is_ipv4())
        };
        for vtep_ip in peer.vtep_ips.iter().filter(|ip| ours(ip)) {
            self.contested |= self.neighbours.insert(*vtep_ip, peer.vtep_mac).is_some();
            if vtep_ip.is_ipv4() {
                self.routes
                    .insert((CONTAINER_TABLE, IpAddr::V4(ip).into()), *vtep_ip);
            }
        }
        self.contested |= self.fdb.insert(peer.vtep_mac, ip).is_some();
        for subnet in peer.subnets.iter().filter(|subnet| ours(&subnet.addr())) {
            let is_v4 = subnet.addr().is_ipv4();
            match peer.vtep_ips.iter().find(|vtep_ip| vtep_ip.is_ipv4() == is_v4) {
                Some(via) => {
                    self.contested |= self.routes.insert((MAIN_TABLE, subnet.trunc()), *via).is_some();
                }
                None => plan.problems.push(format!(
                    "cannot add route {subnet}: peer {ip} has this subnet, but no VTEP address of its family"
                )),
            }
        }
    }
}

/// Whether this is the host itself; a master may count it among the peers.
fn is_self(peer: &Peer, vtep: &Vtep) -> bool {
    peer.vtep_mac == vtep.mac
        || peer
            .vtep_ips
            .iter()
            .any(|ip| vtep.addresses.iter().any(|address| address.addr() == *ip))
}

/// Whether a route over our device is for us to remove: made by us, or as
/// `dcos-net` makes them. Other routes there are an operator's.
pub(super) fn is_ours(route: &Route) -> bool {
    route.protocol == PROTOCOL || (route.protocol == PROTOCOL_BOOT && route.via.is_some())
}

/// Plans everything about peers. Nothing is removed before what replaces it is
/// there, where the kernel permits.
pub(super) fn plan(
    wanted: &Wanted,
    name: &Arc<str>,
    device: &Device,
    nexthops: Option<&Nexthops>,
    plan: &mut Plan,
) {
    neighbours(wanted, name, device, plan);
    fdb(wanted, name, device, plan);
    routes(wanted, name, device, nexthops, plan);
}

fn neighbours(wanted: &Wanted, name: &Arc<str>, device: &Device, plan: &mut Plan) {
    for (ip, mac) in &wanted.neighbours {
        let right = Neighbour {
            mac: Some(*mac),
            permanent: true,
        };
        if device.neighbours.get(ip) != Some(&right) {
            plan.ops.push(Op::SetNeighbour(name.clone(), *ip, *mac));
        }
    }
    for (ip, neighbour) in &device.neighbours {
        if wanted.complete && neighbour.permanent && !wanted.neighbours.contains_key(ip) {
            plan.ops.push(Op::RemoveNeighbour(name.clone(), *ip));
        }
    }
}

fn fdb(wanted: &Wanted, name: &Arc<str>, device: &Device, plan: &mut Plan) {
    for ((mac, dst), entry) in &device.fdb {
        // The kernel has one destination for the address of one device, so that
        // a wrong one is replaced. (It has several only for flooding.) What was
        // learned before we said not to, it forgets by itself.
        if wanted.complete && entry.permanent && !wanted.fdb.contains_key(mac) {
            plan.ops.push(Op::RemoveFdb(name.clone(), *mac, *dst));
        }
    }
    let right = FdbEntry {
        permanent: true,
        plain: true,
    };
    for (mac, dst) in &wanted.fdb {
        if device.fdb.get(&(*mac, IpAddr::V4(*dst))) != Some(&right) {
            plan.ops.push(Op::SetFdb(name.clone(), *mac, *dst));
        }
    }
}

fn routes(
    wanted: &Wanted,
    name: &Arc<str>,
    device: &Device,
    nexthops: Option<&Nexthops>,
    plan: &mut Plan,
) {
    let mut found = BTreeMap::<(u32, IpNet), Vec<&Route>>::new();
    for route in &device.routes {
        found
            .entry((route.table, route.dst))
            .or_default()
            .push(route);
    }
    let (mut stale, mut replaced): (BTreeSet<&Route>, BTreeSet<&Route>) = Default::default();
    let mut missing = Vec::new();
    for ((table, dst), via) in &wanted.routes {
        let there = found.remove(&(*table, *dst)).unwrap_or_default();
        let (right, wrong): (Vec<&Route>, Vec<&Route>) = there
            .into_iter()
            .partition(|route| route.plain && route.via == Some(*via) && has_default_metric(route));
        if right.is_empty() {
            let nexthop = nexthops.and_then(|nexthops| nexthops.for_gateway(*via));
            missing.push(NewRoute {
                table: *table,
                dst: *dst,
                via: *via,
                nexthop,
            });
        }
        // A single one that differs in its gateway only is replaced in one step.
        let in_one_step =
            right.is_empty() && wrong.len() == 1 && wrong[0].plain && has_default_metric(wrong[0]);
        if in_one_step {
            replaced.extend(wrong);
        } else {
            stale.extend(wrong.into_iter().filter(|route| is_ours(route)));
        }
    }
    let is_used = |route: &Route| wanted.in_use.iter().any(|range| range.contains(&route.dst));
    let rest = found
        .into_values()
        .flatten()
        .filter(|route| !is_used(route));
    stale.extend(rest.filter(|route| is_ours(route)));
    if !wanted.complete {
        stale.clear();
    }
    plan.ops.extend(
        nexthops
            .iter()
            .flat_map(|nexthops| nexthops.missing(&missing, name)),
    );
    plan.ops.extend(stale.iter().map(|route| {
        let Route {
            table,
            dst,
            via,
            metric,
            protocol,
            nexthop,
            ..
        } = **route;
        Op::RemoveRoute(
            name.clone(),
            OldRoute {
                table,
                dst,
                via,
                metric,
                protocol,
                nexthop,
            },
        )
    }));
    plan.ops.extend(
        missing
            .iter()
            .map(|route| Op::SetRoute(name.clone(), *route)),
    );
    if let Some(nexthops) = nexthops.filter(|_| wanted.complete) {
        let staying = device
            .routes
            .iter()
            .filter(|route| !stale.contains(route) && !replaced.contains(route));
        plan.ops.extend(nexthops.stale(wanted, staying, name));
    }
}

/// Whether a route has the metric that ours get.
pub(super) fn has_default_metric(route: &Route) -> bool {
    route.metric
        == if route.dst.addr().is_ipv4() {
            0
        } else {
            DEFAULT_METRIC6
        }
}

/// The most peers that are changed without reading what there is.
const FEW: usize = 100;

/// The operations for those peers alone that differ, and `wanted` brought up to
/// date. `None`: there are none, many, or such that do not go together.
pub(super) fn change(
    from: &PeerMap,
    to: &PeerMap,
    vtep: &Vtep,
    wanted: &mut Wanted,
) -> Option<Vec<Op>> {
    let (mut old, mut new, mut plan) = (Wanted::default(), Wanted::default(), Plan::default());
    let Differences { gone, come } = from.differences(to, FEW);
    let others = |(_, peer): &Entry<'_>| !is_self(peer, vtep);
    let gone: Vec<_> = gone.into_iter().filter(others).collect();
    let come: Vec<_> = come.into_iter().filter(others).collect();
    if gone.len().max(come.len()) > FEW || gone.len() + come.len() == 0 {
        return None;
    }
    gone.into_iter()
        .for_each(|(ip, peer)| old.add(*ip, peer, vtep, &mut plan));
    come.into_iter()
        .for_each(|(ip, peer)| new.add(*ip, peer, vtep, &mut plan));
    let name: Arc<str> = vtep.name.as_str().into();
    // From a device that has the old ones to one that has the new ones.
    let device = old.as_device(vtep, wanted.nexthops.as_ref());
    new.complete = true;
    let nexthops = Nexthops::of(&old, wanted);
    self::plan(&new, &name, &device, nexthops.as_ref(), &mut plan);
    // Something that two peers claim, of whom one is not among these, or that
    // cannot be had at all.
    let (removed, added) = (&old, &new);
    let is_known = removed
        .neighbours
        .iter()
        .all(|(ip, mac)| wanted.neighbours.get(ip) == Some(mac))
        && removed
            .fdb
            .iter()
            .all(|(mac, dst)| wanted.fdb.get(mac) == Some(dst))
        && removed
            .routes
            .iter()
            .all(|(key, via)| wanted.routes.get(key) == Some(via));
    let is_new = added
        .neighbours
        .keys()
        .all(|ip| old.neighbours.contains_key(ip) || !wanted.neighbours.contains_key(ip))
        && added
            .fdb
            .keys()
            .all(|mac| old.fdb.contains_key(mac) || !wanted.fdb.contains_key(mac))
        && added
            .routes
            .keys()
            .all(|key| old.routes.contains_key(key) || !wanted.routes.contains_key(key));
    let is_contested = wanted.contested || old.contested || new.contested;
    if !plan.problems.is_empty() || !is_known || !is_new || is_contested || !wanted.complete {
        return None;
    }
    wanted
        .nexthops
        .iter_mut()
        .for_each(|ids| nexthops::apply(ids, &plan.ops));
    wanted.neighbours.retain_not(&old.neighbours);
    wanted.fdb.retain_not(&old.fdb);
    wanted.routes.retain_not(&old.routes);
    wanted.neighbours.extend(new.neighbours);
    wanted.fdb.extend(new.fdb);
    wanted.routes.extend(new.routes);
    Some(plan.ops)
}

/// Taking out what another map has.
trait RetainNot {
    fn retain_not(&mut self, other: &Self);
}

impl<K: Ord, V> RetainNot for BTreeMap<K, V> {
    fn retain_not(&mut self, other: &Self) {
        for key in other.keys() {
            self.remove(key);
        }
    }
}

impl Wanted {
    /// A device on which there is just this.
    fn as_device(&self, vtep: &Vtep, nexthops: Option<&BTreeSet<u32>>) -> Device {
        let route = |(&(table, dst), &via): (&(u32, IpNet), &IpAddr)| {
            let metric = if dst.addr().is_ipv4() {
                0
            } else {
                DEFAULT_METRIC6
            };
            let nexthop =
                nexthops::id(via).filter(|id| nexthops.is_some_and(|ids| ids.contains(id)));
            Route {
                table,
                dst,
                via: Some(via),
                metric,
                protocol: PROTOCOL,
                plain: true,
                nexthop,
            }
        };
        let neighbour = |mac: &Mac| Neighbour {
            mac: Some(*mac),
            permanent: true,
        };
        Device {
            kind: DeviceKind::Vxlan {
                vni: Some(vtep.vni),
                port: VXLAN_PORT,
                learning: false,
            },
            mac: vtep.mac,
            mtu: 0,
            up: true,
            addresses: BTreeSet::new(),
            neighbours: self
                .neighbours
                .iter()
                .map(|(ip, mac)| (*ip, neighbour(mac)))
                .collect(),
            fdb: self
                .fdb
                .iter()
                .map(|(mac, dst)| {
                    (
                        (*mac, IpAddr::V4(*dst)),
                        FdbEntry {
                            permanent: true,
                            plain: true,
                        },
                    )
                })
                .collect(),
            routes: self.routes.iter().map(route).collect(),
        }
    }
}
