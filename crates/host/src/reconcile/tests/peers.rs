//! Peers, their nexthop objects, and whom a failure affects.

use overlay_core::host_api::problem::Problem;
use overlay_core::util::family::Family;

use super::super::tests::*;

/// A master may list the host among its peers.
#[test]
fn the_host_recognises_itself_by_each_of_its_addresses() {
    let changes: [fn(&mut Peer); 3] = [
        |own| own.vtep_ips = vec![ip("44.128.0.99")],
        |own| (own.vtep_mac, own.vtep_ips) = (mac(99), vec![ip("44.128.0.1")]),
        |own| (own.vtep_mac, own.vtep_ips) = (mac(99), vec![ip("44.128.0.99"), ip("fd01:a::1")]),
    ];
    for change in changes {
        let mut desired = desired(&[2]);
        let (address, mut own) = peer(1);
        change(Arc::make_mut(&mut own));
        desired.peers_mut().insert(address, own);
        assert_eq!(
            plan(&desired, &converged(&super::desired(&[2]))),
            Plan::default()
        );
    }
}

/// Learned entries are not restored on a new device.
#[test]
fn of_unknown_peers_only_permanent_entries_are_restored() {
    let known = desired(&[2]);
    let unknown = Desired {
        peers: None,
        ..known.clone()
    };
    let mut observed = converged(&known);
    let device = device(&mut observed);
    device.kind = DeviceKind::Vxlan {
        vni: Some(1024),
        port: 4789,
        learning: false,
    };
    device.neighbours.insert(
        ip("44.128.0.9"),
        Neighbour {
            mac: Some(mac(9)),
            permanent: false,
        },
    );
    device.fdb.insert(
        (mac(9), ip("10.0.0.9")),
        FdbEntry {
            permanent: false,
            plain: true,
        },
    );
    // The kernel would refuse a gateway that cannot be reached.
    device.routes.insert(Route {
        dst: net("9.0.9.0/24"),
        ..route("45.0.0.9", 0, PROTOCOL)
    });
    device.routes.insert(Route {
        dst: net("9.0.8.0/24"),
        ..route("44.128.0.8", 0, 4)
    });
    apply(&plan(&unknown, &observed), &mut observed);
    assert_eq!(observed, converged(&known));
}

#[test]
fn a_stale_route_of_unknown_peers_stays() {
    let unknown = Desired {
        peers: None,
        ..desired(&[2])
    };
    let mut observed = converged(&desired(&[2]));
    // Of two routes to one destination of a known peer one would be removed.
    device(&mut observed)
        .routes
        .insert(route("44.128.0.3", 7, PROTOCOL));
    assert_eq!(plan(&unknown, &observed), Plan::default());
}

#[test]
fn routes_have_the_default_metric_of_their_family() {
    let (dst, via) = (net("fd01:b:0:0:2::/80"), Some(ip("fd01:a::2")));
    let zero = Route {
        table: 254,
        dst,
        via,
        metric: 0,
        protocol: PROTOCOL,
        plain: true,
        nexthop: None,
    };
    let lines = repair(|observed| {
        let device = device(observed);
        device.routes.retain(|route| route.dst != dst);
        device.routes.insert(zero);
    });
    assert_eq!(
        lines,
        [
            "remove route fd01:b:0:0:2::/80 via fd01:a::2 dev vtep1024",
            "add route fd01:b:0:0:2::/80 via fd01:a::2 dev vtep1024"
        ]
    );
}

#[test]
fn nexthop_objects_are_removed_with_their_device() {
    let desired = desired(&[2, 3, 4]);
    let mut observed = converged_with(&desired, true);
    let ids = [2, 3, 4].map(|n| nexthop_id(Ipv4Addr::new(44, 128, 0, n)));
    let after =
        |observed: &Observed, plan: &Plan| nexthops_after(observed.kernel.as_ref().unwrap(), plan);
    assert_eq!(after(&observed, &Plan::default()), Some(ids.into()));
    // A new device of this name replaces it, for fewer peers.
    device(&mut observed).kind = DeviceKind::Vxlan {
        vni: Some(7),
        port: 64000,
        learning: false,
    };
    let few = super::desired(&[2, 3]);
    let planned = plan(&few, &observed);
    assert_eq!(after(&observed, &planned), Some([].into()));
    apply(&planned, &mut observed);
    assert_eq!(after(&observed, &Plan::default()), Some([].into()));
}

#[test]
fn a_failure_affects_those_who_need_the_operation() {
    let name: Arc<str> = "vtep1024".into();
    let (bridge, docker): (Arc<str>, Arc<str>) = ("m-dcos".into(), "d-dcos".into());
    let from = net("9.0.0.0/8");
    let (via, nexthop) = (ip("44.128.0.2"), None);
    let new = NewRoute {
        table: 254,
        dst: net("9.0.2.0/24"),
        via,
        nexthop,
        replaces: false,
    };
    for (op, concern) in [
        (Op::EnableForwarding(Family::V4), Scope::Ipv4),
        (Op::EnableForwarding(Family::V6), Scope::Ipv6),
        (
            Op::AddAddress(name.clone(), net("44.128.0.1/20")),
            Scope::Ipv4,
        ),
        (
            Op::AddAddress(name.clone(), net("fd01:a::1/64")),
            Scope::Ipv6,
        ),
        (
            Op::AddAddress(bridge.clone(), net("fd01:b::1/81")),
            Scope::Overlay("dcos"),
        ),
        (
            Op::AddAddress(docker, net("fd01:b::1/81")),
            Scope::Overlay("dcos"),
        ),
        (
            Op::AddBridge(bridge.clone(), mac(1)),
            Scope::Overlay("dcos"),
        ),
        (Op::SkipDad(bridge.clone()), Scope::Host),
        (
            Op::SetDevice(bridge, DeviceChange::Up),
            Scope::Overlay("dcos"),
        ),
        (
            Op::SetDevice(name.clone(), DeviceChange::Up),
            Scope::Overlays,
        ),
        (
            Op::SetDevice(name.clone(), DeviceChange::Mtu(1450)),
            Scope::Host,
        ),
        (
            Op::AddRule {
                overlay: "other".into(),
                from,
                table: 42,
            },
            Scope::Overlay("other"),
        ),
        (
            Op::RemoveRule(OldRule {
                from,
                table: 42,
                priority: 1,
                protocol: PROTOCOL,
            }),
            Scope::Host,
        ),
        (Op::SetRoute(name.clone(), new), Scope::Host),
        (
            Op::RemoveAddress(name.clone(), net("fd01:a::1/64")),
            Scope::Host,
        ),
    ] {
        assert_eq!(op.scope(), concern, "{op}");
    }
}

/// The kernel keeps routes that refer to a nexthop object when an address is removed.
#[test]
fn routes_with_nexthop_objects_outlive_an_address() {
    let desired = desired(&[2, 3, 4]);
    let mut observed = converged_with(&desired, true);
    device(&mut observed).addresses = [net("192.0.2.1/24"), net("fd01:a::1/64")].into();
    let planned = plan(&desired, &observed);
    assert_eq!(
        lines(&planned),
        [
            "remove address 192.0.2.1/24 dev vtep1024",
            "add address 44.128.0.1/20 dev vtep1024"
        ]
    );
}

/// An object is removed with its peer, unless somebody's route refers to it.
#[test]
fn a_nexthop_object_in_use_stays() {
    let id = nexthop_id(Ipv4Addr::new(44, 128, 0, 4));
    let removed = |used: bool| {
        let mut observed = converged_with(&desired(&[2, 3, 4]), true);
        let operators = Route {
            dst: net("192.0.2.0/24"),
            nexthop: Some(id),
            ..route("44.128.0.4", 0, 4)
        };
        device(&mut observed)
            .routes
            .extend(used.then_some(operators));
        let lines = lines(&plan(&desired(&[2, 3]), &observed));
        lines.contains(&format!("remove nexthop id {id} dev vtep1024"))
    };
    assert!(removed(false));
    assert!(!removed(true));
}

#[test]
fn neighbours_are_repaired() {
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
fn learned_entries_are_left_alone() {
    let desired = desired(&[2]);
    let mut observed = converged(&desired);
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
fn fdb_entries_are_repaired() {
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
fn objects_of_unknown_peers_stay_even_on_a_new_device() {
    let known = desired(&[2, 3]);
    let unknown = Desired {
        peers: None,
        ..known.clone()
    };
    let mut observed = converged(&known);
    assert_eq!(plan(&unknown, &observed), Plan::default());
    // Even objects that could not be restored stay.
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
    assert_eq!(observed, converged(&known));
}

#[test]
fn the_host_is_not_its_own_peer() {
    let desired = desired(&[1, 2]);
    assert_eq!(plan(&desired, &bare()).ops.len(), 16);
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
    assert_eq!(Problem::texts(&plan.problems), [sentence]);
    let key = &plan.problems[0].key;
    assert_eq!(key.to_string(), "PeerSubnet fd01:b:0:0:2::/80");
    assert_eq!(plan.ops.len(), 16 - 2);
}
