//! What to do about the engine's networks, from what is wanted and what there is.
//! Pure.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use super::desired::{EngineDesired, Network};
use super::observed::{ApiVersion, Engine, Existing};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Remove a network of ours.
    Remove {
        /// The engine's id.
        id: String,
        /// The name.
        name: String,
    },
    /// Make a network.
    Create {
        /// The name.
        name: String,
        /// What it is to be like.
        network: Network,
    },
}

impl Op {
    /// The network's name.
    pub fn name(&self) -> &str {
        match self {
            Op::Remove { name, .. } | Op::Create { name, .. } => name,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Remove { name, .. } => write!(f, "remove Docker network {name}"),
            Op::Create { name, network } => {
                write!(
                    f,
                    "create Docker network {name} ({})",
                    describe(Some(&network.bridge), &network.subnets)
                )
            }
        }
    }
}

/// The way from what there is to what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; removals come first.
    pub ops: Vec<Op>,
    /// Wanted networks that cannot be had as things are: why, by name.
    pub conflicts: BTreeMap<String, String>,
    /// What else an operator should know: networks that are kept because they are in
    /// use.
    pub notes: Vec<String>,
}

/// Compares the engine with what is wanted of it.
pub fn plan(desired: &EngineDesired, engine: &Engine) -> Plan {
    let mut plan = Plan::default();
    let mut staying: Vec<&Existing> = Vec::new();
    for existing in &engine.networks {
        let wanted = desired.networks.get(&existing.name);
        let verdict = judge(existing, wanted, engine.api);
        match verdict {
            Verdict::Remove => {
                plan.ops.push(Op::Remove { id: existing.id.clone(), name: existing.name.clone() });
                continue;
            }
            Verdict::Stay(None) => {}
            Verdict::Stay(Some(note)) => plan.notes.push(note),
            Verdict::Conflict(sentence) => {
                plan.conflicts.insert(existing.name.clone(), sentence);
            }
        }
        staying.push(existing);
    }
    for (name, network) in &desired.networks {
        if plan.conflicts.contains_key(name) || staying.iter().any(|existing| existing.name == *name) {
            continue;
        }
        match staying.iter().find_map(|existing| obstacle(existing, name, network)) {
            Some(sentence) => _ = plan.conflicts.insert(name.clone(), sentence),
            None => plan.ops.push(Op::Create { name: name.clone(), network: network.clone() }),
        }
    }
    plan
}

/// What becomes of one network.
enum Verdict {
    Remove,
    /// It stays; perhaps there is something to say about it.
    Stay(Option<String>),
    /// It stays, and is not what is wanted under its name.
    Conflict(String),
}

fn judge(existing: &Existing, wanted: Option<&Network>, api: ApiVersion) -> Verdict {
    let Some(wanted) = wanted else {
        return match existing.is_ours() {
            false => Verdict::Stay(None),
            true if existing.endpoints.is_empty() => Verdict::Remove,
            true => Verdict::Stay(Some(format!(
                "Docker network {} is not wanted any more and is kept as long as containers use it: {}",
                existing.name,
                users(existing)
            ))),
        };
    };
    let differences = differences(existing, wanted, api);
    if differences.is_empty() {
        return Verdict::Stay(None);
    }
    let ours = existing.is_ours();
    if ours && existing.endpoints.is_empty() {
        return Verdict::Remove;
    }
    if matches(existing, wanted) {
        return Verdict::Stay(Some(format!(
            "Docker network {} {}; it is made anew when no container uses it any more ({})",
            existing.name,
            differences.join(" and "),
            users(existing)
        )));
    }
    let both = format!(
        "the engine has a network {} ({}), and the overlay's would be another one ({})",
        existing.name,
        describe(existing.bridge.as_deref(), &existing.subnets),
        describe(Some(&wanted.bridge), &wanted.subnets)
    );
    Verdict::Conflict(match ours {
        true => format!("{both}; it is replaced as soon as no container uses it: {}", users(existing)),
        false => format!("{both}; remove it (docker network rm {}) or rename one of them", existing.name),
    })
}

/// Whether a network is what is wanted as far as its containers' addresses go.
fn matches(existing: &Existing, wanted: &Network) -> bool {
    existing.driver == "bridge"
        && existing.bridge.as_deref() == Some(&wanted.bridge)
        && subnets_match(&existing.subnets, &wanted.subnets)
}

/// In a family that is not wanted the engine may have chosen a subnet itself: old
/// ones make no network without IPv4.
fn subnets_match(existing: &[IpNet], wanted: &[IpNet]) -> bool {
    wanted.iter().all(|wanted| {
        let mut family = existing.iter().filter(|net| is_v4(net) == is_v4(wanted));
        family.next() == Some(wanted) && family.next().is_none()
    })
}

fn is_v4(net: &IpNet) -> bool {
    net.addr().is_ipv4()
}

/// How a network differs from what is wanted, each as the end of a sentence.
fn differences(existing: &Existing, wanted: &Network, api: ApiVersion) -> Vec<String> {
    let mut differences = Vec::new();
    if !matches(existing, wanted) {
        differences.push("has another bridge or other subnets".to_owned());
    }
    if existing.mtu != Some(wanted.mtu) {
        let mtu = existing.mtu.map_or("the engine's default".to_owned(), |mtu| mtu.to_string());
        differences.push(format!("has MTU {mtu} instead of {}", wanted.mtu));
    }
    if existing.masquerade {
        differences.push("lets the engine masquerade what leaves it".to_owned());
    }
    if api >= ApiVersion::TRUSTED_INTERFACES && existing.trusted != wanted.trusted {
        let trusted = wanted.trusted.join(":");
        differences.push(format!("does not trust {trusted}, by which other containers' packets come"));
    }
    differences
}

/// Why a network cannot be made beside one of another name.
fn obstacle(existing: &Existing, name: &str, wanted: &Network) -> Option<String> {
    let overlap = |net: &IpNet| {
        existing
            .subnets
            .iter()
            .any(|other| is_v4(other) == is_v4(net) && (other.contains(net) || net.contains(other)))
    };
    let what = if existing.bridge.as_deref() == Some(&wanted.bridge) {
        "has the same bridge"
    } else if wanted.subnets.iter().any(overlap) {
        "overlaps it"
    } else {
        return None;
    };
    Some(format!(
        "Docker network {name} ({}) cannot be made: the engine's network {} ({}) {what}",
        describe(Some(&wanted.bridge), &wanted.subnets),
        existing.name,
        describe(existing.bridge.as_deref(), &existing.subnets)
    ))
}

fn describe(bridge: Option<&str>, subnets: &[IpNet]) -> String {
    let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
    let subnets = if subnets.is_empty() { "no subnet".to_owned() } else { subnets.join(", ") };
    format!("bridge {}, {subnets}", bridge.unwrap_or("of the engine's choice"))
}

/// The containers in a network; a thousand would be too many to list.
fn users(existing: &Existing) -> String {
    const MOST: usize = 5;
    let all = existing.endpoints.len();
    let names: Vec<&str> =
        existing.endpoints.iter().take(MOST).map(|endpoint| endpoint.container.as_str()).collect();
    let more = if all > MOST { format!(" and {} more", all - MOST) } else { String::new() };
    format!("{}{more}", names.join(", "))
}
