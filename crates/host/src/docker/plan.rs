//! What to do about the engine's networks, from what is wanted and what there is.
//! Pure.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use overlay_core::host_api::engine::{EngineDesired, Network};

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
                plan.ops.push(Op::Remove {
                    id: existing.id.clone(),
                    name: existing.name.clone(),
                });
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
    if !desired.networks.is_empty()
        && (ApiVersion::V28..ApiVersion::TRUSTED_INTERFACES).contains(&engine.api)
    {
        plan.notes.push(format!(
            "the container engine (API {}) keeps packets from other hosts from containers, and cannot be told \
             otherwise before its release 28.2: upgrade it",
            engine.api
        ));
    }
    for (name, network) in &desired.networks {
        if plan.conflicts.contains_key(name)
            || staying.iter().any(|existing| existing.name == *name)
        {
            continue;
        }
        match staying
            .iter()
            .find_map(|existing| obstacle(existing, name, network))
        {
            Some(sentence) => _ = plan.conflicts.insert(name.clone(), sentence),
            None => plan.ops.push(Op::Create {
                name: name.clone(),
                network: network.clone(),
            }),
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
        true => format!(
            "{both}; it is replaced as soon as no container uses it: {}",
            users(existing)
        ),
        false => format!(
            "{both}; remove it (docker network rm {}) or rename one of them",
            existing.name
        ),
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
        let mtu = existing
            .mtu
            .map_or("the engine's default".to_owned(), |mtu| mtu.to_string());
        differences.push(format!("has MTU {mtu} instead of {}", wanted.mtu));
    }
    if existing.masquerade {
        differences.push("lets the engine masquerade what leaves it".to_owned());
    }
    if api >= ApiVersion::TRUSTED_INTERFACES && existing.trusted != wanted.trusted {
        let trusted = wanted.trusted.join(":");
        differences.push(format!(
            "does not trust {trusted}, by which other containers' packets come"
        ));
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
    let subnets = if subnets.is_empty() {
        "no subnet".to_owned()
    } else {
        subnets.join(", ")
    };
    format!(
        "bridge {}, {subnets}",
        bridge.unwrap_or("of the engine's choice")
    )
}

/// The containers in a network; a thousand would be too many to list.
fn users(existing: &Existing) -> String {
    const MOST: usize = 5;
    let all = existing.endpoints.len();
    let names: Vec<&str> = existing
        .endpoints
        .iter()
        .take(MOST)
        .map(|endpoint| endpoint.container.as_str())
        .collect();
    let more = if all > MOST {
        format!(" and {} more", all - MOST)
    } else {
        String::new()
    };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::observed::Endpoint;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn wanted(bridge: &str, subnets: &[&str]) -> Network {
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

    /// What an engine before 28 shows of a network that was made as `network`.
    fn made(name: &str, network: &Network) -> Existing {
        Existing {
            id: format!("id of {name}"),
            name: name.into(),
            driver: "bridge".into(),
            bridge: Some(network.bridge.clone()),
            labelled: true,
            subnets: network.subnets.clone(),
            mtu: Some(network.mtu),
            ..Existing::default()
        }
    }

    fn used(existing: Existing) -> Existing {
        let endpoint = |n| Endpoint {
            container: format!("c{n}"),
            addresses: Vec::new(),
        };
        Existing {
            endpoints: (0..7).map(endpoint).collect(),
            ..existing
        }
    }

    fn planned(desired: &EngineDesired, networks: Vec<Existing>, api: ApiVersion) -> Plan {
        plan(desired, &Engine { api, networks })
    }

    fn ops(plan: &Plan) -> Vec<String> {
        plan.ops.iter().map(ToString::to_string).collect()
    }

    const OLD: ApiVersion = ApiVersion(1, 41);

    #[test]
    fn what_is_as_wanted_needs_nothing() {
        let network = wanted("d-dcos", &["9.0.1.128/25", "fd01:b::8000:0:0/81"]);
        let desired = desired(&[("dcos", network.clone())]);
        let unlabelled = Existing {
            labelled: false,
            ..made("dcos", &network)
        };
        for existing in [
            made("dcos", &network),
            unlabelled,
            used(made("dcos", &network)),
        ] {
            assert_eq!(planned(&desired, vec![existing], OLD), Plan::default());
        }
        let six = wanted("d-six", &["fd01:b::8000:0:0/81"]);
        let mut existing = made("six", &six);
        existing.subnets.push(net("172.18.0.0/16"));
        assert_eq!(
            planned(&self::desired(&[("six", six)]), vec![existing], OLD),
            Plan::default()
        );
    }

    #[test]
    fn what_differs_is_made_anew_unless_it_is_in_use() {
        let network = wanted("d-dcos", &["9.0.1.128/25"]);
        let desired = desired(&[("dcos", network.clone())]);
        let narrow = Existing {
            mtu: Some(1400),
            ..made("dcos", &network)
        };
        let masked = Existing {
            masquerade: true,
            ..made("dcos", &network)
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
            // Its containers have the right addresses: no fault, but worth a word.
            let plan = planned(&desired, vec![used(existing)], OLD);
            assert_eq!(
                (plan.ops.len(), plan.conflicts.len(), plan.notes.len()),
                (0, 0, 1)
            );
            assert!(
                plan.notes[0].ends_with("(c0, c1, c2, c3, c4 and 2 more)"),
                "{}",
                plan.notes[0]
            );
        }
    }

    #[test]
    fn what_another_engine_has_to_be_told_is_made_anew_after_its_upgrade() {
        let network = wanted("d-dcos", &["9.0.1.128/25"]);
        let desired = desired(&[("dcos", network.clone())]);
        let existing = made("dcos", &network);
        for (api, count) in [
            (ApiVersion::V28, 0),
            (ApiVersion::TRUSTED_INTERFACES, 2),
            (ApiVersion(2, 0), 2),
        ] {
            let plan = planned(&desired, vec![existing.clone()], api);
            assert_eq!(plan.ops.len(), count, "{api}");
            // 28.0 and 28.1 have the lock and not the key.
            assert_eq!(
                plan.notes.len(),
                usize::from(api == ApiVersion::V28),
                "{api}: {:?}",
                plan.notes
            );
        }
        let plan = planned(
            &desired,
            vec![used(existing.clone())],
            ApiVersion::TRUSTED_INTERFACES,
        );
        assert_eq!(
            plan.notes,
            [
                "Docker network dcos does not trust vtep1024:m-dcos, by which other containers' packets come; it is \
              made anew when no container uses it any more (c0, c1, c2, c3, c4 and 2 more)"
            ]
        );
        let trusting = Existing {
            trusted: network.trusted,
            ..existing
        };
        assert_eq!(
            planned(&desired, vec![trusting], ApiVersion::TRUSTED_INTERFACES),
            Plan::default()
        );
    }

    #[test]
    fn only_what_is_recognisably_ours_is_removed() {
        let network = wanted("d-dcos", &["9.0.1.128/25"]);
        let ours = made("dcos", &network);
        let predecessors = Existing {
            labelled: false,
            ..ours.clone()
        };
        let other_name = Existing {
            name: "mine".into(),
            ..predecessors.clone()
        };
        let other_driver = Existing {
            driver: "macvlan".into(),
            ..predecessors.clone()
        };
        let nameless = Existing {
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
    fn a_renamed_overlay_takes_its_predecessors_place() {
        let network = wanted("d-new", &["9.0.1.128/25"]);
        let old = made("old", &wanted("d-old", &["9.0.1.128/25"]));
        let desired = desired(&[("new", network)]);
        let plan = planned(&desired, vec![old.clone()], OLD);
        assert_eq!(
            ops(&plan),
            [
                "remove Docker network old",
                "create Docker network new (bridge d-new, 9.0.1.128/25)"
            ]
        );
        let plan = planned(&desired, vec![used(old)], OLD);
        assert!(plan.ops.is_empty());
        assert_eq!(
            plan.conflicts["new"],
            "Docker network new (bridge d-new, 9.0.1.128/25) cannot be made: the engine's network old (bridge \
             d-old, 9.0.1.128/25) overlaps it"
        );
    }

    #[test]
    fn what_is_carried_out_leads_to_what_is_wanted() {
        let four = wanted("d-four", &["9.0.1.128/25"]);
        let six = wanted("d-six", &["fd01:b::8000:0:0/81"]);
        let desired = desired(&[("four", four.clone()), ("six", six)]);
        let mut engine = Engine {
            api: OLD,
            networks: vec![made("gone", &wanted("d-gone", &["9.0.9.128/25"]))],
        };
        engine
            .networks
            .push(made("four", &wanted("d-four", &["9.0.7.128/25"])));
        for op in plan(&desired, &engine).ops {
            match op {
                Op::Remove { id, .. } => engine.networks.retain(|existing| existing.id != id),
                Op::Create { name, network } => engine.networks.push(made(&name, &network)),
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
    fn an_engine_is_told_of_as_locked_until_there_is_a_key() {
        let network = wanted("d-dcos", &["9.0.1.128/25"]);
        let trusting = Existing {
            trusted: network.trusted.clone(),
            ..made("dcos", &network)
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

    /// In a family that is wanted there is the one subnet and no other.
    #[test]
    fn subnets_match_family_by_family() {
        let (four, six) = ("9.0.1.128/25", "fd01:b::8000:0:0/81");
        for (wanted, existing, expected) in [
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
                subnets_match(&nets(existing), &nets(wanted)),
                expected,
                "{wanted:?} {existing:?}"
            );
        }
    }

    #[test]
    fn what_overlaps_is_in_the_way_in_either_family() {
        let both = wanted("d-dcos", &["9.0.1.128/25", "fd01:b::8000:0:0/81"]);
        let all = desired(&[("dcos", both)]);
        for (bridge, subnet, blocked) in [
            ("other", "9.0.0.0/16", true),
            ("other", "9.0.1.129/32", true),
            ("other", "9.0.1.0/25", false),
            ("other", "fd01:b::/64", true),
            ("other", "fd01:b::/81", false),
            ("d-dcos", "172.18.0.0/16", true),
        ] {
            let mut existing = made("lan", &wanted(bridge, &[subnet]));
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
