//! The VXLAN device and its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, VXLAN_PORT, Vtep};

use super::nexthops::Nexthops;
use super::observed::{Device, DeviceKind, Kernel};
use super::peers;
use super::peers::Wanted;
use super::{DeviceChange, NewDevice, Op, Plan};

/// Plans the device and everything on it.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, fits: Option<u32>, plan: &mut Plan) {
    // Containers of overlays that are gone go on using it until they are gone too.
    let stale = kernel
        .stale_devices
        .iter()
        .filter(|_| desired.vtep.is_some() || plan.draining.is_empty());
    for name in stale.collect::<Vec<_>>() {
        plan.ops.push(Op::RemoveDevice(name.as_str().into()));
    }
    let Some(vtep) = &desired.vtep else { return };
    let vtep = &Vtep {
        mtu: vtep.mtu.or(fits),
        ..vtep.clone()
    };
    // From what there was before anything is taken away: what stands for the
    // peers as long as nobody said who they are.
    let wanted = Wanted::new(desired, vtep, kernel.device.as_ref(), plan);
    let name: Arc<str> = vtep.name.as_str().into();
    if let Some(mut device) = link(vtep, &name, kernel.device.as_ref(), plan) {
        addresses(vtep, &name, &mut device, plan);
        let is_new = plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_)));
        let nexthops = Nexthops::new(kernel, is_new, &wanted);
        peers::plan(&wanted, &name, &device, nexthops.as_ref(), plan);
    }
}

/// Makes the device itself right. Gives what will then be on it; `None` when it
/// cannot be had.
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
                "cannot have VXLAN device {name}: there is a device of this name and of kind \"{kind}\", which \
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

/// A new device, with nothing on it.
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

/// Makes the addresses right, and takes from `device` what gets lost by it.
fn addresses(vtep: &Vtep, name: &Arc<str>, device: &mut Device, plan: &mut Plan) {
    let wanted: BTreeSet<IpNet> = vtep.addresses.iter().copied().collect();
    // The kernel has IPv6 addresses with one prefix length only, so that wrong
    // ones go first.
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

/// What the kernel takes away with an address: further addresses of the same
/// subnet, if it was the first one; with the last one all routes of the family.
/// That it was the first is assumed: to set again what is still there does no
/// harm. Routes that go by a nexthop object stay.
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
