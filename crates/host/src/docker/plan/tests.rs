//! Tests of the planner of Docker networks.

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
