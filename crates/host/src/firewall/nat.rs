//! Masquerading by iptables: one rule per overlay, with exactly the text that the
//! predecessor of this module wrote. So either of them takes over the other's rules.

use ipnet::IpNet;
use overlay_core::util::family::Family;

use super::desired::{FirewallDesired, set_name};
use super::op::Plan;
use super::ruleset::Ruleset;

pub(super) const TABLE: &str = "nat";
const CHAIN: &str = "POSTROUTING";

/// Returns the rule for packets of one overlay.
fn rule(family: Family, range: &IpNet) -> String {
    format!("-s {range}{}", rule_suffix(family))
}

/// Returns the end that the rules of all overlays have, and no other rules.
fn rule_suffix(family: Family) -> String {
    format!(" -m set --match-set {} dst -j MASQUERADE", set_name(family))
}

/// Returns our rules. A rule that exists twice is returned twice.
pub(super) fn own_rules(family: Family, rules: &Ruleset) -> impl Iterator<Item = &String> {
    let is_own = move |rule: &&String| source(rule, family).is_some();
    rules.rules(TABLE, CHAIN).iter().filter(is_own)
}

/// Returns the overlay of a rule of ours; `None`: the rule is not ours.
pub(super) fn source(rule: &str, family: Family) -> Option<IpNet> {
    let rest = rule.strip_suffix(&rule_suffix(family))?;
    rest.strip_prefix("-s ")?.parse().ok()
}

/// Adds missing rules and removes superfluous ones.
pub(super) fn plan(desired: &FirewallDesired, family: Family, rules: &Ruleset, plan: &mut Plan) {
    let mut missing: Vec<String> = desired
        .ranges(family)
        .map(|range| rule(family, range))
        .collect();
    let mut superfluous = Vec::new();
    for rule in own_rules(family, rules) {
        match missing.iter().position(|missing| missing == rule) {
            Some(index) => _ = missing.remove(index),
            None => superfluous.push(rule),
        }
    }
    for rule in missing {
        plan.push_rule(family, TABLE, format!("-A {CHAIN} {rule}"));
    }
    for rule in superfluous {
        plan.push_rule(family, TABLE, format!("-D {CHAIN} {rule}"));
    }
}
