//! Objects that the peers need on the VXLAN device.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::{CONTAINER_TABLE, Desired, Mac, Peer, Vtep};
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;

use super::constants::{DEFAULT_METRIC6, MAIN_TABLE, PROTOCOL, PROTOCOL_BOOT};
use super::observed::{Device, FdbEntry, Neighbour, Route};
use super::op::RouteKey;
use super::types::Plan;

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
}

impl Wanted {
    /// Returns the objects for the desired peers, or the existing objects of `device` if the
    /// peers are unknown.
    pub(super) fn new(
        desired: &Desired,
        vtep: &Vtep,
        device: Option<&Device>,
        plan: &mut Plan,
    ) -> Wanted {
        let ranges = plan.draining.iter().flat_map(|part| part.ranges.clone());
        let mut wanted = Wanted {
            draining_ranges: ranges.collect(),
            ..Wanted::default()
        };
        match (&desired.peers, device) {
            (None, None) => {}
            (None, Some(device)) => wanted.objects.add_existing(device, vtep),
            (Some(peers), _) => {
                wanted.peers_known = true;
                for (ip, peer) in peers.iter().filter(|(_, peer)| !is_self(peer, vtep)) {
                    wanted.objects.add(*ip, peer, vtep, &mut plan.problems);
                }
            }
        }
        wanted
    }
}

impl PeerObjects {
    /// Adds the peers' objects on a device that we can recreate.
    fn add_existing(&mut self, device: &Device, vtep: &Vtep) {
        let neighbours = device.neighbours.iter();
        for (ip, neighbour) in neighbours.filter(|(_, neighbour)| neighbour.permanent) {
            self.neighbours.extend(neighbour.mac.map(|mac| (*ip, mac)));
        }
        for ((mac, dst), _) in device.fdb.iter().filter(|(_, entry)| entry.permanent) {
            if let IpAddr::V4(dst) = dst {
                self.fdb.insert(*mac, *dst);
            }
        }
        let is_reachable = |via: &IpAddr| vtep.addresses.iter().any(|own| own.contains(via));
        // We never create a route with another metric. Created again with our metric, it would
        // replace the right one.
        let is_like_ours =
            |route: &&Route| is_ours(route) && route.plain && has_default_metric(route);
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
        problems: &mut Vec<Problem>,
    ) {
        let has = |family: Family| vtep.addresses.iter().any(|own| family.includes(*own));
        for vtep_ip in peer.vtep_ips.iter().filter(|ip| has(Family::from(**ip))) {
            self.contested |= self.neighbours.insert(*vtep_ip, peer.vtep_mac).is_some();
            if vtep_ip.is_ipv4() {
                let key = RouteKey {
                    table: CONTAINER_TABLE,
                    dst: IpAddr::V4(ip).into(),
                };
                self.routes.insert(key, *vtep_ip);
            }
        }
        self.contested |= self.fdb.insert(peer.vtep_mac, ip).is_some();
        for subnet in &peer.subnets {
            let family = Family::from(*subnet);
            if !has(family) {
                continue;
            }
            let key = RouteKey {
                table: MAIN_TABLE,
                dst: subnet.trunc(),
            };
            match peer.vtep_ips.iter().find(|ip| family.includes(**ip)) {
                Some(via) => self.contested |= self.routes.insert(key, *via).is_some(),
                None => {
                    let text = format!(
                        "cannot add route {subnet}: peer {ip} has this subnet, but no VTEP address of its \
                         family"
                    );
                    problems.push(Problem::new(
                        ProblemKind::PeerSubnet,
                        subnet.to_string(),
                        text,
                    ));
                }
            }
        }
    }
}

/// Returns whether a peer is this host itself, which the master may list, too.
pub(super) fn is_self(peer: &Peer, vtep: &Vtep) -> bool {
    let is_own = |ip: &IpAddr| vtep.addresses.iter().any(|own| own.addr() == *ip);
    peer.vtep_mac == vtep.mac || peer.vtep_ips.iter().any(is_own)
}

/// Returns whether this module may remove a route over our device: this module or `dcos-net`
/// created it. Other routes belong to an operator.
pub(super) fn is_ours(route: &Route) -> bool {
    route.protocol == PROTOCOL || (route.protocol == PROTOCOL_BOOT && route.via.is_some())
}

/// Returns whether a route has the metric of our routes.
pub(super) fn has_default_metric(route: &Route) -> bool {
    route.metric == default_metric(route.dst)
}

/// Returns the metric that the kernel gives a route to this destination.
pub(super) fn default_metric(dst: IpNet) -> u32 {
    Family::from(dst).pick(0, DEFAULT_METRIC6)
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
