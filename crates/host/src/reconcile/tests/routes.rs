//! Routes, with nexthop objects where there are many peers.

use super::super::tests::*;

/// A route to the containers of peer 2.
pub(super) fn route(via: &str, metric: u32, protocol: u8) -> Route {
    let (dst, via) = (net("9.0.2.0/24"), Some(ip(via)));
    Route {
        table: 254,
        dst,
        via,
        metric,
        protocol,
        plain: true,
        nexthop: None,
    }
}

#[test]
fn routes_are_repaired() {
    let set = "add route 9.0.2.0/24 via 44.128.0.2 dev vtep1024";
    let there = |routes: &[Route]| {
        let routes = routes.to_vec();
        repair(move |observed| {
            let device = device(observed);
            device.routes.retain(|route| route.dst != net("9.0.2.0/24"));
            device.routes.extend(routes);
        })
    };
    assert_eq!(there(&[]), [set]);
    assert_eq!(
        there(&[route("44.128.0.9", 0, PROTOCOL)]),
        [set],
        "replaced in one step"
    );
    let stale = "remove route 9.0.2.0/24 via 44.128.0.9 dev vtep1024";
    let right = route("44.128.0.2", 0, PROTOCOL);
    assert_eq!(there(&[right, route("44.128.0.9", 0, PROTOCOL)]), [stale]);
    assert_eq!(
        there(&[right, route("44.128.0.9", 7, PROTOCOL_BOOT)]),
        [stale]
    );
    assert_eq!(there(&[route("44.128.0.9", 7, PROTOCOL)]), [stale, set]);
    let with_tos = Route {
        plain: false,
        ..route("44.128.0.9", 0, PROTOCOL)
    };
    assert_eq!(there(&[with_tos]), [stale, set]);
}

#[test]
fn new_routes_to_many_peers_refer_to_nexthop_objects() {
    let made = |peers: &[u8]| {
        let all = lines(&plan(&desired(peers), &bare_with(true)));
        all.into_iter()
            .filter(|line| line.contains("nexthop"))
            .collect::<Vec<_>>()
    };
    assert!(made(&[2, 3]).is_empty());
    let objects = [2, 3, 4].map(|n| {
        format!(
            "add nexthop id {} via 44.128.0.{n} dev vtep1024",
            746_586_112 + n
        )
    });
    assert_eq!(made(&[2, 3, 4]), objects);

    let mut observed = converged_with(&desired(&[2, 3, 4]), true);
    let by_one = |observed: &mut Observed| {
        device(observed)
            .routes
            .iter()
            .filter(|route| route.nexthop.is_some())
            .count()
    };
    assert_eq!(by_one(&mut observed), 6);
    // Existing routes stay as they are. An object is removed with its peer.
    let gone = plan(&desired(&[2, 3]), &observed);
    assert_eq!(
        lines(&gone).last().unwrap(),
        "remove nexthop id 746586116 dev vtep1024"
    );
    apply(&gone, &mut observed);
    assert_eq!(plan(&desired(&[2, 3]), &observed), Plan::default());
    assert_eq!(by_one(&mut observed), 4);
    // Plain routes stay, too.
    let mut observed = converged_with(&desired(&[2]), true);
    apply(&plan(&desired(&[2, 3, 4]), &observed), &mut observed);
    assert_eq!(by_one(&mut observed), 4);
}

#[test]
fn a_nexthop_object_of_somebody_else_stays_and_is_not_used() {
    let id = nexthop_id(Ipv4Addr::new(44, 128, 0, 2));
    let mut observed = bare_with(true);
    let foreign = Nexthop {
        via: Some(ip("192.0.2.1")),
        on_vtep: false,
        protocol: 4,
    };
    observed.kernel.as_mut().unwrap().nexthops = Some([(id, foreign)].into());
    let desired = desired(&[2, 3, 4]);
    apply(&plan(&desired, &observed), &mut observed);
    assert_eq!(plan(&desired, &observed), Plan::default());
    assert_eq!(
        observed.kernel.as_ref().unwrap().nexthops.as_ref().unwrap()[&id],
        foreign
    );
    let by_none = device(&mut observed)
        .routes
        .iter()
        .filter(|route| route.nexthop.is_none())
        .count();
    assert_eq!(by_none, 5, "three of IPv6, and two to peer 2");
}

#[test]
fn a_right_route_of_any_origin_is_adopted() {
    let desired = desired(&[2]);
    let mut observed = converged(&desired);
    let device = device(&mut observed);
    device.routes = device
        .routes
        .iter()
        .map(|route| Route {
            protocol: PROTOCOL_BOOT,
            ..*route
        })
        .collect();
    assert_eq!(plan(&desired, &observed), Plan::default());
}

#[test]
fn an_operators_own_routes_stay() {
    const STATIC: u8 = 4;
    let desired = desired(&[2]);
    let mut observed = converged(&desired);
    let foreign = Route {
        dst: net("192.0.2.0/24"),
        ..route("44.128.0.2", 0, STATIC)
    };
    device(&mut observed).routes.insert(foreign);
    device(&mut observed).routes.insert(Route {
        via: None,
        protocol: PROTOCOL_BOOT,
        ..foreign
    });
    assert_eq!(plan(&desired, &observed), Plan::default());
}
