//! Reconciliations and quick checks, without a kernel.

use overlay_core::host_api::desired::{Backend, Cni, Firewall as Choice, Overlay};
use overlay_core::host_api::names::parse_bridge_name;

use super::*;
use crate::cni::{content, files};
use crate::reconcile::RemovedPart;

fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn the_firewall_includes_draining_overlays() {
    let stays = Overlay {
        ranges: nets(&["9.0.0.0/8"]),
        subnets: nets(&["9.0.1.0/24"]),
        mesos_bridge: Some(Bridge {
            name: "m-dcos".into(),
            subnets: nets(&["9.0.1.0/25"]),
        }),
        ..Overlay::default()
    };
    let firewall = Choice::Nftables;
    let overlays = [("dcos".to_owned(), stays.clone())].into();
    let desired = Desired {
        firewall,
        overlays,
        ..Desired::default()
    };
    assert_eq!(*with_draining(&desired, &[]), desired);
    let part = |overlay: &str, bridge: &str, part, subnets: &[&str], ranges: &[&str]| Draining {
        overlay: overlay.into(),
        part,
        containerizer: parse_bridge_name(bridge).unwrap().0,
        bridge: bridge.into(),
        index: 7,
        containers: 1,
        subnets: nets(subnets),
        ranges: nets(ranges),
    };
    let with = with_draining(
        &desired,
        &[
            part(
                "dcos",
                "d-dcos",
                RemovedPart::Bridge,
                &["9.0.1.128/25"],
                &["9.0.0.0/8"],
            ),
            part(
                "gone",
                "m-gone",
                RemovedPart::Overlay,
                &["8.0.1.0/25", "fd02::/81"],
                &["8.0.0.0/8", "fd02::/64"],
            ),
        ],
    );
    assert_eq!(with.firewall, Choice::Nftables);
    let dcos = &with.overlays["dcos"];
    assert_eq!(
        (&dcos.mesos_bridge, &dcos.ranges),
        (&stays.mesos_bridge, &stays.ranges)
    );
    assert_eq!(dcos.subnets, nets(&["9.0.1.0/24", "9.0.1.128/25"]));
    assert_eq!(dcos.docker_bridge.as_ref().unwrap().name, "d-dcos");
    let gone = &with.overlays["gone"];
    assert_eq!(gone.mesos_bridge.as_ref().unwrap().name, "m-gone");
    assert_eq!(
        (&gone.docker_bridge, gone.ranges.len(), gone.subnets.len()),
        (&None, 2, 2)
    );
}

/// Desired state of a host whose data plane another program manages: only files matter.
fn files_only(dir: &std::path::Path) -> Desired {
    let subnets = nets(&["9.0.1.0/25"]);
    let mesos_bridge = Some(Bridge {
        name: "m-dcos".into(),
        subnets,
    });
    let overlay = Overlay {
        mesos_bridge,
        mtu: 1420,
        ..Overlay::default()
    };
    Desired {
        cni: Cni {
            dir: dir.into(),
            data_dir: None,
            file_prefix: String::new(),
        },
        backend: Backend::External,
        firewall: Choice::None,
        overlays: [("dcos".to_owned(), overlay)].into(),
        ..Desired::default()
    }
}

#[test]
fn a_quick_check_finds_changed_files() {
    let dir = tempfile::tempdir().unwrap();
    let desired = files_only(dir.path());
    let mut reconciler = KernelReconciler::with_events(Watch::silent());
    assert!(reconciler.quick_check(&desired), "there is no file yet");
    let content = content::wanted(&desired, None).remove("dcos").unwrap();
    files::write(&desired.cni, "dcos", &content).unwrap();
    assert!(!reconciler.quick_check(&desired));
    std::fs::write(dir.path().join("dcos.conf"), "{}").unwrap();
    assert!(reconciler.quick_check(&desired));
    // Another underlay may need another MTU.
    files::write(&desired.cni, "dcos", &content).unwrap();
    reconciler.underlay = Some(Underlay::of_device(2, "eth0", 1400));
    assert!(!reconciler.quick_check(&desired));
    assert!(reconciler.quick_check(&Desired {
        fit_mtu: true,
        ..desired
    }));
}

#[test]
fn a_quick_check_finds_an_obstacle_and_its_end_and_nothing_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let desired = files_only(dir.path());
    let mut reconciler = KernelReconciler::with_events(Watch::silent());
    let file = dir.path().join("dcos.conf");
    assert!(reconciler.reconcile(&desired).overlays.is_empty());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(reconciler.quick_check(&desired));
    let report = reconciler.reconcile(&desired);
    assert!(report.overlays["dcos"].ends_with("is a directory and not a regular file; remove it"));
    assert_eq!(report.operations, 0, "nothing was tried");
    assert!(!reconciler.quick_check(&desired));
    std::fs::remove_dir(&file).unwrap();
    assert!(reconciler.quick_check(&desired));
}

#[test]
fn a_network_of_somebody_else_stays_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let desired = files_only(dir.path());
    let mut reconciler = KernelReconciler::with_events(Watch::silent());
    let (file, other) = (
        dir.path().join("dcos.conf"),
        dir.path().join("10-lan.conflist"),
    );
    let theirs = r#"{"name": "calico", "type": "calico"}"#;
    std::fs::write(&file, theirs).unwrap();
    let report = reconciler.reconcile(&desired);
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.contains(
            "is not a file of this module, and has network \"calico\" of type \"calico\""
        ),
        "{sentence}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), theirs);
    assert!(!reconciler.quick_check(&desired));
    std::fs::remove_file(&file).unwrap();
    assert!(reconciler.quick_check(&desired));
    assert!(reconciler.reconcile(&desired).is_ok());
    // A network of the overlay's name in another file.
    std::fs::write(
        &other,
        r#"{"name": "dcos", "plugins": [{"type": "bridge"}]}"#,
    )
    .unwrap();
    assert!(reconciler.quick_check(&desired));
    let report = reconciler.reconcile(&desired);
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.contains("10-lan.conflist defines a network dcos, too"),
        "{sentence}"
    );
    assert!(!reconciler.quick_check(&desired));
    // A copy of our file is only a warning.
    std::fs::copy(&file, &other).unwrap();
    assert!(!reconciler.quick_check(&desired));
    assert!(reconciler.reconcile(&desired).is_ok());
    assert!(
        reconciler.warned[0].contains("10-lan.conflist"),
        "{:?}",
        reconciler.warned
    );
}

#[test]
fn a_directory_that_others_can_write_is_one_warning() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let desired = files_only(dir.path());
    let mut reconciler = KernelReconciler::with_events(Watch::silent());
    reconciler.reconcile(&desired);
    assert_eq!(reconciler.warned, [""; 0]);
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    for _ in 0..2 {
        assert!(reconciler.reconcile(&desired).overlays.is_empty());
        let [warning] = &reconciler.warned[..] else {
            panic!("{:?}", reconciler.warned)
        };
        assert!(warning.contains("can be written by all users"), "{warning}");
    }
}

#[test]
fn a_quick_check_ignores_operations_that_failed_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut desired = files_only(dir.path());
    let write = |desired: &Desired| {
        let content = content::wanted(desired, None).remove("dcos").unwrap();
        Op::WriteCni {
            overlay: "dcos".into(),
            file: "dcos.conf".into(),
            content,
        }
    };
    let mut reconciler = KernelReconciler::with_events(Watch::silent());
    reconciler.failed = vec![write(&desired)];
    assert!(!reconciler.quick_check(&desired));
    desired.overlays.get_mut("dcos").unwrap().mtu = 1400;
    assert!(reconciler.quick_check(&desired), "another operation");
}
