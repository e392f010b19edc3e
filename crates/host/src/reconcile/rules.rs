//! Rules `from <overlay> lookup 42`: containers reach the peers' own addresses through the
//! tunnel, so that a container has the same address for every host.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Vtep};
use overlay_core::util::family::Family;

use super::constants::MAIN_PRIORITY;
use super::observed::{Kernel, Rule};
use super::op::Op;
use super::types::Plan;

/// Plans the rules.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, plan: &mut Plan) {
    let wanted = wanted(desired);
    let draining_ranges: Vec<IpNet> = plan
        .draining
        .iter()
        .flat_map(|part| part.ranges.clone())
        .collect();
    let is_right = |rule: &Rule| {
        (wanted.contains_key(&rule.from) || draining_ranges.contains(&rule.from))
            && rule.priority < MAIN_PRIORITY
    };
    // Wrong rules are removed first: for the kernel a second rule with the same content at
    // another priority is no new one.
    for rule in kernel.rules.iter().filter(|rule| !is_right(rule)) {
        plan.ops.push(Op::RemoveRule {
            from: rule.from,
            priority: rule.priority,
        });
    }
    for (from, overlay) in &wanted {
        let mut rules = kernel.rules.iter();
        if !rules.any(|rule| rule.from == *from && is_right(rule)) {
            plan.ops.push(Op::AddRule {
                overlay: (*overlay).to_owned(),
                from: *from,
            });
        }
    }
}

/// Returns the ranges that need a rule, with their overlays: those of families in which there
/// is a tunnel.
pub(super) fn wanted(desired: &Desired) -> BTreeMap<IpNet, &str> {
    let has_tunnel = |vtep: &Vtep, range: &IpNet| {
        let family = Family::from(*range);
        vtep.addresses.iter().any(|own| family.includes(*own))
    };
    let Some(vtep) = &desired.vtep else {
        return BTreeMap::new();
    };
    let mut wanted = BTreeMap::new();
    for (name, overlay) in &desired.overlays {
        for range in &overlay.ranges {
            if has_tunnel(vtep, range) {
                wanted.insert(range.trunc(), name.as_str());
            }
        }
    }
    wanted
}
