//! The difference between the desired and the observed firewall. Pure.
//!
//! New objects are written before the ones that they replace are removed, and ipsets
//! before the rules that use them (removed in the opposite order), so that no packet of a
//! container leaves with the wrong source address meanwhile.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use overlay_core::util::family::Family;

use super::desired::FirewallDesired;
use super::op::{NatBackend, Observed, Op, Plan};
use super::{conntrack, filter, nat, nftables, others, raw, sets};

/// Returns the operations that make `observed` match `desired`.
pub(super) fn plan(desired: &FirewallDesired, backend: NatBackend, observed: &Observed) -> Plan {
    let mut plan = Plan {
        obstacles: others::obstacles(desired, observed),
        ..Plan::default()
    };
    // The backend that is not used is cleaned up like one of which nothing is desired.
    let nothing = FirewallDesired::default();
    let (in_iptables, in_nftables) = match backend {
        NatBackend::Iptables => (desired, &nothing),
        NatBackend::Nftables => (&nothing, desired),
    };
    let table = nftables::Table::from_desired(in_nftables);
    let has_wrong_table = observed.table != table;
    if let Some(table) = table.as_ref().filter(|_| has_wrong_table) {
        plan.ops.push(Op::WriteTable(table.clone()));
    }
    for family in Family::BOTH {
        sets::plan_write(in_iptables, family, observed, &mut plan);
        if let Some(rules) = observed.rules.get(&family) {
            // A rule must not refer to a set of another program.
            if !plan.problems.iter().any(|problem| problem.family == family) {
                nat::plan(in_iptables, family, rules, &mut plan);
            }
            filter::plan(desired, family, rules, &observed.uplinks, &mut plan);
            raw::plan(desired, family, rules, &mut plan);
        }
        sets::plan_destroy(in_iptables, family, observed, &mut plan);
    }
    if table.is_none() && has_wrong_table {
        plan.ops.push(Op::DeleteTable);
    }
    plan.nat = conntrack::change(&plan.ops, desired, observed);
    plan
}
