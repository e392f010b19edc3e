//! Configuration of a real kernel in network namespaces; results are read with `ip` and `bridge`.

use std::fs;
use std::sync::Arc;

use overlay_core::host_api::desired::{Backend, Desired};
use overlay_core::host_api::problem::Problem;
use testkit::host::{Host, ip, mac, net, peer};

mod foreign;
mod forged;
mod forwarding;
mod ipv6;
mod tunnel;
mod underlay;

/// Operations for the bridge of a dual-stack overlay: device, duplicate address detection, and two
/// addresses.
const BRIDGE: usize = 4;

const ROUTES: &str = "ip -j route show dev vtep1024 proto 142";
const ROUTES6: &str = "ip -j -6 route show dev vtep1024 proto 142";
const ROUTES_42: &str = "ip -j route show table 42";
const NEIGHBOURS: &str = "ip -j neighbour show dev vtep1024 nud permanent";
const FDB: &str = "bridge -j fdb show dev vtep1024";
const DEVICE: &str = "ip -j -d link show vtep1024";
/// Operations for an overlay's firewall: a set and a rule in each family.
const FIREWALL: usize = 4;
/// Operations that keep a host closed when forwarding is turned on: in each family a chain, six rules
/// for three patterns of devices, one for all others, and the jump.
const CLOSED: usize = 18;

/// Makes a host of agent 1, with agents 2 and 3 as peers.
fn with_peers(host: &Host) -> Desired {
    let mut desired = host.desired(1);
    desired.peers = Some(Arc::new([peer(2), peer(3)].into()));
    desired
}

/// Asserts that neighbours, FDB entries and routes of agents 2 and 3 exist.
fn assert_peers(host: &Host) {
    assert_eq!(host.field(ROUTES, "dst"), ["9.0.2.0/24", "9.0.3.0/24"]);
    assert_eq!(host.field(ROUTES, "gateway"), ["44.128.0.2", "44.128.0.3"]);
    assert_eq!(
        host.field(ROUTES6, "dst"),
        ["fd01:b:0:0:2::/80", "fd01:b:0:0:3::/80"]
    );
    assert_eq!(host.field(ROUTES6, "gateway"), ["fd01:a::2", "fd01:a::3"]);
    assert_eq!(host.field(ROUTES_42, "dst"), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(
        host.field(ROUTES_42, "gateway"),
        ["44.128.0.2", "44.128.0.3"]
    );
    assert_eq!(
        host.field(NEIGHBOURS, "dst"),
        ["44.128.0.2", "44.128.0.3", "fd01:a::2", "fd01:a::3"]
    );
    let macs = [
        mac(2).to_string(),
        mac(2).to_string(),
        mac(3).to_string(),
        mac(3).to_string(),
    ];
    assert_eq!(host.field(NEIGHBOURS, "lladdr"), macs);
    assert_eq!(
        host.field(FDB, "mac"),
        [mac(2).to_string(), mac(3).to_string()]
    );
    assert_eq!(host.field(FDB, "dst"), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(host.field(FDB, "state"), ["permanent", "permanent"]);
    assert_eq!(host.field(FDB, "flags"), [r#"["self"]"#, r#"["self"]"#]);
}

/// Asserts that device, addresses, rules and files of agent 1 exist.
fn assert_host(host: &Host) {
    let device = &host.json(DEVICE)[0];
    assert_eq!(device["address"], mac(1).to_string());
    assert_eq!(device["mtu"], 1450);
    let vxlan = &device["linkinfo"]["info_data"];
    assert_eq!(
        (&vxlan["id"], &vxlan["port"]),
        (&1024.into(), &64000.into())
    );
    assert_eq!(vxlan["learning"], false);
    assert!(device["flags"].as_array().unwrap().contains(&"UP".into()));
    let addresses = &host.json("ip -j address show dev vtep1024 scope global")[0]["addr_info"];
    let mut addresses: Vec<String> = addresses
        .as_array()
        .unwrap()
        .iter()
        // Filtered objects are printed as empty ones.
        .filter_map(|address| {
            Some(format!(
                "{}/{}",
                address["local"].as_str()?,
                address["prefixlen"]
            ))
        })
        .collect();
    addresses.sort();
    assert_eq!(addresses, ["44.128.0.1/20", "fd01:a::1/64"]);
    assert_eq!(rules(host), ["9.0.0.0/8", "fd01:b::/64"]);
    assert_eq!(host.command("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    assert_eq!(
        host.command("cat /proc/sys/net/ipv6/conf/all/forwarding"),
        "1\n"
    );
    let file = fs::read_to_string(host.cni.path().join("dcos.conf")).unwrap();
    assert!(file.contains(r#""subnet":"9.0.1.0/25""#), "{file}");
}

/// Returns the sources of the rules for our table.
fn rules(host: &Host) -> Vec<String> {
    let rules = [
        host.json("ip -j rule show table 42"),
        host.json("ip -j -6 rule show table 42"),
    ]
    .concat();
    let prefix =
        |rule: &serde_json::Value| format!("{}/{}", rule["src"].as_str().unwrap(), rule["srclen"]);
    rules.iter().map(prefix).collect()
}

#[test]
fn everything_is_made_and_a_second_pass_has_nothing_to_do() {
    if !testkit::root("everything_is_made") {
        return;
    }
    let host = Host::new();
    // forwarding, device, 2 addresses, 2 rules, BRIDGE, a file, FIREWALL and CLOSED; and for
    // each peer 2 neighbours, an FDB entry and 3 routes.
    assert_eq!(
        host.settle(&with_peers(&host)),
        2 + 1 + 2 + 2 + BRIDGE + 1 + FIREWALL + CLOSED + 2 * (2 + 1 + 3)
    );
    assert_host(&host);
    assert_peers(&host);
}

#[test]
fn what_is_not_wanted_any_more_goes() {
    if !testkit::root("what_is_not_wanted_any_more_goes") {
        return;
    }
    let host = Host::new();
    host.settle(&with_peers(&host));
    let nothing = Desired {
        cni: host.desired(1).cni,
        peers: None,
        ..Desired::default()
    };
    host.settle(&nothing);
    assert_eq!(host.field("ip -j link show", "ifname"), ["lo"]);
    assert_eq!(host.command("ip route show table all dev lo proto 142"), "");
    assert_eq!(rules(&host), [] as [&str; 0]);
    assert_eq!(fs::read_dir(host.cni.path()).unwrap().count(), 0);
}

#[test]
fn peers_come_change_and_go() {
    if !testkit::root("peers_come_change_and_go") {
        return;
    }
    let host = Host::new();
    let mut desired = host.desired(1);
    desired.peers = Some(Arc::new([peer(2)].into()));
    host.settle(&desired);
    desired = with_peers(&host);
    assert_eq!(host.settle(&desired), 6, "one peer more");
    assert_peers(&host);

    let (underlay, mut shared) = peer(3);
    let changed = Arc::make_mut(&mut shared);
    changed.vtep_mac = mac(33);
    changed.vtep_ips[0] = ip("44.128.0.33");
    changed.subnets[0] = net("9.0.33.0/24");
    desired.peers_mut().insert(underlay, shared);
    host.settle(&desired);
    assert_eq!(host.field(ROUTES, "dst"), ["9.0.2.0/24", "9.0.33.0/24"]);
    assert_eq!(
        host.field(ROUTES_42, "gateway"),
        ["44.128.0.2", "44.128.0.33"]
    );
    assert_eq!(
        host.field(NEIGHBOURS, "dst"),
        ["44.128.0.2", "44.128.0.33", "fd01:a::2", "fd01:a::3"]
    );
    assert_eq!(
        host.field(FDB, "mac"),
        [mac(2).to_string(), mac(33).to_string()]
    );

    // The VTEP moves to another host.
    let moved = desired.peers_mut().remove(&underlay).unwrap();
    desired
        .peers_mut()
        .insert("10.0.0.77".parse().unwrap(), moved);
    host.settle(&desired);
    assert_eq!(host.field(FDB, "dst"), ["10.0.0.2", "10.0.0.77"]);
    assert_eq!(host.field(ROUTES_42, "dst"), ["10.0.0.2", "10.0.0.77"]);

    desired.peers = Some(Arc::default());
    host.settle(&desired);
    for objects in [ROUTES, ROUTES6, ROUTES_42, NEIGHBOURS, FDB] {
        assert_eq!(host.json(objects).len(), 0, "{objects}");
    }
}

#[test]
fn peers_stay_as_long_as_nobody_says_who_they_are() {
    if !testkit::root("peers_stay") {
        return;
    }
    let host = Host::new();
    let mut desired = with_peers(&host);
    host.settle(&desired);
    desired.peers = None;
    assert_eq!(host.settle(&desired), 0);
    assert_peers(&host);
    // The kernel may delete them as a consequence of the repair.
    for by_hand in [
        "link set vtep1024 address 02:00:00:00:00:01",
        "address add 44.128.9.9/20 dev vtep1024",
    ] {
        host.ip(by_hand);
        host.settle(&desired);
        assert_host(&host);
    }
    host.ip("link set vtep1024 address 02:00:00:00:00:01");
    host.ip("neighbour replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 nud permanent dev vtep1024");
    host.settle(&desired);
    assert_eq!(
        host.field(NEIGHBOURS, "dst"),
        ["44.128.0.2"],
        "that one was left"
    );
}

/// Checks that a pass undoes manual changes.
#[test]
fn what_somebody_changes_by_hand_comes_right() {
    if !testkit::root("what_somebody_changes_by_hand_comes_right") {
        return;
    }
    let host = Host::new();
    let desired = with_peers(&host);
    host.settle(&desired);
    for by_hand in [
        "ip link set vtep1024 mtu 1300",
        // Below an MTU of 1280 the kernel also disables IPv6 on the device.
        "ip link set vtep1024 mtu 1200",
        "ip link set vtep1024 address 02:00:00:00:00:01",
        "ip link set vtep1024 down",
        "ip link set vtep1024 type vxlan learning",
        "ip link delete vtep1024",
        "ip address add 44.128.0.9/20 dev vtep1024",
        "ip address add fd01:a::9/64 dev vtep1024",
        "ip address delete 44.128.0.1/20 dev vtep1024",
        "ip address delete fd01:a::1/64 dev vtep1024",
        "ip neighbour flush dev vtep1024 nud permanent",
        "ip neighbour replace 44.128.0.2 lladdr 02:00:00:00:00:01 nud permanent dev vtep1024",
        "ip neighbour replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 nud reachable dev vtep1024",
        "ip neighbour add fd01:a::9 lladdr 02:00:00:00:00:01 nud permanent dev vtep1024",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.9.9.9 self permanent dev vtep1024",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.0.0.2 port 4789 self permanent dev vtep1024",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.0.0.2 self dynamic dev vtep1024",
        "bridge fdb delete 70:b3:d5:80:00:02 self dev vtep1024",
        "bridge fdb add 02:00:00:00:00:01 dst 10.9.9.9 self permanent dev vtep1024",
        "bridge fdb append 00:00:00:00:00:00 dst 10.9.9.9 self permanent dev vtep1024",
        "ip route replace 9.0.2.0/24 via 44.128.0.3",
        "ip route delete 9.0.2.0/24 via 44.128.0.2",
        "ip route add 9.0.9.0/24 via 44.128.0.3 dev vtep1024",
        "ip route append 9.0.2.0/24 via 44.128.0.3 dev vtep1024",
        "ip route add 9.0.2.0/24 via 44.128.0.3 dev vtep1024 metric 7",
        "ip -6 route replace fd01:b:0:0:2::/80 via fd01:a::3",
        "ip -6 route delete fd01:b:0:0:2::/80",
        "ip -6 route append fd01:b:0:0:2::/80 via fd01:a::3",
        "ip route replace 10.0.0.2/32 via 44.128.0.3 table 42",
        "ip route flush table 42",
        "ip rule delete from 9.0.0.0/8 lookup 42",
        "ip -6 rule delete from fd01:b::/64 lookup 42",
        "ip rule add from 8.0.0.0/8 lookup 42 proto 142",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
    ] {
        host.command(by_hand);
        assert_ne!(host.apply_ok(&desired), 0, "not noticed: {by_hand}");
        assert_eq!(
            host.apply_ok(&desired),
            0,
            "something to do in the second pass: {by_hand}"
        );
        assert_host(&host);
        assert_peers(&host);
    }
}

#[test]
fn a_rule_behind_the_main_table_is_put_before_it() {
    if !testkit::root("a_rule_behind_the_main_table") {
        return;
    }
    let host = Host::new();
    let desired = host.desired(1);
    host.ip("rule add from 9.0.0.0/8 lookup 42 priority 40000");
    host.settle(&desired);
    assert_eq!(
        host.field("ip -j rule show table 42", "priority"),
        ["32765"]
    );
}

#[test]
fn a_device_of_another_network_is_replaced_with_all_that_belongs_on_it() {
    if !testkit::root("a_device_of_another_network") {
        return;
    }
    let host = Host::new();
    host.ip("link add vtep1024 type vxlan id 77 dstport 64000");
    host.ip("link set vtep1024 up");
    host.settle(&with_peers(&host));
    assert_host(&host);
    assert_peers(&host);

    host.ip("link delete vtep1024");
    host.ip("link add vtep1024 type vxlan id 1024 dstport 4789");
    host.settle(&with_peers(&host));
    assert_host(&host);
    assert_peers(&host);
}

#[test]
fn a_device_of_ours_under_a_former_name_goes() {
    if !testkit::root("a_device_of_ours_under_a_former_name") {
        return;
    }
    let host = Host::new();
    host.ip("link add vtep2048 type vxlan id 2048 dstport 64000");
    host.ip("link add vtep3 type vxlan id 3 dstport 4789");
    host.ip("link add vxlan4 type vxlan id 4 dstport 64000");
    host.settle(&host.desired(1));
    assert_eq!(
        host.field("ip -j link show type vxlan", "ifname"),
        ["vtep1024", "vtep3", "vxlan4"]
    );
}

#[test]
fn what_dcos_net_made_is_taken_over_as_it_is() {
    if !testkit::root("what_dcos_net_made") {
        return;
    }
    let host = Host::new();
    let mut desired = with_peers(&host);
    desired.peers = Some(Arc::new([peer(2)].into()));
    for line in [
        "ip link add vtep1024 type vxlan id 1024 dstport 64000 nolearning",
        "ip link set vtep1024 mtu 1450 address 70:b3:d5:80:00:01 up",
        "ip address add 44.128.0.1/20 dev vtep1024",
        "ip address add fd01:a::1/64 dev vtep1024",
        "ip neighbour replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 nud permanent dev vtep1024",
        "ip neighbour replace fd01:a::2 lladdr 70:b3:d5:80:00:02 nud permanent dev vtep1024",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.0.0.2 self permanent dev vtep1024",
        "ip route replace 9.0.2.0/24 via 44.128.0.2",
        "ip -6 route replace fd01:b:0:0:2::/80 via fd01:a::2",
        "ip route replace 10.0.0.2/32 via 44.128.0.2 table 42",
        "ip rule add from 9.0.0.0/8 lookup 42",
        "ip -6 rule add from fd01:b::/64 lookup 42",
        "sysctl -qw net.ipv4.ip_forward=1",
        "sysctl -qw net.ipv6.conf.all.forwarding=1",
    ] {
        host.command(line);
    }
    assert_eq!(
        host.settle(&desired),
        BRIDGE + 1 + FIREWALL,
        "the CNI configuration, its bridge and the firewall only"
    );
    desired.peers = Some(Arc::default());
    host.settle(&desired);
    assert_eq!(host.command("ip route show table all via 44.128.0.2"), "");
    assert_eq!(host.command("ip -6 route show via fd01:a::2"), "");
}

#[test]
fn nobody_elses_objects_are_touched() {
    if !testkit::root("nobody_elses_objects_are_touched") {
        return;
    }
    let host = Host::new();
    let desired = with_peers(&host);
    for line in [
        "ip link add foreign type bridge",
        "ip link set foreign up",
        "ip address add 172.16.0.1/24 dev foreign",
        "ip link add vxlan7 type vxlan id 7 dstport 4790",
        "ip link set vxlan7 up",
        "ip neighbour add 172.16.0.9 lladdr 02:00:00:00:00:09 nud permanent dev foreign",
        "bridge fdb add 02:00:00:00:00:09 dst 172.16.0.9 self permanent dev vxlan7",
        "ip route add 192.168.7.0/24 via 172.16.0.9",
        "ip route add 192.168.8.0/24 via 172.16.0.9 table 42",
        "ip route add 192.168.9.0/24 via 172.16.0.9 table 43",
        "ip rule add from 192.168.0.0/16 lookup 43",
        "ip rule add from 192.168.0.0/16 fwmark 1 lookup 42",
        "ip rule add to 192.168.0.0/16 lookup 42",
    ] {
        host.command(line);
    }
    let file = host.cni.path().join("foreign.conf");
    fs::write(&file, r#"{"name":"foreign","type":"bridge"}"#).unwrap();
    let look = || {
        [
            "ip link show foreign",
            "ip -4 address show dev foreign",
            "ip -d link show vxlan7",
            "ip neighbour show dev foreign",
            "bridge fdb show dev vxlan7",
            "ip route show dev foreign",
            "ip route show dev foreign table 42",
            "ip route show table 43",
            "ip rule show",
        ]
        .map(|line| {
            let text = host.command(line);
            // Our rules are added and removed.
            let foreign: Vec<&str> = text
                .lines()
                .filter(|line| !line.contains("from 9.0.0.0/8"))
                .collect();
            assert!(!foreign.is_empty(), "{line}");
            foreign.join("\n")
        })
    };
    let before = look();
    host.settle(&desired);
    assert_eq!(look(), before);

    // A route of an operator, even on our device.
    host.ip("route add 192.168.10.0/24 via 44.128.0.2 dev vtep1024 proto static");
    host.settle(&Desired {
        peers: Some(Arc::default()),
        ..desired.clone()
    });
    assert_eq!(look(), before);
    assert_eq!(
        host.field("ip -j route show 192.168.10.0/24", "gateway"),
        ["44.128.0.2"]
    );

    host.settle(&Desired {
        cni: desired.cni,
        ..Desired::default()
    });
    assert_eq!(look(), before);
    assert!(file.exists());
}

#[test]
fn an_external_backend_is_left_alone() {
    if !testkit::root("an_external_backend_is_left_alone") {
        return;
    }
    let host = Host::new();
    let mut desired = with_peers(&host);
    desired.backend = Backend::External;
    host.command("sysctl -qw net.ipv4.ip_forward=0");
    host.settle(&desired);
    assert_eq!(host.field("ip -j link show", "ifname"), ["lo"]);
    assert_eq!(rules(&host), [] as [&str; 0]);
    assert!(host.cni.path().join("dcos.conf").exists());
    assert_eq!(host.command("cat /proc/sys/net/ipv4/ip_forward"), "0\n");

    desired.backend = Backend::Internal;
    host.settle(&desired);
    let nothing = Desired {
        cni: desired.cni,
        backend: Backend::External,
        ..Desired::default()
    };
    host.settle(&nothing);
    assert_peers(&host);
    assert!(!host.cni.path().join("dcos.conf").exists());
}

#[test]
fn what_cannot_be_done_is_told_and_the_rest_is_done() {
    if !testkit::root("what_cannot_be_done_is_told") {
        return;
    }
    let host = Host::new();
    let mut desired = with_peers(&host);
    // Outside of the VTEPs' subnet, so it is unreachable.
    let (underlay, mut shared) = peer(9);
    let lost = Arc::make_mut(&mut shared);
    lost.vtep_ips[0] = ip("45.0.0.9");
    lost.subnets.truncate(1);
    desired.peers_mut().insert(underlay, shared);
    fs::create_dir(host.cni.path().join("dcos.conf")).unwrap();
    let report = host.apply(&desired);
    assert_eq!(
        Problem::texts(&report.host),
        [
            "cannot add route 10.0.0.9/32 via 45.0.0.9 table 42 dev vtep1024: Network is unreachable (Nexthop \
             has invalid gateway)",
            "cannot add route 9.0.9.0/24 via 45.0.0.9 dev vtep1024: Network is unreachable (Nexthop has invalid \
             gateway)",
        ]
    );
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.starts_with("cannot write CNI configuration dcos.conf: ")
            && sentence.ends_with("is a directory and not a regular file; remove it"),
        "{sentence}"
    );
    fs::remove_dir(host.cni.path().join("dcos.conf")).unwrap();
    desired.peers_mut().remove(&underlay);
    host.settle(&desired);
    assert_host(&host);
    assert_peers(&host);
}

#[test]
fn a_device_of_another_kind_is_not_ours_to_remove() {
    if !testkit::root("a_device_of_another_kind") {
        return;
    }
    let host = Host::new();
    host.ip("link add vtep1024 type bridge");
    let report = host.apply(&with_peers(&host));
    assert_eq!(
        Problem::texts(&report.host),
        [
            "cannot create VXLAN device vtep1024: there is a device of this name and of kind \"bridge\", which is not \
          ours; remove or rename it"
        ]
    );
    // Without it no overlay reaches other hosts, so none may be reported as OK.
    assert_eq!(report.overlays["dcos"], report.host[0].text);
    assert_eq!(host.json(DEVICE)[0]["linkinfo"]["info_kind"], "bridge");
    host.ip("link delete vtep1024");
    host.settle(&with_peers(&host));
    assert_peers(&host);
}

#[test]
fn a_device_that_cannot_be_made_is_one_sentence_not_one_per_object() {
    if !testkit::root("a_device_that_cannot_be_made") {
        return;
    }
    let host = Host::new();
    host.ip("link add operators type vxlan id 1024 dstport 64000");
    host.ip("link set operators up");
    let report = host.apply(&with_peers(&host));
    assert_eq!(report.host.len(), 2, "{report:?}");
    assert!(
        report.host[0]
            .text
            .starts_with("cannot add device vtep1024 vxlan id 1024"),
        "{report:?}"
    );
    assert_eq!(
        report.host[1].text,
        "skipped 14 operations on device vtep1024, which does not exist"
    );
    assert_eq!(rules(&host), ["9.0.0.0/8", "fd01:b::/64"]);
    let again = host.apply(&with_peers(&host));
    assert_eq!(
        again.operations, 0,
        "what failed or was left out was not done"
    );
}

/// Simulates an agent and `dcos-net` that configure the same host by accident.
#[test]
fn two_that_do_the_same_at_once_get_along() {
    if !testkit::root("two_that_do_the_same_at_once") {
        return;
    }
    let host = Host::new();
    let desired = Desired {
        peers: Some(Arc::new((2..200).map(peer).collect())),
        ..host.desired(1)
    };
    // Objects that only one of them configures exist.
    host.settle(&desired);
    let workers = [host.worker(), host.worker()];
    for _ in 0..20 {
        host.ip("link delete vtep1024");
        workers.iter().for_each(|worker| worker.start(&desired));
        for worker in &workers {
            let report = worker.finish();
            assert!(report.is_ok(), "{report:?}");
        }
        assert_eq!(host.apply_ok(&desired), 0);
    }
}
