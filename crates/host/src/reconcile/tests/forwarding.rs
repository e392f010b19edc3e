//! Forwarding of the overlays' own devices.

use overlay_core::util::family::Family;

use super::*;

#[test]
fn devices_that_do_not_forward_are_opened() {
    let desired = desired(&[2]);
    let settled = converged(&desired);
    let closed = |device: &str, family| Observed {
        not_forwarding: [(device.to_owned(), family)].into(),
        ..settled.clone()
    };
    for (device, family, line) in [
        (
            "vtep1024",
            Family::V4,
            "turn on IPv4 forwarding of device vtep1024",
        ),
        (
            "vtep1024",
            Family::V6,
            "turn on IPv6 forwarding of device vtep1024",
        ),
        (
            "m-dcos",
            Family::V4,
            "turn on IPv4 forwarding of device m-dcos",
        ),
    ] {
        let mut observed = closed(device, family);
        assert_eq!(lines(&plan(&desired, &observed)), [line]);
        // A quick check knows nothing of the kernel.
        let kernel = observed.kernel.take();
        assert_eq!(lines(&plan(&desired, &observed)), [line]);
        observed.kernel = kernel;
        // The switch of the host opens all devices.
        observed.forwarding = Forwarding {
            v4: Some(false),
            v6: Some(false),
        };
        let all = ["turn on IPv4 forwarding", "turn on IPv6 forwarding"];
        assert_eq!(lines(&plan(&desired, &observed)), all);
    }
    // Containers on this bridge have IPv4 alone, and others' devices are theirs.
    for (device, family) in [("m-dcos", Family::V6), ("eth0", Family::V4)] {
        assert_eq!(plan(&desired, &closed(device, family)), Plan::default());
    }
}

#[test]
fn new_devices_are_opened_if_they_begin_closed() {
    let mut observed = bare();
    observed.forwarding = Forwarding {
        v4: Some(true),
        v6: Some(true),
    };
    observed.defaults.not_forwarding = [Family::V4].into();
    let made = lines(&plan(&desired(&[2]), &observed));
    let opened: Vec<&String> = made
        .iter()
        .filter(|line| line.contains("forwarding"))
        .collect();
    assert_eq!(
        opened,
        [
            "turn on IPv4 forwarding of device m-dcos",
            "turn on IPv4 forwarding of device vtep1024"
        ]
    );
    // The bridge of Docker does not exist yet.
    let mut with_docker = desired(&[2]);
    let overlay = with_docker.overlays.get_mut("dcos").unwrap();
    overlay.docker_bridge = Some(Bridge {
        name: "d-dcos".into(),
        subnets: vec![net("9.0.1.128/25")],
    });
    assert_eq!(lines(&plan(&with_docker, &observed)), made);
}

/// The host forwards only what the overlays need.
#[test]
fn only_families_of_the_overlays_are_turned_on() {
    let mut observed = bare();
    observed.forwarding = Forwarding {
        v4: Some(false),
        v6: Some(false),
    };
    for family in Family::BOTH {
        let mut desired = desired(&[2]);
        for overlay in desired.overlays.values_mut() {
            overlay.subnets.retain(|subnet| family.includes(*subnet));
        }
        let ops = plan(&desired, &observed).ops;
        let turned_on = Family::BOTH.map(|family| ops.contains(&Op::EnableForwarding(family)));
        assert_eq!(turned_on, Family::BOTH.map(|one| one == family));
    }
}
