//! Plans neighbours, FDB entries and routes of the peers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use overlay_core::host_api::desired::{Peer, PeerMap, Vtep};

use super::constants::{PROTOCOL, default_metric};
use super::nexthops;
use super::nexthops::Nexthops;
use super::observed::{Device, Route};
use super::op::{NewRoute, OldRoute, Op, RouteKey};
use super::types::Plan;
use super::wanted::{
    PERMANENT_ENTRY, PeerObjects, PeerProblems, Wanted, is_self, permanent_neighbour,
};

/// Plans the difference between the wanted objects and those of a device. Where the kernel
/// permits it, nothing is removed before its replacement exists.
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
    let objects = &wanted.objects;
    for (ip, mac) in &objects.neighbours {
        if device.neighbours.get(ip) != Some(&permanent_neighbour(*mac)) {
            plan.ops.push(Op::SetNeighbour(name.clone(), *ip, *mac));
        }
    }
    for (ip, neighbour) in &device.neighbours {
        let is_stale = wanted.peers_known || !wanted.limits.permit_neighbour(*ip);
        if is_stale && neighbour.permanent && !objects.neighbours.contains_key(ip) {
            plan.ops.push(Op::RemoveNeighbour(name.clone(), *ip));
        }
    }
}

fn fdb(wanted: &Wanted, name: &Arc<str>, device: &Device, plan: &mut Plan) {
    let objects = &wanted.objects;
    for ((mac, dst), entry) in &device.fdb {
        // A wrong destination of a wanted address is replaced: the kernel has only one for
        // each address, except for flooding. Learned entries expire by themselves.
        let is_stale = wanted.peers_known || !wanted.limits.permit_destination(*dst);
        if is_stale && entry.permanent && !objects.fdb.contains_key(mac) {
            plan.ops.push(Op::RemoveFdb(name.clone(), *mac, *dst));
        }
    }
    for (mac, dst) in &objects.fdb {
        if device.fdb.get(&(*mac, IpAddr::V4(*dst))) != Some(&PERMANENT_ENTRY) {
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
    let differences = RouteDifferences::new(wanted, device, nexthops);
    let RouteDifferences {
        missing,
        stale,
        replaced,
    } = differences;
    let new_nexthops = nexthops.iter().flat_map(|all| all.missing(&missing, name));
    plan.ops.extend(new_nexthops);
    let stale_ops = stale.iter().map(|route| {
        let old = OldRoute {
            table: route.table,
            dst: route.dst,
            via: route.via,
            metric: route.metric,
            protocol: route.protocol,
            nexthop: route.nexthop,
        };
        Op::RemoveRoute(name.clone(), old)
    });
    plan.ops.extend(stale_ops);
    plan.ops.extend(
        missing
            .iter()
            .map(|route| Op::SetRoute(name.clone(), *route)),
    );
    if let Some(nexthops) = nexthops.filter(|_| wanted.peers_known) {
        let staying = device
            .routes
            .iter()
            .filter(|route| !stale.contains(route) && !replaced.contains(route));
        let used = staying.filter_map(|route| route.nexthop).collect();
        plan.ops
            .extend(nexthops.stale(&wanted.objects, &used, name));
    }
}

/// Difference between the wanted routes and those of a device.
struct RouteDifferences<'a> {
    /// Routes to be set.
    missing: Vec<NewRoute>,
    /// Routes to be removed.
    stale: BTreeSet<&'a Route>,
    /// Routes that setting a missing one replaces.
    replaced: BTreeSet<&'a Route>,
}

impl<'a> RouteDifferences<'a> {
    fn new(wanted: &Wanted, device: &'a Device, nexthops: Option<&Nexthops>) -> Self {
        let mut found = BTreeMap::<RouteKey, Vec<&Route>>::new();
        for route in &device.routes {
            found.entry(route.key()).or_default().push(route);
        }
        let mut differences = RouteDifferences {
            missing: Vec::new(),
            stale: BTreeSet::new(),
            replaced: BTreeSet::new(),
        };
        for (key, via) in &wanted.objects.routes {
            let routes = found.remove(key).unwrap_or_default();
            differences.add(wanted, *key, *via, routes, nexthops);
        }
        let is_in_use = |route: &Route| {
            wanted
                .draining_ranges
                .iter()
                .any(|net| net.contains(&route.dst))
        };
        let rest = found.into_values().flatten();
        let unwanted = rest.filter(|route| wanted.limits.is_ours(route) && !is_in_use(route));
        differences.stale.extend(unwanted);
        if !wanted.peers_known {
            // What no list of peers can contain was never right.
            let is_possible = |route: &Route| wanted.limits.permit_route(route.key());
            differences.stale.retain(|route| !is_possible(route));
        }
        differences
    }

    /// Adds a wanted route, with the routes of the device to the same destination.
    fn add(
        &mut self,
        wanted: &Wanted,
        key: RouteKey,
        via: IpAddr,
        routes: Vec<&'a Route>,
        nexthops: Option<&Nexthops>,
    ) {
        let is_ours = |route: &Route| wanted.limits.is_ours(route);
        let (right, wrong): (Vec<&Route>, Vec<&Route>) = routes
            .into_iter()
            .partition(|route| route.plain && route.via == Some(via) && route.has_default_metric());
        // The kernel replaces a single route that differs only in its gateway in one step.
        let is_replaced = match &wrong[..] {
            [one] => right.is_empty() && is_ours(one) && one.plain && one.has_default_metric(),
            _ => false,
        };
        if right.is_empty() {
            self.missing.push(NewRoute {
                table: key.table,
                dst: key.dst,
                via,
                nexthop: nexthops.and_then(|nexthops| nexthops.for_gateway(via)),
                replaces: is_replaced || wanted.may_exist(key),
            });
        }
        if is_replaced {
            self.replaced.extend(wrong);
        } else {
            self.stale
                .extend(wrong.into_iter().filter(|route| is_ours(route)));
        }
    }
}

/// Upper bound of peers that are changed without a full reconciliation.
const MAX_CHANGES: usize = 100;

/// Peers that differ between two lists, by address.
#[derive(Debug, Default)]
struct ChangedPeers<'a> {
    /// Peers of the old list that are missing or different in the new one.
    removed: Vec<(Ipv4Addr, &'a Peer)>,
    /// Peers of the new list that are missing or different in the old one.
    added: Vec<(Ipv4Addr, &'a Peer)>,
}

impl<'a> ChangedPeers<'a> {
    /// Walks through both lists once. Most peers of two lists are the same values in memory,
    /// so that only their addresses are compared. `None`: there are more than
    /// [`MAX_CHANGES`].
    fn between(from: &'a PeerMap, to: &'a PeerMap) -> Option<ChangedPeers<'a>> {
        let mut changed = ChangedPeers::default();
        let (mut old, mut new) = (from.iter(), to.iter());
        let (mut before, mut after) = (old.next(), new.next());
        loop {
            let order = match (before, after) {
                (None, None) => return Some(changed),
                (Some((ip, _)), Some((other, _))) => ip.cmp(other),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let (removed, added) = (
                before.filter(|_| order.is_le()),
                after.filter(|_| order.is_ge()),
            );
            let is_same = match (removed, added) {
                (Some((_, one)), Some((_, other))) => Arc::ptr_eq(one, other) || one == other,
                _ => false,
            };
            if !is_same {
                let entry = |(ip, peer): (&Ipv4Addr, &'a Arc<Peer>)| (*ip, &**peer);
                changed.removed.extend(removed.map(entry));
                changed.added.extend(added.map(entry));
                if changed.removed.len().max(changed.added.len()) > MAX_CHANGES {
                    return None;
                }
            }
            if order.is_le() {
                before = old.next();
            }
            if order.is_ge() {
                after = new.next();
            }
        }
    }
}

/// Plans the change of a few peers, and updates the objects in `wanted` and the ids of our nexthop
/// objects accordingly. The objects are those of all peers of `from`, which the device has. The
/// result is the difference between the objects of the changed peers before and after.
///
/// Returns `None` if a full reconciliation has to decide, because:
///
/// * there are more than [`MAX_CHANGES`] changes, or none;
/// * two peers claim one object: a delta could remove or replace the object of a peer that did
///   not change;
/// * a change has a problem that has to be reported.
pub(super) fn change(
    from: &PeerMap,
    to: &PeerMap,
    vtep: &Vtep,
    wanted: &mut Wanted,
    nexthops: &mut Option<BTreeSet<u32>>,
) -> Option<Vec<Op>> {
    let changed = ChangedPeers::between(from, to)?;
    let Wanted {
        objects, limits, ..
    } = wanted;
    let mut problems = PeerProblems::default();
    let mut objects_of = |peers: &[(Ipv4Addr, &Peer)]| {
        let mut objects = PeerObjects::default();
        for (ip, peer) in peers.iter().filter(|(_, peer)| !is_self(peer, vtep)) {
            objects.add(*ip, peer, vtep, limits, &mut problems);
        }
        objects
    };
    let (old, new) = (objects_of(&changed.removed), objects_of(&changed.added));
    let is_empty = old.fdb.is_empty() && new.fdb.is_empty();
    // A route that is as good as ours is not ours.
    let mut keys = old.routes.keys();
    let is_foreign = keys.any(|key| limits.foreign.contains(*key));
    if is_empty || is_foreign || !problems.is_empty() || has_conflict(objects, &old, &new) {
        return None;
    }
    let name: Arc<str> = vtep.name.as_str().into();
    let ids = nexthops.as_ref();
    let ops = difference(&old, &new, &name, Nexthops::of_peers(&old, ids, objects));
    if let Some(ids) = nexthops {
        nexthops::apply(ids, &ops);
    }
    objects.replace(&old, new);
    Some(ops)
}

/// Returns whether another peer claims one of the objects of the changed peers.
fn has_conflict(all: &PeerObjects, old: &PeerObjects, new: &PeerObjects) -> bool {
    fn conflicts<K: Ord, V: PartialEq>(
        all: &BTreeMap<K, V>,
        old: &BTreeMap<K, V>,
        new: &BTreeMap<K, V>,
    ) -> bool {
        old.iter().any(|(key, value)| all.get(key) != Some(value))
            || new
                .keys()
                .any(|key| all.contains_key(key) && !old.contains_key(key))
    }
    all.contested
        || old.contested
        || new.contested
        || conflicts(&all.neighbours, &old.neighbours, &new.neighbours)
        || conflicts(&all.fdb, &old.fdb, &new.fdb)
        || conflicts(&all.routes, &old.routes, &new.routes)
}

impl PeerObjects {
    /// Replaces the objects `old` by `new`.
    fn replace(&mut self, old: &PeerObjects, new: PeerObjects) {
        fn replace<K: Ord, V>(all: &mut BTreeMap<K, V>, old: &BTreeMap<K, V>, new: BTreeMap<K, V>) {
            for key in old.keys() {
                all.remove(key);
            }
            all.extend(new);
        }
        replace(&mut self.neighbours, &old.neighbours, new.neighbours);
        replace(&mut self.fdb, &old.fdb, new.fdb);
        replace(&mut self.routes, &old.routes, new.routes);
    }
}

/// Returns the operations that turn the objects `old`, which the device has, into `new`, in
/// the order of [`plan`].
fn difference(
    old: &PeerObjects,
    new: &PeerObjects,
    name: &Arc<str>,
    nexthops: Option<Nexthops>,
) -> Vec<Op> {
    let mut ops = Vec::new();
    for (ip, mac) in added(&old.neighbours, &new.neighbours) {
        ops.push(Op::SetNeighbour(name.clone(), *ip, *mac));
    }
    for (ip, _) in removed(&old.neighbours, &new.neighbours) {
        ops.push(Op::RemoveNeighbour(name.clone(), *ip));
    }
    for (mac, dst) in removed(&old.fdb, &new.fdb) {
        ops.push(Op::RemoveFdb(name.clone(), *mac, (*dst).into()));
    }
    for (mac, dst) in added(&old.fdb, &new.fdb) {
        ops.push(Op::SetFdb(name.clone(), *mac, *dst));
    }
    ops.extend(route_difference(old, new, name, nexthops.as_ref()));
    ops
}

/// Returns the operations for the routes of [`difference`], and for their nexthop objects.
fn route_difference(
    old: &PeerObjects,
    new: &PeerObjects,
    name: &Arc<str>,
    nexthops: Option<&Nexthops>,
) -> Vec<Op> {
    let missing: Vec<NewRoute> = added(&old.routes, &new.routes)
        .map(|(key, via)| NewRoute {
            table: key.table,
            dst: key.dst,
            via: *via,
            nexthop: nexthops.and_then(|nexthops| nexthops.for_gateway(*via)),
            replaces: old.routes.contains_key(key),
        })
        .collect();
    let mut ops: Vec<Op> = nexthops
        .iter()
        .flat_map(|all| all.missing(&missing, name))
        .collect();
    let existing = |via: &IpAddr| nexthops.and_then(|nexthops| nexthops.existing(*via));
    for (key, via) in removed(&old.routes, &new.routes) {
        let route = our_route(*key, *via, existing(via));
        ops.push(Op::RemoveRoute(name.clone(), route));
    }
    let set = |route: &NewRoute| Op::SetRoute(name.clone(), *route);
    ops.extend(missing.iter().map(set));
    if let Some(nexthops) = nexthops {
        let mut staying = old.routes.clone();
        staying.retain(|key, via| new.routes.get(key) == Some(via));
        let used = staying.values().filter_map(existing).collect();
        ops.extend(nexthops.stale(new, &used, name));
    }
    ops
}

/// Returns an existing route that this module created.
fn our_route(key: RouteKey, via: IpAddr, nexthop: Option<u32>) -> OldRoute {
    OldRoute {
        table: key.table,
        dst: key.dst,
        via: Some(via),
        metric: default_metric(key.dst),
        protocol: PROTOCOL,
        nexthop,
    }
}

/// Returns the entries of `new` that are missing or different in `old`.
fn added<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    new.iter()
        .filter(|(key, value)| old.get(key) != Some(*value))
}

/// Returns the entries of `old` whose keys are missing in `new`.
fn removed<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    old.iter().filter(|(key, _)| !new.contains_key(key))
}
