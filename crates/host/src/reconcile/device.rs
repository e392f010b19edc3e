//! The VXLAN device and its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, VXLAN_PORT, Vtep};
use overlay_core::util::family::Family;

use super::forwarding::is_new;
use super::ipv6::MIN_MTU;
use super::limits::Limits;
use super::nexthops::Nexthops;
use super::observed::{
    Device, DeviceKind, HostNetworks, Kernel, Observed, Route, Tunnel, Underlay,
};
use super::op::{DeviceChange, NewDevice, Op};
use super::peers;
use super::rules;
use super::types::Plan;
use super::wanted::Wanted;

/// Outer headers that the device should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WantedTunnel {
    /// Source address.
    local: Option<Ipv4Addr>,
    /// Index of the only device that leads to the peers; `None`: there are several, or none is
    /// known.
    only_link: Option<u32>,
    /// True if the underlay is known.
    is_known: bool,
}

impl WantedTunnel {
    /// Returns what the device of this host should have. The source address is the agent's, by
    /// which peers know this host, and which firewalls on the way expect. Otherwise the kernel
    /// would choose another one on a host with two network cards or a virtual IP.
    pub(super) fn new(
        desired: &Desired,
        networks: &HostNetworks,
        underlay: Option<&Underlay>,
    ) -> WantedTunnel {
        let is_own = |ip: &Ipv4Addr| networks.iter().any(|own| own.net.addr() == IpAddr::V4(*ip));
        WantedTunnel {
            local: desired.underlay_ip.filter(is_own),
            only_link: underlay.and_then(Underlay::only_device),
            is_known: underlay.is_some(),
        }
    }

    /// Returns whether a device is as wanted. A device of the predecessor can be bound to the
    /// one network card that leads to the peers.
    pub(super) fn includes(&self, tunnel: &Tunnel) -> bool {
        self.can_be_kept(tunnel) && self.changes(tunnel).is_empty()
    }

    /// Returns whether the kernel can change a device so that it is as wanted.
    fn can_be_kept(&self, tunnel: &Tunnel) -> bool {
        let is_right_link = match tunnel.link {
            None => true,
            Some(_) if !self.is_known => true,
            link => link == self.only_link,
        };
        is_right_link && tunnel.others.is_empty() && !tunnel.local.is_some_and(|ip| ip.is_ipv6())
    }

    /// Returns the changes that the kernel makes without a loss of packets.
    fn changes(&self, tunnel: &Tunnel) -> Vec<DeviceChange> {
        let mut changes = Vec::new();
        if tunnel.local != self.local.map(IpAddr::V4) {
            changes.push(DeviceChange::Local(self.local));
        }
        if tunnel.ttl != 0 {
            changes.push(DeviceChange::DefaultTtl);
        }
        if tunnel.tos != 0 {
            changes.push(DeviceChange::NoTos);
        }
        changes
    }

    /// Returns the options of a device that is created.
    fn tunnel(&self) -> Tunnel {
        Tunnel {
            local: self.local.map(IpAddr::V4),
            ..Tunnel::default()
        }
    }
}

/// Plans the device and everything on it.
pub(super) fn plan(desired: &Desired, observed: &Observed, kernel: &Kernel, plan: &mut Plan) {
    let underlay = observed.underlay.as_ref();
    let vtep = super::vtep_with_mtu(desired, underlay.map(super::max_inner_mtu));
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
    let tunnel = WantedTunnel::new(desired, &kernel.networks, underlay);
    let Some(mut device) = link(vtep, &name, &tunnel, kernel.device.as_ref(), plan) else {
        return;
    };
    if vtep.addresses.iter().any(|own| Family::V6.includes(*own)) {
        // With a small MTU the device loses all that it has of IPv6, its settings included.
        let found = kernel.device.as_ref().filter(|found| found.mtu >= MIN_MTU);
        let is_without = match found.filter(|_| !is_new(&plan.ops, &name)) {
            Some(found) => found.is_without_ipv6,
            None => observed.defaults.is_without_ipv6,
        };
        if is_without {
            plan.ops.push(Op::EnableIpv6(name.clone()));
        }
    }
    let before = device.routes.clone();
    addresses(vtep, &name, &mut device, plan);
    limits.former_ranges = rules::former_ranges(kernel);
    limits.heed(vtep, &kernel.foreign_routes, &device.routes, &plan.ops);
    // As long as the peers are unknown the wanted objects are the existing ones, those that the
    // operations above remove included.
    plan.problems.extend(limits.diverted());
    let mut wanted = Wanted::new(desired, vtep, limits, kernel.device.as_ref(), plan);
    plan.wanted.devices = 1;
    plan.wanted.peers = wanted.peers_known.then(|| wanted.objects.counts());
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
    tunnel: &WantedTunnel,
    observed: Option<&Device>,
    plan: &mut Plan,
) -> Option<Device> {
    let Some(device) = observed else {
        return Some(add(vtep, name, tunnel, plan));
    };
    match &device.kind {
        DeviceKind::Other(kind) => {
            plan.obstacle = Some(format!(
                "cannot create VXLAN device {name}: there is a device of this name and of kind \"{kind}\", which \
                 is not ours; remove or rename it"
            ));
            None
        }
        DeviceKind::Vxlan { vni, port, .. }
            if (*vni, *port) != (Some(vtep.vni), VXLAN_PORT)
                || !tunnel.can_be_kept(&device.tunnel) =>
        {
            plan.ops.push(Op::RemoveDevice(name.clone()));
            Some(add(vtep, name, tunnel, plan))
        }
        DeviceKind::Vxlan { learning, .. } => {
            let mut device = device.clone();
            let mut set = |change| plan.ops.push(Op::SetDevice(name.clone(), change));
            if *learning {
                set(DeviceChange::NoLearning);
            }
            tunnel
                .changes(&device.tunnel)
                .into_iter()
                .for_each(&mut set);
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
fn add(vtep: &Vtep, name: &Arc<str>, tunnel: &WantedTunnel, plan: &mut Plan) -> Device {
    let Vtep { vni, mac, mtu, .. } = *vtep;
    plan.ops.push(Op::AddDevice(NewDevice {
        name: name.clone(),
        vni,
        port: VXLAN_PORT,
        local: tunnel.local,
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
        is_without_ipv6: false,
        tunnel: tunnel.tunnel(),
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
