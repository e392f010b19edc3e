//! The VXLAN device and its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, VXLAN_PORT, Vtep};

use super::limits::Limits;
use super::nexthops::Nexthops;
use super::observed::{Device, DeviceKind, Kernel, Route};
use super::op::{DeviceChange, NewDevice, Op};
use super::peers;
use super::rules;
use super::types::Plan;
use super::wanted::Wanted;

/// Plans the device and everything on it. `max_mtu` is the largest MTU that fits into the
/// underlay.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, max_mtu: Option<u32>, plan: &mut Plan) {
    let vtep = super::vtep_with_mtu(desired, max_mtu);
    let limits = vtep
        .as_ref()
        .map(|vtep| Limits::new(desired, vtep, &plan.draining, &kernel.networks));
    if let (Some(vtep), Some(limits)) = (&vtep, &limits) {
        plan.obstacle = limits.vtep_fault(&vtep.name);
        if plan.obstacle.is_some() {
            return;
        }
    }
    // Containers of removed overlays use the device until they end.
    let stale = kernel
        .stale_devices
        .iter()
        .filter(|_| desired.vtep.is_some() || plan.draining.is_empty());
    for name in stale.collect::<Vec<_>>() {
        plan.ops.push(Op::RemoveDevice(name.as_str().into()));
    }
    let (Some(vtep), Some(mut limits)) = (&vtep, limits) else {
        return;
    };
    let name: Arc<str> = vtep.name.as_str().into();
    let Some(mut device) = link(vtep, &name, kernel.device.as_ref(), plan) else {
        return;
    };
    let before = device.routes.clone();
    addresses(vtep, &name, &mut device, plan);
    let rules = kernel.rules.iter().filter(|rule| rules::may_be_ours(rule));
    limits.former_ranges = rules.map(|rule| rule.from).collect();
    limits.heed(vtep, &kernel.foreign_routes, &device.routes, &plan.ops);
    // As long as the peers are unknown the wanted objects are the existing ones, those that the
    // operations above remove included.
    plan.problems.extend(limits.diverted());
    let mut wanted = Wanted::new(desired, vtep, limits, kernel.device.as_ref(), plan);
    let lost = before.difference(&device.routes);
    let lost = lost.filter(|route| wanted.limits.is_ours(route));
    wanted.doubtful = lost.map(Route::key).collect();
    let is_new_device = plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_)));
    let nexthops = Nexthops::new(kernel, is_new_device, &wanted.objects);
    peers::plan(&wanted, &name, &device, nexthops.as_ref(), plan);
}

/// Plans the device itself. Returns the device after these operations; `None`: it cannot be
/// created.
fn link(
    vtep: &Vtep,
    name: &Arc<str>,
    observed: Option<&Device>,
    plan: &mut Plan,
) -> Option<Device> {
    let Some(device) = observed else {
        return Some(add(vtep, name, plan));
    };
    match &device.kind {
        DeviceKind::Other(kind) => {
            plan.obstacle = Some(format!(
                "cannot create VXLAN device {name}: there is a device of this name and of kind \"{kind}\", which \
                 is not ours; remove or rename it"
            ));
            None
        }
        DeviceKind::Vxlan { vni, port, .. } if (*vni, *port) != (Some(vtep.vni), VXLAN_PORT) => {
            plan.ops.push(Op::RemoveDevice(name.clone()));
            Some(add(vtep, name, plan))
        }
        DeviceKind::Vxlan { learning, .. } => {
            let mut device = device.clone();
            let mut set = |change| plan.ops.push(Op::SetDevice(name.clone(), change));
            if *learning {
                set(DeviceChange::NoLearning);
            }
            if device.mac != vtep.mac {
                set(DeviceChange::Mac(vtep.mac));
                device.neighbours.clear();
            }
            if let Some(mtu) = vtep.mtu.filter(|mtu| *mtu != device.mtu) {
                set(DeviceChange::Mtu(mtu));
            }
            if !device.up {
                set(DeviceChange::Up);
            }
            Some(device)
        }
    }
}

/// Plans a new device and returns it, with nothing on it.
fn add(vtep: &Vtep, name: &Arc<str>, plan: &mut Plan) -> Device {
    let Vtep { vni, mac, mtu, .. } = *vtep;
    plan.ops.push(Op::AddDevice(NewDevice {
        name: name.clone(),
        vni,
        port: VXLAN_PORT,
        mac,
        mtu,
    }));
    Device {
        kind: DeviceKind::Vxlan {
            vni: Some(vni),
            port: VXLAN_PORT,
            learning: false,
        },
        mac,
        mtu: mtu.unwrap_or_default(),
        up: true,
        addresses: BTreeSet::new(),
        neighbours: BTreeMap::new(),
        fdb: BTreeMap::new(),
        routes: BTreeSet::new(),
    }
}

/// Plans the addresses, and removes from `device` what the kernel removes with them.
fn addresses(vtep: &Vtep, name: &Arc<str>, device: &mut Device, plan: &mut Plan) {
    let wanted: BTreeSet<IpNet> = vtep.addresses.iter().copied().collect();
    // The kernel has an IPv6 address with one prefix length only, so wrong ones are removed
    // first.
    for wrong in device
        .addresses
        .difference(&wanted)
        .copied()
        .collect::<Vec<_>>()
    {
        plan.ops.push(Op::RemoveAddress(name.clone(), wrong));
        lose_address(device, wrong);
    }
    for missing in wanted.difference(&device.addresses) {
        plan.ops.push(Op::AddAddress(name.clone(), *missing));
    }
}

/// Removes from `device` what the kernel removes with an address: further addresses of the
/// same subnet, if it was the first one, and with the last one all routes of the family
/// except those that refer to a nexthop object. It is assumed that the address was the first:
/// setting an existing address again does no harm.
fn lose_address(device: &mut Device, lost: IpNet) {
    let is_v4 = lost.addr().is_ipv4();
    device
        .addresses
        .retain(|other| other.trunc() != lost.trunc());
    if !device
        .addresses
        .iter()
        .any(|other| other.addr().is_ipv4() == is_v4)
    {
        device
            .routes
            .retain(|route| route.dst.addr().is_ipv4() != is_v4 || route.nexthop.is_some());
    }
}
