//! Objects that the peers need on the VXLAN device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Mac, Peer, Vtep};
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;

use super::constants::MAIN_TABLE;
use super::limits::Limits;
use super::observed::{Device, FdbEntry, Neighbour, Route};
use super::op::RouteKey;
use super::types::{PeerObjectCounts, Plan};

/// Neighbours, FDB entries and routes of peers. (If two peers claim one object, which the
/// master prevents, the peer with the higher address gets it.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerObjects {
    /// Hardware addresses of the VTEPs.
    pub(super) neighbours: BTreeMap<IpAddr, Mac>,
    /// Underlay addresses of the VTEPs.
    pub(super) fdb: BTreeMap<Mac, Ipv4Addr>,
    /// Gateway by table and destination.
    pub(super) routes: BTreeMap<RouteKey, IpAddr>,
    /// True if two peers claim one object. The maps keep only one of them, so deltas are
    /// unsafe: if one peer leaves, the object of the other one is unknown.
    pub(super) contested: bool,
}

/// Objects that should be on the device.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) objects: PeerObjects,
    /// True if the master has sent the peers: stale objects may be removed.
    pub(super) peers_known: bool,
    /// Ranges of removed overlays that still have containers: routes into them stay.
    pub(super) draining_ranges: Vec<IpNet>,
    /// Destinations of those routes of ours that the kernel may remove with an address, or may
    /// not.
    pub(super) doubtful: BTreeSet<RouteKey>,
    pub(super) limits: Limits,
}

/// Number of sentences about peers with problems. The others are counted.
const SENTENCES: usize = 3;

/// Problems with single peers.
#[derive(Debug, Default)]
pub(super) struct PeerProblems {
    problems: Vec<Problem>,
    /// Number of all problems.
    count: usize,
}

impl PeerProblems {
    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, kind: ProblemKind, object: String, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.problems.len() < SENTENCES {
            self.problems.push(Problem::new(kind, object, text()));
        }
    }

    /// Adds the problems to those of a plan.
    fn report(self, plan: &mut Plan) {
        plan.peer_problems = self.problems.len();
        plan.problems.extend(self.problems);
        if let Some(more @ 1..) = self.count.checked_sub(SENTENCES) {
            let text = format!("cannot add peer or route: {more} more like that");
            let problem = Problem::new(ProblemKind::FurtherOperations, "peers", text);
            plan.problems.push(problem);
            plan.peer_problems += 1;
        }
    }
}

impl Wanted {
    /// Returns the objects for the desired peers, or the existing objects of `device` if the
    /// peers are unknown.
    pub(super) fn new(
        desired: &Desired,
        vtep: &Vtep,
        limits: Limits,
        device: Option<&Device>,
        plan: &mut Plan,
    ) -> Wanted {
        let ranges = plan.draining.iter().flat_map(|part| part.ranges.clone());
        let mut wanted = Wanted {
            draining_ranges: ranges.collect(),
            limits,
            ..Wanted::default()
        };
        let (objects, limits) = (&mut wanted.objects, &wanted.limits);
        match (&desired.peers, device) {
            (None, None) => {}
            (None, Some(device)) => objects.add_existing(device, vtep, limits),
            (Some(peers), _) => {
                wanted.peers_known = true;
                let mut problems = PeerProblems::default();
                for (ip, peer) in peers.iter().filter(|(_, peer)| !is_self(peer, vtep)) {
                    objects.add(*ip, peer, vtep, limits, &mut problems);
                }
                problems.report(plan);
            }
        }
        wanted
    }

    /// Returns whether a route of ours that is not observed may exist.
    pub(super) fn may_exist(&self, key: RouteKey) -> bool {
        self.doubtful.contains(&key) || self.limits.foreign.is_misplaced(key)
    }
}

impl PeerObjects {
    /// Returns the numbers of objects.
    pub(super) fn counts(&self) -> PeerObjectCounts {
        PeerObjectCounts {
            neighbours: self.neighbours.len(),
            fdb_entries: self.fdb.len(),
            routes: self.routes.len(),
        }
    }

    /// Adds the peers' objects on a device that we can recreate, and that can be right.
    fn add_existing(&mut self, device: &Device, vtep: &Vtep, limits: &Limits) {
        let neighbours = device.neighbours.iter();
        let stays = |(ip, neighbour): &(&IpAddr, &Neighbour)| {
            neighbour.permanent && limits.permit_neighbour(**ip)
        };
        for (ip, neighbour) in neighbours.filter(stays) {
            self.neighbours.extend(neighbour.mac.map(|mac| (*ip, mac)));
        }
        for ((mac, dst), _) in device.fdb.iter().filter(|(_, entry)| entry.permanent) {
            if let IpAddr::V4(dst) = dst
                && limits.permit_destination((*dst).into())
            {
                self.fdb.insert(*mac, *dst);
            }
        }
        let is_reachable = |via: &IpAddr| vtep.addresses.iter().any(|own| own.contains(via));
        // We never create a route with another metric. Created again with our metric, it would
        // replace the right one.
        let is_like_ours = |route: &&Route| {
            let is_plain = route.plain && route.has_default_metric();
            limits.is_ours(route) && is_plain && limits.permit_route(route.key())
        };
        for route in device.routes.iter().filter(is_like_ours) {
            let via = route.via.filter(is_reachable);
            self.routes.extend(via.map(|via| (route.key(), via)));
        }
    }

    /// Adds the objects of a peer, in the families that both VTEPs have.
    pub(super) fn add(
        &mut self,
        ip: Ipv4Addr,
        peer: &Peer,
        vtep: &Vtep,
        limits: &Limits,
        problems: &mut PeerProblems,
    ) {
        if let Some(fault) = limits.peer_fault(ip, peer) {
            let text = || format!("cannot add peer {ip}: {fault}");
            return problems.add(ProblemKind::Peer, ip.to_string(), text);
        }
        let has = |family: Family| vtep.addresses.iter().any(|own| family.includes(*own));
        for vtep_ip in peer.vtep_ips.iter().filter(|ip| has(Family::from(**ip))) {
            self.contested |= self.neighbours.insert(*vtep_ip, peer.vtep_mac).is_some();
            if vtep_ip.is_ipv4() {
                let key = RouteKey {
                    table: limits.table,
                    dst: IpAddr::V4(ip).into(),
                };
                match limits.foreign.obstacle(key, *vtep_ip) {
                    None => _ = self.routes.insert(key, *vtep_ip),
                    Some(route) => {
                        let text = || {
                            format!(
                                "containers of this host do not reach peer {ip} itself through the tunnel: the \
                                 route \"{route}\" is not ours, and stays"
                            )
                        };
                        problems.add(ProblemKind::Peer, ip.to_string(), text);
                    }
                }
            }
        }
        self.contested |= self.fdb.insert(peer.vtep_mac, ip).is_some();
        let subnets = peer.subnets.iter();
        for subnet in subnets.filter(|subnet| has(Family::from(**subnet))) {
            self.add_subnet(ip, peer, *subnet, limits, problems);
        }
    }

    /// Adds the route to the containers in a subnet of a peer.
    fn add_subnet(
        &mut self,
        ip: Ipv4Addr,
        peer: &Peer,
        subnet: IpNet,
        limits: &Limits,
        problems: &mut PeerProblems,
    ) {
        let key = RouteKey {
            table: MAIN_TABLE,
            dst: subnet.trunc(),
        };
        let family = Family::from(subnet);
        let via = peer.vtep_ips.iter().find(|ip| family.includes(**ip));
        let fault = match via {
            None => Some("no VTEP address of its family".to_owned()),
            Some(via) => limits.route_fault(key, *via),
        };
        let mut add = |text: &dyn Fn() -> String| {
            problems.add(ProblemKind::PeerSubnet, subnet.to_string(), text);
        };
        match (via, fault) {
            (Some(via), None) => {
                self.contested |= self.routes.insert(key, *via).is_some();
                if let Some(part) = limits.foreign.inside(key) {
                    add(&|| {
                        let fault = part.stays();
                        format!("a part of subnet {subnet} of peer {ip} cannot be reached: {fault}")
                    });
                }
            }
            (_, fault) => {
                let fault = fault.unwrap_or_default();
                add(&|| {
                    format!("cannot add route {subnet}: peer {ip} has this subnet, but {fault}")
                });
            }
        }
    }
}

impl PeerObjects {
    /// Returns whether a route's destination is a part of a wanted one. (Subnets of peers do not
    /// overlap.)
    pub(super) fn has_route_around(&self, key: RouteKey) -> bool {
        let before = self.routes.range(..key).next_back();
        before.is_some_and(|(route, _)| route.table == key.table && route.dst.contains(&key.dst))
    }
}

/// Returns whether a peer is this host itself, which the master may list, too.
pub(super) fn is_self(peer: &Peer, vtep: &Vtep) -> bool {
    let is_own = |ip: &IpAddr| vtep.addresses.iter().any(|own| own.addr() == *ip);
    peer.vtep_mac == vtep.mac || peer.vtep_ips.iter().any(is_own)
}

/// Returns the neighbour entry of a peer.
pub(super) fn permanent_neighbour(mac: Mac) -> Neighbour {
    Neighbour {
        mac: Some(mac),
        permanent: true,
    }
}

/// Properties of a peer's FDB entry.
pub(super) const PERMANENT_ENTRY: FdbEntry = FdbEntry {
    permanent: true,
    plain: true,
};
