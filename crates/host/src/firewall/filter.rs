//! Forwarding between the overlay bridges on hosts whose iptables would drop it: Docker
//! isolates bridge networks from each other, and FORWARD chains may drop by default.
//!
//! Four chains in the table `filter` belong to this module:
//!
//! ```text
//! MESOS-OVERLAY         -i <overlay device> -j MESOS-OVERLAY-TO
//! MESOS-OVERLAY-TO      -o <overlay device> -j ACCEPT
//! MESOS-OVERLAY-OUT     -i <Mesos bridge> -o <uplink> -j ACCEPT
//!                       -o <Mesos bridge>, replies and mapped ports -j ACCEPT
//! MESOS-OVERLAY-OTHERS  neither -i nor -o <name of an overlay device> -j DROP
//! ```
//!
//! The jump to the first chain comes as late as possible: in DOCKER-USER behind the
//! operator's rules; on older engines in FORWARD in front of the isolation; otherwise at
//! the end of FORWARD, or in front of the first rule that drops packets whatever they are,
//! itself or in a chain that it jumps to. The jump to MESOS-OVERLAY-OUT is at the end of
//! FORWARD as well, behind all rules of other programs that drop particular packets.
//!
//! The last chain exists on hosts that did not forward packets before this module turned
//! forwarding on. It is behind all rules that accept something. Forwarding stays on when the
//! bridges go, and so does the chain.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeSet;

use ipnet::IpNet;
use overlay_core::util::family::Family;

use super::desired::FirewallDesired;
use super::fate::{self, Fate, Judged, Packet, judge_iptables};
use super::nat;
use super::op::Plan;
use super::own_chains::{JumpPosition, OwnChain, Place, Table, jump};
use super::ruleset::Ruleset;

pub(super) const TABLE: &str = "filter";
pub(super) const FORWARD: &str = "FORWARD";
/// Part of the names of all chains of Docker.
const DOCKER: &str = "DOCKER";
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
pub(super) const OTHERS: &str = "MESOS-OVERLAY-OTHERS";
/// Patterns of the names of overlay devices. The last chain lets through what these match, so that
/// it does not cut off overlays that another release of this module creates later.
const DEVICES: [&str; 3] = ["d-+", "m-+", "vtep+"];
/// Chains of this module that FORWARD and DOCKER-USER can jump to.
const OWN_JUMPS: [&str; 3] = [BETWEEN, OUTSIDE, OTHERS];

/// Writes the chains that are needed and the jumps to them, and removes the others.
pub(super) fn plan(
    desired: &FirewallDesired,
    family: Family,
    rules: &Ruleset,
    uplinks: &BTreeSet<String>,
    plan: &mut Plan,
) {
    let table = Table {
        name: TABLE,
        family,
        rules,
    };
    let is_needed = desired.has_ranges(family) && !desired.devices.is_empty();
    let between = is_needed
        .then(|| position_between(table, desired))
        .flatten();
    let outside = (is_needed && !desired.mesos_bridges.is_empty())
        .then(|| position_outside(table, desired, uplinks))
        .flatten();
    // The chain is the mark of a host whose forwarding this module turned on.
    let stays_closed = desired.closed.contains(&family) || is_closed(rules);
    // Forwarding is turned on for every overlay, whatever devices and ranges it has.
    let others = (desired.is_forwarded(family) && stays_closed).then_some(JumpPosition {
        chain: FORWARD,
        place: Place::Last,
    });
    if others.is_some() && !is_closed(rules) {
        plan.closes.insert(family);
    }
    let needed = [between.is_some(), outside.is_some(), others.is_some()];
    let chains = chains(desired, uplinks, needed);
    table.write_chains(&chains, plan);
    // Each jump that is placed moves the rules behind it.
    let mut now = Cow::Borrowed(rules);
    if let Some(after) = table.place_jump(BETWEEN, between, plan) {
        now = Cow::Owned(after);
    }
    let table_now = Table {
        rules: &now,
        ..table
    };
    let outside = outside.and_then(|_| position_outside(table_now, desired, uplinks));
    if let Some(after) = table_now.place_jump(OUTSIDE, outside, plan) {
        now = Cow::Owned(after);
    }
    let table_now = Table {
        rules: &now,
        ..table
    };
    table_now.place_jump(OTHERS, others, plan);
    if between.is_some() {
        remove_predecessor_returns(family, rules, plan);
    }
    table.remove_stale_chains(&[BETWEEN, OUTSIDE, OTHERS, TO], &chains, plan);
}

/// Returns the chains to write. `needed`: packets between containers, from outside, and others.
fn chains(
    desired: &FirewallDesired,
    uplinks: &BTreeSet<String>,
    needed: [bool; 3],
) -> Vec<OwnChain> {
    let [between, outside, others] = needed;
    let mut chains = Vec::new();
    if between {
        chains.extend(chains_between(desired));
    }
    if outside {
        chains.push(chain_outside(desired, uplinks));
    }
    if others {
        chains.push(chain_others(desired));
    }
    chains
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

/// Tells if a host has the chain that keeps it closed.
pub(super) fn is_closed(rules: &Ruleset) -> bool {
    rules.chain(TABLE, OTHERS).is_some()
}

/// Returns the chain that drops what this host did not forward before this module turned
/// forwarding on, and leaves the packets of the overlays to the rules behind it.
fn chain_others(desired: &FirewallDesired) -> OwnChain {
    let is_named = |name: &&str| {
        let mut patterns = DEVICES.iter();
        !patterns.any(|pattern| name.starts_with(pattern.trim_end_matches('+')))
    };
    let others = desired.devices.iter().map(String::as_str).filter(is_named);
    let devices: Vec<&str> = DEVICES.into_iter().chain(others).collect();
    let own = |option: &'static str| {
        let devices = devices.iter();
        devices.map(move |name| format!("{option} {name} -j RETURN"))
    };
    let mut rules: Vec<String> = own("-i").chain(own("-o")).collect();
    rules.push("-j DROP".to_owned());
    OwnChain {
        name: OTHERS,
        rules,
    }
}

/// Returns the position of the jump that lets the overlay devices reach each other; `None`
/// if no rule keeps them from it.
fn position_between(table: Table<'_>, desired: &FirewallDesired) -> Option<JumpPosition> {
    let packets = between_devices(desired);
    let forward = Forward::new(table, desired, &packets);
    let isolates = |rule: &str| rule.contains(&format!("-j {ISOLATION}"));
    let to_user = format!("-j {DOCKER_USER}");
    let user = forward.rules.iter().position(|rule| *rule == to_user);
    // Of Docker's chains this one is the first, except for a moment while the engine starts.
    let is_in_time = |user: &usize| {
        forward
            .first_drop(|rule| rule.contains(DOCKER))
            .is_none_or(|drop| *user < drop)
    };
    if user.filter(is_in_time).is_some() {
        let rules = table.chain(DOCKER_USER);
        let before = rules
            .iter()
            .position(|rule| rule == RETURN || forward.drops(DOCKER_USER, rule));
        return Some(JumpPosition {
            chain: DOCKER_USER,
            place: Place::Before(before.unwrap_or(rules.len())),
        });
    }
    let isolation = forward.rules.iter().position(|rule| isolates(rule));
    forward.position(isolation)
}

/// Returns the position of the jump that lets Mesos containers reach the outside; `None` if
/// no rule keeps them from it.
fn position_outside(
    table: Table<'_>,
    desired: &FirewallDesired,
    uplinks: &BTreeSet<String>,
) -> Option<JumpPosition> {
    let mut packets = Vec::new();
    for bridge in &desired.mesos_bridges {
        let uplinks = uplinks.difference(&desired.devices);
        packets.extend(uplinks.map(|uplink| (bridge.as_str(), uplink.as_str())));
    }
    if packets.is_empty() {
        // Without a route to the outside it is not known where packets leave.
        let bridges = desired.mesos_bridges.iter();
        packets.extend(bridges.map(|bridge| (bridge.as_str(), "")));
    }
    Forward::new(table, desired, &packets).position(None)
}

/// Returns the pairs of devices between which overlay packets are forwarded: to and from the VTEP,
/// or between the bridges.
pub(super) fn between_devices(desired: &FirewallDesired) -> Vec<(&str, &str)> {
    let is_bridge = |name: &&String| name.starts_with(['m', 'd']) && name[1..].starts_with('-');
    let devices = desired.devices.iter();
    let vtep = devices.clone().find(|name| !is_bridge(name));
    let hub = vtep.or(desired.devices.first());
    let pairs = hub.into_iter().flat_map(|hub| {
        let others = desired.devices.iter().filter(move |name| *name != hub);
        others.flat_map(move |name| [(hub.as_str(), name.as_str()), (name.as_str(), hub.as_str())])
    });
    pairs.collect()
}

/// The chain FORWARD, and packets that should pass it.
struct Forward<'a> {
    rules: &'a [String],
    table: Table<'a>,
    packets: &'a [(&'a str, &'a str)],
    ranges: Vec<IpNet>,
    devices: Vec<&'a str>,
}

impl<'a> Forward<'a> {
    fn new(
        table: Table<'a>,
        desired: &'a FirewallDesired,
        packets: &'a [(&'a str, &'a str)],
    ) -> Forward<'a> {
        Forward {
            rules: table.rules.rules(TABLE, FORWARD),
            table,
            packets,
            ranges: desired.ranges(table.family).copied().collect(),
            devices: desired.devices.iter().map(String::as_str).collect(),
        }
    }

    /// Tells if a rule of a chain drops some of the packets, itself or in the chains that it jumps
    /// to. Jumps of this module drop nothing.
    fn drops(&self, chain: &str, rule: &str) -> bool {
        if OWN_JUMPS.iter().any(|to| *rule == jump(to)) {
            return false;
        }
        self.packets.iter().any(|(from, to)| {
            let packet = Packet {
                from,
                to,
                udp_port: None,
                ranges: &self.ranges,
                devices: &self.devices,
                particular: None,
            };
            let judged = |chain: &str| -> Vec<Judged> {
                let rules = self.table.chain(chain).iter();
                rules.map(|rule| judge_iptables(rule, &packet)).collect()
            };
            let fate = fate::of_rule(chain, judge_iptables(rule, &packet), &judged);
            matches!(fate, Fate::Dropped { .. })
        })
    }

    /// Returns the index of the first rule that drops some of the packets, except those to ignore.
    fn first_drop(&self, is_ignored: impl Fn(&str) -> bool) -> Option<usize> {
        let mut rules = self.rules.iter();
        rules.position(|rule| !is_ignored(rule) && self.drops(FORWARD, rule))
    }

    /// Returns the position in front of the first rule that drops some of the packets, and in front
    /// of `obstacle`, or the end if the chain drops by default; `None`: nothing drops them.
    fn position(&self, obstacle: Option<usize>) -> Option<JumpPosition> {
        let drops_by_default = self
            .table
            .rules
            .chain(TABLE, FORWARD)
            .is_some_and(|chain| chain.policy == "DROP");
        let obstacle = obstacle.into_iter().chain(self.first_drop(|_| false)).min();
        // A jump behind the one to the last chain would be moved each time.
        let last = self.rules.iter().position(|rule| *rule == jump(OTHERS));
        let end = last.unwrap_or(self.rules.len());
        let before = match (obstacle, drops_by_default) {
            (Some(obstacle), _) => obstacle.min(end),
            (None, true) => end,
            (None, false) => return None,
        };
        Some(JumpPosition {
            chain: FORWARD,
            place: Place::Before(before),
        })
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
