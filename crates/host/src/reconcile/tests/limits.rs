//! What collides with networks of the host, and what was never right.

use super::super::observed::{HostNetwork, HostNetworks};
use super::*;
use overlay_core::host_api::problem::Problem;

fn networks(nets: &[&str]) -> HostNetworks {
    let network = |text: &&str| HostNetwork {
        net: net(text),
        device: "eth1".into(),
    };
    nets.iter().map(network).collect()
}

/// Returns a host without any of our objects whose other devices have these addresses.
fn bare_beside(nets: &[&str]) -> Observed {
    let mut observed = bare();
    observed.kernel.as_mut().unwrap().networks = networks(nets);
    observed
}

fn problems(plan: &Plan) -> Vec<String> {
    Problem::texts(&plan.problems)
}

#[test]
fn an_ordinary_underlay_collides_with_nothing() {
    let desired = desired(&[2]);
    let beside = ["10.0.0.1/24", "172.17.0.1/16", "fd77::1/64", "192.0.2.1/32"];
    let with = plan(&desired, &bare_beside(&beside));
    assert_eq!(with, plan(&desired, &bare()));
}

#[test]
fn only_the_route_that_collides_is_left_out() {
    let mut observed = bare_beside(&["9.0.2.77/25"]);
    let plan = plan(&desired(&[2, 3]), &observed);
    assert_eq!(
        problems(&plan),
        [
            "cannot add route 9.0.2.0/24: peer 10.0.0.2 has this subnet, but it overlaps 9.0.2.77/25 of device eth1"
        ]
    );
    assert_eq!(plan.peer_problems, 1);
    let lines = lines(&plan);
    assert!(!lines.iter().any(|line| line.contains("route 9.0.2.0/24")));
    assert!(lines.contains(&"add route 9.0.3.0/24 via 44.128.0.3 dev vtep1024".to_owned()));
    assert!(lines.contains(&"write CNI configuration dcos.conf".to_owned()));
    // A larger network of the host contains subnets of all peers.
    apply(&plan, &mut observed);
    observed.kernel.as_mut().unwrap().networks = networks(&["9.0.0.1/8"]);
    let plan = super::plan(&desired(&[2, 3, 4, 5, 6]), &observed);
    assert_eq!(
        problems(&plan)[3],
        "cannot add peer or route: 2 more like that"
    );
    assert!(
        super::lines(&plan)
            .contains(&"remove route 9.0.3.0/24 via 44.128.0.3 dev vtep1024".to_owned())
    );
}

#[test]
fn a_peer_with_addresses_of_the_host_is_left_out() {
    for (own, fault) in [
        ("10.0.0.2/24", "device eth1 of this host has its address"),
        (
            "44.128.0.3/31",
            "its VTEP address 44.128.0.2 lies in 44.128.0.3/31 of device eth1",
        ),
        (
            "fd01:a::3/127",
            "its VTEP address fd01:a::2 lies in fd01:a::3/127 of device eth1",
        ),
    ] {
        let plan = plan(&desired(&[2]), &bare_beside(&[own]));
        let text = format!("cannot add peer 10.0.0.2: {fault}");
        assert_eq!(problems(&plan), [text]);
        assert!(!lines(&plan).iter().any(|line| line.contains("44.128.0.2")));
    }
}

#[test]
fn a_vtep_within_a_network_of_the_host_is_not_created() {
    for own in ["44.128.0.9/24", "44.0.0.1/8", "fd01:a::9/64"] {
        let plan = plan(&desired(&[2]), &bare_beside(&[own]));
        let obstacle = plan.obstacle.as_ref().unwrap();
        assert!(
            obstacle.contains(&format!("lies in {own} of device eth1")),
            "{obstacle}"
        );
        assert!(!lines(&plan).iter().any(|line| line.contains("vtep1024")));
    }
    // What the host had before stays.
    let mut observed = converged(&desired(&[2]));
    observed.kernel.as_mut().unwrap().networks = networks(&["45.0.0.1/24"]);
    let mut moved = desired(&[2]);
    moved.vtep.as_mut().unwrap().addresses[0] = net("45.0.0.7/24");
    assert_eq!(lines(&plan(&moved, &observed)), [""; 0]);
}

#[test]
fn a_bridge_on_a_network_of_the_host_is_left_out() {
    let mut two = desired(&[]);
    let mut web = overlay();
    web.ranges = vec![net("9.0.0.0/8"), net("fd01:b::/64")];
    web.mesos_bridge = Some(Bridge {
        name: "m-web".into(),
        subnets: vec![net("9.0.1.128/25"), net("fd01:b::1:8000:0:0/81")],
    });
    two.overlays.insert("web".into(), web);
    let plan = plan(&two, &bare_beside(&["9.0.1.200/26"]));
    assert_eq!(
        plan.refused["web"],
        "cannot set up bridge m-web: its subnet 9.0.1.128/25 overlaps 9.0.1.200/26 of device eth1; give the overlay \
         a range that this host does not have"
    );
    assert_eq!(plan.refused.len(), 1);
    let lines = lines(&plan);
    assert!(!lines.iter().any(|line| line.contains("web")), "{lines:?}");
    assert!(lines.contains(&"write CNI configuration dcos.conf".to_owned()));
    assert_eq!(
        plan.left_out.iter().map(Op::to_string).collect::<Vec<_>>(),
        ["write CNI configuration web.conf"]
    );
}

/// Plans a host of agent 1 and peer 2 whose peers are unknown, with more routes.
fn unknown(routes: &[(u32, &str)]) -> Vec<String> {
    let before = desired(&[2]);
    let mut observed = converged(&before);
    let device = device(&mut observed);
    for (table, dst) in routes {
        device.routes.insert(Route {
            table: *table,
            dst: net(dst),
            ..super::routes::route("44.128.0.2", 0, PROTOCOL)
        });
    }
    let unknown = Desired {
        peers: None,
        ..before
    };
    lines(&plan(&unknown, &observed))
}

#[test]
fn routes_that_no_peer_can_need_go_before_the_peers_are_known() {
    assert_eq!(
        unknown(&[(MAIN_TABLE, "9.0.66.0/24"), (42, "10.0.0.66/32")]),
        [""; 0]
    );
    let mut removed = unknown(&[
        (MAIN_TABLE, "0.0.0.0/1"),
        (MAIN_TABLE, "128.0.0.0/1"),
        (MAIN_TABLE, "10.9.9.9/32"),
        (42, "10.0.0.0/8"),
        (42, "44.128.0.66/32"),
    ]);
    removed.sort();
    assert_eq!(
        removed,
        [
            "remove route 0.0.0.0/1 via 44.128.0.2 dev vtep1024",
            "remove route 10.0.0.0/8 via 44.128.0.2 table 42 dev vtep1024",
            "remove route 10.9.9.9/32 via 44.128.0.2 dev vtep1024",
            "remove route 128.0.0.0/1 via 44.128.0.2 dev vtep1024",
            "remove route 44.128.0.66/32 via 44.128.0.2 table 42 dev vtep1024",
        ]
    );
}

#[test]
fn neighbours_and_destinations_that_no_peer_can_have_go_as_well() {
    let before = desired(&[2]);
    let mut observed = converged(&before);
    let known = observed.clone();
    let vtep = device(&mut observed);
    let neighbour = Neighbour {
        mac: Some(mac(9)),
        permanent: true,
    };
    vtep.neighbours.insert(ip("10.9.9.9"), neighbour);
    let entry = FdbEntry {
        permanent: true,
        plain: true,
    };
    vtep.fdb.insert((mac(9), ip("224.0.0.9")), entry);
    let unknown = Desired {
        peers: None,
        ..before
    };
    let plan = plan(&unknown, &observed);
    assert_eq!(
        lines(&plan),
        [
            "remove neighbour 10.9.9.9 dev vtep1024",
            "remove FDB entry 70:b3:d5:80:00:09 dst 224.0.0.9 dev vtep1024"
        ]
    );
    apply(&plan, &mut observed);
    assert_eq!(observed, known);
}

/// Returns what first aid does on the host of agent 1 with these objects on its device.
fn first_aid_for(addresses: &[&str], routes: &[&str]) -> Vec<String> {
    let mut observed = converged(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    let mut vtep = kernel.device.clone().unwrap();
    vtep.addresses
        .extend(addresses.iter().map(|text| net(text)));
    vtep.routes.extend(routes.iter().map(|dst| Route {
        dst: net(dst),
        ..super::routes::route("44.128.0.2", 0, PROTOCOL)
    }));
    let host = Unassigned {
        vteps: [("vtep1024".to_owned(), vtep)].into(),
        rules: kernel.rules.clone(),
        networks: networks(&["10.0.0.1/24"]),
    };
    let own = Some(Ipv4Addr::new(10, 0, 0, 1));
    first_aid(&host, own).iter().map(Op::to_string).collect()
}

#[test]
fn first_aid_removes_what_no_master_can_have_meant() {
    assert_eq!(first_aid_for(&[], &["9.0.66.0/24"]), [""; 0]);
    assert_eq!(
        first_aid_for(
            &["10.9.9.9/1", "10.0.0.77/24", "10.64.0.1/8"],
            &[
                "0.0.0.0/1",
                "128.0.0.0/1",
                "10.9.9.9/32",
                "10.0.0.128/25",
                "64.0.0.0/4"
            ]
        ),
        [
            "remove route 0.0.0.0/1 via 44.128.0.2 dev vtep1024",
            "remove route 10.0.0.128/25 via 44.128.0.2 dev vtep1024",
            "remove route 10.9.9.9/32 via 44.128.0.2 dev vtep1024",
            "remove route 64.0.0.0/4 via 44.128.0.2 dev vtep1024",
            "remove route 128.0.0.0/1 via 44.128.0.2 dev vtep1024",
            "remove address 10.0.0.77/24 dev vtep1024",
            "remove address 10.9.9.9/1 dev vtep1024",
            "remove address 10.64.0.1/8 dev vtep1024",
        ]
    );
}

#[test]
fn first_aid_leaves_routes_of_others_alone() {
    let mut observed = converged(&desired(&[2]));
    let kernel = observed.kernel.as_mut().unwrap();
    let mut vtep = kernel.device.clone().unwrap();
    vtep.routes.insert(Route {
        dst: net("0.0.0.0/1"),
        protocol: 4,
        ..super::routes::route("44.128.0.2", 0, PROTOCOL)
    });
    let host = Unassigned {
        vteps: [("vtep1024".to_owned(), vtep)].into(),
        // Without rules nobody knows the overlays, so their routes stay.
        ..Unassigned::default()
    };
    assert_eq!(first_aid(&host, None), []);
}
