//! Nexthop objects, which IPv4 routes go by where there are many peers.
//!
//! They are there for speed alone. The kernel looks for a next hop like the one of a
//! new route among those that it has, in a hash table whose key knows the device and
//! not the gateway: of plain routes over one device each new one is compared with all
//! before. A route that goes by an object is found by the object's id. (IPv6 has no
//! such table, so its routes are plain.)
//!
//! So a route is as good without one: those that are there stay as they are, and
//! where an id is somebody else's the route is a plain one. Up to [`MANY`] peers all
//! are, since tools handle those better.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::observed::{Kernel, Nexthop, Route};
use super::peers::Wanted;
use super::{NewRoute, Op, PROTOCOL, Plan, nexthop_id};

/// With more peers than this, new routes go by nexthop objects. Up to here the
/// kernel's search costs less than a tenth of a millisecond. (Few in unit tests.)
const MANY: usize = if cfg!(test) { 2 } else { 1000 };

/// What there is of them, and whether there are to be more.
#[derive(Clone, Debug)]
pub(super) struct Nexthops {
    /// Everybody's, by id.
    there: BTreeMap<u32, Nexthop>,
    more: bool,
}

impl Nexthops {
    /// `None`: the kernel has no such thing. `is_new`: those of ours went with a
    /// device.
    pub(super) fn new(kernel: &Kernel, is_new: bool, wanted: &Wanted) -> Option<Nexthops> {
        let mut there = kernel.nexthops.clone()?;
        if is_new {
            there.retain(|_, nexthop| !nexthop.here);
        }
        Some(Nexthops {
            there,
            more: is_many(wanted),
        })
    }

    /// Of a device on which there is just what `old` has; of all peers there is
    /// `wanted`.
    pub(super) fn of(old: &Wanted, wanted: &Wanted) -> Option<Nexthops> {
        let there = wanted.nexthops.as_ref()?;
        let ids = old
            .neighbours
            .keys()
            .filter_map(|via| id(*via))
            .filter(|id| there.contains(id));
        Some(Nexthops {
            there: ids.map(|id| (id, right(id))).collect(),
            more: is_many(wanted),
        })
    }

    /// The object that a new route goes by: one that is right, or that can be made.
    pub(super) fn for_gateway(&self, via: IpAddr) -> Option<u32> {
        id(via).filter(|id| {
            self.there
                .get(id)
                .map_or(self.more, |there| *there == right(*id))
        })
    }

    /// What has to be made before the routes are.
    pub(super) fn missing(&self, routes: &[NewRoute], name: &Arc<str>) -> Vec<Op> {
        let ids: BTreeSet<u32> = routes.iter().filter_map(|route| route.nexthop).collect();
        let missing = ids.into_iter().filter(|id| !self.there.contains_key(id));
        missing
            .map(|id| Op::AddNexthop(name.clone(), id.into()))
            .collect()
    }

    /// Those of ours that lead to nobody, or to somebody else than they should, and
    /// that none of the routes that stay goes by.
    pub(super) fn stale<'a>(
        &self,
        wanted: &Wanted,
        staying: impl Iterator<Item = &'a Route>,
        name: &Arc<str>,
    ) -> Vec<Op> {
        let used: BTreeSet<u32> = staying.filter_map(|route| route.nexthop).collect();
        let ours = self
            .there
            .iter()
            .filter(|(_, nexthop)| nexthop.protocol == PROTOCOL);
        let stays = |(id, nexthop): &(&u32, &Nexthop)| {
            used.contains(id) || is_right(**id, nexthop) && is_wanted(wanted, **id)
        };
        let stale = ours.filter(|nexthop| !stays(nexthop));
        stale
            .map(|(id, _)| Op::RemoveNexthop(name.clone(), *id))
            .collect()
    }
}

fn is_many(wanted: &Wanted) -> bool {
    wanted.fdb.len() > MANY
}

/// The id of our nexthop object for a gateway.
pub(super) fn id(via: IpAddr) -> Option<u32> {
    match via {
        IpAddr::V4(via) => Some(nexthop_id(via)),
        IpAddr::V6(_) => None,
    }
}

/// The object as it should be.
fn right(id: u32) -> Nexthop {
    Nexthop {
        via: Some(IpAddr::V4(id.into())),
        here: true,
        protocol: PROTOCOL,
    }
}

/// Whether an object is one of ours as it should be.
pub(super) fn is_right(id: u32, nexthop: &Nexthop) -> bool {
    *nexthop == right(id)
}

/// Whether routes to a peer may go by this object.
pub(super) fn is_wanted(wanted: &Wanted, id: u32) -> bool {
    wanted.neighbours.contains_key(&IpAddr::V4(id.into()))
}

/// The ids of those of ours that there are once a plan for this kernel was carried
/// out; `None`: it has no such thing.
pub(crate) fn after(kernel: &Kernel, plan: &Plan) -> Option<BTreeSet<u32>> {
    let there = kernel
        .nexthops
        .as_ref()?
        .iter()
        .filter(|(id, nexthop)| is_right(**id, nexthop));
    let mut ids = match plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_))) {
        true => BTreeSet::new(),
        false => there.map(|(id, _)| *id).collect(),
    };
    apply(&mut ids, &plan.ops);
    Some(ids)
}

/// Keeps account of what these operations make and remove.
pub(super) fn apply(ids: &mut BTreeSet<u32>, ops: &[Op]) {
    for op in ops {
        match op {
            Op::AddNexthop(_, via) => _ = ids.insert(nexthop_id(*via)),
            Op::RemoveNexthop(_, id) => _ = ids.remove(id),
            _ => {}
        }
    }
}
