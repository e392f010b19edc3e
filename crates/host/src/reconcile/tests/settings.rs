//! Forwarding, checksums, MTUs, rules, and warnings about them.

use super::super::tests::*;
use overlay_core::host_api::desired::Checksum;

#[test]
fn each_family_has_its_own_switch_for_forwarding() {
    for (v4, v6, expected) in [
        (Some(true), Some(true), &[][..]),
        (Some(false), Some(true), &["turn on IPv4 forwarding"]),
        (Some(true), Some(false), &["turn on IPv6 forwarding"]),
        (Some(true), None, &["turn on IPv6 forwarding"]),
        (None, Some(true), &["turn on IPv4 forwarding"]),
    ] {
        let observed = Observed {
            forwarding: Forwarding { v4, v6 },
            ..converged(&desired(&[2]))
        };
        assert_eq!(
            lines(&plan(&desired(&[2]), &observed)),
            expected,
            "{v4:?} {v6:?}"
        );
    }
}

#[test]
fn checksums_are_set_where_they_differ() {
    let with = |tx_checksum, observed: Observed, now| {
        let desired = Desired {
            tx_checksum,
            ..desired(&[])
        };
        let lines = lines(&plan(
            &desired,
            &Observed {
                tx_checksum: now,
                ..observed
            },
        ));
        let mut of_it = lines
            .into_iter()
            .filter_map(|line| Some(line.split_once("generic ")?.1.to_owned()));
        of_it.next()
    };
    let there = || converged(&desired(&[]));
    let (on, off) = (Some("on".to_owned()), Some("off".to_owned()));
    for (wanted, now, expected) in [
        (Checksum::Auto, Some(ChecksumOffload::On), None),
        (Checksum::Auto, Some(ChecksumOffload::Off), None),
        (Checksum::On, Some(ChecksumOffload::On), None),
        (Checksum::On, Some(ChecksumOffload::Off), on.clone()),
        (Checksum::Off, Some(ChecksumOffload::On), off.clone()),
        (Checksum::Off, Some(ChecksumOffload::Off), None),
        (Checksum::Off, None, off.clone()),
    ] {
        assert_eq!(with(wanted, there(), now), expected, "{wanted:?} {now:?}");
    }
    // The observed value belongs to a device that is removed.
    let mut wrong = there();
    device(&mut wrong).kind = DeviceKind::Vxlan {
        vni: Some(7),
        port: 64000,
        learning: false,
    };
    assert_eq!(
        with(Checksum::Off, wrong.clone(), Some(ChecksumOffload::Off)),
        off
    );
    assert_eq!(with(Checksum::On, wrong, Some(ChecksumOffload::Off)), None);
    assert_eq!(with(Checksum::On, bare(), None), None);
    // A device that cannot be created has no features.
    let mut obstacle = there();
    device(&mut obstacle).kind = DeviceKind::Other("bridge".into());
    assert_eq!(
        with(Checksum::Off, obstacle, Some(ChecksumOffload::On)),
        None
    );
}

#[test]
fn a_loss_of_router_advertisements_is_a_warning() {
    let underlay = Some(Underlay::of_device(2, "eth0.7", 1500));
    let observed = |loses: bool| Observed {
        underlay: underlay.clone(),
        losing_routers: loses.then(|| "eth0.7".to_owned()).into_iter().collect(),
        ..converged(&desired(&[2]))
    };
    let warnings = |desired: &Desired, forgets| plan(desired, &observed(forgets)).warnings;
    assert_eq!(warnings(&desired(&[2]), false), [""; 0]);
    let [warning] = &warnings(&desired(&[2]), true)[..] else {
        panic!()
    };
    assert!(
        warning.ends_with("set the sysctl net.ipv6.conf.eth0/7.accept_ra to 2"),
        "{warning}"
    );
    let mut v4 = desired(&[2]);
    v4.overlays.get_mut("dcos").unwrap().subnets.truncate(1);
    assert_eq!(warnings(&v4, true), [""; 0]);
    assert_eq!(
        warnings(
            &Desired {
                backend: Backend::External,
                ..desired(&[2])
            },
            true
        ),
        [""; 0]
    );
}

#[test]
fn mtus_of_overlays_without_a_bridge_do_not_matter() {
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().mtu = None;
    let observed = |mtu| {
        let underlay = Some(Underlay::of_device(2, "eth0", mtu));
        Observed {
            underlay,
            ..converged(&super::desired(&[2]))
        }
    };
    for (mtu, count) in [(1470, 0), (1469, 1)] {
        assert_eq!(
            plan(&desired, &observed(mtu)).warnings.len(),
            count,
            "{mtu}"
        );
    }
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    overlay.docker_bridge = overlay.mesos_bridge.take();
    assert_eq!(plan(&desired, &observed(1469)).warnings.len(), 1);
    desired.overlays.get_mut("dcos").unwrap().docker_bridge = None;
    assert_eq!(plan(&desired, &observed(1469)).warnings.len(), 0);
}

#[test]
fn families_with_a_tunnel_have_rules() {
    let mut desired = desired(&[]);
    desired.vtep.as_mut().unwrap().addresses.truncate(1);
    let made = lines(&plan(&desired, &bare()));
    let rules: Vec<&String> = made.iter().filter(|line| line.contains("rule")).collect();
    assert_eq!(rules, ["add rule from 9.0.0.0/8 lookup 42"]);
    desired.vtep.as_mut().unwrap().addresses = vec![net("fd01:a::1/64")];
    let made = lines(&plan(&desired, &bare()));
    let rules: Vec<&String> = made.iter().filter(|line| line.contains("rule")).collect();
    assert_eq!(rules, ["add rule from fd01:b::/64 lookup 42"]);
}

#[test]
fn cni_configurations_are_repaired() {
    fn files(observed: &mut Observed) -> &mut BTreeMap<String, CniFile> {
        observed.cni.as_mut().unwrap()
    }
    let write = "write CNI configuration dcos.conf";
    assert_eq!(repair(|o| files(o).clear()), [write]);
    let garbage = CniFile {
        content: b"garbage".to_vec(),
        ours: false,
    };
    assert_eq!(
        repair(|o| _ = files(o).insert("dcos".into(), garbage)),
        [write]
    );
    let stale = CniFile {
        content: b"ours".to_vec(),
        ours: true,
    };
    let lines = repair(|o| _ = files(o).insert("gone".into(), stale));
    assert_eq!(lines, ["remove CNI configuration gone.conf"]);
}

#[test]
fn a_file_of_somebody_else_stays() {
    let desired = desired(&[]);
    let mut observed = converged(&desired);
    let foreign = CniFile {
        content: b"{}".to_vec(),
        ours: false,
    };
    observed
        .cni
        .as_mut()
        .unwrap()
        .insert("foreign".into(), foreign);
    assert_eq!(plan(&desired, &observed), Plan::default());
}

#[test]
fn forwarding_is_turned_on_where_needed_and_never_off() {
    let on = Forwarding {
        v4: Some(true),
        v6: Some(true),
    };
    let mut desired = desired(&[]);
    let off = converged(&desired);
    let observed = |forwarding| Observed {
        forwarding,
        ..off.clone()
    };
    desired.overlays.get_mut("dcos").unwrap().subnets.pop();
    let none = Forwarding {
        v4: Some(false),
        v6: Some(false),
    };
    assert_eq!(
        lines(&plan(&desired, &observed(none))),
        ["turn on IPv4 forwarding"]
    );
    assert_eq!(plan(&desired, &observed(on)), Plan::default());
    assert_eq!(
        plan(
            &Desired::default(),
            &Observed {
                forwarding: on,
                ..bare()
            }
        ),
        Plan::default()
    );
}

#[test]
fn an_mtu_that_does_not_fit_the_underlay_is_a_warning() {
    let mut desired = desired(&[2]);
    let mut observed = converged(&desired);
    let underlay = |mtu| Some(Underlay::of_device(2, "eth0", mtu));
    observed.underlay = underlay(1500);
    assert_eq!(plan(&desired, &observed), Plan::default());
    observed.underlay = underlay(1499);
    assert_eq!(
        plan(&desired, &observed).warnings,
        [
            "vtep_mtu is 1450, but packets of more than 1449 bytes do not fit into eth0 (MTU 1499) with \
          their 50 bytes of VXLAN headers, and get lost; lower it to 1449 or raise that of eth0"
        ]
    );
    desired.vtep.as_mut().unwrap().mtu = None;
    observed.underlay = underlay(1469);
    let warnings = plan(&desired, &observed).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("overlay_mtu of network dcos is 1420, but"),
        "{warnings:?}"
    );
}

/// A converged host on an underlay with this MTU.
fn settled_on(desired: &Desired, mtu: u32) -> Observed {
    let underlay = Some(Underlay::of_device(2, "eth0", mtu));
    let mut observed = Observed { underlay, ..bare() };
    apply(&plan(desired, &observed), &mut observed);
    assert_eq!(plan(desired, &observed), Plan::default());
    observed
}

#[test]
fn mtus_that_are_not_configured_fit_the_underlay() {
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().mtu = None;
    desired.fit_mtu = true;
    for (underlay, device_mtu, container_mtu) in
        [(1500, 1450, 1420), (1400, 1350, 1350), (9000, 8950, 1420)]
    {
        let mut observed = settled_on(&desired, underlay);
        assert_eq!(device(&mut observed).mtu, device_mtu);
        let file = String::from_utf8(observed.cni.unwrap()["dcos"].content.clone()).unwrap();
        assert!(
            file.contains(&format!(r#""mtu":{container_mtu},"#)),
            "{underlay}: {file}"
        );
    }
    // A configured MTU is used, with a warning.
    desired.fit_mtu = false;
    desired.vtep.as_mut().unwrap().mtu = Some(1450);
    let observed = Observed {
        underlay: Some(Underlay::of_device(2, "eth0", 1400)),
        ..converged(&desired)
    };
    let plan = plan(&desired, &observed);
    assert_eq!((plan.ops.len(), plan.warnings.len()), (0, 2));
    assert!(
        plan.warnings[0].contains("lower it to 1350"),
        "{:?}",
        plan.warnings
    );
}
