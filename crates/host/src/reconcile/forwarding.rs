//! Forwarding of packets from and to containers.

use std::collections::BTreeSet;
use std::sync::Arc;

use overlay_core::host_api::desired::{Backend, Desired};
use overlay_core::util::family::Family;

use super::observed::Observed;
use super::op::Op;
use super::types::Plan;

/// Plans forwarding of the host. (With another backend, that backend turns it on, or the CNI
/// plugin for a bridge that is a gateway.)
pub(super) fn plan(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    if has_subnets(desired, Family::V4) && observed.forwarding.v4 != Some(true) {
        plan.ops.push(Op::EnableForwarding(Family::V4));
    }
    if !forwards_ipv6(desired) {
        return;
    }
    if observed.forwarding.v6 != Some(true) {
        plan.ops.push(Op::EnableForwarding(Family::V6));
    }
    for device in &observed.losing_routers {
        // In the name of a setting a slash stands for a dot of the device's name.
        let setting = device.replace('.', "/");
        plan.warnings.push(format!(
            "this host has IPv6 addresses or routes from router advertisements on {device}, and the kernel accepts \
             no more of them since it forwards IPv6 for containers: they will be lost unless you set the sysctl \
             net.ipv6.conf.{setting}.accept_ra to 2"
        ));
    }
}

/// Plans forwarding of packets that come from the overlays' own devices. (The switch of the host
/// turns it on for all devices, and for those to come. Somebody can turn it off again for one of
/// them, or for those to come.)
pub(super) fn plan_devices(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for (device, family) in devices(desired) {
        let is_turned_on = plan.ops.contains(&Op::EnableForwarding(family));
        let closed = match is_new(&plan.ops, device) {
            true => observed.defaults.not_forwarding.contains(&family),
            false => observed
                .not_forwarding
                .contains(&(device.to_owned(), family)),
        };
        if closed && !is_turned_on {
            let device: Arc<str> = device.into();
            plan.ops.push(Op::EnableDeviceForwarding(device, family));
        }
    }
}

/// Returns the devices of the overlays, and the families that each has to forward.
pub(crate) fn devices(desired: &Desired) -> BTreeSet<(&str, Family)> {
    let mut devices = BTreeSet::new();
    if desired.backend == Backend::External || desired.overlays.is_empty() {
        return devices;
    }
    if let Some(vtep) = &desired.vtep {
        let families = Family::BOTH.into_iter();
        let families = families.filter(|family| has_subnets(desired, *family));
        devices.extend(families.map(|family| (vtep.name.as_str(), family)));
    }
    let bridges = desired.mesos_bridges().into_iter();
    for (name, bridge) in bridges.chain(desired.docker_bridges()) {
        let families = Family::BOTH.into_iter();
        let families = families.filter(|family| bridge.has(*family));
        devices.extend(families.map(|family| (name, family)));
    }
    devices
}

/// Returns whether one of these operations creates a device.
pub(super) fn is_new(ops: &[Op], device: &str) -> bool {
    ops.iter().any(|op| match op {
        Op::AddDevice(new) => &*new.name == device,
        Op::AddBridge(name, _) => &**name == device,
        _ => false,
    })
}

/// Returns whether containers have IPv6, so that the host has to forward it.
pub(crate) fn forwards_ipv6(desired: &Desired) -> bool {
    desired.backend == Backend::Internal && has_subnets(desired, Family::V6)
}

/// Returns whether overlays have subnets of a family for containers on this host.
fn has_subnets(desired: &Desired, family: Family) -> bool {
    let overlays = desired.overlays.values();
    let mut subnets = overlays.flat_map(|overlay| &overlay.subnets);
    desired.has_bridge() && subnets.any(|subnet| family.includes(*subnet))
}
