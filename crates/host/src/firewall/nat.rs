//! Masquerading by iptables: one rule per overlay, word for word that of the
//! predecessor. So its rules are ours from the first pass on, and it takes ours
//! for its own when somebody goes back.

use ipnet::IpNet;

use super::plan::Plan;
use super::ruleset::Ruleset;
use super::wanted::{Family, Wanted, set_name};

const TABLE: &str = "nat";
const CHAIN: &str = "POSTROUTING";

/// The rule for packets of one overlay.
fn rule(family: Family, range: &IpNet) -> String {
    format!("-s {range}{}", tail(family))
}

/// What the rules of all overlays end with, and no others.
fn tail(family: Family) -> String {
    format!(" -m set --match-set {} dst -j MASQUERADE", set_name(family))
}

/// The rules of ours, those that are there twice also twice.
pub(super) fn ours(family: Family, rules: &Ruleset) -> impl Iterator<Item = &String> {
    let tail = tail(family);
    let is_ours = move |rule: &&String| {
        let source = rule
            .strip_suffix(&tail)
            .and_then(|rest| rest.strip_prefix("-s "));
        source.is_some_and(|source| source.parse::<IpNet>().is_ok())
    };
    rules.rules(TABLE, CHAIN).iter().filter(is_ours)
}

pub(super) fn plan(wanted: &Wanted, family: Family, rules: &Ruleset, plan: &mut Plan) {
    let mut missing: Vec<String> = wanted
        .ranges(family)
        .map(|range| rule(family, range))
        .collect();
    let mut superfluous = Vec::new();
    for rule in ours(family, rules) {
        match missing.iter().position(|wanted| wanted == rule) {
            Some(index) => _ = missing.remove(index),
            None => superfluous.push(rule),
        }
    }
    for rule in missing {
        plan.rule(family, TABLE, format!("-A {CHAIN} {rule}"));
    }
    for rule in superfluous {
        plan.rule(family, TABLE, format!("-D {CHAIN} {rule}"));
    }
}
