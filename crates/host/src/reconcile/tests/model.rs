//! A model of kernel and disk, with the side effects that the planner has to know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_core::host_api::desired::{Desired, Mac};
use overlay_core::util::family::Family;

use super::super::observed::{
    CniFile, Device, DeviceKind, FdbEntry, Forwarding, Kernel, MesosBridge, Neighbour, Nexthop,
    Observed, Route, Rule, Tunnel,
};
use super::super::{
    DeviceChange, NewRoute, OldRoute, OldRule, Op, PROTOCOL, Plan, RULE_PRIORITY, nexthop_id, plan,
};

/// Returns a host without any of our objects.
pub fn bare() -> Observed {
    Observed {
        forwarding: Forwarding {
            v4: Some(false),
            v6: Some(false),
        },
        cni: Some(BTreeMap::new()),
        kernel: Some(Kernel::default()),
        ..Observed::default()
    }
}

/// Returns a host without any of our objects. `nexthops`: the kernel has nexthop objects.
pub fn bare_with(nexthops: bool) -> Observed {
    let nexthops = nexthops.then(BTreeMap::new);
    Observed {
        kernel: Some(Kernel {
            nexthops,
            ..Kernel::default()
        }),
        ..bare()
    }
}

/// Returns a host that matches the desired state.
pub fn converged(desired: &Desired) -> Observed {
    converged_with(desired, false)
}

/// Returns a host that matches the desired state. `nexthops`: the kernel has nexthop objects.
pub fn converged_with(desired: &Desired, nexthops: bool) -> Observed {
    let mut observed = bare_with(nexthops);
    apply(&plan(desired, &observed), &mut observed);
    assert_eq!(plan(desired, &observed), Plan::default());
    observed
}

/// Returns a new device.
pub fn empty_device() -> Device {
    Device {
        kind: DeviceKind::Vxlan {
            vni: Some(1024),
            port: 64000,
            learning: false,
        },
        mac: Mac::default(),
        mtu: 1500,
        up: true,
        is_without_ipv6: false,
        tunnel: Tunnel::default(),
        addresses: BTreeSet::new(),
        neighbours: BTreeMap::new(),
        fdb: BTreeMap::new(),
        routes: BTreeSet::new(),
    }
}

/// Applies a plan. Panics where the kernel would refuse.
pub fn apply(plan: &Plan, observed: &mut Observed) {
    plan.ops.iter().for_each(|op| apply_op(op, observed));
}

fn apply_op(op: &Op, observed: &mut Observed) {
    let kernel = observed.kernel.get_or_insert_default();
    let files = observed.cni.get_or_insert_default();
    match op {
        Op::EnableForwarding(Family::V4) => observed.forwarding.v4 = Some(true),
        Op::EnableForwarding(Family::V6) => observed.forwarding.v6 = Some(true),
        Op::EnableDeviceForwarding(name, family) => {
            observed.not_forwarding.remove(&(name.to_string(), *family));
        }
        Op::EnableIpv6(name) => match kernel.mesos_bridges.get_mut(&**name) {
            Some(bridge) => bridge.is_without_ipv6 = false,
            None => kernel.device.as_mut().expect("no device").is_without_ipv6 = false,
        },
        Op::AddDevice(new) => {
            assert_eq!(kernel.device, None, "{op}");
            let kind = DeviceKind::Vxlan {
                vni: Some(new.vni),
                port: new.port,
                learning: false,
            };
            let mtu = new.mtu.unwrap_or(1500);
            kernel.device = Some(Device {
                kind,
                mac: new.mac,
                mtu,
                is_without_ipv6: observed.defaults.is_without_ipv6,
                tunnel: Tunnel {
                    local: new.local.map(IpAddr::V4),
                    ..Tunnel::default()
                },
                ..empty_device()
            });
        }
        Op::RemoveDevice(name) => {
            if !kernel.stale_devices.remove(&**name) && kernel.bridges.remove(&**name).is_none() {
                assert!(kernel.device.take().is_some(), "{op}");
                kernel
                    .nexthops
                    .iter_mut()
                    .for_each(|all| all.retain(|_, nexthop| !nexthop.on_vtep));
            }
        }
        Op::AddBridge(name, _) => {
            let new = MesosBridge {
                is_bridge: true,
                up: true,
                detects_duplicates: true,
                is_without_ipv6: observed.defaults.is_without_ipv6,
                ..Default::default()
            };
            assert!(
                kernel.mesos_bridges.insert(name.to_string(), new).is_none(),
                "{op}"
            );
        }
        Op::SkipDad(name) => {
            kernel
                .mesos_bridges
                .get_mut(&**name)
                .expect("no bridge")
                .detects_duplicates = false;
        }
        Op::AddRule { from, table, .. } => {
            // The kernel has only one rule with the same content, at any priority.
            assert!(kernel.rules.iter().all(|rule| rule.from != *from), "{op}");
            kernel.rules.insert(Rule {
                from: *from,
                priority: RULE_PRIORITY,
                table: *table,
                protocol: PROTOCOL,
            });
        }
        Op::RemoveRule(old) => {
            let OldRule {
                from,
                table,
                priority,
                protocol,
            } = *old;
            assert!(
                kernel.rules.remove(&Rule {
                    from,
                    priority,
                    table,
                    protocol,
                }),
                "{op}"
            );
        }
        Op::WriteCni {
            overlay, content, ..
        } => {
            files.insert(
                overlay.clone(),
                CniFile {
                    content: content.clone(),
                    ours: true,
                },
            );
        }
        Op::SetTxChecksum(_, offload) => observed.tx_checksum = Some(*offload),
        Op::RemoveCni { overlay, .. } => assert!(files.remove(overlay).is_some(), "{op}"),
        _ if op
            .device()
            .is_some_and(|name| kernel.mesos_bridges.contains_key(&**name)) =>
        {
            on_bridge(
                op,
                kernel
                    .mesos_bridges
                    .get_mut(&**op.device().unwrap())
                    .unwrap(),
            );
        }
        _ => {
            let device = kernel
                .device
                .as_mut()
                .unwrap_or_else(|| panic!("no device: {op}"));
            assert!(
                matches!(device.kind, DeviceKind::Vxlan { .. }),
                "not our device: {op}"
            );
            if let Some(nexthops) = &mut kernel.nexthops {
                on_nexthops(op, nexthops, device);
            }
            on_device(op, device);
        }
    }
}

fn on_bridge(op: &Op, bridge: &mut MesosBridge) {
    match op {
        Op::SetDevice(_, DeviceChange::Up) => bridge.up = true,
        Op::AddAddress(_, net) => _ = bridge.addresses.insert(*net),
        Op::RemoveAddress(_, net) => bridge
            .addresses
            .retain(|other| other.trunc() != net.trunc()),
        _ => unreachable!("{op} is about no bridge"),
    }
}

fn on_nexthops(op: &Op, nexthops: &mut BTreeMap<u32, Nexthop>, device: &mut Device) {
    match op {
        Op::AddNexthop(_, via) => {
            let nexthop = Nexthop {
                via: Some((*via).into()),
                on_vtep: true,
                protocol: PROTOCOL,
            };
            assert_eq!(nexthops.insert(nexthop_id(*via), nexthop), None, "{op}");
        }
        Op::RemoveNexthop(_, id) => {
            assert!(nexthops.remove(id).is_some(), "{op}");
            device.routes.retain(|route| route.nexthop != Some(*id));
        }
        Op::SetRoute(
            _,
            NewRoute {
                via,
                nexthop: Some(id),
                ..
            },
        ) => {
            assert_eq!(nexthops[id].via, Some(*via), "{op}");
            assert!(nexthops[id].on_vtep, "{op}");
        }
        _ => {}
    }
}

fn on_device(op: &Op, device: &mut Device) {
    match op {
        Op::AddNexthop(..) | Op::RemoveNexthop(..) => {}
        Op::SetDevice(_, change) => change_device(*change, device),
        Op::AddAddress(_, net) => {
            let same = |other: &&ipnet::IpNet| other.addr() == net.addr() && other.addr().is_ipv6();
            assert!(
                device
                    .addresses
                    .iter()
                    .find(same)
                    .is_none_or(|other| other == net),
                "{op}"
            );
            device.addresses.insert(*net);
        }
        Op::RemoveAddress(_, net) => {
            // The kernel removes later addresses of a subnet with the first one. Here the
            // removed one always is the first.
            device
                .addresses
                .retain(|other| other.trunc() != net.trunc());
            if !device
                .addresses
                .iter()
                .any(|other| is_v4(other.addr()) == is_v4(net.addr()))
            {
                device.routes.retain(|route| {
                    is_v4(route.dst.addr()) != is_v4(net.addr()) || route.nexthop.is_some()
                });
            }
        }
        Op::SetNeighbour(_, ip, mac) => {
            device.neighbours.insert(
                *ip,
                Neighbour {
                    mac: Some(*mac),
                    permanent: true,
                },
            );
        }
        Op::RemoveNeighbour(_, ip) => assert!(device.neighbours.remove(ip).is_some(), "{op}"),
        Op::SetFdb(_, mac, dst) => {
            device.fdb.retain(|(other, _), _| other != mac);
            device.fdb.insert(
                (*mac, (*dst).into()),
                FdbEntry {
                    permanent: true,
                    plain: true,
                },
            );
        }
        Op::RemoveFdb(_, mac, dst) => assert!(device.fdb.remove(&(*mac, *dst)).is_some(), "{op}"),
        Op::SetRoute(_, new) => set_route(op, *new, device),
        Op::RemoveRoute(_, old) => {
            let is_it = |route: &Route| {
                let Route {
                    table,
                    dst,
                    via,
                    metric,
                    protocol,
                    nexthop,
                    ..
                } = *route;
                *old == OldRoute {
                    table,
                    dst,
                    via,
                    metric,
                    protocol,
                    nexthop,
                }
            };
            let before = device.routes.len();
            device.routes.retain(|route| !is_it(route));
            assert!(device.routes.len() < before, "{op}");
        }
        _ => unreachable!("{op} is about no device"),
    }
}

fn change_device(change: DeviceChange, device: &mut Device) {
    match change {
        DeviceChange::NoLearning => {
            if let DeviceKind::Vxlan { learning, .. } = &mut device.kind {
                *learning = false;
            }
        }
        DeviceChange::Local(local) => device.tunnel.local = local.map(IpAddr::V4),
        DeviceChange::DefaultTtl => device.tunnel.ttl = 0,
        DeviceChange::NoTos => device.tunnel.tos = 0,
        DeviceChange::Mac(mac) => {
            device.mac = mac;
            device.neighbours.clear();
        }
        DeviceChange::Mtu(mtu) => device.mtu = mtu,
        DeviceChange::Up => device.up = true,
    }
}

/// Creates a route, or replaces the first one of the same destination and metric (and of no TOS),
/// which must be ours.
fn set_route(op: &Op, new: NewRoute, device: &mut Device) {
    let NewRoute {
        table,
        dst,
        via,
        nexthop,
        replaces,
    } = new;
    assert!(
        device
            .addresses
            .iter()
            .any(|address| address.contains(&via)),
        "no way to the gateway: {op}"
    );
    let metric = if is_v4(via) { 0 } else { 1024 };
    let same = |route: &&Route| {
        route.plain && (route.table, route.dst, route.metric) == (table, dst, metric)
    };
    if let Some(old) = device.routes.iter().find(same).copied() {
        assert!(replaces, "{old:?} exists: {op}");
        assert_ne!(old.protocol, 4, "somebody else's: {op}");
        device.routes.remove(&old);
    }
    let (protocol, plain) = (PROTOCOL, true);
    device.routes.insert(Route {
        table,
        dst,
        via: Some(via),
        metric,
        protocol,
        plain,
        nexthop,
    });
}

fn is_v4(ip: IpAddr) -> bool {
    ip.is_ipv4()
}
