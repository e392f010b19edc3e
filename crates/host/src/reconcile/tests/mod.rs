//! The planner without a kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Bridge, Cni, Mac, Overlay, Peer, Removal, Vtep};

use super::constants::PROTOCOL_BOOT;
use super::observed::{
    CniFile, Device, DeviceKind, FdbEntry, Forwarding, Kernel, Leftover, Neighbour, Nexthop, Route,
    Rule, Tunnel, Underlay,
};
use crate::reconcile::*;

mod device_events;
mod events;
mod foreign;
mod forwarding;
mod ipv6;
mod leftovers;
mod limits;
mod model;
mod peer_changes;
mod peers;
mod property;
mod routes;
mod settings;
mod tunnel;

use model::{apply, bare, bare_with, converged, converged_with};
use routes::route;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(n: u8) -> Mac {
    Mac([0x70, 0xb3, 0xd5, 0x80, 0, n])
}

/// Underlay address of the `n`th agent, and its properties as a peer.
fn peer(n: u8) -> (Ipv4Addr, Arc<Peer>) {
    let peer = Peer {
        vtep_ips: vec![ip(&format!("44.128.0.{n}")), ip(&format!("fd01:a::{n:x}"))],
        vtep_mac: mac(n),
        subnets: vec![
            net(&format!("9.0.{n}.0/24")),
            net(&format!("fd01:b:0:0:{n:x}::/80")),
        ],
    };
    (Ipv4Addr::new(10, 0, 0, n), Arc::new(peer))
}

fn overlay() -> Overlay {
    Overlay {
        ranges: vec![net("9.0.0.0/8"), net("fd01:b::/64")],
        subnets: vec![net("9.0.1.0/24"), net("fd01:b:0:0:1::/80")],
        mesos_bridge: Some(Bridge {
            name: "m-dcos".into(),
            subnets: vec![net("9.0.1.0/25")],
        }),
        docker_bridge: None,
        mtu: 1420,
    }
}

/// Agent 1 with a dual-stack overlay and these peers.
fn desired(peers: &[u8]) -> Desired {
    Desired {
        cni: Cni {
            dir: PathBuf::from("/cni"),
            data_dir: None,
            file_prefix: String::new(),
        },
        backend: Backend::Internal,
        vtep: Some(Vtep {
            name: "vtep1024".into(),
            vni: 1024,
            mac: mac(1),
            addresses: vec![net("44.128.0.1/20"), net("fd01:a::1/64")],
            mtu: Some(1450),
        }),
        overlays: BTreeMap::from([("dcos".to_owned(), overlay())]),
        peers: Some(Arc::new(peers.iter().map(|n| peer(*n)).collect())),
        ..Desired::default()
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.ops.iter().map(Op::to_string).collect()
}

/// The VXLAN device of a converged host.
fn device(observed: &mut Observed) -> &mut Device {
    observed.kernel.as_mut().unwrap().device.as_mut().unwrap()
}

/// Plans the repair of a converged host (agent 1 with peer 2) after a change, and shows that the
/// plan leads back to the converged host.
fn repair(change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let desired = desired(&[2]);
    let mut observed = converged(&desired);
    change(&mut observed);
    let repair = plan(&desired, &observed);
    apply(&repair, &mut observed);
    assert_eq!(plan(&desired, &observed), Plan::default());
    assert_eq!(observed, converged(&desired));
    lines(&repair)
}

#[test]
fn a_bare_host_is_configured_in_an_order_that_works() {
    let plan = plan(&desired(&[2]), &bare());
    assert_eq!(
        lines(&plan),
        [
            "turn on IPv4 forwarding",
            "turn on IPv6 forwarding",
            "add device vtep1024 vxlan id 1024 dstport 64000 nolearning address 70:b3:d5:80:00:01 mtu 1450",
            "add address 44.128.0.1/20 dev vtep1024",
            "add address fd01:a::1/64 dev vtep1024",
            "add neighbour 44.128.0.2 lladdr 70:b3:d5:80:00:02 permanent dev vtep1024",
            "add neighbour fd01:a::2 lladdr 70:b3:d5:80:00:02 permanent dev vtep1024",
            "add FDB entry 70:b3:d5:80:00:02 dst 10.0.0.2 self permanent dev vtep1024",
            "add route 10.0.0.2/32 via 44.128.0.2 table 42 dev vtep1024",
            "add route 9.0.2.0/24 via 44.128.0.2 dev vtep1024",
            "add route fd01:b:0:0:2::/80 via fd01:a::2 dev vtep1024",
            "add rule from 9.0.0.0/8 lookup 42",
            "add rule from fd01:b::/64 lookup 42",
            "add device m-dcos bridge address 02:42:09:00:01:01",
            "add address 9.0.1.1/25 dev m-dcos",
            "write CNI configuration dcos.conf",
        ]
    );
    assert_eq!((plan.problems.len(), plan.warnings.len()), (0, 0));
}

#[test]
fn an_empty_desired_state_removes_everything() {
    let mut observed = converged(&desired(&[2, 3]));
    observed
        .kernel
        .as_mut()
        .unwrap()
        .stale_devices
        .insert("vtep1024".into());
    let nothing = Desired {
        cni: desired(&[]).cni,
        ..Desired::default()
    };
    let plan = plan(&nothing, &observed);
    assert_eq!(
        lines(&plan),
        [
            "remove CNI configuration dcos.conf",
            "remove device vtep1024",
            "remove rule from 9.0.0.0/8 lookup 42 priority 32765",
            "remove rule from fd01:b::/64 lookup 42 priority 32765",
        ]
    );
}

#[test]
fn a_deleted_device_is_restored_with_everything_on_it() {
    let lines = repair(|observed| observed.kernel.as_mut().unwrap().device = None);
    assert_eq!(lines.len(), 1 + 2 + 2 + 1 + 3);
}

#[test]
fn a_device_of_another_vni_or_port_is_created_anew_with_everything_on_it() {
    for kind in [
        DeviceKind::Vxlan {
            vni: Some(7),
            port: 64000,
            learning: false,
        },
        DeviceKind::Vxlan {
            vni: Some(1024),
            port: 4789,
            learning: false,
        },
        DeviceKind::Vxlan {
            vni: None,
            port: 64000,
            learning: false,
        },
    ] {
        let lines = repair(|observed| device(observed).kind = kind);
        assert_eq!(lines[0], "remove device vtep1024");
        assert_eq!(lines.len(), 1 + 1 + 2 + 2 + 1 + 3);
    }
}

#[test]
fn other_properties_are_changed_in_place() {
    assert_eq!(
        repair(|o| device(o).mtu = 1300),
        ["set device vtep1024 mtu 1450"]
    );
    assert_eq!(repair(|o| device(o).up = false), ["set device vtep1024 up"]);
    let learning = DeviceKind::Vxlan {
        vni: Some(1024),
        port: 64000,
        learning: true,
    };
    assert_eq!(
        repair(|o| device(o).kind = learning),
        ["set device vtep1024 nolearning"]
    );
}

#[test]
fn without_a_configured_mtu_the_kernel_chooses() {
    let mut desired = desired(&[]);
    let mut observed = converged(&desired);
    desired.vtep.as_mut().unwrap().mtu = None;
    device(&mut observed).mtu = 1234;
    assert_eq!(plan(&desired, &observed), Plan::default());
}

#[test]
fn a_changed_mac_makes_the_kernel_forget_the_neighbours() {
    assert_eq!(
        repair(|observed| device(observed).mac = mac(99)),
        [
            "set device vtep1024 address 70:b3:d5:80:00:01",
            "add neighbour 44.128.0.2 lladdr 70:b3:d5:80:00:02 permanent dev vtep1024",
            "add neighbour fd01:a::2 lladdr 70:b3:d5:80:00:02 permanent dev vtep1024",
        ]
    );
}

#[test]
fn a_second_address_is_removed() {
    let lines = repair(|observed| _ = device(observed).addresses.insert(net("192.0.2.1/24")));
    assert_eq!(lines, ["remove address 192.0.2.1/24 dev vtep1024"]);
}

#[test]
fn removing_an_address_of_the_same_subnet_restores_ours_and_the_routes() {
    let lines = repair(|observed| _ = device(observed).addresses.insert(net("44.128.0.9/20")));
    assert_eq!(
        lines,
        [
            "remove address 44.128.0.9/20 dev vtep1024",
            "add address 44.128.0.1/20 dev vtep1024",
            "add route 10.0.0.2/32 via 44.128.0.2 table 42 dev vtep1024",
            "add route 9.0.2.0/24 via 44.128.0.2 dev vtep1024",
        ]
    );
}

#[test]
fn another_prefix_length_is_another_address() {
    let lines = repair(|observed| {
        let addresses = &mut device(observed).addresses;
        addresses.remove(&net("fd01:a::1/64"));
        addresses.insert(net("fd01:a::1/80"));
    });
    let expected = [
        "remove address fd01:a::1/80 dev vtep1024",
        "add address fd01:a::1/64 dev vtep1024",
    ];
    assert_eq!(lines[..2], expected);
}

#[test]
fn rules_are_repaired() {
    fn rules(observed: &mut Observed) -> &mut std::collections::BTreeSet<Rule> {
        &mut observed.kernel.as_mut().unwrap().rules
    }
    let from = net("9.0.0.0/8");
    let add = "add rule from 9.0.0.0/8 lookup 42";
    assert_eq!(repair(|o| rules(o).retain(|rule| rule.from != from)), [add]);
    let late = Rule {
        from,
        priority: 40000,
        table: 42,
        protocol: PROTOCOL,
    };
    let remove = "remove rule from 9.0.0.0/8 lookup 42 priority 40000";
    assert_eq!(repair(|o| _ = rules(o).insert(late)), [remove]);
    let lines = repair(|o| {
        rules(o).retain(|rule| rule.from != from);
        rules(o).insert(late);
    });
    assert_eq!(lines, [remove, add], "the kernel takes no second one");
    let lines = repair(|o| {
        _ = rules(o).insert(Rule {
            from: net("8.0.0.0/8"),
            priority: 1,
            table: 42,
            protocol: PROTOCOL,
        })
    });
    assert_eq!(lines, ["remove rule from 8.0.0.0/8 lookup 42 priority 1"]);
}

#[test]
fn a_right_rule_is_adopted_at_any_priority_before_main() {
    let desired = desired(&[]);
    let mut observed = converged(&desired);
    let rules = &mut observed.kernel.as_mut().unwrap().rules;
    *rules = rules
        .iter()
        .map(|rule| Rule {
            priority: 100,
            ..*rule
        })
        .collect();
    assert_eq!(plan(&desired, &observed), Plan::default());
}

#[test]
fn nothing_is_planned_for_unknown_parts() {
    let plan = plan(&desired(&[2]), &Observed::default());
    assert_eq!(
        lines(&plan),
        ["turn on IPv4 forwarding", "turn on IPv6 forwarding"]
    );
}

#[test]
fn an_external_backend_programs_the_data_plane_itself() {
    let mut desired = desired(&[2]);
    desired.backend = Backend::External;
    let made = lines(&plan(&desired, &bare()));
    assert_eq!(made, ["write CNI configuration dcos.conf"]);
    let observed = converged(&super::tests::desired(&[2]));
    let nothing = Desired {
        backend: Backend::External,
        ..Desired::default()
    };
    assert_eq!(
        lines(&plan(&nothing, &observed)),
        ["remove CNI configuration dcos.conf"]
    );
}

#[test]
fn a_device_of_another_kind_is_an_obstacle_and_stays() {
    let mut observed = bare();
    observed.kernel.as_mut().unwrap().device = Some(Device {
        kind: DeviceKind::Other("bridge".into()),
        ..model::empty_device()
    });
    let plan = plan(&desired(&[2]), &observed);
    let obstacle = plan.obstacle.as_ref().unwrap();
    assert!(
        obstacle.starts_with("cannot create VXLAN device vtep1024: there is a device"),
        "{plan:?}"
    );
    let is_about_it = |op: &Op| op.device().is_some_and(|device| &**device == "vtep1024");
    assert!(!plan.ops.iter().any(is_about_it), "{plan:?}");
    assert!(
        !lines(&plan).iter().any(|line| line.contains("vtep1024")),
        "{plan:?}"
    );
}
