//! Rules `from <overlay> lookup <table>`: containers reach the peers' own addresses through the
//! tunnel, so that a container has the same address for every host.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlay_core::host_api::desired::{CONTAINER_TABLE, ContainerTable, Desired, Removal, Vtep};
use overlay_core::util::family::Family;

use super::constants::{MAIN_PRIORITY, PROTOCOL, PROTOCOL_BOOT};
use super::observed::{Kernel, Rule};
use super::op::{OldRule, Op};
use super::types::Plan;

/// Origin of a rule that was created without one.
const PROTOCOL_UNSPECIFIED: u8 = 0;

/// Plans the rules.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, plan: &mut Plan) {
    let wanted = wanted(desired);
    plan.wanted.rules = wanted.len();
    let ContainerTable(table) = desired.container_table;
    let draining_ranges: Vec<IpNet> = plan
        .draining
        .iter()
        .flat_map(|part| part.ranges.clone())
        .collect();
    let is_right = |rule: &Rule| {
        (wanted.contains_key(&rule.from) || draining_ranges.contains(&rule.from))
            && rule.priority < MAIN_PRIORITY
            && rule.table == table
    };
    // Wrong rules are removed first: for some kernels a second rule with the same content at
    // another priority is no new one.
    for rule in kernel.rules.iter().filter(|rule| !is_right(rule)) {
        let is_known =
            |range: &IpNet| wanted.contains_key(range) || draining_ranges.contains(range);
        let is_ours = rule.protocol == PROTOCOL
            || may_be_ours(rule)
                && (desired.removal != Removal::Careful
                    || is_known(&rule.from)
                    || has_bridge(rule, kernel));
        if is_ours {
            plan.ops.push(Op::RemoveRule(OldRule {
                from: rule.from,
                table: rule.table,
                priority: rule.priority,
                protocol: rule.protocol,
            }));
        } else if rule.table == table && !wanted.is_empty() {
            plan.warnings.push(format!(
                "the rule \"from {} lookup {table}\" (priority {}) of this host is not ours, and stays: its packets \
                 follow our routes to peers, too; have it use another table, or set container_table of the agent's \
                 configuration to one",
                rule.from, rule.priority
            ));
        }
    }
    for (from, overlay) in &wanted {
        let mut rules = kernel.rules.iter();
        if !rules.any(|rule| rule.from == *from && is_right(rule)) {
            plan.ops.push(Op::AddRule {
                overlay: (*overlay).to_owned(),
                from: *from,
                table,
            });
        }
    }
}

/// Returns whether this module or its predecessor may have created a rule. The predecessor marks
/// its rules no more than `ip rule` does.
pub(super) fn may_be_ours(rule: &Rule) -> bool {
    let is_unmarked = [PROTOCOL_UNSPECIFIED, PROTOCOL_BOOT].contains(&rule.protocol);
    rule.protocol == PROTOCOL || is_unmarked && rule.table == CONTAINER_TABLE
}

/// Returns the ranges of rules that this module or its predecessor may have created.
pub(crate) fn former_ranges(kernel: &Kernel) -> Vec<IpNet> {
    let rules = kernel.rules.iter().filter(|rule| may_be_ours(rule));
    rules.map(|rule| rule.from).collect()
}

/// Returns whether a bridge with the name of a former overlay's has an address that a rule is about.
fn has_bridge(rule: &Rule, kernel: &Kernel) -> bool {
    let addresses = kernel.bridges.values().flat_map(|bridge| &bridge.addresses);
    addresses.map(IpNet::addr).any(|ip| rule.from.contains(&ip))
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
