//! Forwarding between the overlay bridges on hosts whose iptables would drop it: Docker
//! isolates bridge networks from each other, and FORWARD chains may drop by default.
//!
//! Three chains in the table `filter` belong to this module:
//!
//! ```text
//! MESOS-OVERLAY      -i <overlay device> -j MESOS-OVERLAY-TO
//! MESOS-OVERLAY-TO   -o <overlay device> -j ACCEPT
//! MESOS-OVERLAY-OUT  -i <Mesos bridge> -o <uplink> -j ACCEPT
//!                    -o <Mesos bridge>, replies and mapped ports -j ACCEPT
//! ```
//!
//! The jump to the first chain comes as late as possible: in DOCKER-USER behind the
//! operator's rules; on older engines in FORWARD in front of the isolation; otherwise at
//! the end of FORWARD. The jump to the last chain is at the end of FORWARD, behind all
//! rules of other programs that drop particular packets.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use overlay_core::util::family::Family;

use super::desired::FirewallDesired;
use super::nat;
use super::op::Plan;
use super::ruleset::Ruleset;

const TABLE: &str = "filter";
const FORWARD: &str = "FORWARD";
/// Chain for the operator's own rules, which Docker keeps. Exists since Docker 17.06.
const DOCKER_USER: &str = "DOCKER-USER";
/// Prefix of the chains in which Docker isolates its networks.
const ISOLATION: &str = "DOCKER-ISOLATION";
/// Isolation chains that the predecessor of this module switched off.
const SWITCHED_OFF: [&str; 2] = ["DOCKER-ISOLATION-STAGE-2", "DOCKER-ISOLATION"];
/// Rule that leaves a chain with every packet.
const RETURN: &str = "-j RETURN";

const BETWEEN: &str = "MESOS-OVERLAY";
const TO: &str = "MESOS-OVERLAY-TO";
const OUTSIDE: &str = "MESOS-OVERLAY-OUT";

/// Chain of this module with its desired rules.
struct OwnChain {
    name: &'static str,
    rules: Vec<String>,
}

/// Position of a jump: in front of the rule with the index `before` of the chain.
#[derive(Clone, Copy)]
struct JumpPosition {
    chain: &'static str,
    before: usize,
}

/// Writes the chains that are needed and the jumps to them, and removes the others.
pub(super) fn plan(
    desired: &FirewallDesired,
    family: Family,
    rules: &Ruleset,
    uplinks: &BTreeSet<String>,
    plan: &mut Plan,
) {
    let is_needed = desired.has_ranges(family) && !desired.devices.is_empty();
    let between = is_needed.then(|| position_between(rules)).flatten();
    let outside = (is_needed && !desired.mesos_bridges.is_empty())
        .then(|| position_outside(rules))
        .flatten();
    let mut chains: Vec<OwnChain> = Vec::new();
    if between.is_some() {
        chains.extend(chains_between(desired));
    }
    if outside.is_some() {
        chains.push(chain_outside(desired, uplinks));
    }
    write_chains(&chains, family, rules, plan);
    place_jump(BETWEEN, between, family, rules, plan);
    place_jump(OUTSIDE, outside, family, rules, plan);
    if between.is_some() {
        remove_predecessor_returns(family, rules, plan);
    }
    remove_stale_chains(&chains, family, rules, plan);
}

/// Returns the chains that accept packets between the overlay devices.
fn chains_between(desired: &FirewallDesired) -> [OwnChain; 2] {
    let devices = desired.devices.iter();
    let from = devices.clone().map(|name| format!("-i {name} -j {TO}"));
    let to = devices.map(|name| format!("-o {name} -j ACCEPT"));
    [
        OwnChain {
            name: BETWEEN,
            rules: from.collect(),
        },
        OwnChain {
            name: TO,
            rules: to.collect(),
        },
    ]
}

/// Returns the chain that accepts packets of Mesos containers to the outside, and packets
/// from the outside to their mapped ports. Docker does the same for its own containers.
fn chain_outside(desired: &FirewallDesired, uplinks: &BTreeSet<String>) -> OwnChain {
    let mut rules = Vec::new();
    for bridge in &desired.mesos_bridges {
        let uplinks = uplinks.difference(&desired.devices);
        rules.extend(uplinks.map(|uplink| format!("-i {bridge} -o {uplink} -j ACCEPT")));
        rules.push(format!(
            "-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
        ));
    }
    OwnChain {
        name: OUTSIDE,
        rules,
    }
}

/// Rewrites the chains that differ. All chains are declared before the rules that jump to
/// them.
fn write_chains(chains: &[OwnChain], family: Family, rules: &Ruleset, plan: &mut Plan) {
    let differs = |own: &&OwnChain| {
        rules
            .chain(TABLE, own.name)
            .is_none_or(|found| found.rules != own.rules)
    };
    for own in chains.iter().filter(differs) {
        plan.push_rule(family, TABLE, format!(":{} - [0:0]", own.name));
    }
    for own in chains.iter().filter(differs) {
        for rule in &own.rules {
            plan.push_rule(family, TABLE, format!("-A {} {rule}", own.name));
        }
    }
}

/// Flushes and deletes the own chains that are not needed.
fn remove_stale_chains(chains: &[OwnChain], family: Family, rules: &Ruleset, plan: &mut Plan) {
    let is_stale = |name: &&&str| {
        rules.chain(TABLE, name).is_some() && !chains.iter().any(|own| own.name == **name)
    };
    let stale: Vec<&&str> = [BETWEEN, OUTSIDE, TO].iter().filter(is_stale).collect();
    for verb in ["-F", "-X"] {
        for name in &stale {
            plan.push_rule(family, TABLE, format!("{verb} {name}"));
        }
    }
}

/// Returns the position of the jump that lets the overlay devices reach each other; `None`
/// if no rule keeps them from it.
fn position_between(rules: &Ruleset) -> Option<JumpPosition> {
    let forward = rules.rules(TABLE, FORWARD);
    let user = rules.rules(TABLE, DOCKER_USER);
    if forward
        .iter()
        .any(|rule| *rule == format!("-j {DOCKER_USER}"))
    {
        return Some(JumpPosition {
            chain: DOCKER_USER,
            before: index_of_first(user, |rule| rule == RETURN || drops_everything(rule)),
        });
    }
    let isolates = |rule: &str| rule.contains(&format!("-j {ISOLATION}"));
    position_in_forward(rules, |rule| isolates(rule) || drops_everything(rule))
}

/// Returns the position of the jump that lets Mesos containers reach the outside; `None` if
/// no rule keeps them from it.
fn position_outside(rules: &Ruleset) -> Option<JumpPosition> {
    position_in_forward(rules, drops_everything)
}

/// Returns the position in FORWARD in front of the first rule that `is_obstacle`, or the
/// end if the chain drops by default.
fn position_in_forward(
    rules: &Ruleset,
    is_obstacle: impl Fn(&str) -> bool,
) -> Option<JumpPosition> {
    let forward = rules.rules(TABLE, FORWARD);
    let before = index_of_first(forward, is_obstacle);
    let drops_by_default = rules
        .chain(TABLE, FORWARD)
        .is_some_and(|chain| chain.policy == "DROP");
    (before < forward.len() || drops_by_default).then_some(JumpPosition {
        chain: FORWARD,
        before,
    })
}

/// Tells if a rule drops or rejects every packet that reaches it.
fn drops_everything(rule: &str) -> bool {
    ["-j DROP", "-j REJECT"]
        .iter()
        .any(|target| rule.starts_with(target))
}

/// Returns the index of the first rule that satisfies the predicate, or the number of rules.
fn index_of_first(rules: &[String], predicate: impl Fn(&str) -> bool) -> usize {
    rules
        .iter()
        .position(|rule| predicate(rule))
        .unwrap_or(rules.len())
}

/// Makes sure that there is exactly one jump to a chain, at or in front of `position`;
/// without a position, none.
fn place_jump(
    to: &str,
    position: Option<JumpPosition>,
    family: Family,
    rules: &Ruleset,
    plan: &mut Plan,
) {
    let jump = format!("-m comment --comment mesos-overlay -j {to}");
    let mut found = Vec::new();
    for (name, chain) in rules.chains(TABLE) {
        let indexes = chain
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| **rule == jump);
        found.extend(indexes.map(|(index, _)| (name.as_str(), index)));
    }
    if let ([(chain, index)], Some(position)) = (&found[..], position)
        && *chain == position.chain
        && *index < position.before
    {
        return;
    }
    for (chain, _) in &found {
        plan.push_rule(family, TABLE, format!("-D {chain} {jump}"));
    }
    if let Some(JumpPosition { chain, before }) = position {
        // The jumps deleted above do not count any more, and iptables counts from 1.
        let deleted = found
            .iter()
            .filter(|(name, index)| *name == chain && *index < before)
            .count();
        let number = before - deleted + 1;
        plan.push_rule(family, TABLE, format!("-I {chain} {number} {jump}"));
    }
}

/// Removes the `RETURN` rules by which the predecessor of this module switched Docker's
/// isolation off for every network of the host. They are certainly the predecessor's on a
/// host that has its NAT rules and does not have our chains yet; rules that appear later
/// are an operator's and stay.
fn remove_predecessor_returns(family: Family, rules: &Ruleset, plan: &mut Plan) {
    let has_own_chain = rules.chain(TABLE, BETWEEN).is_some();
    if has_own_chain || nat::own_rules(family, rules).next().is_none() {
        return;
    }
    for chain in SWITCHED_OFF {
        let rules = rules.rules(TABLE, chain);
        // The last rule is Docker's own RETURN.
        let leading = rules.iter().take_while(|rule| *rule == RETURN).count();
        for _ in 0..leading.min(rules.len().saturating_sub(1)) {
            plan.push_rule(family, TABLE, format!("-D {chain} {RETURN}"));
        }
    }
}
