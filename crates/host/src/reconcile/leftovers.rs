//! Bridges that are not desired any more: those of removed overlays, and of containerizers
//! that no longer use an overlay.
//!
//! Mesos's bridges are removed by this module only. Docker removes its bridges with their
//! networks, so this module only keeps the connectivity of containers that are still attached.

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Removal};
use overlay_core::host_api::names::parse_bridge_name;
use overlay_core::host_api::usage::Containerizer;

use super::observed::{Kernel, Leftover, Observed};
use super::op::Op;
use super::rules;
use super::types::{Draining, Plan, RemovedPart};

/// Plans the removal of unused bridges, and notes those in use.
pub(super) fn plan(desired: &Desired, observed: &Observed, kernel: &Kernel, plan: &mut Plan) {
    for (name, bridge) in &kernel.bridges {
        let Some((containerizer, overlay)) = parse_bridge_name(name) else {
            continue;
        };
        let ranges = ranges(bridge, kernel);
        let files = observed.cni.as_ref();
        let has_file = files
            .and_then(|files| files.get(overlay))
            .is_some_and(|file| file.ours);
        let is_mesos = containerizer == Containerizer::Mesos;
        // An operator's bridge may have such a name, too.
        let name_is_enough = desired.removal != Removal::Careful;
        let is_ours = !ranges.is_empty() || is_mesos && (name_is_enough || has_file);
        if !is_ours {
            continue;
        }
        if bridge.ports == 0 || desired.removal == Removal::Forced {
            if is_mesos {
                plan.ops.push(Op::RemoveDevice(name.as_str().into()));
            }
            continue;
        }
        plan.draining.push(Draining {
            overlay: overlay.to_owned(),
            part: match desired.overlays.contains_key(overlay) {
                true => RemovedPart::Bridge,
                false => RemovedPart::Overlay,
            },
            containerizer,
            bridge: name.clone(),
            index: bridge.index,
            containers: bridge.ports,
            subnets: bridge.addresses.iter().map(IpNet::trunc).collect(),
            ranges,
        });
    }
}

/// Returns the ranges of our rules that contain an address of the bridge.
fn ranges(bridge: &Leftover, kernel: &Kernel) -> Vec<IpNet> {
    let contains_address = |range: &IpNet| {
        let mut addresses = bridge.addresses.iter();
        addresses.any(|address| range.contains(&address.addr()))
    };
    let mut ranges: Vec<IpNet> = kernel
        .rules
        .iter()
        .filter(|rule| rules::may_be_ours(rule))
        .map(|rule| rule.from)
        .filter(contains_address)
        .collect();
    ranges.dedup();
    ranges
}
