//! The difference between what a host should be like and what it is, as a list of
//! operations in an order in which they work. Pure: no kernel, no disk, no clock.
//!
//! The order: forwarding, then the device, its addresses, the peers (neighbours
//! and FDB before the routes that lead to them), the rules, the bridges; what Mesos takes as
//! "this network works", the CNI configurations, is removed first and written
//! last.
//!
//! Some operations take more away than they say (a device goes with everything
//! on it, a changed MAC makes the kernel forget the neighbours). The planner
//! knows, and puts back in the same plan what would be lost.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use overlay_core::host_api::desired::{Backend, Checksum, Desired, Vtep};

use crate::cni;
use crate::reconcile::observed::{Observed, Underlay};

mod bridges;
mod device;
mod events;
mod leftovers;
mod nexthops;
pub mod observed;
mod op;
mod peers;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use bridges::{dockers as dockers_bridges, wanted as wanted_bridges};
pub use events::{Event, Meaning, Object, Watched};
pub use leftovers::Draining;
pub(crate) use nexthops::after as nexthops_after;
pub use op::{Concern, DeviceChange, NewDevice, NewRoute, OldRoute, Op, PeerObject, nexthop_id};

/// The routing table `main`.
pub const MAIN_TABLE: u32 = 254;

/// What our routes and rules carry as their origin (`RTPROT_*`), so that they can
/// be told from everybody else's. Free in the kernel's list and in those of the
/// routing daemons; 100 and [`overlay_core::host_api::desired::CONTAINER_TABLE`].
pub const PROTOCOL: u8 = 142;

/// Where our rules stand: right before the kernel's own rule for `main` (32766),
/// after whatever rules an operator has.
pub const RULE_PRIORITY: u32 = 32765;

/// What `dcos-net` puts as the origin of its routes: `RTPROT_BOOT`, which is
/// also what `ip route` uses.
const PROTOCOL_BOOT: u8 = 3;

/// How the names of the Mesos containerizer's bridges begin; the overlay's follows.
pub const MESOS_BRIDGE: &str = "m-";

/// The same of Docker's bridges.
pub const DOCKER_BRIDGE: &str = "d-";

/// Bytes that VXLAN over IPv4 puts around a packet: the outer IPv4, UDP and VXLAN
/// headers and the inner Ethernet header.
const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// Why there cannot be a tunnel at all, in a sentence.
    pub obstacle: Option<String>,
    /// What else cannot be made right, one sentence each.
    pub problems: Vec<String>,
    /// Overlays that are gone but for their containers.
    pub draining: Vec<Draining>,
    /// What an operator should know though it is as desired, one sentence each.
    pub warnings: Vec<String>,
}

/// What it takes to make `observed` like `desired`.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let fits = observed.underlay.as_ref().map(fitting_mtu);
    remove_cni(desired, observed, &mut plan);
    if desired.backend == Backend::Internal {
        forwarding(desired, observed, &mut plan);
    }
    if let (Backend::Internal, Some(kernel)) = (desired.backend, &observed.kernel) {
        leftovers::plan(desired, observed, kernel, &mut plan);
        device::plan(desired, kernel, fits, &mut plan);
        tx_checksum(desired, observed, &mut plan);
        rules::plan(desired, kernel, &mut plan);
        bridges::plan(desired, kernel, &mut plan);
        bridges::settle_dockers(kernel, &mut plan);
    }
    check_mtu(desired, observed, &mut plan);
    write_cni(desired, observed, fits, &mut plan);
    plan
}

/// A new device has it on.
fn tx_checksum(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let on = match desired.tx_checksum {
        Checksum::Auto => return,
        Checksum::On => true,
        Checksum::Off => false,
    };
    let is_new = plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_)));
    let now = if is_new {
        Some(true)
    } else {
        observed.tx_checksum
    };
    if let Some(vtep) = desired
        .vtep
        .as_ref()
        .filter(|_| plan.obstacle.is_none() && now != Some(on))
    {
        plan.ops
            .push(Op::SetTxChecksum(vtep.name.as_str().into(), on));
    }
}

/// The largest MTU of packets that still fit into the underlay once they have
/// their VXLAN headers.
pub fn fitting_mtu(underlay: &Underlay) -> u32 {
    underlay.mtu.saturating_sub(VXLAN_OVERHEAD)
}

/// The VTEP with the MTU that its device gets.
pub fn fitted_vtep(desired: &Desired, underlay: Option<&Underlay>) -> Option<Vtep> {
    let fits = underlay.map(fitting_mtu);
    desired.vtep.as_ref().map(|vtep| Vtep {
        mtu: vtep.mtu.or(fits),
        ..vtep.clone()
    })
}

/// Packets of containers are forwarded from and to their bridge. (Where another
/// program sees to the data plane this is its business, or the CNI plugin's, which
/// turns it on for a bridge that is a gateway.)
fn forwarding(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    if !desired.overlays.is_empty() && observed.forwarding.v4 != Some(true) {
        plan.ops.push(Op::EnableForwarding);
    }
    if !forwards_ipv6(desired) {
        return;
    }
    if observed.forwarding.v6 != Some(true) {
        plan.ops.push(Op::EnableForwarding6);
    }
    if let Some(underlay) = observed
        .underlay
        .as_ref()
        .filter(|_| observed.forgets_routers)
    {
        // A dot in a device's name is written so in the name of its setting.
        let device = underlay.device.replace('.', "/");
        plan.warnings.push(format!(
            "this host has IPv6 addresses or routes from router advertisements on {}, and the kernel takes no \
             more of them since it forwards IPv6 for containers: they will be lost unless you set the sysctl \
             net.ipv6.conf.{device}.accept_ra to 2",
            underlay.device
        ));
    }
}

/// Whether containers have IPv6, so that it has to be forwarded.
pub(crate) fn forwards_ipv6(desired: &Desired) -> bool {
    let mut subnets = desired
        .overlays
        .values()
        .flat_map(|overlay| &overlay.subnets);
    desired.backend == Backend::Internal && subnets.any(|subnet| subnet.addr().is_ipv6())
}

/// The configurations of overlays that went away, or lost their bridge.
fn remove_cni(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let wanted = cni::wanted(desired, None);
    let files = observed.cni.iter().flatten();
    let stale = files.filter(|(overlay, file)| file.ours && !wanted.contains_key(overlay.as_str()));
    plan.ops.extend(stale.map(|(overlay, _)| Op::RemoveCni {
        overlay: overlay.clone(),
    }));
}

/// The configurations that are missing or differ.
fn write_cni(desired: &Desired, observed: &Observed, fits: Option<u32>, plan: &mut Plan) {
    let Some(files) = &observed.cni else { return };
    for (overlay, content) in cni::wanted(desired, fits) {
        if files
            .get(overlay)
            .is_none_or(|file| file.content != content)
        {
            plan.ops.push(Op::WriteCni {
                overlay: overlay.to_owned(),
                content,
            });
        }
    }
}

/// A packet that is too big for the underlay with its VXLAN headers gets lost
/// without a word.
fn check_mtu(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let Some(underlay) = &observed.underlay else {
        return;
    };
    let mut check = |what: String, mtu: u32| {
        if mtu.saturating_add(VXLAN_OVERHEAD) > underlay.mtu {
            plan.warnings.push(format!(
                "{what} is {mtu}, but packets of more than {fits} bytes do not fit into {device} \
                 (MTU {whole}) once they have their {VXLAN_OVERHEAD} bytes of VXLAN headers, and get lost; \
                 lower it to {fits} or raise that of {device}",
                fits = fitting_mtu(underlay),
                device = underlay.device,
                whole = underlay.mtu,
            ));
        }
    };
    if let Some(mtu) = desired.vtep.as_ref().and_then(|vtep| vtep.mtu) {
        check("vtep_mtu".to_owned(), mtu);
    }
    // The others are lowered to what fits.
    let told = desired.overlays.iter().filter(|_| !desired.fit_mtu);
    for (name, overlay) in told {
        if overlay.mesos_bridge.is_some() || overlay.docker_bridge.is_some() {
            check(format!("overlay_mtu of network {name}"), overlay.mtu);
        }
    }
}
