//! The planner: compares the desired state of a host with the observed one, and returns the
//! difference as a list of operations in an order that works. Pure: no kernel, no disk, no
//! clock.
//!
//! Order: forwarding, the device, its addresses, the peers (neighbours and FDB entries before
//! the routes to them), rules, bridges. The CNI configurations tell Mesos that a network
//! works, so they are removed first and written last.
//!
//! Some operations remove more than they say: a device goes with everything on it, and a new
//! hardware address makes the kernel forget the neighbours. The planner knows that, and
//! restores the lost objects in the same plan.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use overlay_core::host_api::desired::{Backend, Desired, Vtep};

use crate::cni::{self, content};

use constants::VXLAN_OVERHEAD;
use observed::{Kernel, Observed, Underlay};

mod bridges;
mod constants;
mod description;
mod device;
mod events;
mod expected;
mod first_aid;
mod foreign;
mod forwarding;
mod ipv6;
mod leftovers;
mod limits;
mod nexthops;
pub mod observed;
mod op;
mod peers;
mod ports;
mod rules;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod types;
mod wanted;

pub use constants::{MAIN_TABLE, PROTOCOL, RULE_PRIORITY};
pub use events::{Change, Clue, Event, Link, NexthopEvent, Object, Reaction, Subject};
pub use expected::{ExpectedState, Surroundings};
pub use first_aid::{Unassigned, first_aid};
pub(crate) use forwarding::{devices as forwarding_devices, forwards_ipv6};
pub(crate) use nexthops::after as nexthops_after;
pub use op::{
    ChecksumOffload, DeviceChange, NewDevice, NewRoute, OldRoute, OldRule, Op, PeerObject, Port,
    RouteKey, Scope, nexthop_id,
};
pub(crate) use ports::is_ours as is_our_port;
pub(crate) use rules::former_ranges;
pub use types::{Draining, PeerObjectCounts, Plan, RemovedPart, WantedObjects};

/// Returns the operations that make `observed` match `desired`. That of a host that matches is empty.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    Plan {
        wanted: WantedObjects::default(),
        ..plan_and_count(desired, observed)
    }
}

/// Returns the operations that make `observed` match `desired`, and counts the objects that the host
/// should have.
pub(crate) fn plan_and_count(desired: &Desired, observed: &Observed) -> Plan {
    let max_mtu = observed.underlay.as_ref().map(max_inner_mtu);
    let mut plan = Plan {
        ipv6_fault: ipv6::fault(desired, observed),
        ..Plan::default()
    };
    let mut feasible = feasible(desired, plan.ipv6_fault.is_some());
    plan.overlay_faults = ipv6::strip_narrow(&mut feasible, max_mtu);
    let desired = &*feasible;
    remove_cni(desired, observed, &mut plan);
    if desired.backend == Backend::Internal {
        forwarding::plan(desired, observed, &mut plan);
    }
    if let (Backend::Internal, Some(kernel)) = (desired.backend, &observed.kernel) {
        plan.refused = refused(desired, kernel);
        leftovers::plan(desired, observed, kernel, &mut plan);
        device::plan(desired, observed, kernel, &mut plan);
        tx_checksum(desired, observed, &mut plan);
        rules::plan(desired, kernel, &mut plan);
        plan.wanted.bridges = desired.mesos_bridges().len();
        bridges::plan(desired, kernel, &observed.defaults, &mut plan);
        bridges::plan_docker(kernel, &mut plan);
        ports::plan(desired, kernel, &mut plan);
    }
    if desired.backend == Backend::Internal {
        forwarding::plan_devices(desired, observed, &mut plan);
    }
    check_mtu(desired, observed, &mut plan);
    write_cni(desired, observed, max_mtu, &mut plan);
    plan
}

/// Returns the part of the desired state that is possible on a host: without IPv6, if the overlays
/// cannot have it.
pub(crate) fn feasible(desired: &Desired, is_without_ipv6: bool) -> Cow<'_, Desired> {
    match is_without_ipv6 {
        true => Cow::Owned(ipv6::without(desired)),
        false => Cow::Borrowed(desired),
    }
}

/// Returns the overlays whose bridges collide with networks of the host.
fn refused(desired: &Desired, kernel: &Kernel) -> BTreeMap<String, String> {
    let overlays = desired.overlays.iter();
    let refused = overlays.filter_map(|(name, overlay)| {
        let fault = limits::bridge_fault(overlay, &kernel.networks)?;
        Some((name.clone(), fault))
    });
    refused.collect()
}

/// Plans the place where checksums are computed. By default it is the underlay's network card.
fn tx_checksum(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let Some(wanted) = ChecksumOffload::desired(desired.tx_checksum) else {
        return;
    };
    let is_new_device = plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_)));
    let now = match is_new_device {
        true => Some(ChecksumOffload::On),
        false => observed.tx_checksum,
    };
    if plan.obstacle.is_some() || now == Some(wanted) {
        return;
    }
    if let Some(vtep) = &desired.vtep {
        plan.ops
            .push(Op::SetTxChecksum(vtep.name.as_str().into(), wanted));
    }
}

/// Returns the largest MTU of an inner packet whose VXLAN packet fits into the underlay.
pub fn max_inner_mtu(underlay: &Underlay) -> u32 {
    underlay.mtu.saturating_sub(VXLAN_OVERHEAD)
}

/// Returns the VTEP with the MTU that its device gets. `max_mtu` is the largest MTU that fits into
/// the underlay.
fn vtep_with_mtu(desired: &Desired, max_mtu: Option<u32>) -> Option<Vtep> {
    desired.vtep.as_ref().map(|vtep| Vtep {
        mtu: vtep.mtu.or(max_mtu),
        ..vtep.clone()
    })
}

/// Plans the removal of CNI configurations of overlays that were removed or lost their
/// bridge.
fn remove_cni(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let wanted = content::wanted(desired, None);
    let files = observed.cni.iter().flatten();
    let stale = files.filter(|(overlay, file)| file.ours && !wanted.contains_key(overlay.as_str()));
    plan.ops.extend(stale.map(|(overlay, _)| Op::RemoveCni {
        overlay: overlay.clone(),
        file: cni::files::name(&desired.cni, overlay),
    }));
}

/// Plans the CNI configurations that are missing or differ.
fn write_cni(desired: &Desired, observed: &Observed, max_mtu: Option<u32>, plan: &mut Plan) {
    let Some(files) = &observed.cni else { return };
    let mut wanted = content::wanted(desired, max_mtu);
    plan.wanted.cni_files = wanted.len();
    wanted.retain(|overlay, _| !observed.cni_obstacles.contains(*overlay));
    for (overlay, content) in wanted {
        let file = files.get(overlay);
        if file.is_none_or(|file| file.content != content) {
            let op = Op::WriteCni {
                overlay: overlay.to_owned(),
                file: cni::files::name(&desired.cni, overlay),
                content,
            };
            match plan.refused.contains_key(overlay) {
                true => plan.left_out.push(op),
                false => plan.ops.push(op),
            }
        }
    }
}

/// Warns of configured MTUs that are too large for the underlay: such packets are lost
/// without an error.
fn check_mtu(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let Some(underlay) = &observed.underlay else {
        return;
    };
    let mut check = |key: String, mtu: u32| {
        if mtu.saturating_add(VXLAN_OVERHEAD) > underlay.mtu {
            plan.warnings.push(format!(
                "{key} is {mtu}, but packets of more than {max} bytes do not fit into {device} (MTU {whole}) with \
                 their {VXLAN_OVERHEAD} bytes of VXLAN headers, and get lost; lower it to {max} or raise that of \
                 {device}",
                max = max_inner_mtu(underlay),
                device = underlay.narrowest(),
                whole = underlay.mtu,
            ));
        }
    };
    if let Some(mtu) = desired.vtep.as_ref().and_then(|vtep| vtep.mtu) {
        check("vtep_mtu".to_owned(), mtu);
    }
    if desired.fit_mtu {
        // No operator set overlay_mtu: the files have an MTU that fits.
        return;
    }
    for (name, overlay) in &desired.overlays {
        if overlay.mesos_bridge.is_some() || overlay.docker_bridge.is_some() {
            check(format!("overlay_mtu of network {name}"), overlay.mtu);
        }
    }
}
