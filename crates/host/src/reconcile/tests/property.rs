//! Properties of plans for any observed and desired state: one plan reaches the desired state,
//! the next plan is empty, and objects of others are unchanged.

use std::sync::Arc;

use overlay_core::host_api::desired::PeerMap;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::tests::*;

/// Few names and numbers, so that desired and observed objects coincide.
fn any_desired() -> impl Strategy<Value = Desired> {
    let vtep = (
        1..4_u8,
        any::<bool>(),
        select(vec![16, 20]),
        option::of(1400..1402_u32),
        1023..1025_u32,
    );
    let vtep = vtep.prop_map(|(n, v6, prefix, mtu, vni)| {
        let mut addresses = vec![net(&format!("44.128.0.{n}/{prefix}"))];
        addresses.extend(v6.then(|| net(&format!("fd01:a::{n}/64"))));
        Vtep {
            name: "vtep1024".into(),
            vni,
            mac: mac(n),
            addresses,
            mtu,
        }
    });
    let peers = option::of(btree_set(1..6_u8, 0..5));
    (
        option::weighted(0.8, vtep),
        any::<[bool; 2]>(),
        peers,
        any::<bool>(),
    )
        .prop_map(|(vtep, overlays, peers, external)| Desired {
            cni: Cni {
                dir: "/cni".into(),
                data_dir: None,
                file_prefix: String::new(),
            },
            backend: if external {
                Backend::External
            } else {
                Backend::Internal
            },
            overlays: overlays
                .iter()
                .zip(["dcos", "other"])
                .filter(|(wanted, _)| **wanted)
                .map(|(_, name)| (name.to_owned(), overlay()))
                .collect(),
            peers: peers.map(|peers| {
                let peer = |n| {
                    let (ip, mut peer) = peer(n);
                    // A peer's subnets lie in the overlays.
                    if !overlays.contains(&true) {
                        Arc::make_mut(&mut peer).subnets.clear();
                    }
                    (ip, peer)
                };
                Arc::new(peers.into_iter().map(peer).collect())
            }),
            vtep,
            ..Desired::default()
        })
}

fn any_route() -> impl Strategy<Value = Route> {
    let table = select(vec![MAIN_TABLE, 42]);
    let protocol = select(vec![PROTOCOL, PROTOCOL_BOOT, 4]);
    (
        table,
        1..6_u8,
        option::of(1..6_u8),
        select(vec![0, 7, 1024]),
        protocol,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(table, dst, via, metric, protocol, plain, v4)| {
            let (dst, via) = if v4 {
                (
                    net(&format!("9.0.{dst}.0/24")),
                    via.map(|via| ip(&format!("44.128.0.{via}"))),
                )
            } else {
                (
                    net(&format!("fd01:b:0:0:{dst}::/80")),
                    via.map(|via| ip(&format!("fd01:a::{via}"))),
                )
            };
            Route {
                table,
                dst,
                via,
                metric,
                protocol,
                plain: plain && via.is_some(),
                nexthop: None,
            }
        })
}

fn any_device() -> impl Strategy<Value = Device> {
    let kind = (
        option::of(1023..1025_u32),
        select(vec![4789_u16, 64000]),
        any::<bool>(),
    )
        .prop_map(|(vni, port, learning)| DeviceKind::Vxlan {
            vni,
            port,
            learning,
        });
    let address = select(vec![
        "44.128.0.1/20",
        "44.128.0.2/20",
        "44.128.0.1/16",
        "192.0.2.1/24",
        "fd01:a::1/64",
    ]);
    let neighbour =
        (1..6_u8, option::of(1..6_u8), any::<bool>()).prop_map(|(n, other, permanent)| {
            (
                ip(&format!("44.128.0.{n}")),
                Neighbour {
                    mac: other.map(mac),
                    permanent,
                },
            )
        });
    let fdb =
        (1..6_u8, 1..6_u8, any::<bool>(), any::<bool>()).prop_map(|(n, dst, permanent, plain)| {
            (
                mac(n),
                (ip(&format!("10.0.0.{dst}")), FdbEntry { permanent, plain }),
            )
        });
    let local = option::of(select(vec!["10.0.0.1", "10.0.0.9", "fd99::1"]));
    let others = select(vec![None, None, Some("gbp")]);
    let tunnel = (local, option::of(2..4_u32), 0..2_u8, 0..2_u8, others).prop_map(
        |(local, link, ttl, tos, others)| Tunnel {
            local: local.map(ip),
            link,
            ttl,
            tos,
            others: others.into_iter().collect(),
        },
    );
    let link = (kind, 1..4_u8, 1400..1402_u32, any::<bool>(), tunnel);
    (
        link,
        vec(address, 0..3),
        vec(neighbour, 0..4),
        vec(fdb, 0..4),
        vec(any_route(), 0..5),
    )
        .prop_map(
            |((kind, n, mtu, up, tunnel), addresses, neighbours, fdb, routes)| Device {
                kind,
                is_without_ipv6: false,
                tunnel,
                mac: mac(n),
                mtu,
                up,
                addresses: addresses.into_iter().map(net).collect(),
                neighbours: neighbours.into_iter().collect(),
                // The kernel has one destination for each address.
                fdb: BTreeMap::from_iter(fdb)
                    .into_iter()
                    .map(|(mac, (dst, entry))| ((mac, dst), entry))
                    .collect(),
                routes: routes.into_iter().collect(),
            },
        )
}

/// Nexthop objects with our ids and a foreign id. Some are foreign, or wrong.
fn any_nexthops() -> impl Strategy<Value = Option<BTreeMap<u32, Nexthop>>> {
    let protocol = select(vec![PROTOCOL, PROTOCOL, 4]);
    let nexthop = (
        0..6_u8,
        option::weighted(0.9, 1..6_u8),
        any::<bool>(),
        protocol,
    );
    let nexthop = nexthop.prop_map(|(id, via, on_vtep, protocol)| {
        let address = |n| Ipv4Addr::new(44, 128, 0, n);
        let via = via.map(|via| IpAddr::V4(address(if on_vtep { id.max(1) } else { via })));
        (
            if id == 0 { 7 } else { nexthop_id(address(id)) },
            Nexthop {
                via,
                on_vtep,
                protocol,
            },
        )
    });
    option::of(vec(nexthop, 0..4).prop_map(BTreeMap::from_iter))
}

/// Makes some routes refer to the objects of their gateways. A device that does not exist has
/// no objects.
fn connect(kernel: &mut Kernel) {
    let Some(nexthops) = &mut kernel.nexthops else {
        return;
    };
    let Some(device) = &mut kernel.device else {
        return nexthops.retain(|_, nexthop| !nexthop.on_vtep);
    };
    let goes_by = |route: &Route| {
        let to_it =
            |nexthop: &Nexthop| nexthop.on_vtep && nexthop.via == route.via && route.via.is_some();
        // An operator's routes do not refer to ours.
        let to_it =
            |nexthop: &Nexthop| to_it(nexthop) && (route.protocol == 4) == (nexthop.protocol == 4);
        let mut of_it = nexthops
            .iter()
            .filter(|(_, nexthop)| route.plain && to_it(nexthop));
        of_it.next().map(|(id, _)| *id)
    };
    device.routes = device
        .routes
        .iter()
        .map(|route| Route {
            nexthop: goes_by(route),
            ..*route
        })
        .collect();
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let rule = (
        select(vec!["9.0.0.0/8", "8.0.0.0/8", "fd01:b::/64"]),
        select(vec![100_u32, 32765, 40000]),
    );
    let file = (select(vec!["dcos", "other", "gone"]), any::<bool>());
    let stale = btree_set(select(vec!["vtep7".to_owned()]), 0..2);
    let kernel = (
        option::of(any_device()),
        btree_set(rule, 0..4),
        stale,
        any_nexthops(),
    );
    (kernel, vec(file, 0..3), any::<[bool; 2]>()).prop_map(
        |((device, rules, stale_devices, nexthops), files, [v4, v6])| {
            let rules = rules
                .into_iter()
                .map(|(from, priority)| Rule {
                    from: net(from),
                    priority,
                    table: 42,
                    protocol: PROTOCOL,
                })
                .collect();
            let mut kernel = Kernel {
                device,
                stale_devices,
                rules,
                nexthops,
                ..Kernel::default()
            };
            connect(&mut kernel);
            Observed {
                forwarding: Forwarding {
                    v4: Some(v4),
                    v6: Some(v6),
                },
                cni: Some(
                    files
                        .into_iter()
                        .map(|(name, ours)| {
                            (
                                name.to_owned(),
                                CniFile {
                                    content: b"{}".to_vec(),
                                    ours,
                                },
                            )
                        })
                        .collect(),
                ),
                kernel: Some(kernel),
                ..Observed::default()
            }
        },
    )
}

/// Returns the routes that are not ours.
fn foreign_routes(observed: &Observed) -> Vec<Route> {
    let device = observed
        .kernel
        .as_ref()
        .and_then(|kernel| kernel.device.as_ref());
    let routes = device
        .into_iter()
        .flat_map(|device| device.routes.iter().copied());
    routes.filter(|route| route.protocol == 4).collect()
}

/// Returns whether a plan removes more than it says, including foreign objects.
fn is_disruptive(plan: &Plan) -> bool {
    plan.ops
        .iter()
        .any(|op| matches!(op, Op::RemoveDevice(_) | Op::RemoveAddress(..)))
}

proptest! {
    // A failure prints the case in full, so that no file is needed.
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_plan_leads_there(desired in any_desired(), before in any_observed()) {
        let first = plan(&desired, &before);
        let mut after = before.clone();
        apply(&first, &mut after);
        prop_assert_eq!(&plan(&desired, &after).ops, &[], "after {:#?}", first);
        if !is_disruptive(&first) {
            prop_assert_eq!(foreign_routes(&after), foreign_routes(&before));
        }
        if desired.backend == Backend::External {
            prop_assert_eq!(after.kernel, before.kernel);
        }
    }

    #[test]
    fn unknown_peers_stay(desired in any_desired(), before in any_desired()) {
        let mut observed = bare();
        apply(&plan(&Desired { backend: Backend::Internal, ..before.clone() }, &observed), &mut observed);
        let peers = |observed: &Observed| {
            let device = observed.kernel.clone().unwrap().device;
            device.map(|device| (device.neighbours, device.fdb))
        };
        let before = peers(&observed);
        let desired = Desired { peers: None, ..desired };
        apply(&plan(&desired, &observed), &mut observed);
        if before.is_some() && desired.vtep.is_some() {
            prop_assert_eq!(peers(&observed), before);
        }
    }

    /// A change of a few peers leads to the same host and the same expected state as a full
    /// reconciliation.
    #[test]
    fn a_few_peers_are_changed_as_by_a_plan(
        from in any_desired(),
        to in btree_set(1..6_u8, 0..5),
        moved in option::of(1..6_u8),
        nexthops in any::<bool>(),
    ) {
        let from = Desired { backend: Backend::Internal, peers: from.peers.clone().or(Some(Arc::default())), ..from };
        let mut peers: PeerMap = to.into_iter().map(peer).collect();
        if let Some((ip, mut moved)) = moved.map(peer).filter(|(ip, _)| peers.contains_key(ip)) {
            // Its containers have other addresses now.
            Arc::make_mut(&mut moved).subnets = vec![net("9.0.99.0/24")];
            peers.insert(ip, moved);
        }
        let to = Desired { peers: Some(Arc::new(peers)), ..from.clone() };
        let mut observed = converged_with(&from, nexthops);
        let there = |observed: &Observed| nexthops_after(observed.kernel.as_ref().unwrap(), &Plan::default());
        let mut expected = ExpectedState::new(&from, Some(7), None, &[], &Default::default(), there(&observed));
        if let Some((_, ops)) = expected.change_peers(&from, &to) {
            apply(&Plan { ops, ..Plan::default() }, &mut observed);
            prop_assert_eq!(plan(&to, &observed), Plan::default());
            let anew = ExpectedState::new(&to, Some(7), None, &[], &Default::default(), there(&observed));
            prop_assert_eq!(format!("{expected:?}"), format!("{anew:?}"));
        }
    }

    #[test]
    fn nothing_desired_leaves_nothing(before in any_desired()) {
        let before = Desired { backend: Backend::Internal, ..before };
        let mut observed = converged(&before);
        // Without a desired name the device is found by its properties.
        let kernel = observed.kernel.as_mut().unwrap();
        kernel.stale_devices.extend(kernel.device.take().map(|_| "vtep1024".to_owned()));
        // A bridge that is not desired any more is known by its file.
        let bridges = std::mem::take(&mut kernel.mesos_bridges).into_keys();
        kernel.bridges = bridges.map(|name| (name, Leftover::default())).collect();
        let ours = CniFile { content: Vec::new(), ours: true };
        observed.cni.get_or_insert_default().insert("dcos".to_owned(), ours);
        apply(&plan(&Desired::default(), &observed), &mut observed);
        let forwarding = observed.forwarding;
        prop_assert_eq!(observed, Observed { forwarding, ..bare() });
    }
}
