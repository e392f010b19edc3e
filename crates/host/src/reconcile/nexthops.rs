//! Nexthop objects, to which IPv4 routes refer where there are many peers.
//!
//! These objects exist for speed alone. When a route is added, the kernel looks for an equal next hop
//! among the existing ones, in a hash table whose key contains the device and not the
//! gateway: each new plain route over one device is compared with all before. A route that
//! refers to an object is found by the object's id. (IPv6 has no such table, so its routes
//! are plain.)
//!
//! A route works as well without an object. So existing routes stay as they are, and a route is
//! plain if somebody else uses the id. Up to [`NEXTHOP_THRESHOLD`] peers, all routes are plain,
//! since other tools handle those better.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::constants::PROTOCOL;
use super::observed::{Kernel, Nexthop};
use super::op::{NewRoute, Op, nexthop_id};
use super::types::Plan;
use super::wanted::PeerObjects;

/// Number of peers above which new routes refer to nexthop objects. Up to here the kernel's
/// search costs less than a tenth of a millisecond. (Low in unit tests.)
const NEXTHOP_THRESHOLD: usize = if cfg!(test) { 2 } else { 1000 };

/// Existing nexthop objects.
#[derive(Clone, Debug)]
pub(super) struct Nexthops {
    /// Objects of this module and of others, by id.
    objects: BTreeMap<u32, Nexthop>,
    /// True if objects are created for new routes.
    creates: bool,
}

impl Nexthops {
    /// Returns the objects of a kernel; `None`: the kernel has no such objects. With
    /// `is_new_device` our objects are gone with the old device.
    pub(super) fn new(
        kernel: &Kernel,
        is_new_device: bool,
        wanted: &PeerObjects,
    ) -> Option<Nexthops> {
        let mut objects = kernel.nexthops.clone()?;
        if is_new_device {
            objects.retain(|_, nexthop| !nexthop.on_vtep);
        }
        Some(Nexthops {
            objects,
            creates: is_many(wanted),
        })
    }

    /// Returns those nexthop objects of `ids` that routes in `peers` use. `all` are the objects
    /// of all peers.
    pub(super) fn of_peers(
        peers: &PeerObjects,
        ids: Option<&BTreeSet<u32>>,
        all: &PeerObjects,
    ) -> Option<Nexthops> {
        let ids = ids?;
        let existing = peers
            .neighbours
            .keys()
            .filter_map(|via| id(*via))
            .filter(|id| ids.contains(id));
        Some(Nexthops {
            objects: existing.map(|id| (id, ours(id))).collect(),
            creates: is_many(all),
        })
    }

    /// Returns the id of our object for a gateway, if it exists with the right properties.
    pub(super) fn existing(&self, via: IpAddr) -> Option<u32> {
        id(via).filter(|id| self.objects.get(id) == Some(&ours(*id)))
    }

    /// Returns the id of the object for a new route through a gateway, if it exists or can be
    /// created.
    pub(super) fn for_gateway(&self, via: IpAddr) -> Option<u32> {
        let can_be_created = |id: &u32| self.creates && !self.objects.contains_key(id);
        self.existing(via).or(id(via).filter(can_be_created))
    }

    /// Plans the objects that have to exist before these routes.
    pub(super) fn missing(&self, routes: &[NewRoute], name: &Arc<str>) -> Vec<Op> {
        let ids: BTreeSet<u32> = routes.iter().filter_map(|route| route.nexthop).collect();
        let missing = ids.into_iter().filter(|id| !self.objects.contains_key(id));
        missing
            .map(|id| Op::AddNexthop(name.clone(), id.into()))
            .collect()
    }

    /// Plans the removal of our objects that have no peer, or wrong properties. Objects in
    /// `used` stay, since routes refer to them.
    pub(super) fn stale(
        &self,
        wanted: &PeerObjects,
        used: &BTreeSet<u32>,
        name: &Arc<str>,
    ) -> Vec<Op> {
        let created = self
            .objects
            .iter()
            .filter(|(_, nexthop)| nexthop.protocol == PROTOCOL);
        let stays = |(id, nexthop): &(&u32, &Nexthop)| {
            used.contains(id) || is_right(**id, nexthop) && is_wanted(wanted, **id)
        };
        let stale = created.filter(|nexthop| !stays(nexthop));
        stale
            .map(|(id, _)| Op::RemoveNexthop(name.clone(), *id))
            .collect()
    }
}

fn is_many(wanted: &PeerObjects) -> bool {
    wanted.fdb.len() > NEXTHOP_THRESHOLD
}

/// Returns the id of our object for a gateway; `None`: routes through it are plain.
fn id(via: IpAddr) -> Option<u32> {
    match via {
        IpAddr::V4(via) => Some(nexthop_id(via)),
        IpAddr::V6(_) => None,
    }
}

/// Returns our object with this id and the right properties.
fn ours(id: u32) -> Nexthop {
    Nexthop {
        via: Some(IpAddr::V4(id.into())),
        on_vtep: true,
        protocol: PROTOCOL,
    }
}

/// Returns whether an object is ours and has the right properties.
pub(super) fn is_right(id: u32, nexthop: &Nexthop) -> bool {
    *nexthop == ours(id)
}

/// Returns whether routes to a peer may refer to an object.
pub(super) fn is_wanted(wanted: &PeerObjects, id: u32) -> bool {
    wanted.neighbours.contains_key(&IpAddr::V4(id.into()))
}

/// Returns the ids of our objects once a plan for this kernel was applied; `None`: the
/// kernel has no such objects.
pub(crate) fn after(kernel: &Kernel, plan: &Plan) -> Option<BTreeSet<u32>> {
    let existing = kernel
        .nexthops
        .as_ref()?
        .iter()
        .filter(|(id, nexthop)| is_right(**id, nexthop));
    let mut ids = match plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_))) {
        true => BTreeSet::new(),
        false => existing.map(|(id, _)| *id).collect(),
    };
    apply(&mut ids, &plan.ops);
    Some(ids)
}

/// Adds and removes the ids of the objects that these operations create and remove.
pub(super) fn apply(ids: &mut BTreeSet<u32>, ops: &[Op]) {
    for op in ops {
        match op {
            Op::AddNexthop(_, via) => _ = ids.insert(nexthop_id(*via)),
            Op::RemoveNexthop(_, id) => _ = ids.remove(id),
            _ => {}
        }
    }
}
