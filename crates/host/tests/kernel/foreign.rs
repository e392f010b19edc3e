//! Routes that somebody else made, where the overlay would have its own.

use std::sync::Arc;

use overlay_core::host_api::desired::{ContainerTable, Desired};
use overlay_core::host_api::problem::Problem;
use testkit::host::{Host, eventually, net, noticed, peer};

use super::{ROUTES, ROUTES6, with_peers};

/// Routes of an operator, a DHCP client and the kernel to subnets of peers 4 to 8, and the
/// beginnings of the sentences about them.
const ROUTES_OF_OTHERS: [(&str, &str); 6] = [
    (
        "route add 9.0.4.0/24 via 10.0.0.9 dev eth0 proto static",
        "cannot add route 9.0.4.0/24: peer 10.0.0.4 has this subnet, but the route \"9.0.4.0/24 via 10.0.0.9 dev \
         eth0 proto static\" is not ours, and stays",
    ),
    (
        "route add 9.0.5.0/24 dev eth0 proto dhcp metric 100",
        "cannot add route 9.0.5.0/24: peer 10.0.0.5 has this subnet, but the route \"9.0.5.0/24 dev eth0 proto dhcp \
         metric 100\" is not ours, and stays",
    ),
    (
        "route add unreachable 9.0.6.0/24",
        "cannot add route 9.0.6.0/24: peer 10.0.0.6 has this subnet, but the route \"9.0.6.0/24 proto boot\" is not \
         ours, and stays",
    ),
    (
        "-6 route add fd01:b::7:0:0:0/80 via fe80::9 dev eth0 proto static",
        "cannot add route fd01:b:0:0:7::/80: peer 10.0.0.7 has this subnet, but the route \"fd01:b:0:0:7::/80 via \
         fe80::9 dev eth0 proto static metric 1024\" is not ours, and stays",
    ),
    (
        "address add 10.99.0.1 peer 9.0.8.0/24 dev eth0",
        "cannot add route 9.0.8.0/24: peer 10.0.0.8 has this subnet, but the route \"9.0.8.0/24 dev eth0 proto \
         kernel\" is not ours, and stays",
    ),
    (
        "route add 10.0.0.9 dev eth0 table 42",
        "containers of this host do not reach peer 10.0.0.9 itself through the tunnel: the route \"10.0.0.9/32 dev \
         eth0 proto boot table 42\" is not ours, and stays",
    ),
];

/// Makes a host with an underlay.
fn connected() -> Host {
    let host = Host::new();
    host.ip("link add eth0 type veth peer name eth0-far");
    host.ip("address add 10.0.0.1/24 dev eth0");
    host.ip("link set eth0 up");
    host.ip("link set eth0-far up");
    host
}

/// Returns all routes that are not ours, except those of our own devices and those that the kernel
/// makes when it is done with a device.
fn others(host: &Host) -> Vec<String> {
    let tables = [
        "ip route show",
        "ip route show table all proto boot",
        "ip -6 route show",
    ];
    let text = tables.map(|line| host.command(line)).concat();
    let counts = |line: &&str| {
        let is_ours = line.contains("vtep1024") || line.contains("m-dcos");
        !is_ours && !line.starts_with("fe80::/64")
    };
    let lines = text.lines().filter(counts);
    // The carrier comes some time after the device is up.
    let line = |line: &str| line.replace(" linkdown", "").trim_end().to_owned();
    let mut lines: Vec<String> = lines.map(line).collect();
    lines.sort();
    lines
}

#[test]
fn routes_of_others_are_neither_replaced_nor_removed() {
    if !testkit::root("routes_of_others_are_neither_replaced_nor_removed") {
        return;
    }
    for route in ROUTES_OF_OTHERS {
        let host = connected();
        // The kernel removes the address while it detects duplicates.
        host.command("sysctl -qw net.ipv6.conf.eth0.accept_dad=0");
        let (command, told) = route;
        host.ip(command);
        let before = others(&host);
        let mut desired = with_peers(&host);
        desired.peers_mut().extend((4..10).map(peer));
        let report = host.apply(&desired);
        let [problem] = &Problem::texts(&report.host)[..] else {
            panic!("{command}: {:?}", report.host)
        };
        assert!(problem.starts_with(told), "{command}: {problem}");
        assert!(report.overlays.is_empty(), "{:?}", report.overlays);
        assert_eq!(others(&host), before, "{command}");
        // All others are reached.
        let routes = [host.field(ROUTES, "dst"), host.field(ROUTES6, "dst")].concat();
        let left_out = usize::from(!command.contains("table 42"));
        assert_eq!(routes.len(), 2 * 8 - left_out, "{command}: {routes:?}");
        let again = host.apply(&desired);
        assert_eq!((again.operations, again.host), (0, report.host));
        // The peers leave, and all overlays are deleted.
        desired.peers = Some(Arc::default());
        host.settle(&desired);
        assert_eq!(others(&host), before, "{command}");
        let nothing = Desired {
            cni: desired.cni,
            ..Desired::default()
        };
        host.settle(&nothing);
        assert_eq!(others(&host), before, "{command}");
    }
}

/// Checks that small changes of peers, which rely on the last reconciliation, replace no route
/// either, and that a route of somebody else that goes makes room.
#[test]
fn routes_of_others_may_come_and_go_later() {
    if !testkit::root("routes_of_others_may_come_and_go_later") {
        return;
    }
    let host = connected();
    let mut desired = with_peers(&host);
    let worker = host.worker();
    worker.apply_ok(&desired);
    host.ip("route add 9.0.4.0/24 via 10.0.0.9 dev eth0 proto static");
    desired.peers_mut().extend([peer(4), peer(5)]);
    worker.start(&desired);
    let report = worker.finish();
    assert_eq!(report.host.len(), 1, "{report:?}");
    let theirs = || host.command("ip route show 9.0.4.0/24");
    assert_eq!(
        theirs().trim_end(),
        "9.0.4.0/24 via 10.0.0.9 dev eth0 proto static"
    );
    let ours = || host.field(ROUTES, "dst");
    assert_eq!(ours(), ["9.0.2.0/24", "9.0.3.0/24", "9.0.5.0/24"]);
    host.ip("route delete 9.0.4.0/24");
    eventually("there is room", || {
        ours().contains(&"9.0.4.0/24".to_owned())
    });
    assert!(worker.finish().is_ok());
    // A network card with an address within the overlay.
    host.ip("address add 9.0.5.9/24 dev eth0");
    eventually("ours gives way", || {
        !ours().contains(&"9.0.5.0/24".to_owned())
    });
    let network = host.command("ip route show 9.0.5.0/24");
    assert!(network.starts_with("9.0.5.0/24 dev eth0 proto kernel"));
    host.ip("address delete 9.0.5.9/24 dev eth0");
    eventually("ours is back", || ours().contains(&"9.0.5.0/24".to_owned()));
    // A route that somebody puts in the place of ours is theirs.
    host.ip("route replace 9.0.3.0/24 dev eth0 proto static");
    eventually("it is reported", || {
        let report = worker.finish();
        let texts = Problem::texts(&report.host);
        texts
            .iter()
            .any(|text| text.contains("9.0.3.0/24 dev eth0 proto static\" is not ours"))
    });
    assert_eq!(ours(), ["9.0.2.0/24", "9.0.4.0/24", "9.0.5.0/24"]);
}

/// Checks that a peer's subnet waits for containers that still have it, and comes when they have ended.
#[test]
fn a_former_subnet_of_this_host_waits_for_its_containers() {
    if !testkit::root("a_former_subnet_of_this_host_waits") {
        return;
    }
    let (host, container) = (connected(), Host::new());
    let worker = host.worker();
    worker.apply_ok(&with_peers(&host));
    host.connect("veth7", &container, "eth0");
    host.ip("link set veth7 master m-dcos");
    let mut heir = peer(3);
    Arc::make_mut(&mut heir.1).subnets = vec![net("9.0.1.0/25"), net("fd01:b::1:0:0:0/81")];
    let moved = Desired {
        vtep: host.desired(1).vtep,
        peers: Some(Arc::new([heir].into())),
        ..host.desired(2)
    };
    worker.start(&moved);
    let report = worker.finish();
    let texts = Problem::texts(&report.host);
    let told = |subnet: &str| {
        format!(
            "cannot add route {subnet}: peer 10.0.0.3 has this subnet, but bridge m-dcos of this host still has \
             containers of subnet {subnet}; end them"
        )
    };
    assert_eq!(texts, [told("9.0.1.0/25"), told("fd01:b:0:0:1::/81")]);
    let again = host.apply(&moved);
    assert_eq!((again.operations, again.host), (0, report.host));
    host.ip("link delete veth7");
    worker.start(&moved);
    let routes = || [host.field(ROUTES, "dst"), host.field(ROUTES6, "dst")].concat();
    noticed("there is room", || routes().len() == 2);
}

/// Checks what `dcos-net` left: its routes have no mark.
#[test]
fn the_predecessors_routes_are_ours() {
    if !testkit::root("the_predecessors_routes_are_ours") {
        return;
    }
    let host = connected();
    let desired = with_peers(&host);
    host.settle(&desired);
    host.ip("route replace 9.0.2.0/24 via 44.128.0.2 dev vtep1024");
    host.ip("route replace 9.0.3.0/24 via 44.128.0.99 dev vtep1024");
    host.ip("route add 9.0.9.0/24 via 44.128.0.9 dev vtep1024");
    host.ip("route replace 10.0.0.2 via 44.128.0.2 dev vtep1024 table 42");
    host.ip("route add 10.0.0.9 via 44.128.0.9 dev vtep1024 table 42");
    host.ip("route add 192.0.2.0/24 via 44.128.0.2 dev vtep1024");
    assert_eq!(host.settle(&desired), 3);
    let main = host.command("ip route show dev vtep1024");
    for line in [
        "9.0.2.0/24 via 44.128.0.2",
        "9.0.3.0/24 via 44.128.0.3",
        "192.0.2.0/24 via",
    ] {
        assert!(main.contains(line), "{line}: {main}");
    }
    assert!(!main.contains("9.0.9.0/24"), "{main}");
    let containers = host.field("ip -j route show table 42", "dst");
    assert_eq!(containers, ["10.0.0.2", "10.0.0.3"]);
}

#[test]
fn rules_of_others_are_left_alone() {
    if !testkit::root("rules_of_others_are_left_alone") {
        return;
    }
    let host = connected();
    for rule in [
        "rule add from 192.168.5.0/24 lookup 42 proto static",
        "rule add from 192.168.6.0/24 lookup 42",
        "-6 rule add from fd05::/64 lookup 42 proto static",
    ] {
        host.ip(rule);
    }
    let rules = || {
        let rules = ["ip rule show", "ip -6 rule show"].map(|line| host.command(line));
        rules.concat()
    };
    let before = rules();
    let desired = with_peers(&host);
    host.settle(&desired);
    assert_eq!(rules().lines().count(), before.lines().count() + 2);
    // Another table, for the case that this one is somebody else's.
    let moved = Desired {
        container_table: ContainerTable(1042),
        ..desired.clone()
    };
    host.settle(&moved);
    assert_eq!(rules().matches("lookup 1042 proto 142").count(), 2);
    assert_eq!(rules().matches("lookup 42").count(), 3);
    assert_eq!(host.field("ip -j route show table 1042", "dst").len(), 2);
    assert_eq!(
        host.command("ip route show table all")
            .matches("table 42")
            .count(),
        0
    );
    let nothing = Desired {
        cni: desired.cni,
        ..Desired::default()
    };
    host.settle(&nothing);
    assert_eq!(rules(), before);
}
