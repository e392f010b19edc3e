//! The difference between the desired and the observed networks of the engine. Pure.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use overlay_core::host_api::engine::{EngineDesired, Network};
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;

use super::observed::{ApiVersion, ExistingNetwork, Observed};
use crate::operation::{Operation, Tense, Verb};

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
                Operation::new(Verb::Remove, format_args!("Docker network {name}"))
            }
            Op::Create { name, network } => {
                let properties = describe(Some(&network.bridge), &network.subnets);
                let object = format_args!("Docker network {name} ({properties})");
                Operation::new(Verb::Create, object)
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
        match judge(existing, desired.networks.get(name), observed.api) {
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
    if !desired.networks.is_empty() && drops_other_hosts {
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

fn judge(existing: &ExistingNetwork, desired: Option<&Network>, api: ApiVersion) -> Verdict {
    let (is_own, is_used) = (existing.is_own(), !existing.endpoints.is_empty());
    let name = &existing.name;
    let Some(desired) = desired else {
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
    let differences = differences(existing, desired, api);
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
fn differences(existing: &ExistingNetwork, desired: &Network, api: ApiVersion) -> Vec<String> {
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
    if api >= ApiVersion::TRUSTED_INTERFACES && existing.trusted != desired.trusted {
        let trusted = desired.trusted.join(":");
        differences.push(format!("drops packets from the interfaces {trusted}"));
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

/// Returns the names of the containers in a network, at most [`MAX_CONTAINERS`] of them.
fn containers(existing: &ExistingNetwork) -> String {
    let names: Vec<&str> = existing
        .endpoints
        .iter()
        .take(MAX_CONTAINERS)
        .map(|endpoint| endpoint.container.as_str())
        .collect();
    let more = match existing.endpoints.len().saturating_sub(MAX_CONTAINERS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names.join(", "))
}

/// Upper bound of container names in one sentence; a network may have a thousand.
const MAX_CONTAINERS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::observed::Endpoint;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn bridge_network(bridge: &str, subnets: &[&str]) -> Network {
        let trusted = vec!["vtep1024".into(), "m-dcos".into()];
        Network {
            bridge: bridge.into(),
            subnets: subnets.iter().map(|text| net(text)).collect(),
            mtu: 1420,
            trusted,
        }
    }

    fn desired(networks: &[(&str, Network)]) -> EngineDesired {
        let networks = networks
            .iter()
            .map(|(name, network)| ((*name).to_owned(), network.clone()));
        EngineDesired {
            networks: networks.collect(),
            ..EngineDesired::default()
        }
    }

    /// Returns a network as an engine before release 28 shows it.
    fn existing(name: &str, network: &Network) -> ExistingNetwork {
        ExistingNetwork {
            id: format!("id of {name}"),
            name: name.into(),
            driver: "bridge".into(),
            bridge: Some(network.bridge.clone()),
            labelled: true,
            subnets: network.subnets.clone(),
            mtu: Some(network.mtu),
            ..ExistingNetwork::default()
        }
    }

    fn used_by_7(existing: ExistingNetwork) -> ExistingNetwork {
        let endpoint = |n| Endpoint {
            container: format!("c{n}"),
            addresses: Vec::new(),
        };
        ExistingNetwork {
            endpoints: (0..7).map(endpoint).collect(),
            ..existing
        }
    }

    fn planned(desired: &EngineDesired, networks: Vec<ExistingNetwork>, api: ApiVersion) -> Plan {
        plan(desired, &Observed { api, networks })
    }

    fn ops(plan: &Plan) -> Vec<String> {
        plan.ops.iter().map(ToString::to_string).collect()
    }

    const OLD: ApiVersion = ApiVersion(1, 41);

    #[test]
    fn matching_network_needs_no_operation() {
        let network = bridge_network("d-dcos", &["9.0.1.128/25", "fd01:b::8000:0:0/81"]);
        let desired = desired(&[("dcos", network.clone())]);
        let unlabelled = ExistingNetwork {
            labelled: false,
            ..existing("dcos", &network)
        };
        for existing in [
            existing("dcos", &network),
            unlabelled,
            used_by_7(existing("dcos", &network)),
        ] {
            assert_eq!(planned(&desired, vec![existing], OLD), Plan::default());
        }
        let six = bridge_network("d-six", &["fd01:b::8000:0:0/81"]);
        let mut existing = existing("six", &six);
        existing.subnets.push(net("172.18.0.0/16"));
        assert_eq!(
            planned(&self::desired(&[("six", six)]), vec![existing], OLD),
            Plan::default()
        );
    }

    #[test]
    fn different_network_is_recreated_unless_it_is_used() {
        let network = bridge_network("d-dcos", &["9.0.1.128/25"]);
        let desired = desired(&[("dcos", network.clone())]);
        let narrow = ExistingNetwork {
            mtu: Some(1400),
            ..existing("dcos", &network)
        };
        let masked = ExistingNetwork {
            masquerade: true,
            ..existing("dcos", &network)
        };
        for existing in [narrow, masked] {
            let plan = planned(&desired, vec![existing.clone()], OLD);
            assert_eq!(
                ops(&plan),
                [
                    "remove Docker network dcos",
                    "create Docker network dcos (bridge d-dcos, 9.0.1.128/25)"
                ]
            );
            // Containers have the desired addresses, so that is a note and no conflict.
            let plan = planned(&desired, vec![used_by_7(existing)], OLD);
            assert_eq!(
                (plan.ops.len(), plan.conflicts.len(), plan.notes.len()),
                (0, 0, 1)
            );
            assert!(
                plan.notes[0]
                    .text
                    .ends_with("(c0, c1, c2, c3, c4 and 2 more)"),
                "{}",
                plan.notes[0].text
            );
        }
    }

    #[test]
    fn network_is_recreated_after_an_upgrade_of_the_engine_that_needs_trusted_interfaces() {
        let network = bridge_network("d-dcos", &["9.0.1.128/25"]);
        let desired = desired(&[("dcos", network.clone())]);
        let existing = existing("dcos", &network);
        for (api, count) in [
            (ApiVersion::V28, 0),
            (ApiVersion::TRUSTED_INTERFACES, 2),
            (ApiVersion(2, 0), 2),
        ] {
            let plan = planned(&desired, vec![existing.clone()], api);
            assert_eq!(plan.ops.len(), count, "{api}");
            // Releases 28.0 and 28.1 drop packets and have no option against it.
            assert_eq!(
                plan.notes.len(),
                usize::from(api == ApiVersion::V28),
                "{api}: {:?}",
                plan.notes
            );
        }
        let plan = planned(
            &desired,
            vec![used_by_7(existing.clone())],
            ApiVersion::TRUSTED_INTERFACES,
        );
        assert_eq!(
            Problem::texts(&plan.notes),
            [
                "Docker network dcos drops packets from the interfaces vtep1024:m-dcos; it is recreated \
              when no container uses it any more (c0, c1, c2, c3, c4 and 2 more)"
            ]
        );
        let trusting = ExistingNetwork {
            trusted: network.trusted,
            ..existing
        };
        assert_eq!(
            planned(&desired, vec![trusting], ApiVersion::TRUSTED_INTERFACES),
            Plan::default()
        );
    }

    #[test]
    fn only_own_networks_are_removed() {
        let network = bridge_network("d-dcos", &["9.0.1.128/25"]);
        let ours = existing("dcos", &network);
        let predecessors = ExistingNetwork {
            labelled: false,
            ..ours.clone()
        };
        let other_name = ExistingNetwork {
            name: "mine".into(),
            ..predecessors.clone()
        };
        let other_driver = ExistingNetwork {
            driver: "macvlan".into(),
            ..predecessors.clone()
        };
        let nameless = ExistingNetwork {
            bridge: None,
            ..predecessors.clone()
        };
        for (existing, removed) in [
            (ours, 1),
            (predecessors, 1),
            (other_name, 0),
            (other_driver, 0),
            (nameless, 0),
        ] {
            let plan = planned(&desired(&[]), vec![existing.clone()], OLD);
            assert_eq!(plan.ops.len(), removed, "{existing:?}");
        }
    }

    #[test]
    fn network_of_a_renamed_overlay_is_replaced() {
        let network = bridge_network("d-new", &["9.0.1.128/25"]);
        let old = existing("old", &bridge_network("d-old", &["9.0.1.128/25"]));
        let desired = desired(&[("new", network)]);
        let plan = planned(&desired, vec![old.clone()], OLD);
        assert_eq!(
            ops(&plan),
            [
                "remove Docker network old",
                "create Docker network new (bridge d-new, 9.0.1.128/25)"
            ]
        );
        let plan = planned(&desired, vec![used_by_7(old)], OLD);
        assert!(plan.ops.is_empty());
        assert_eq!(
            plan.conflicts["new"],
            "cannot create Docker network new (bridge d-new, 9.0.1.128/25): network old (bridge \
             d-old, 9.0.1.128/25) overlaps it"
        );
    }

    #[test]
    fn applied_plan_leads_to_the_desired_state() {
        let four = bridge_network("d-four", &["9.0.1.128/25"]);
        let six = bridge_network("d-six", &["fd01:b::8000:0:0/81"]);
        let desired = desired(&[("four", four.clone()), ("six", six)]);
        let mut engine = Observed {
            api: OLD,
            networks: vec![existing(
                "gone",
                &bridge_network("d-gone", &["9.0.9.128/25"]),
            )],
        };
        engine.networks.push(existing(
            "four",
            &bridge_network("d-four", &["9.0.7.128/25"]),
        ));
        for op in plan(&desired, &engine).ops {
            match op {
                Op::Remove { id, .. } => engine.networks.retain(|existing| existing.id != id),
                Op::Create { name, network } => engine.networks.push(existing(&name, &network)),
            }
        }
        assert_eq!(plan(&desired, &engine), Plan::default());
        let names: Vec<&str> = engine
            .networks
            .iter()
            .map(|existing| existing.name.as_str())
            .collect();
        assert_eq!(names, ["four", "six"]);
    }

    #[test]
    fn upgrade_is_recommended_for_engines_without_trusted_interfaces() {
        let network = bridge_network("d-dcos", &["9.0.1.128/25"]);
        let trusting = ExistingNetwork {
            trusted: network.trusted.clone(),
            ..existing("dcos", &network)
        };
        let all = desired(&[("dcos", network)]);
        for (api, notes) in [
            (ApiVersion(1, 47), 0),
            (ApiVersion(1, 48), 1),
            (ApiVersion(1, 49), 1),
            (ApiVersion(1, 50), 0),
            (ApiVersion(1, 51), 0),
            (ApiVersion(2, 0), 0),
        ] {
            assert_eq!(
                planned(&all, vec![trusting.clone()], api).notes.len(),
                notes,
                "{api}"
            );
            assert_eq!(
                planned(&desired(&[]), Vec::new(), api).notes.len(),
                0,
                "{api}"
            );
        }
    }

    /// Each desired family has exactly the desired subnet.
    #[test]
    fn subnets_match_family_by_family() {
        let (four, six) = ("9.0.1.128/25", "fd01:b::8000:0:0/81");
        for (desired, existing, expected) in [
            (&[four, six][..], &[four, six][..], true),
            (&[four, six], &[six, four], true),
            (&[four, six], &[four], false),
            (&[four], &[four, six], true),
            (&[six], &[four, six], true),
            (&[six], &["fd01:b::/81", six], false),
            (&[six], &[six, "fd01:b::/81"], false),
            (&[four], &["172.18.0.0/16", four], false),
            (&[four], &[four, "172.18.0.0/16"], false),
        ] {
            let nets = |texts: &[&str]| texts.iter().map(|text| net(text)).collect::<Vec<_>>();
            assert_eq!(
                subnets_match(&nets(existing), &nets(desired)),
                expected,
                "{desired:?} {existing:?}"
            );
        }
    }

    #[test]
    fn overlapping_network_is_an_obstacle_in_either_family() {
        let both = bridge_network("d-dcos", &["9.0.1.128/25", "fd01:b::8000:0:0/81"]);
        let all = desired(&[("dcos", both)]);
        for (bridge, subnet, blocked) in [
            ("other", "9.0.0.0/16", true),
            ("other", "9.0.1.129/32", true),
            ("other", "9.0.1.0/25", false),
            ("other", "fd01:b::/64", true),
            ("other", "fd01:b::/81", false),
            ("d-dcos", "172.18.0.0/16", true),
        ] {
            let mut existing = existing("lan", &bridge_network(bridge, &[subnet]));
            existing.labelled = false;
            let plan = planned(&all, vec![existing], OLD);
            assert_eq!(
                (plan.conflicts.len(), plan.ops.len()),
                if blocked { (1, 0) } else { (0, 1) },
                "{subnet}"
            );
        }
    }
}
