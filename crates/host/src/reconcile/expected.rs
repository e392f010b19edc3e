//! Expected state of the kernel between two reconciliations, with which events are compared.
//!
//! An event about an object that is as desired asks for no reaction. So events of our own
//! operations have no effect, and these operations need not be remembered. The same holds for
//! another program that sets the same objects (`dcos-net`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::{Backend, Desired, Mac, VXLAN_PORT, Vtep};
use overlay_core::host_api::names::vtep_name;
use overlay_core::util::family::Family;

use super::constants::{MAIN_PRIORITY, PROTOCOL};
use super::device::WantedTunnel;
use super::events::{Change, Clue, Event, Link, NexthopEvent, Reaction, Subject};
use super::limits::Limits;
use super::nexthops;
use super::observed::{
    DeviceKind, FdbEntry, ForeignRoute, HostNetworks, Neighbour, Route, Rule, Underlay,
};
use super::op::{Op, RouteKey};
use super::peers;
use super::rules;
use super::types::{Draining, Plan};
use super::wanted::{PERMANENT_ENTRY, Wanted, permanent_neighbour};

/// Expected state after a reconciliation.
#[derive(Debug, Default)]
pub struct ExpectedState {
    /// Tunnel endpoint; `None`: there is none, or another program manages it.
    vtep: Option<Vtep>,
    /// True if this module manages the data plane.
    is_internal: bool,
    /// Index of the VXLAN device; `None`: there is none.
    index: Option<u32>,
    /// Outer headers that the VXLAN device should have.
    tunnel: WantedTunnel,
    /// Agent's address on the underlay, and whether this host has it.
    own: Option<(Ipv4Addr, bool)>,
    /// MTUs of the underlay's devices, by index.
    underlay: BTreeMap<u32, u32>,
    /// Names of devices that could not be created.
    failed: BTreeSet<String>,
    /// Mesos's bridges that should exist, by name.
    mesos_bridges: BTreeMap<String, ExpectedBridge>,
    /// Docker's bridges and their indexes; `None`: the bridge does not exist.
    docker_bridges: BTreeMap<String, Option<u32>>,
    /// Indexes of bridges that are removed when their last port is gone.
    draining: Vec<u32>,
    rules: BTreeMap<IpNet, String>,
    peers: Wanted,
    /// Ids of our nexthop objects; `None`: the kernel has none.
    nexthops: Option<BTreeSet<u32>>,
}

/// Networks and routes of others on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Networks of devices that are not ours.
    pub networks: HostNetworks,
    /// Routes over other devices, where ours may be.
    pub routes: BTreeSet<ForeignRoute>,
    /// Routes over the VTEP, ours included, before the reconciliation.
    pub on_vtep: BTreeSet<Route>,
}

/// Expected bridge for containers.
#[derive(Debug)]
struct ExpectedBridge {
    /// Index; `None`: the bridge does not exist.
    index: Option<u32>,
    /// Addresses that it should have.
    addresses: BTreeSet<IpNet>,
}

impl ExpectedState {
    /// Returns the state after a reconciliation with `desired`. `index` is the index of the
    /// VXLAN device, `surroundings` are others' networks and routes, `nexthops` are the ids of our
    /// nexthop objects.
    pub fn new(
        desired: &Desired,
        index: Option<u32>,
        underlay: Option<&Underlay>,
        draining: &[Draining],
        surroundings: &Surroundings,
        nexthops: Option<BTreeSet<u32>>,
    ) -> ExpectedState {
        let is_internal = desired.backend == Backend::Internal;
        let vtep = super::vtep_with_mtu(desired, underlay.map(super::max_inner_mtu))
            .filter(|_| is_internal);
        let peers = vtep.as_ref().map(|vtep| {
            let Surroundings {
                networks,
                routes,
                on_vtep,
            } = surroundings;
            let mut limits = Limits::new(desired, vtep, draining, networks);
            limits.heed(vtep, routes, on_vtep, &[]);
            Wanted::new(desired, vtep, limits, None, &mut Plan::default())
        });
        let rules = rules::wanted(desired)
            .into_iter()
            .map(|(from, overlay)| (from, overlay.to_owned()));
        ExpectedState {
            is_internal,
            index,
            tunnel: WantedTunnel::new(desired, &surroundings.networks, underlay),
            own: desired.underlay_ip.map(|own| {
                let mut all = surroundings.networks.iter();
                (
                    own,
                    all.any(|network| network.net.addr() == IpAddr::V4(own)),
                )
            }),
            underlay: underlay.map_or_else(BTreeMap::new, |underlay| underlay.devices.clone()),
            failed: BTreeSet::new(),
            draining: draining.iter().map(|part| part.index).collect(),
            mesos_bridges: BTreeMap::new(),
            docker_bridges: BTreeMap::new(),
            rules: rules.filter(|_| is_internal).collect(),
            peers: peers.unwrap_or_default(),
            nexthops,
            vtep,
        }
    }

    /// Adds a bridge of Mesos that should exist. `index` is its index; `None`: it does not
    /// exist.
    pub fn add_mesos_bridge(&mut self, name: &str, index: Option<u32>, addresses: BTreeSet<IpNet>) {
        self.mesos_bridges
            .insert(name.to_owned(), ExpectedBridge { index, addresses });
    }

    /// Adds a bridge of Docker. `index` is its index; `None`: it does not exist.
    pub fn add_docker_bridge(&mut self, name: &str, index: Option<u32>) {
        self.docker_bridges.insert(name.to_owned(), index);
    }

    /// Adds a device that could not be created, so that events of the attempt are expected.
    pub fn add_failed_device(&mut self, name: &str) {
        self.failed.insert(name.to_owned());
    }

    /// Returns the operations that replace the peers of `from` by the peers of `to`, and the
    /// index of the device. Later events are compared with the peers of `to`. `None`: there are
    /// other differences, or too many.
    pub fn change_peers(&mut self, from: &Desired, to: &Desired) -> Option<(u32, Vec<Op>)> {
        let (index, vtep) = (self.index?, self.vtep.as_ref()?);
        if !self.peers.peers_known || !differ_in_peers_only(from, to) {
            return None;
        }
        let (from, to) = (from.peers.as_ref()?, to.peers.as_ref()?);
        let ops = peers::change(from, to, vtep, &mut self.peers, &mut self.nexthops)?;
        Some((index, ops))
    }

    /// Returns the reaction that an event asks for.
    pub fn reaction(&self, event: &Event) -> Reaction {
        let Event { subject, change } = event;
        let differs = match subject {
            Subject::Setting => return Reaction::QuickCheck,
            Subject::AutomaticRoute { .. } | Subject::ForeignRule => false,
            Subject::Link(link) => self.link_differs(link, *change),
            _ if !self.is_internal => false,
            Subject::Port { bridge } => change.is_gone() && self.draining.contains(bridge),
            Subject::Rule(rule) => self.rule_differs(rule, *change),
            Subject::Route { index, route } => self.route_differs(*index, route, *change),
            Subject::Address {
                index,
                net,
                tentative,
            } => self.address_differs(*index, *net, *tentative, *change),
            Subject::Neighbour {
                index,
                ip,
                neighbour,
            } => self.is_vtep(*index) && self.neighbour_differs(*ip, *neighbour, *change),
            Subject::Fdb {
                index,
                mac,
                dst,
                entry,
            } => self.is_vtep(*index) && self.fdb_differs(*mac, *dst, *entry, *change),
            Subject::Nexthop { id, nexthop } => self.nexthop_differs(*id, nexthop, *change),
        };
        match differs {
            true => Reaction::Reconcile,
            false if self.clue(event).is_some() => Reaction::QuickCheck,
            false => Reaction::Ignore,
        }
    }

    /// Returns the part of the host that an event points to.
    pub fn clue(&self, event: &Event) -> Option<Clue> {
        let is_underlay = match &event.subject {
            // Most ports leave because their container has ended, which changes nothing here.
            Subject::Port { bridge } => {
                let is_lost = event.change.is_gone() && self.is_bridge(*bridge);
                return is_lost.then_some(Clue::Ports);
            }
            Subject::Route { index, route } => {
                let is_ours = index.is_some_and(|index| self.is_vtep(index));
                !is_ours && route.table != self.peers.limits.table && self.leads_to_peers(route.dst)
            }
            Subject::AutomaticRoute { dst } => self.leads_to_peers(*dst),
            // Of other addresses that lead to peers there are events of routes.
            Subject::Address { net, .. } => self
                .own
                .is_some_and(|(own, _)| IpAddr::V4(own) == net.addr()),
            // The kernel reports no routes that go with a device that is set down.
            Subject::Link(link) => !link.up && self.underlay.contains_key(&link.index),
            Subject::ForeignRule => true,
            Subject::Rule(rule) => rule.table != self.peers.limits.table,
            _ => false,
        };
        is_underlay.then_some(Clue::Underlay)
    }

    /// Returns whether a route to this destination can be the one to a peer.
    fn leads_to_peers(&self, dst: IpNet) -> bool {
        if Family::V6.includes(dst) {
            return false;
        }
        let key = |ip: IpAddr| RouteKey {
            table: self.peers.limits.table,
            dst: ip.into(),
        };
        let inside = key(dst.network())..=key(dst.broadcast());
        dst.prefix_len() == 0 || self.peers.objects.routes.range(inside).next().is_some()
    }

    /// Returns whether a device is a desired bridge.
    fn is_bridge(&self, index: u32) -> bool {
        let mut mesos = self.mesos_bridges.values();
        let mut docker = self.docker_bridges.values();
        mesos.any(|own| own.index == Some(index)) || docker.any(|own| *own == Some(index))
    }

    fn is_vtep(&self, index: u32) -> bool {
        self.index == Some(index)
    }

    /// Returns whether a device with this index is one of the overlays'.
    fn is_own(&self, index: u32) -> bool {
        let mut docker = self.docker_bridges.values();
        let mut mesos = self.mesos_bridges.values();
        self.is_vtep(index)
            || self.draining.contains(&index)
            || docker.any(|own| *own == Some(index))
            || mesos.any(|bridge| bridge.index == Some(index))
    }

    fn link_differs(&self, link: &Link, change: Change) -> bool {
        if let Some(mtu) = self.underlay.get(&link.index) {
            return change.is_gone() || *mtu != link.mtu;
        }
        if !self.is_internal || change.is_gone() && self.failed.contains(&link.name) {
            return false;
        }
        if let Some(bridge) = self.mesos_bridges.get(&link.name) {
            return change.is_gone() || !link.up || bridge.index != Some(link.index);
        }
        if let Some(index) = self.docker_bridges.get(&link.name) {
            return !change.is_gone() && *index != Some(link.index);
        }
        let vtep = match &self.vtep {
            Some(vtep) if vtep.name == link.name => vtep,
            // The device was renamed.
            _ if self.is_vtep(link.index) => return true,
            _ => return !change.is_gone() && looks_like_vtep(link),
        };
        let kind = DeviceKind::Vxlan {
            vni: Some(vtep.vni),
            port: VXLAN_PORT,
            learning: false,
        };
        let is_right = self.is_vtep(link.index)
            && link.kind == kind
            && self.tunnel.includes(&link.tunnel)
            && link.mac == vtep.mac
            && link.up
            && vtep.mtu.is_none_or(|mtu| mtu == link.mtu);
        change.is_gone() || !is_right
    }

    fn address_differs(&self, index: u32, net: IpNet, tentative: bool, change: Change) -> bool {
        if let Some((own, is_here)) = self.own
            && IpAddr::V4(own) == net.addr()
            && !self.is_vtep(index)
        {
            return is_here == change.is_gone();
        }
        let is_docker = self.docker_bridges.values().any(|own| *own == Some(index));
        if is_docker && tentative && !change.is_gone() {
            return true;
        }
        if !self.is_own(index)
            && self.peers.limits.is_touched_by(net)
            && self.peers.limits.has_network(net) == change.is_gone()
        {
            return true;
        }
        let mut vteps = self.vtep.iter();
        let is_wanted = vteps.any(|vtep| vtep.addresses.contains(&net));
        let is_bridge = |bridge: &ExpectedBridge| {
            bridge.index == Some(index) && bridge.addresses.contains(&net)
        };
        self.is_vtep(index) && is_wanted == change.is_gone()
            || change.is_gone() && self.mesos_bridges.values().any(is_bridge)
    }

    fn rule_differs(&self, rule: &Rule, change: Change) -> bool {
        if rule.table != self.peers.limits.table || !self.rules.contains_key(&rule.from) {
            return rule.protocol == PROTOCOL && !change.is_gone();
        }
        (rule.priority < MAIN_PRIORITY) == change.is_gone()
    }

    fn route_differs(&self, index: Option<u32>, route: &Route, change: Change) -> bool {
        let is_on_vtep = index.is_some() && index == self.index;
        let limits = &self.peers.limits;
        let is_ours = is_on_vtep && limits.is_ours(route);
        match self.peers.objects.routes.get(&route.key()) {
            Some(via) => {
                let is_right = is_on_vtep
                    && route.plain
                    && route.via == Some(*via)
                    && route.has_default_metric();
                // A wrong route that was removed does not matter. A new one over another
                // device may have replaced ours.
                is_right == change.is_gone()
            }
            // A route of somebody else leaves room for ours, or takes a part of a peer's subnet.
            None if !is_ours => {
                let is_known = limits.foreign.contains(route.key());
                let concerns = is_known || self.peers.objects.has_route_around(route.key());
                concerns && is_known == change.is_gone()
            }
            None if change.is_gone() => false,
            None => self.peers.peers_known || !limits.permit_route(route.key()),
        }
    }

    fn neighbour_differs(&self, ip: IpAddr, found: Neighbour, change: Change) -> bool {
        match self.peers.objects.neighbours.get(&ip) {
            Some(mac) => change.is_gone() || found != permanent_neighbour(*mac),
            None => !change.is_gone() && found.permanent && self.peers.peers_known,
        }
    }

    fn fdb_differs(&self, mac: Mac, dst: IpAddr, found: FdbEntry, change: Change) -> bool {
        match self.peers.objects.fdb.get(&mac) {
            Some(wanted) => {
                let is_right = dst == IpAddr::V4(*wanted) && found == PERMANENT_ENTRY;
                change.is_gone() || !is_right
            }
            None => !change.is_gone() && found.permanent && self.peers.peers_known,
        }
    }

    /// Compares a nexthop object. The kernel removes the routes that refer to an object
    /// together with it and sends no event for them, so its removal stands for theirs.
    fn nexthop_differs(&self, id: u32, found: &NexthopEvent, change: Change) -> bool {
        let nexthop = found.observed(self.index);
        match nexthops::is_wanted(&self.peers.objects, id) {
            true => change.is_gone() || !nexthops::is_right(id, &nexthop),
            false => !change.is_gone() && nexthop.protocol == PROTOCOL && self.peers.peers_known,
        }
    }
}

fn differ_in_peers_only(one: &Desired, other: &Desired) -> bool {
    let Desired {
        cni,
        backend,
        firewall,
        underlay_ip,
        fit_mtu,
        tx_checksum,
        removal,
        container_table,
        vtep,
        overlays,
        peers: _,
    } = one;
    *cni == other.cni
        && *container_table == other.container_table
        && *backend == other.backend
        && *firewall == other.firewall
        && *underlay_ip == other.underlay_ip
        && *fit_mtu == other.fit_mtu
        && *tx_checksum == other.tx_checksum
        && *removal == other.removal
        && *vtep == other.vtep
        && *overlays == other.overlays
}

/// Returns whether a device looks like one of our VTEPs with a former VNI.
fn looks_like_vtep(link: &Link) -> bool {
    match link.kind {
        DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            ..
        } => link.name == vtep_name(vni),
        _ => false,
    }
}
