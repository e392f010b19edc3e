//! Removed overlays, with and without containers.

use super::super::tests::*;

/// Host of agent 1, with a bridge of a removed overlay that has containers.
fn draining(name: &str, ports: usize) -> Observed {
    let mut observed = converged(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    kernel.rules.insert(Rule {
        from: net("8.0.0.0/8"),
        priority: 32765,
        table: 42,
        protocol: PROTOCOL,
    });
    let addresses = [net("8.0.1.1/25")].into();
    kernel.bridges.insert(
        name.into(),
        Leftover {
            index: 7,
            ports,
            addresses,
        },
    );
    observed
}

#[test]
fn a_draining_overlay_has_its_own_ranges() {
    let planned = plan(&desired(&[2]), &draining("m-old", 2));
    let [part] = &planned.draining[..] else {
        panic!("{planned:?}")
    };
    assert_eq!(
        (part.overlay.as_str(), part.is_removed(), part.containers),
        ("old", true, 2)
    );
    assert_eq!(
        (&part.ranges, &part.subnets),
        (&vec![net("8.0.0.0/8")], &vec![net("8.0.1.0/25")])
    );
    assert!(lines(&planned).is_empty(), "its rule stays: {planned:?}");
    // The bridge of a desired overlay is only a part of it.
    let mut observed = draining("m-old", 2);
    let kernel = observed.kernel.as_mut().unwrap();
    let bridge = kernel.bridges.remove("m-old").unwrap();
    kernel.bridges.insert("d-dcos".into(), bridge);
    let [part] = &plan(&desired(&[2]), &observed).draining[..] else {
        panic!()
    };
    assert_eq!((part.overlay.as_str(), part.is_removed()), ("dcos", false));
    // The rule is removed once the containers have ended.
    let lines = lines(&plan(&desired(&[2]), &draining("m-old", 0)));
    assert_eq!(
        lines,
        [
            "remove device m-old",
            "remove rule from 8.0.0.0/8 lookup 42 priority 32765"
        ]
    );
}

#[test]
fn rules_of_draining_overlays_stay_only_where_they_work() {
    let mut observed = draining("m-old", 1);
    let late = Rule {
        from: net("8.0.0.0/8"),
        priority: 32766,
        table: 42,
        protocol: PROTOCOL,
    };
    observed.kernel.as_mut().unwrap().rules.insert(late);
    assert_eq!(
        lines(&plan(&desired(&[2]), &observed)),
        ["remove rule from 8.0.0.0/8 lookup 42 priority 32766"]
    );
}

/// The present peers do not matter.
#[test]
fn routes_into_ranges_of_draining_overlays_stay() {
    let into = Route {
        dst: net("8.0.2.0/24"),
        ..route("44.128.0.2", 0, PROTOCOL)
    };
    let beside = Route {
        dst: net("7.0.2.0/24"),
        ..into
    };
    for (ports, gone) in [(1, 1), (0, 2)] {
        let mut observed = draining("m-old", ports);
        device(&mut observed).routes.extend([into, beside]);
        let lines = lines(&plan(&desired(&[2]), &observed));
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("remove route"))
                .count(),
            gone,
            "{lines:?}"
        );
    }
}

/// A device that another one replaces is removed.
#[test]
fn a_former_device_stays_while_containers_need_it() {
    let with_stale = |ports| {
        let mut observed = draining("m-old", ports);
        let kernel = observed.kernel.as_mut().unwrap();
        kernel.stale_devices = ["vtep7".to_owned()].into();
        observed
    };
    let removes = |desired: &Desired, ports| {
        lines(&plan(desired, &with_stale(ports))).contains(&"remove device vtep7".to_owned())
    };
    let nothing = Desired {
        vtep: None,
        ..desired(&[])
    };
    assert!(!removes(&nothing, 1));
    assert!(removes(&nothing, 0));
    assert!(removes(&desired(&[2]), 1));
}

#[test]
fn a_bridge_is_ours_if_a_rule_or_a_file_proves_it() {
    let bare_bridge = |name: &str, file: Option<bool>| {
        let mut observed = draining(name, 0);
        observed
            .kernel
            .as_mut()
            .unwrap()
            .rules
            .retain(|rule| rule.from != net("8.0.0.0/8"));
        let content = b"{}".to_vec();
        let file = file.map(|ours| ("old".to_owned(), CniFile { content, ours }));
        observed.cni.as_mut().unwrap().extend(file);
        observed
    };
    let removes = |observed: &Observed, removal| {
        let desired = Desired {
            removal,
            ..desired(&[2])
        };
        lines(&plan(&desired, observed))
            .iter()
            .any(|line| line.starts_with("remove device"))
    };
    assert!(!removes(&bare_bridge("m-old", None), Removal::Careful));
    assert!(
        !removes(&bare_bridge("m-old", Some(false)), Removal::Careful),
        "somebody else's file"
    );
    assert!(removes(&bare_bridge("m-old", Some(true)), Removal::Careful));
    assert!(removes(&bare_bridge("m-old", None), Removal::Thorough));
    // A bridge with containers is removed only by force.
    assert!(!removes(&draining("m-old", 1), Removal::Thorough));
    assert!(removes(&draining("m-old", 1), Removal::Forced));
    assert!(
        !removes(&draining("d-old", 1), Removal::Forced),
        "those are Docker's to remove"
    );
}

/// Host whose only overlay was removed, with a bridge with this number of containers.
fn abandoned(ports: usize) -> Observed {
    let mut observed = converged(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    let leftover = Leftover {
        index: 7,
        ports,
        addresses: [net("9.0.1.1/25")].into(),
    };
    kernel.bridges.insert("m-dcos".into(), leftover);
    observed
}

#[test]
fn objects_that_containers_of_a_removed_overlay_need_stay_until_they_end() {
    let nothing = Desired {
        vtep: desired(&[]).vtep,
        peers: Some(Arc::default()),
        ..Desired::default()
    };
    let plan_then = plan(&nothing, &abandoned(2));
    let lines_then = lines(&plan_then);
    assert_eq!(plan_then.draining[0].containers, 2);
    assert_eq!(plan_then.draining[0].ranges, [net("9.0.0.0/8")]);
    for kept in [
        "remove device m-dcos",
        "remove route 9.0.2.0/24",
        "remove rule from 9.0.0.0/8",
    ] {
        assert!(
            !lines_then.iter().any(|line| line.starts_with(kept)),
            "{lines_then:?}"
        );
    }
    let plan = plan(&nothing, &abandoned(0));
    assert_eq!(plan.draining, []);
    assert!(
        lines(&plan).contains(&"remove device m-dcos".to_owned()),
        "{plan:?}"
    );
    assert!(
        lines(&plan)
            .iter()
            .any(|line| line.starts_with("remove rule from 9.0.0.0/8")),
        "{plan:?}"
    );
}

#[test]
fn docker_removes_its_own_bridges() {
    let mut observed = abandoned(0);
    let kernel = observed.kernel.as_mut().unwrap();
    let mut bridge = kernel.bridges.remove("m-dcos").unwrap();
    bridge.ports = 1;
    kernel.bridges.insert("d-dcos".into(), bridge.clone());
    // The overlay stays, but Docker no longer uses it.
    let plan_then = plan(&desired(&[2]), &observed);
    assert_eq!(lines(&plan_then), [""; 0]);
    assert_eq!(
        plan_then.draining[0].to_string(),
        "overlay dcos no longer uses bridge d-dcos, but 1 container on d-dcos still uses it: bridge, rules and \
         routes stay until its end"
    );
    for (ports, removal) in [
        (0, Removal::Careful),
        (0, Removal::Thorough),
        (1, Removal::Forced),
    ] {
        bridge.ports = ports;
        observed
            .kernel
            .as_mut()
            .unwrap()
            .bridges
            .insert("d-dcos".into(), bridge.clone());
        let plan = plan(
            &Desired {
                removal,
                ..desired(&[2])
            },
            &observed,
        );
        assert_eq!((lines(&plan), plan.draining), (vec![], vec![]));
    }
}

#[test]
fn the_name_alone_does_not_prove_that_a_bridge_is_ours() {
    let mut observed = abandoned(0);
    observed.kernel.as_mut().unwrap().rules.clear();
    observed.cni = Some(BTreeMap::new());
    let mut nothing = Desired::default();
    let removes = |nothing: &Desired| {
        lines(&plan(nothing, &observed)).contains(&"remove device m-dcos".to_owned())
    };
    assert!(!removes(&nothing));
    nothing.removal = Removal::Thorough;
    assert!(removes(&nothing));
}
