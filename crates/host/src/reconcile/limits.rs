//! What may be on the VXLAN device of a host, by the overlays and by the host's other networks.
//!
//! The master's values were checked against each other before. Only here it is known which
//! addresses and networks the host has, at the moment in which the plan is made. What collides
//! with them is left out, and reported.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Overlay, Peer, Vtep};
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;
use overlay_core::util::special_purpose;

use super::constants::{MAIN_TABLE, PROTOCOL};
use super::foreign::{self, ForeignRoutes, may_be_predecessors};
use super::observed::{ForeignRoute, HostNetwork, HostNetworks, Route};
use super::op::{Op, RouteKey};
use super::types::Draining;

/// Limits of the objects on a VXLAN device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Own VTEP addresses, with the prefix lengths of the VTEPs' ranges.
    vteps: Vec<IpNet>,
    /// Ranges of overlays, also of those that are removed and still have containers.
    ranges: Vec<IpNet>,
    /// Subnets of this host in them.
    own_subnets: Vec<IpNet>,
    /// Ranges that an earlier version of this module or its predecessor had, by their rules.
    pub(super) former_ranges: Vec<IpNet>,
    /// Networks of the host's other devices.
    networks: HostNetworks,
    /// Routes of others.
    pub(super) foreign: ForeignRoutes,
    /// Routing table of the containers.
    pub(super) table: u32,
}

impl Limits {
    pub(super) fn new(
        desired: &Desired,
        vtep: &Vtep,
        draining: &[Draining],
        networks: &HostNetworks,
    ) -> Limits {
        let overlays = desired.overlays.values();
        let ranges = overlays.flat_map(|overlay| &overlay.ranges);
        let drained = draining.iter().flat_map(|part| &part.ranges);
        let subnets = desired.overlays.values();
        let subnets = subnets.flat_map(|overlay| &overlay.subnets);
        let in_use = draining.iter().flat_map(|part| &part.subnets);
        Limits {
            vteps: vtep.addresses.clone(),
            ranges: ranges.chain(drained).copied().collect(),
            own_subnets: subnets.chain(in_use).copied().collect(),
            networks: networks.clone(),
            table: desired.container_table.0,
            ..Limits::default()
        }
    }

    /// Adds the routes of others: those over other devices that `ops` do not remove, and those
    /// over the VTEP, after `ops`.
    pub(super) fn heed(
        &mut self,
        vtep: &Vtep,
        others: &BTreeSet<ForeignRoute>,
        on_vtep: &BTreeSet<Route>,
        ops: &[Op],
    ) {
        let is_on_vtep = |found: &ForeignRoute| found.device.as_ref() == Some(&vtep.name);
        let routes = foreign::candidates(vtep, others, on_vtep)
            .filter(|found| !is_on_vtep(found) || !self.is_ours(&found.route))
            .filter(|found| {
                let device = found.device.as_deref();
                is_on_vtep(found) || !device.is_some_and(|name| foreign::are_removing(ops, name))
            });
        self.foreign = ForeignRoutes::new(vtep, routes);
    }

    /// Returns why the VTEP cannot have its address, as a sentence.
    pub(super) fn vtep_fault(&self, name: &str) -> Option<String> {
        let collision = |own: &IpNet| Some((own.addr(), containing(&self.networks, own.addr())?));
        let (ip, HostNetwork { device, net }) = self.vteps.iter().find_map(collision)?;
        Some(format!(
            "cannot create VXLAN device {name}: its address {ip} lies in {net} of device {device}; give the VTEPs a \
             range that this host does not have"
        ))
    }

    /// Returns why a peer cannot have its addresses, as a phrase.
    pub(super) fn peer_fault(&self, ip: Ipv4Addr, peer: &Peer) -> Option<String> {
        let ip = IpAddr::V4(ip);
        if let Some(own) = self.networks.iter().find(|own| own.net.addr() == ip) {
            return Some(format!(
                "device {} of this host has its address",
                own.device
            ));
        }
        let collision = |ip: &IpAddr| Some((*ip, containing(&self.networks, *ip)?));
        let (ip, HostNetwork { device, net }) = peer.vtep_ips.iter().find_map(collision)?;
        Some(format!(
            "its VTEP address {ip} lies in {net} of device {device}"
        ))
    }

    /// Returns why containers of peers cannot have a subnet, as a phrase.
    pub(super) fn subnet_fault(&self, subnet: IpNet) -> Option<String> {
        if !self.ranges.iter().any(|range| range.contains(&subnet)) {
            return Some("lies in no overlay of this host".to_owned());
        }
        let HostNetwork { device, net } = overlapping(&self.networks, subnet)?;
        Some(format!("overlaps {net} of device {device}"))
    }

    /// Returns why there can be no route to the containers of a peer, as a phrase.
    pub(super) fn route_fault(&self, key: RouteKey, via: IpAddr) -> Option<String> {
        let fault = self
            .subnet_fault(key.dst)
            .map(|fault| format!("it {fault}"));
        fault.or_else(|| {
            let route = self.foreign.obstacle(key, via)?;
            Some(route.stays())
        })
    }

    /// Returns whether this module may remove a route over our device: this module or its
    /// predecessor created it. Other routes belong to an operator.
    pub(super) fn is_ours(&self, route: &Route) -> bool {
        let mut ranges = self.ranges.iter().chain(&self.former_ranges);
        let is_of_overlay = |range: &IpNet| range.contains(&route.dst);
        let mut is_known = || route.table != MAIN_TABLE || ranges.any(is_of_overlay);
        route.protocol == PROTOCOL || may_be_predecessors(route) && is_known()
    }

    /// Returns whether an address of another device, with the prefix length of its network, makes
    /// a difference. Addresses in own subnets are those of bridges.
    pub(super) fn is_touched_by(&self, net: IpNet) -> bool {
        let mut own = self.own_subnets.iter();
        let overlaps = |range: &IpNet| range.contains(&net) || net.contains(range);
        !own.any(|own| own.contains(&net))
            && (self.ranges.iter().any(overlaps) || self.vteps.iter().any(overlaps))
    }

    /// Returns whether another device has this address with this prefix length.
    pub(super) fn has_network(&self, net: IpNet) -> bool {
        self.networks.iter().any(|own| own.net == net)
    }

    /// Returns whether a peer can need this route, whoever the peers are.
    pub(super) fn permit_route(&self, key: RouteKey) -> bool {
        if self.foreign.contains(key) {
            return false;
        }
        match key.table {
            MAIN_TABLE => self.subnet_fault(key.dst).is_none(),
            table if table == self.table => {
                let is_host = key.dst.prefix_len() == key.dst.max_prefix_len();
                is_host && self.permit_destination(key.dst.addr())
            }
            // A former table.
            _ => false,
        }
    }

    /// Returns a problem if others' routes in the table of the containers lead away from the overlays
    /// or the VTEPs: containers' packets follow them.
    pub(super) fn diverted(&self) -> Option<Problem> {
        let is_ours = |dst: IpNet| {
            let mut nets = self.ranges.iter().chain(&self.vteps);
            nets.any(|net| dst.contains(net) || net.contains(&dst))
        };
        let mut routes = self.foreign.wide_routes(self.table);
        let route = routes.find(|found| is_ours(found.route.dst))?;
        let text = format!(
            "containers' packets follow the route \"{route}\", which is not ours, and stays: remove it, or set \
             container_table of the agent's configuration to an unused table"
        );
        let object = self.table.to_string();
        Some(Problem::new(ProblemKind::ContainerTable, object, text))
    }

    /// Returns whether a peer can have this VTEP address, whoever the peers are.
    pub(super) fn permit_neighbour(&self, ip: IpAddr) -> bool {
        let own = Family::from(ip).find(&self.vteps);
        own.is_none_or(|own| own.contains(&ip)) && containing(&self.networks, ip).is_none()
    }

    /// Returns whether a peer can have this address on the underlay, whoever the peers are.
    pub(super) fn permit_destination(&self, ip: IpAddr) -> bool {
        let is_own = self.networks.iter().any(|own| own.net.addr() == ip);
        let is_fit = match special_purpose::of_address(ip) {
            // Hosts of the same range can have such addresses.
            Some(special) => overlapping(&self.networks, special.net).is_some(),
            None => true,
        };
        is_fit && !is_own && !self.vteps.iter().any(|range| range.contains(&ip))
    }
}

/// Returns why an overlay's bridge of Mesos cannot have its subnets, as a sentence.
pub(super) fn bridge_fault(overlay: &Overlay, networks: &HostNetworks) -> Option<String> {
    let bridge = overlay.mesos_bridge.as_ref()?;
    let collision = |net: &IpNet| Some((*net, overlapping(networks, *net)?));
    let (subnet, HostNetwork { device, net }) = bridge.subnets.iter().find_map(collision)?;
    Some(format!(
        "cannot set up bridge {}: its subnet {subnet} overlaps {net} of device {device}; give the overlay a range \
         that this host does not have",
        bridge.name
    ))
}

/// Returns the network of the host that contains an address.
pub(super) fn containing(networks: &HostNetworks, ip: IpAddr) -> Option<&HostNetwork> {
    networks.iter().find(|own| own.net.contains(&ip))
}

/// Returns a network of the host that overlaps another one.
pub(super) fn overlapping(networks: &HostNetworks, net: IpNet) -> Option<&HostNetwork> {
    let overlaps = |own: &&HostNetwork| own.net.contains(&net) || net.contains(&own.net);
    networks.iter().find(overlaps)
}
