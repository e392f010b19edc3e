//! What is planned beside the peers: what is left of overlays, settings, warnings.

use overlay_core::host_api::desired::Checksum;

use overlay_core::util::family::Family;

use super::super::tests::*;

/// Agent 1's host, with a bridge of an overlay that is gone and has containers.
fn draining(name: &str, ports: usize) -> Observed {
    let mut observed = settled(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    kernel.rules.insert(Rule {
        from: net("8.0.0.0/8"),
        priority: 32765,
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
fn what_drains_is_named_with_its_own_ranges_only() {
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
    // Of an overlay that is still wanted it is only a part.
    let mut observed = draining("m-old", 2);
    let kernel = observed.kernel.as_mut().unwrap();
    let bridge = kernel.bridges.remove("m-old").unwrap();
    kernel.bridges.insert("d-dcos".into(), bridge);
    let [part] = &plan(&desired(&[2]), &observed).draining[..] else {
        panic!()
    };
    assert_eq!((part.overlay.as_str(), part.is_removed()), ("dcos", false));
    // Once its containers are gone its rule is.
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
fn rules_of_what_drains_stay_only_where_they_work() {
    let mut observed = draining("m-old", 1);
    let late = Rule {
        from: net("8.0.0.0/8"),
        priority: 32766,
    };
    observed.kernel.as_mut().unwrap().rules.insert(late);
    assert_eq!(
        lines(&plan(&desired(&[2]), &observed)),
        ["remove rule from 8.0.0.0/8 lookup 42 priority 32766"]
    );
}

/// Routes into the range of what drains stay, whoever the peers are now.
#[test]
fn routes_to_the_peers_of_what_drains_stay() {
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

/// The tunnel stays for containers of what is gone; one that another takes the place of goes.
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
fn a_bridge_of_that_name_is_ours_by_a_rule_or_a_file_of_ours() {
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
    // From under containers only by force.
    assert!(!removes(&draining("m-old", 1), Removal::Thorough));
    assert!(removes(&draining("m-old", 1), Removal::Forced));
    assert!(
        !removes(&draining("d-old", 1), Removal::Forced),
        "those are Docker's to remove"
    );
}

#[test]
fn each_family_is_forwarded_by_its_own_switch() {
    for (v4, v6, expected) in [
        (Some(true), Some(true), &[][..]),
        (Some(false), Some(true), &["turn on IPv4 forwarding"]),
        (Some(true), Some(false), &["turn on IPv6 forwarding"]),
        (Some(true), None, &["turn on IPv6 forwarding"]),
        (None, Some(true), &["turn on IPv4 forwarding"]),
    ] {
        let observed = Observed {
            forwarding: Forwarding { v4, v6 },
            ..settled(&desired(&[2]))
        };
        assert_eq!(
            lines(&plan(&desired(&[2]), &observed)),
            expected,
            "{v4:?} {v6:?}"
        );
    }
}

#[test]
fn checksums_are_set_where_they_differ_and_on_a_new_device_where_they_are_not_on() {
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
    let there = || settled(&desired(&[]));
    let (on, off) = (Some("on".to_owned()), Some("off".to_owned()));
    for (wanted, now, expected) in [
        (Checksum::Auto, Some(true), None),
        (Checksum::Auto, Some(false), None),
        (Checksum::On, Some(true), None),
        (Checksum::On, Some(false), on.clone()),
        (Checksum::Off, Some(true), off.clone()),
        (Checksum::Off, Some(false), None),
        (Checksum::Off, None, off.clone()),
    ] {
        assert_eq!(with(wanted, there(), now), expected, "{wanted:?} {now:?}");
    }
    // What was observed is that of a device that goes.
    let mut wrong = there();
    device(&mut wrong).kind = DeviceKind::Vxlan {
        vni: Some(7),
        port: 64000,
        learning: false,
    };
    assert_eq!(with(Checksum::Off, wrong.clone(), Some(false)), off);
    assert_eq!(with(Checksum::On, wrong, Some(false)), None);
    assert_eq!(with(Checksum::On, bare(), None), None);
    // A device that cannot be had has none.
    let mut obstacle = there();
    device(&mut obstacle).kind = DeviceKind::Other("bridge".into());
    assert_eq!(with(Checksum::Off, obstacle, Some(true)), None);
}

#[test]
fn lost_routers_are_warned_of_where_ipv6_is_forwarded() {
    let underlay = Some(Underlay {
        index: 2,
        device: "eth0.7".into(),
        mtu: 1500,
    });
    let observed = |loses_router_advertisements| Observed {
        underlay: underlay.clone(),
        loses_router_advertisements,
        ..settled(&desired(&[2]))
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
fn mtus_of_overlays_without_a_bridge_are_nobodys() {
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().mtu = None;
    let observed = |mtu| {
        let underlay = Some(Underlay {
            index: 2,
            device: "eth0".into(),
            mtu,
        });
        Observed {
            underlay,
            ..settled(&super::desired(&[2]))
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
fn there_are_rules_in_the_families_that_have_a_tunnel() {
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

/// A master may count the host among its peers, by either of its addresses.
#[test]
fn the_host_is_known_by_its_hardware_address_and_by_each_of_its_others() {
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
            plan(&desired, &settled(&super::desired(&[2]))),
            Plan::default()
        );
    }
}

/// What the kernel found out by itself is nothing to put back on a new device.
#[test]
fn of_unknown_peers_only_what_somebody_set_is_put_back() {
    let known = desired(&[2]);
    let unknown = Desired {
        peers: None,
        ..known.clone()
    };
    let mut observed = settled(&known);
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
    // A gateway that cannot be reached from there could not be set.
    device.routes.insert(Route {
        dst: net("9.0.9.0/24"),
        ..route("45.0.0.9", 0, PROTOCOL)
    });
    device.routes.insert(Route {
        dst: net("9.0.8.0/24"),
        ..route("44.128.0.8", 0, 4)
    });
    apply(&plan(&unknown, &observed), &mut observed);
    assert_eq!(observed, settled(&known));
}

#[test]
fn a_stale_route_of_unknown_peers_stays() {
    let unknown = Desired {
        peers: None,
        ..desired(&[2])
    };
    let mut observed = settled(&desired(&[2]));
    // Two to one destination: of known peers one would go.
    device(&mut observed)
        .routes
        .insert(route("44.128.0.3", 7, PROTOCOL));
    assert_eq!(plan(&unknown, &observed), Plan::default());
}

#[test]
fn routes_have_the_metric_of_their_family() {
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
fn nexthop_objects_that_a_device_takes_with_it_are_not_counted() {
    let desired = desired(&[2, 3, 4]);
    let mut observed = settled_with(&desired, true);
    let ids = [2, 3, 4].map(|n| nexthop_id(Ipv4Addr::new(44, 128, 0, n)));
    let after =
        |observed: &Observed, plan: &Plan| nexthops_after(observed.kernel.as_ref().unwrap(), plan);
    assert_eq!(after(&observed, &Plan::default()), Some(ids.into()));
    // Another device of that name comes, for fewer peers.
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

/// Each operation that fails concerns those who need it.
#[test]
fn failures_concern_those_who_need_what_failed() {
    let name: Arc<str> = "vtep1024".into();
    let (bridge, docker): (Arc<str>, Arc<str>) = ("m-dcos".into(), "d-dcos".into());
    let from = net("9.0.0.0/8");
    let (via, nexthop) = (ip("44.128.0.2"), None);
    let new = NewRoute {
        table: 254,
        dst: net("9.0.2.0/24"),
        via,
        nexthop,
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
        (Op::SkipDad(bridge.clone()), Scope::Overlay("dcos")),
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
            },
            Scope::Overlay("other"),
        ),
        (Op::RemoveRule { from, priority: 1 }, Scope::Host),
        (Op::SetRoute(name.clone(), new), Scope::Host),
        (
            Op::RemoveAddress(name.clone(), net("fd01:a::1/64")),
            Scope::Host,
        ),
    ] {
        assert_eq!(op.scope(), concern, "{op}");
    }
}

/// The kernel keeps routes that go by a nexthop object when an address goes.
#[test]
fn routes_by_nexthop_objects_outlive_an_address() {
    let desired = desired(&[2, 3, 4]);
    let mut observed = settled_with(&desired, true);
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

/// An object goes with its peer, unless somebody's route goes by it.
#[test]
fn a_nexthop_object_that_a_route_goes_by_stays() {
    let id = nexthop_id(Ipv4Addr::new(44, 128, 0, 4));
    let removed = |used: bool| {
        let mut observed = settled_with(&desired(&[2, 3, 4]), true);
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
