//! Letting our bridges talk to each other on hosts whose iptables do not let
//! packets pass by themselves: Docker's isolation of bridge networks, and FORWARD
//! chains that drop what nobody accepted.
//!
//! Three chains of ours in the table `filter`, which stay empty of everybody
//! else's rules:
//!
//! ```text
//! MESOS-OVERLAY      -i <ours> -j MESOS-OVERLAY-TO
//! MESOS-OVERLAY-TO   -o <ours> -j ACCEPT
//! MESOS-OVERLAY-OUT  -i <Mesos bridge> -o <uplink> -j ACCEPT
//!                    -o <Mesos bridge>, replies and mapped ports -j ACCEPT
//! ```
//!
//! The jump to the first stands where it has to and not before: in DOCKER-USER
//! behind the operator's rules; on older engines in FORWARD before the isolation;
//! else at the end of FORWARD. The jump to the last stands at the end of FORWARD,
//! behind everything that somebody wants to be dropped.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::nat;
use super::plan::Plan;
use super::ruleset::Ruleset;
use super::wanted::{Family, Wanted};

const TABLE: &str = "filter";
const FORWARD: &str = "FORWARD";
/// What operators write their own rules into; Docker keeps them. Since 17.06.
const DOCKER_USER: &str = "DOCKER-USER";
/// What the chains begin with in which Docker isolates its networks.
const ISOLATION: &str = "DOCKER-ISOLATION";
/// The two of them that the predecessor switched off.
const SWITCHED_OFF: [&str; 2] = ["DOCKER-ISOLATION-STAGE-2", "DOCKER-ISOLATION"];
/// Leaves a chain whatever the packet is.
const RETURN: &str = "-j RETURN";

const BETWEEN: &str = "MESOS-OVERLAY";
const TO: &str = "MESOS-OVERLAY-TO";
const OUTSIDE: &str = "MESOS-OVERLAY-OUT";

/// A chain of ours and its rules.
type Chain = (&'static str, Vec<String>);

pub(super) fn plan(
    wanted: &Wanted,
    family: Family,
    rules: &Ruleset,
    uplinks: &BTreeSet<String>,
    plan: &mut Plan,
) {
    let wants = wanted.concerns(family) && !wanted.devices.is_empty();
    let between = wants.then(|| place_between(rules)).flatten();
    let outside = (wants && !wanted.mesos_bridges.is_empty())
        .then(|| place_outside(rules))
        .flatten();
    let mut chains: Vec<Chain> = Vec::new();
    if between.is_some() {
        chains.extend(chains_between(wanted));
    }
    if outside.is_some() {
        chains.push(chain_outside(wanted, uplinks));
    }
    // All chains before the rules that lead to them.
    let wrong: Vec<&Chain> = chains
        .iter()
        .filter(|(name, content)| {
            rules
                .chain(TABLE, name)
                .is_none_or(|chain| chain.rules != *content)
        })
        .collect();
    for (name, _) in &wrong {
        plan.rule(family, TABLE, format!(":{name} - [0:0]"));
    }
    for (name, content) in &wrong {
        for rule in content {
            plan.rule(family, TABLE, format!("-A {name} {rule}"));
        }
    }
    jump(BETWEEN, between, family, rules, plan);
    jump(OUTSIDE, outside, family, rules, plan);
    if between.is_some() {
        take_over(family, rules, plan);
    }
    let is_stale = |name: &&&str| {
        rules.chain(TABLE, name).is_some() && !chains.iter().any(|(wanted, _)| wanted == *name)
    };
    let stale: Vec<&&str> = [BETWEEN, OUTSIDE, TO].iter().filter(is_stale).collect();
    for verb in ["-F", "-X"] {
        for name in &stale {
            plan.rule(family, TABLE, format!("{verb} {name}"));
        }
    }
}

/// The chains that let packets pass between our devices.
fn chains_between(wanted: &Wanted) -> [Chain; 2] {
    let from = wanted
        .devices
        .iter()
        .map(|device| format!("-i {device} -j {TO}"));
    let to = wanted
        .devices
        .iter()
        .map(|device| format!("-o {device} -j ACCEPT"));
    [(BETWEEN, from.collect()), (TO, to.collect())]
}

/// The chain that lets containers of Mesos reach the outside, and the outside
/// their mapped ports, as Docker does it for its own.
fn chain_outside(wanted: &Wanted, uplinks: &BTreeSet<String>) -> Chain {
    let mut rules = Vec::new();
    for bridge in &wanted.mesos_bridges {
        let uplinks = uplinks.difference(&wanted.devices);
        rules.extend(uplinks.map(|uplink| format!("-i {bridge} -o {uplink} -j ACCEPT")));
        rules.push(format!(
            "-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
        ));
    }
    (OUTSIDE, rules)
}

/// A chain, and the index of the rule in it before which a jump has to stand.
type Place = (&'static str, usize);

/// Where the jump must stand for our devices to reach each other. `None`: they do
/// anyway.
fn place_between(rules: &Ruleset) -> Option<Place> {
    let forward = rules.rules(TABLE, FORWARD);
    let user = rules.rules(TABLE, DOCKER_USER);
    if forward
        .iter()
        .any(|rule| *rule == format!("-j {DOCKER_USER}"))
    {
        return Some((
            DOCKER_USER,
            position(user, |rule| rule == RETURN || decides(rule)),
        ));
    }
    let isolates = |rule: &str| rule.contains(&format!("-j {ISOLATION}"));
    let before = position(forward, |rule| isolates(rule) || decides(rule));
    (before < forward.len() || drops(rules)).then_some((FORWARD, before))
}

/// The same for what goes to the outside and comes from it.
fn place_outside(rules: &Ruleset) -> Option<Place> {
    let forward = rules.rules(TABLE, FORWARD);
    let before = position(forward, decides);
    (before < forward.len() || drops(rules)).then_some((FORWARD, before))
}

/// Whether FORWARD drops what nobody accepted.
fn drops(rules: &Ruleset) -> bool {
    rules
        .chain(TABLE, FORWARD)
        .is_some_and(|chain| chain.policy == "DROP")
}

/// Whether no packet comes by this rule and goes on.
fn decides(rule: &str) -> bool {
    ["-j DROP", "-j REJECT"]
        .iter()
        .any(|target| rule.starts_with(target))
}

/// The index of the first such rule, or of the end.
fn position(rules: &[String], is_it: impl Fn(&str) -> bool) -> usize {
    rules
        .iter()
        .position(|rule| is_it(rule))
        .unwrap_or(rules.len())
}

/// Has exactly one jump to a chain, before the place, or none at all.
fn jump(to: &str, place: Option<Place>, family: Family, rules: &Ruleset, plan: &mut Plan) {
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
    if let ([(chain, index)], Some((wanted, before))) = (&found[..], place)
        && *chain == wanted
        && *index < before
    {
        return;
    }
    for (chain, _) in &found {
        plan.rule(family, TABLE, format!("-D {chain} {jump}"));
    }
    if let Some((chain, before)) = place {
        // Those that go now do not count, and iptables counts from 1.
        let gone = found
            .iter()
            .filter(|(name, index)| *name == chain && *index < before)
            .count();
        plan.rule(
            family,
            TABLE,
            format!("-I {chain} {} {jump}", before - gone + 1),
        );
    }
}

/// Removes the predecessor's `RETURN` from the top of Docker's isolation, which
/// switched it off for every network of the host. It is the predecessor's for
/// certain on a host where its NAT rules are and our chains are not yet; one that
/// appears later is somebody's wish and stays.
fn take_over(family: Family, rules: &Ruleset, plan: &mut Plan) {
    if rules.chain(TABLE, BETWEEN).is_some() || nat::ours(family, rules).next().is_none() {
        return;
    }
    for chain in SWITCHED_OFF {
        let rules = rules.rules(TABLE, chain);
        // The last rule is Docker's own.
        let leading = rules.iter().take_while(|rule| *rule == RETURN).count();
        for _ in 0..leading.min(rules.len().saturating_sub(1)) {
            plan.rule(family, TABLE, format!("-D {chain} {RETURN}"));
        }
    }
}
