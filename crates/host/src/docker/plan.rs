//! The difference between the desired and the observed networks of the engine. Pure.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use overlay_core::host_api::engine::{EngineDesired, Network};
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;

use super::observed::{ApiVersion, ExistingNetwork, Observed};
use crate::operation::{ObjectKind, Operation, Tense, Verb};

/// Change of the engine. Prints as a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Remove a network that was created by this module.
    Remove {
        /// Id of the network in the engine.
        id: String,
        /// Name of the network.
        name: String,
    },
    /// Create a network.
    Create {
        /// Name of the network.
        name: String,
        /// Properties of the network.
        network: Network,
    },
}

impl Op {
    /// Returns the name of the network.
    pub fn name(&self) -> &str {
        match self {
            Op::Remove { name, .. } | Op::Create { name, .. } => name,
        }
    }
}

impl From<&Op> for Operation {
    fn from(op: &Op) -> Operation {
        match op {
            Op::Remove { name, .. } => {
                let object = format_args!("Docker network {name}");
                Operation::new(Verb::Remove, ObjectKind::DockerNetwork, object)
            }
            Op::Create { name, network } => {
                let properties = describe(Some(&network.bridge), &network.subnets);
                let object = format_args!("Docker network {name} ({properties})");
                Operation::new(Verb::Create, ObjectKind::DockerNetwork, object)
            }
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Operation::from(self).describe(Tense::Infinitive))
    }
}

/// Operations that make the engine match the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Operations, in the order in which they are applied: removals come first.
    pub ops: Vec<Op>,
    /// Reasons why desired networks cannot be created, by name of the network.
    pub conflicts: BTreeMap<String, String>,
    /// Other facts that the operator should know, such as networks that are kept because
    /// containers use them.
    pub notes: Vec<Problem>,
}

/// Compares the observed with the desired networks.
pub fn plan(desired: &EngineDesired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut kept: Vec<&ExistingNetwork> = Vec::new();
    for existing in &observed.networks {
        let name = &existing.name;
        match judge(existing, desired, observed.api) {
            Verdict::Remove => {
                plan.ops.push(Op::Remove {
                    id: existing.id.clone(),
                    name: name.clone(),
                });
                continue;
            }
            Verdict::Keep => {}
            Verdict::KeepWithNote(note) => plan.notes.push(note),
            Verdict::Conflict(sentence) => {
                plan.conflicts.insert(name.clone(), sentence);
            }
        }
        kept.push(existing);
    }
    let drops_other_hosts =
        (ApiVersion::V28..ApiVersion::TRUSTED_INTERFACES).contains(&observed.api);
    if !desired.networks.is_empty() && drops_other_hosts && !desired.firewall_accepts {
        let text = format!(
            "the container engine (API {}) drops packets from other hosts to containers; upgrade it \
             to release 28.2 or later",
            observed.api
        );
        plan.notes
            .push(Problem::new(ProblemKind::EngineVersion, "", text));
    }
    plan_creations(desired, &kept, &mut plan);
    plan
}

/// Creates the desired networks that do not exist, unless an existing network is an obstacle.
fn plan_creations(desired: &EngineDesired, kept: &[&ExistingNetwork], plan: &mut Plan) {
    for (name, network) in &desired.networks {
        let exists = kept.iter().any(|existing| existing.name == *name);
        if exists || plan.conflicts.contains_key(name) {
            continue;
        }
        let obstacle = kept
            .iter()
            .find_map(|existing| obstacle(existing, name, network));
        match obstacle {
            Some(sentence) => _ = plan.conflicts.insert(name.clone(), sentence),
            None => plan.ops.push(Op::Create {
                name: name.clone(),
                network: network.clone(),
            }),
        }
    }
}

/// Decision about an existing network.
enum Verdict {
    Remove,
    Keep,
    /// Keep the network and inform the operator.
    KeepWithNote(Problem),
    /// Keep the network, which is in the way of the desired one of the same name.
    Conflict(String),
}

fn judge(existing: &ExistingNetwork, desired: &EngineDesired, api: ApiVersion) -> Verdict {
    let (is_own, is_used) = (existing.is_own(), existing.is_used());
    let (name, firewall_accepts) = (&existing.name, desired.firewall_accepts);
    let Some(desired) = desired.networks.get(name) else {
        return match (is_own, is_used) {
            (false, _) => Verdict::Keep,
            (true, false) => Verdict::Remove,
            (true, true) => {
                let text = format!(
                    "Docker network {name} is not wanted any more and is kept as long as containers use it: {}",
                    containers(existing)
                );
                Verdict::KeepWithNote(Problem::new(ProblemKind::RemovedNetwork, name, text))
            }
        };
    };
    let mut differences = differences(existing, desired);
    if api >= ApiVersion::TRUSTED_INTERFACES && existing.trusted != desired.trusted {
        // A network in use need not be made anew for it if other rules accept the packets.
        if is_own && !is_used || !firewall_accepts {
            let trusted = desired.trusted.join(":");
            differences.push(format!("drops packets from the interfaces {trusted}"));
        }
    }
    if differences.is_empty() {
        return Verdict::Keep;
    }
    if is_own && !is_used {
        return Verdict::Remove;
    }
    if addresses_match(existing, desired) {
        let text = format!(
            "Docker network {name} {}; it is recreated when no container uses it any more ({})",
            differences.join(" and "),
            containers(existing)
        );
        return Verdict::KeepWithNote(Problem::new(ProblemKind::OutdatedNetwork, name, text));
    }
    let remedy = if is_own {
        let containers = containers(existing);
        format!("it is replaced when no container uses it any more ({containers})")
    } else {
        format!("remove it (docker network rm {name}) or rename one of them")
    };
    Verdict::Conflict(format!(
        "Docker network {name} exists with {} instead of {}; {remedy}",
        describe(existing.bridge.as_deref(), &existing.subnets),
        describe(Some(&desired.bridge), &desired.subnets)
    ))
}

/// Tells if the containers of a network have addresses as desired.
fn addresses_match(existing: &ExistingNetwork, desired: &Network) -> bool {
    existing.driver == "bridge"
        && existing.bridge.as_deref() == Some(&desired.bridge)
        && subnets_match(&existing.subnets, &desired.subnets)
}

/// Tells if the subnets are the same in each desired family. In the other family the engine
/// may have chosen a subnet itself: old engines create no network without IPv4.
fn subnets_match(existing: &[IpNet], desired: &[IpNet]) -> bool {
    desired.iter().all(|desired| {
        let family = Family::from(*desired);
        let mut same_family = existing.iter().filter(|net| family.includes(**net));
        same_family.next() == Some(desired) && same_family.next().is_none()
    })
}

/// Returns the differences of a network from the desired one, as predicates of a sentence.
fn differences(existing: &ExistingNetwork, desired: &Network) -> Vec<String> {
    let mut differences = Vec::new();
    if !addresses_match(existing, desired) {
        differences.push("has another bridge or other subnets".to_owned());
    }
    if existing.mtu != Some(desired.mtu) {
        let mtu = existing
            .mtu
            .map_or("the engine's default".to_owned(), |mtu| mtu.to_string());
        differences.push(format!("has MTU {mtu} instead of {}", desired.mtu));
    }
    if existing.masquerade {
        differences.push("is masqueraded by the engine".to_owned());
    }
    differences
}

/// Returns why an existing network of another name prevents the creation of a network.
fn obstacle(existing: &ExistingNetwork, name: &str, desired: &Network) -> Option<String> {
    let overlaps = |net: &IpNet| {
        let overlaps_net = |other: &IpNet| other.contains(net) || net.contains(other);
        existing.subnets.iter().any(overlaps_net)
    };
    let reason = if existing.bridge.as_deref() == Some(&desired.bridge) {
        "has the same bridge"
    } else if desired.subnets.iter().any(overlaps) {
        "overlaps it"
    } else {
        return None;
    };
    Some(format!(
        "cannot create Docker network {name} ({}): network {} ({}) {reason}",
        describe(Some(&desired.bridge), &desired.subnets),
        existing.name,
        describe(existing.bridge.as_deref(), &existing.subnets)
    ))
}

fn describe(bridge: Option<&str>, subnets: &[IpNet]) -> String {
    let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    let subnets = if subnets.is_empty() {
        "no subnet".to_owned()
    } else {
        subnets.join(", ")
    };
    let bridge = bridge.map_or("an unnamed bridge".to_owned(), |name| {
        format!("bridge {name}")
    });
    format!("{bridge}, {subnets}")
}

/// Returns the names of the containers of a network, at most [`MAX_CONTAINERS`] of them.
fn containers(existing: &ExistingNetwork) -> String {
    let running = existing.endpoints.iter();
    let running = running.map(|endpoint| endpoint.container.clone());
    let stopped = existing.stopped.iter();
    let stopped = stopped.map(|name| format!("{name}, which is stopped"));
    let mut names: Vec<String> = running.chain(stopped).collect();
    let more = names.len().saturating_sub(MAX_CONTAINERS);
    names.truncate(MAX_CONTAINERS);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// Upper bound of container names in one sentence; a network may have a thousand.
const MAX_CONTAINERS: usize = 5;

#[cfg(test)]
mod tests;
