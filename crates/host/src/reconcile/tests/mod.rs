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
    Rule, Underlay,
};
use crate::reconcile::*;

mod events;
mod model;
mod property;
mod rest;
mod routes;

use model::{apply, bare, bare_with, settled, settled_with};
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

/// The `n`th agent's underlay address and what its peers know of it.
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

/// The device of a host that is settled, to be changed by a test.
fn device(observed: &mut Observed) -> &mut Device {
    observed.kernel.as_mut().unwrap().device.as_mut().unwrap()
}

/// What a change of a settled host (agent 1 with peer 2) makes the planner do.
/// Shows that it is all there is to do.
fn repair(change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let desired = desired(&[2]);
    let mut observed = settled(&desired);
    change(&mut observed);
    let repair = plan(&desired, &observed);
    apply(&repair, &mut observed);
    assert_eq!(plan(&desired, &observed), Plan::default());
    assert_eq!(observed, settled(&desired));
    lines(&repair)
}

#[test]
fn from_nothing_everything_is_made_in_an_order_that_works() {
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
            "write CNI configuration dcos.conf",
        ]
    );
    assert_eq!((plan.problems.len(), plan.warnings.len()), (0, 0));
}

#[test]
fn nothing_desired_takes_everything_away() {
    let mut observed = settled(&desired(&[2, 3]));
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
fn a_deleted_device_takes_all_with_it_and_all_comes_back() {
    let lines = repair(|observed| observed.kernel.as_mut().unwrap().device = None);
    assert_eq!(lines.len(), 1 + 2 + 2 + 1 + 3);
}

#[test]
fn a_device_of_another_vni_or_port_is_made_anew_with_all_that_belongs_on_it() {
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
fn what_can_be_changed_in_place_is() {
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
fn an_mtu_that_nobody_asked_for_is_left_to_the_kernel() {
    let mut desired = desired(&[]);
    let mut observed = settled(&desired);
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
fn a_second_address_goes() {
    let lines = repair(|observed| _ = device(observed).addresses.insert(net("192.0.2.1/24")));
    assert_eq!(lines, ["remove address 192.0.2.1/24 dev vtep1024"]);
}

#[test]
fn a_second_address_of_the_same_subnet_may_take_ours_and_the_routes_with_it() {
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
fn neighbours_come_right() {
    let set = "add neighbour 44.128.0.2 lladdr 70:b3:d5:80:00:02 permanent dev vtep1024";
    for wrong in [
        Neighbour {
            mac: Some(mac(99)),
            permanent: true,
        },
        Neighbour {
            mac: Some(mac(2)),
            permanent: false,
        },
        Neighbour {
            mac: None,
            permanent: false,
        },
    ] {
        let lines =
            repair(|observed| _ = device(observed).neighbours.insert(ip("44.128.0.2"), wrong));
        assert_eq!(lines, [set]);
    }
    let stale = Neighbour {
        mac: Some(mac(9)),
        permanent: true,
    };
    let lines = repair(|observed| _ = device(observed).neighbours.insert(ip("44.128.0.9"), stale));
    assert_eq!(lines, ["remove neighbour 44.128.0.9 dev vtep1024"]);
}

#[test]
fn what_the_kernel_found_out_by_itself_is_left_to_it() {
    let desired = desired(&[2]);
    let mut observed = settled(&desired);
    let found = Neighbour {
        mac: Some(mac(9)),
        permanent: false,
    };
    device(&mut observed)
        .neighbours
        .insert(ip("44.128.0.9"), found);
    let learned = FdbEntry {
        permanent: false,
        plain: true,
    };
    device(&mut observed)
        .fdb
        .insert((mac(9), ip("10.0.0.9")), learned);
    assert_eq!(plan(&desired, &observed), Plan::default());
}

#[test]
fn fdb_entries_come_right() {
    let set = "add FDB entry 70:b3:d5:80:00:02 dst 10.0.0.2 self permanent dev vtep1024";
    let right = FdbEntry {
        permanent: true,
        plain: true,
    };
    for (dst, entry) in [
        ("10.9.9.9", right),
        ("fd00::9", right),
        (
            "10.0.0.2",
            FdbEntry {
                permanent: false,
                ..right
            },
        ),
        (
            "10.0.0.2",
            FdbEntry {
                plain: false,
                ..right
            },
        ),
    ] {
        let lines = repair(|observed| device(observed).fdb = [((mac(2), ip(dst)), entry)].into());
        assert_eq!(lines, [set], "{dst} {entry:?}");
    }
    let lines = repair(|observed| _ = device(observed).fdb.insert((mac(9), ip("10.0.0.9")), right));
    assert_eq!(
        lines,
        ["remove FDB entry 70:b3:d5:80:00:09 dst 10.0.0.9 dev vtep1024"]
    );
}

#[test]
fn rules_come_right() {
    fn rules(observed: &mut Observed) -> &mut std::collections::BTreeSet<Rule> {
        &mut observed.kernel.as_mut().unwrap().rules
    }
    let from = net("9.0.0.0/8");
    let add = "add rule from 9.0.0.0/8 lookup 42";
    assert_eq!(repair(|o| rules(o).retain(|rule| rule.from != from)), [add]);
    let late = Rule {
        from,
        priority: 40000,
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
        })
    });
    assert_eq!(lines, ["remove rule from 8.0.0.0/8 lookup 42 priority 1"]);
}

#[test]
fn a_right_rule_is_adopted_wherever_it_is_before_main() {
    let desired = desired(&[]);
    let mut observed = settled(&desired);
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
fn cni_configurations_come_right() {
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
fn somebody_elses_file_stays() {
    let desired = desired(&[]);
    let mut observed = settled(&desired);
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
fn what_is_not_known_is_not_planned_for() {
    let plan = plan(&desired(&[2]), &Observed::default());
    assert_eq!(
        lines(&plan),
        ["turn on IPv4 forwarding", "turn on IPv6 forwarding"]
    );
}

#[test]
fn forwarding_is_turned_on_as_far_as_it_is_needed_and_never_off() {
    let on = Forwarding {
        v4: Some(true),
        v6: Some(true),
    };
    let mut desired = desired(&[]);
    let off = settled(&desired);
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
fn an_external_backend_programs_the_data_plane_itself() {
    let mut desired = desired(&[2]);
    desired.backend = Backend::External;
    let made = lines(&plan(&desired, &bare()));
    assert_eq!(made, ["write CNI configuration dcos.conf"]);
    let observed = settled(&super::tests::desired(&[2]));
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
fn unknown_peers_stay_as_they_are_even_on_a_new_device() {
    let known = desired(&[2, 3]);
    let unknown = Desired {
        peers: None,
        ..known.clone()
    };
    let mut observed = settled(&known);
    assert_eq!(plan(&unknown, &observed), Plan::default());
    // Even what we could not put back.
    let mut odd = observed.clone();
    device(&mut odd).routes.insert(Route {
        plain: false,
        ..route("44.128.0.2", 0, PROTOCOL)
    });
    let flood = (Mac::default(), ip("fd00::9"));
    device(&mut odd).fdb.insert(
        flood,
        FdbEntry {
            permanent: true,
            plain: true,
        },
    );
    assert_eq!(plan(&unknown, &odd), Plan::default());
    device(&mut observed).kind = DeviceKind::Vxlan {
        vni: Some(1024),
        port: 4789,
        learning: false,
    };
    apply(&plan(&unknown, &observed), &mut observed);
    assert_eq!(observed, settled(&known));
}

#[test]
fn the_host_itself_is_no_peer_of_it() {
    let desired = desired(&[1, 2]);
    assert_eq!(plan(&desired, &bare()).ops.len(), 14);
    assert!(
        !lines(&plan(&desired, &bare()))
            .iter()
            .any(|line| line.contains("10.0.0.1"))
    );
}

#[test]
fn a_host_without_ipv6_has_no_ipv6_peers() {
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().addresses.pop();
    desired.overlays.get_mut("dcos").unwrap().subnets.pop();
    let plan = plan(&desired, &bare());
    assert!(
        !lines(&plan)
            .iter()
            .any(|line| line.contains("fd01") || line.contains("IPv6")),
        "{plan:?}"
    );
    assert!(plan.problems.is_empty());
}

#[test]
fn a_subnet_without_a_vtep_address_of_its_family_is_a_problem() {
    let mut desired = desired(&[2]);
    let (ip, mut one) = peer(2);
    Arc::make_mut(&mut one).vtep_ips.truncate(1);
    desired.peers = Some(Arc::new([(ip, one)].into()));
    let plan = plan(&desired, &bare());
    let sentence = "cannot add route fd01:b:0:0:2::/80: peer 10.0.0.2 has this subnet, but no VTEP address of its \
                    family";
    assert_eq!(plan.problems, [sentence]);
    assert_eq!(plan.ops.len(), 14 - 2);
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
    assert!(plan.ops.iter().all(|op| op.device().is_none()), "{plan:?}");
    assert!(
        !lines(&plan).iter().any(|line| line.contains("device")),
        "{plan:?}"
    );
}

#[test]
fn an_mtu_that_does_not_fit_the_underlay_is_told() {
    let mut desired = desired(&[2]);
    let mut observed = settled(&desired);
    let underlay = |mtu| {
        Some(Underlay {
            index: 2,
            device: "eth0".into(),
            mtu,
        })
    };
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

/// A host that is settled, on an underlay with this MTU.
fn settled_on(desired: &Desired, mtu: u32) -> Observed {
    let underlay = Some(Underlay {
        index: 2,
        device: "eth0".into(),
        mtu,
    });
    let mut observed = Observed { underlay, ..bare() };
    apply(&plan(desired, &observed), &mut observed);
    assert_eq!(plan(desired, &observed), Plan::default());
    observed
}

#[test]
fn mtus_that_nobody_set_fit_the_underlay() {
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
    // What the operator set is as he set it, and he is told.
    desired.fit_mtu = false;
    desired.vtep.as_mut().unwrap().mtu = Some(1450);
    let observed = Observed {
        underlay: Some(Underlay {
            index: 2,
            device: "eth0".into(),
            mtu: 1400,
        }),
        ..settled(&desired)
    };
    let plan = plan(&desired, &observed);
    assert_eq!((plan.ops.len(), plan.warnings.len()), (0, 2));
    assert!(
        plan.warnings[0].contains("lower it to 1350"),
        "{:?}",
        plan.warnings
    );
}

/// A host whose only overlay is gone, with a bridge that has so many containers.
fn abandoned(ports: usize) -> Observed {
    let mut observed = settled(&desired(&[2]));
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
fn what_containers_of_a_gone_overlay_need_stays_until_they_are_gone() {
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
fn docker_bridges_are_dockers_to_remove() {
    let mut observed = abandoned(0);
    let kernel = observed.kernel.as_mut().unwrap();
    let mut bridge = kernel.bridges.remove("m-dcos").unwrap();
    bridge.ports = 1;
    kernel.bridges.insert("d-dcos".into(), bridge.clone());
    // The overlay stays, and Docker is to use it no longer.
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
fn a_bridge_is_ours_if_more_than_its_name_says_so() {
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
