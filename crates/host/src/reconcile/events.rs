//! Which of the kernel's events are a reason for a pass. Pure.
//!
//! An event that says that something is as desired is none. So the echoes of our
//! own operations lead to nothing, without a memory of what was done; and whoever
//! makes the same things as we do (`dcos-net`) does not wake us.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Backend, Desired, Mac, VXLAN_PORT, Vtep};

use super::nexthops;
use super::observed::{DeviceKind, FdbEntry, Neighbour, Nexthop, Route, Rule, Underlay};
use super::peers;
use super::peers::Wanted;
use super::rules;
use super::rules::MAIN_PRIORITY;
use super::{Draining, Op, PROTOCOL};

/// Something that the kernel has changed, and what it is now, or was when it went
/// away (`gone`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A device.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// What it is.
        kind: DeviceKind,
        /// Its hardware address.
        mac: Mac,
        /// Bytes.
        mtu: u32,
        /// Whether it is administratively up.
        up: bool,
        /// Whether it is no more.
        gone: bool,
    },
    /// A port of a bridge.
    Port {
        /// The bridge's index.
        master: u32,
        /// Whether it is no more.
        gone: bool,
    },
    /// An address of a device.
    Address {
        /// The device's index.
        index: u32,
        /// The address.
        net: IpNet,
        /// Whether it cannot be used yet.
        tentative: bool,
        /// Whether it is no more.
        gone: bool,
    },
    /// A neighbour.
    Neighbour {
        /// The device's index.
        index: u32,
        /// Its address.
        ip: IpAddr,
        /// What is known of it.
        neighbour: Neighbour,
        /// Whether it is no more.
        gone: bool,
    },
    /// An entry of a forwarding database.
    Fdb {
        /// The device's index.
        index: u32,
        /// The hardware address.
        mac: Mac,
        /// Where it is.
        dst: IpAddr,
        /// The rest of it.
        entry: FdbEntry,
        /// Whether it is no more.
        gone: bool,
    },
    /// A route, whoever made it.
    Route {
        /// The index of the device, if it is over a single one.
        index: Option<u32>,
        /// The route.
        route: Route,
        /// Whether it is no more.
        gone: bool,
    },
    /// A nexthop object.
    Nexthop {
        /// Its id.
        id: u32,
        /// The index of the device that it is over.
        index: Option<u32>,
        /// Its gateway.
        via: Option<IpAddr>,
        /// Who made it.
        protocol: u8,
        /// Whether it is no more.
        gone: bool,
    },
    /// A rule that only says `from <prefix> lookup 42`.
    Rule {
        /// The rule.
        rule: Rule,
        /// Whether it is no more.
        gone: bool,
    },
    /// A switch such as `ip_forward`.
    Setting,
}

/// What an event is about, where the last event about it says all there is to
/// know. (Of routes to one destination there can be several.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A device.
    Link(u32),
    /// An address of a device.
    Address(u32, IpNet),
    /// A neighbour on a device.
    Neighbour(u32, IpAddr),
    /// The FDB entry of a hardware address.
    Fdb(u32, Mac),
    /// A nexthop object.
    Nexthop(u32),
}

impl Event {
    /// What it is about; `None`: see [`Object`].
    pub fn object(&self) -> Option<Object> {
        match self {
            Event::Link { index, .. } => Some(Object::Link(*index)),
            Event::Address { index, net, .. } => Some(Object::Address(*index, *net)),
            Event::Neighbour { index, ip, .. } => Some(Object::Neighbour(*index, *ip)),
            Event::Fdb { index, mac, .. } => Some(Object::Fdb(*index, *mac)),
            Event::Nexthop { id, .. } => Some(Object::Nexthop(*id)),
            Event::Port { .. } | Event::Route { .. } | Event::Rule { .. } | Event::Setting => None,
        }
    }
}

/// What an event means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Nothing, or that something is as desired.
    #[default]
    Nothing,
    /// Perhaps something; to be looked at among the few things that are quickly
    /// read.
    Look,
    /// Something is not as desired.
    Pass,
}

/// What is desired, laid out so that an event is quickly compared with it.
#[derive(Debug, Default)]
pub struct Watched {
    /// `None`: the data plane is somebody else's.
    vtep: Option<Vtep>,
    internal: bool,
    /// The index of the VXLAN device; `None`: there is none.
    index: Option<u32>,
    /// Index and MTU of the underlay's device.
    underlay: Option<(u32, u32)>,
    /// The bridges that there should be, by name.
    bridges: BTreeMap<String, WatchedBridge>,
    /// Docker's bridges with IPv6 and their indexes; `None`: there is none.
    dockers: BTreeMap<String, Option<u32>>,
    /// Indexes of bridges that go as soon as their last port is gone.
    draining: Vec<u32>,
    rules: BTreeMap<IpNet, String>,
    peers: Wanted,
}

/// A bridge for containers.
#[derive(Debug)]
struct WatchedBridge {
    /// `None`: there is none.
    index: Option<u32>,
    /// The addresses that it should have.
    addresses: BTreeSet<IpNet>,
}

impl Watched {
    /// For the time after a pass that made the host like `desired`. `index` is that
    /// of the VXLAN device, `nexthops` the nexthop objects of ours that there are.
    pub fn new(
        desired: &Desired,
        index: Option<u32>,
        underlay: Option<&Underlay>,
        draining: &[Draining],
        nexthops: Option<BTreeSet<u32>>,
    ) -> Watched {
        let internal = desired.backend == Backend::Internal;
        let vtep = super::fitted_vtep(desired, underlay).filter(|_| internal);
        let peers = vtep
            .as_ref()
            .map(|vtep| Wanted::new(desired, vtep, None, &mut super::Plan::default()));
        let rules = rules::wanted(desired)
            .into_iter()
            .map(|(from, overlay)| (from, overlay.to_owned()));
        Watched {
            internal,
            index,
            underlay: underlay.map(|underlay| (underlay.index, underlay.mtu)),
            draining: draining.iter().map(|overlay| overlay.index).collect(),
            bridges: BTreeMap::new(),
            dockers: BTreeMap::new(),
            rules: rules.filter(|_| internal).collect(),
            peers: Wanted {
                nexthops,
                ..peers.unwrap_or_default()
            },
            vtep,
        }
    }

    /// Adds a bridge that there should be; `index`: as it is now.
    pub fn watch_bridge(&mut self, name: &str, index: Option<u32>, addresses: BTreeSet<IpNet>) {
        self.bridges
            .insert(name.to_owned(), WatchedBridge { index, addresses });
    }

    /// Adds a bridge of Docker's; `index`: as it is now.
    pub fn watch_dockers(&mut self, name: &str, index: Option<u32>) {
        self.dockers.insert(name.to_owned(), index);
    }

    /// The operations that take the device from the peers of `from` to those of `to`,
    /// and the device's index, if there is no other difference and it is a small
    /// one. From now on the peers of `to` are what events are compared with.
    pub fn change_peers(&mut self, from: &Desired, to: &Desired) -> Option<(u32, Vec<Op>)> {
        let (index, vtep) = (self.index?, self.vtep.as_ref()?);
        if !differ_in_peers_only(from, to) {
            return None;
        }
        let ops = peers::change(
            from.peers.as_ref()?,
            to.peers.as_ref()?,
            vtep,
            &mut self.peers,
        )?;
        Some((index, ops))
    }

    /// What an event means.
    pub fn meaning(&self, event: &Event) -> Meaning {
        let matters = match event {
            Event::Setting => return Meaning::Look,
            Event::Link {
                index, mtu, gone, ..
            } if self.underlay.is_some_and(|(u, _)| u == *index) => {
                *gone || self.underlay != Some((*index, *mtu))
            }
            _ if !self.internal => false,
            Event::Link {
                index,
                name,
                up,
                gone,
                ..
            } if self.bridges.contains_key(name) => {
                *gone || !*up || self.bridges[name].index != Some(*index)
            }
            Event::Link {
                index, name, gone, ..
            } if self.dockers.contains_key(name) => !*gone && self.dockers[name] != Some(*index),
            Event::Link {
                index,
                name,
                kind,
                mac,
                mtu,
                up,
                gone,
            } => self.link((*index, name.as_str()), kind, (*mac, *mtu, *up), *gone),
            Event::Port { master, gone } => *gone && self.draining.contains(master),
            Event::Rule { rule, gone } => self.rule(rule, *gone),
            Event::Route { index, route, gone } => self.route(*index, route, *gone),
            Event::Address {
                index,
                tentative: true,
                gone: false,
                ..
            } if self.dockers.values().any(|docker| *docker == Some(*index)) => true,
            Event::Address {
                index, net, gone, ..
            } => {
                let wanted = self
                    .vtep
                    .as_ref()
                    .is_some_and(|vtep| vtep.addresses.contains(net));
                let is_bridges = |bridge: &WatchedBridge| {
                    bridge.index == Some(*index) && bridge.addresses.contains(net)
                };
                self.is_ours(*index) && wanted == *gone
                    || *gone && self.bridges.values().any(is_bridges)
            }
            Event::Neighbour {
                index,
                ip,
                neighbour,
                gone,
            } => self.is_ours(*index) && self.neighbour(*ip, *neighbour, *gone),
            Event::Fdb {
                index,
                mac,
                dst,
                entry,
                gone,
            } => self.is_ours(*index) && self.fdb(*mac, *dst, *entry, *gone),
            Event::Nexthop {
                id,
                index,
                via,
                protocol,
                gone,
            } => {
                let here = index.is_some() && *index == self.index;
                self.nexthop(
                    *id,
                    &Nexthop {
                        via: *via,
                        here,
                        protocol: *protocol,
                    },
                    *gone,
                )
            }
        };
        if matters {
            Meaning::Pass
        } else {
            Meaning::Nothing
        }
    }

    fn is_ours(&self, index: u32) -> bool {
        self.index == Some(index)
    }

    fn link(
        &self,
        (index, name): (u32, &str),
        kind: &DeviceKind,
        (mac, mtu, up): (Mac, u32, bool),
        gone: bool,
    ) -> bool {
        let vtep = match &self.vtep {
            Some(vtep) if vtep.name == name => vtep,
            // Renamed, or one that looks as if we had left it behind.
            _ if self.is_ours(index) => return true,
            _ => return !gone && is_lookalike(name, kind),
        };
        let right = DeviceKind::Vxlan {
            vni: Some(vtep.vni),
            port: VXLAN_PORT,
            learning: false,
        };
        let known = self.is_ours(index) && *kind == right;
        let well = known && mac == vtep.mac && up && vtep.mtu.is_none_or(|wanted| wanted == mtu);
        gone || !well
    }

    fn rule(&self, rule: &Rule, gone: bool) -> bool {
        let wanted = self.rules.contains_key(&rule.from) && rule.priority < MAIN_PRIORITY;
        wanted == gone
    }

    fn route(&self, index: Option<u32>, route: &Route, gone: bool) -> bool {
        let on_ours = index.is_some() && index == self.index;
        match self.peers.routes.get(&(route.table, route.dst)) {
            Some(via) => {
                let right = on_ours
                    && route.plain
                    && route.via == Some(*via)
                    && peers::has_default_metric(route);
                // One that is not right and went away was not ours to keep. One
                // over another device may have taken the place of ours.
                right == gone
            }
            None => !gone && on_ours && self.peers.complete && peers::is_ours(route),
        }
    }

    fn neighbour(&self, ip: IpAddr, found: Neighbour, gone: bool) -> bool {
        match self.peers.neighbours.get(&ip) {
            Some(mac) => {
                gone || found
                    != Neighbour {
                        mac: Some(*mac),
                        permanent: true,
                    }
            }
            None => !gone && found.permanent && self.peers.complete,
        }
    }

    fn fdb(&self, mac: Mac, dst: IpAddr, found: FdbEntry, gone: bool) -> bool {
        match self.peers.fdb.get(&mac) {
            Some(wanted) => {
                let right = dst == IpAddr::V4(*wanted)
                    && found
                        == FdbEntry {
                            permanent: true,
                            plain: true,
                        };
                gone || !right
            }
            None => !gone && found.permanent && self.peers.complete,
        }
    }

    /// The kernel does not tell of the routes that go with a nexthop object.
    fn nexthop(&self, id: u32, found: &Nexthop, gone: bool) -> bool {
        match nexthops::is_wanted(&self.peers, id) {
            true => gone || !nexthops::is_right(id, found),
            false => !gone && found.protocol == PROTOCOL && self.peers.complete,
        }
    }
}

fn differ_in_peers_only(one: &Desired, other: &Desired) -> bool {
    let Desired {
        cni,
        backend,
        firewall,
        own,
        fit_mtu,
        tx_checksum,
        removal,
        vtep,
        overlays,
        peers: _,
    } = one;
    (cni, backend, firewall, own, fit_mtu)
        == (
            &other.cni,
            &other.backend,
            &other.firewall,
            &other.own,
            &other.fit_mtu,
        )
        && (tx_checksum, removal, vtep, overlays)
            == (
                &other.tx_checksum,
                &other.removal,
                &other.vtep,
                &other.overlays,
            )
}

/// Whether a device looks like one of ours under a former name.
fn is_lookalike(name: &str, kind: &DeviceKind) -> bool {
    match kind {
        DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            ..
        } => name == format!("vtep{vni}"),
        _ => false,
    }
}
