//! Bridges of Mesos's containers with the real CNI plugins; the first container works as well as
//! later ones.
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Bridge, Desired};
use serde_json::Value;
use testbed::cni::{Invocation, PLUGINS};
use testkit::host::{Host, eventually, net};

/// Calls the plugins as Mesos's port mapper does, with the configuration in the agent's file. Returns
/// true on success.
fn cni(host: &Host, command: &str, container: &Host) -> bool {
    let file = std::fs::read(host.cni.path().join("dcos.conf")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let mut config = file["delegate"].clone();
    config["name"] = file["name"].clone();
    config["ipam"]["dataDir"] = host
        .cni
        .path()
        .join("addresses")
        .display()
        .to_string()
        .into();
    let call = Invocation {
        command: command.into(),
        container: container.namespace().replace('/', ""),
        netns: container.namespace().into(),
        interface: "eth0".into(),
        path: PLUGINS.into(),
    };
    call.run(&config, Some(&host.netns()))
        .inspect_err(|error| eprintln!("{error}"))
        .is_ok()
}

/// Returns true if the first packet is answered.
fn reaches(from: &Host, to: &str) -> bool {
    let line = format!("{} ping -c 1 -W 1 {to}", testbed::install::BUSYBOX);
    from.run(move || {
        let mut words = line.split(' ');
        std::process::Command::new(words.next().unwrap())
            .args(words)
            .output()
            .unwrap()
            .status
            .success()
    })
}

/// Checks the first container's IPv6 traffic. Without preparation the gateway's address, and the
/// link-local one that is used for neighbour discovery, would be tentative for one to two seconds.
#[test]
fn the_first_container_has_ipv6_at_once() {
    if !testkit::root("the_first_container_has_ipv6") {
        return;
    }
    let (host, outside) = (Host::new(), Host::new());
    host.settle(&host.desired(1));
    host.connect("uplink", &outside, "uplink");
    host.ip("address add fd99::1/64 dev uplink nodad");
    outside.ip("address add fd99::2/64 dev uplink nodad");
    outside.ip("route add default via fd99::1");
    for times in 0..2 {
        let container = Host::new();
        assert!(cni(&host, "ADD", &container));
        let tentative = host.ip("-6 address show dev m-dcos tentative");
        assert_eq!(tentative, "", "after {times} containers before");
        // The first packet comes from outside.
        let own = container.field("ip -6 -j address show dev eth0 scope global", "addr_info");
        let own = own
            .iter()
            .find_map(|info| info.split('"').find(|word| word.starts_with("fd01:b:")))
            .unwrap();
        assert!(reaches(&outside, own), "{own} is not reached");
        assert!(reaches(&container, "fd01:b::1:0:0:1"));
        assert!(reaches(&container, "9.0.1.1"));
        assert!(cni(&host, "DEL", &container));
    }
    assert_eq!(
        host.apply_ok(&host.desired(1)),
        0,
        "the plugin changed something of ours"
    );
}

/// Returns whether the bridge is up and has these addresses and no other.
fn is_right(host: &Host, addresses: &[&str]) -> bool {
    let text = host.ip("-brief address show");
    let bridge = text.lines().find(|line| line.starts_with("m-dcos "));
    let links = host.json("ip -j link show up");
    bridge.is_some_and(|line| {
        let has = |address: &&str| line.contains(&format!(" {address} "));
        !line.contains(" UNKNOWN ") && addresses.iter().all(has) && !line.contains("9.9.9.9")
    }) && links.iter().any(|link| link["ifname"] == "m-dcos")
}

/// Returns the desired state of agent 1 with IPv4 alone.
fn with_ipv4_alone(host: &Host) -> Desired {
    let mut desired = host.desired(1);
    desired.vtep.as_mut().unwrap().addresses.truncate(1);
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    overlay.ranges.truncate(1);
    overlay.subnets.truncate(1);
    overlay.mesos_bridge.as_mut().unwrap().subnets.truncate(1);
    desired
}

#[test]
fn a_bridge_that_somebody_changes_is_right_within_two_seconds() {
    if !testkit::root("a_bridge_that_somebody_changes") {
        return;
    }
    let both = ["9.0.1.1/25", "fd01:b::1:0:0:1/81"];
    for addresses in [&both[..], &both[..1]] {
        let host = Host::new();
        let worker = host.worker();
        worker.apply_ok(&match addresses.len() {
            1 => with_ipv4_alone(&host),
            _ => host.desired(1),
        });
        assert!(is_right(&host, addresses));
        let mut by_hand = vec![
            "link delete m-dcos".to_owned(),
            "link set m-dcos down".to_owned(),
            "address flush dev m-dcos".to_owned(),
        ];
        let deletions = addresses
            .iter()
            .map(|net| format!("address delete {net} dev m-dcos"));
        by_hand.extend(deletions);
        for by_hand in by_hand {
            host.ip(&by_hand);
            let changed = Instant::now();
            eventually(&by_hand, || is_right(&host, addresses));
            assert!(
                changed.elapsed() < Duration::from_secs(2),
                "{by_hand}: right after {:?}",
                changed.elapsed()
            );
        }
    }
}

/// Returns the name of the only port of a bridge.
fn port(host: &Host, bridge: &str) -> String {
    let ports = host.field(&format!("ip -j link show master {bridge}"), "ifname");
    let [port] = &ports[..] else {
        panic!("{ports:?}")
    };
    port.clone()
}

/// Running containers lose their bridge, or their place in it.
#[test]
fn containers_that_are_cut_off_return_to_their_bridge() {
    if !testkit::root("containers_that_are_cut_off") {
        return;
    }
    let (host, container, foreign) = (Host::new(), Host::new(), Host::new());
    let worker = host.worker();
    let desired = with_ipv4_alone(&host);
    worker.apply_ok(&desired);
    assert!(cni(&host, "ADD", &container));
    // A container of somebody else, which is attached to nothing on purpose.
    host.connect("cali1", &foreign, "eth0");
    foreign.ip("address add 192.168.0.2/24 dev eth0");
    // A routed one, which gives itself an address of the overlay.
    let routed = Host::new();
    host.connect("cali2", &routed, "eth0");
    host.ip("route add 192.168.1.2/32 dev cali2");
    routed.ip("address add 192.168.1.2/32 dev eth0");
    routed.ip("address add 9.0.1.77/32 dev eth0");
    let port = port(&host, "m-dcos");
    assert!(reaches(&container, "9.0.1.1"));
    for by_hand in [
        "link delete m-dcos".to_owned(),
        format!("link set {port} nomaster"),
    ] {
        host.ip(&by_hand);
        let changed = Instant::now();
        eventually(&by_hand, || reaches(&container, "9.0.1.1"));
        assert!(
            changed.elapsed() < Duration::from_secs(3),
            "{by_hand}: reached after {:?}",
            changed.elapsed()
        );
        let details = host.ip(&format!("-d link show {port}"));
        assert!(details.contains("hairpin on"), "{by_hand}: {details}");
    }
    for port in ["cali1", "cali2"] {
        let details = host.ip(&format!("link show {port}"));
        assert!(!details.contains("master"), "{details}");
    }
    assert_eq!(
        host.apply_ok(&desired),
        0,
        "a second pass has something to do"
    );
    assert!(cni(&host, "DEL", &container));
}

/// Docker creates its bridges. Containers that are cut off without one are reported by name.
#[test]
fn containers_of_docker_that_are_cut_off_are_reported() {
    if !testkit::root("containers_of_docker_that_are_cut_off") {
        return;
    }
    let (host, container) = (Host::new(), Host::new());
    let mut desired = with_ipv4_alone(&host);
    desired.overlays.get_mut("dcos").unwrap().docker_bridge = Some(Bridge {
        name: "d-dcos".into(),
        subnets: vec![net("9.0.1.128/25")],
    });
    host.ip("link add d-dcos type bridge");
    host.connect("veth7", &container, "eth0");
    host.ip("link set veth7 master d-dcos");
    container.ip("address add 9.0.1.130/25 dev eth0");
    let worker = host.worker();
    worker.apply_ok(&desired);
    host.ip("link delete d-dcos");
    let report = worker.finish();
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.starts_with("bridge d-dcos is missing") && sentence.contains("veth7"),
        "{sentence}"
    );
    host.ip("link add d-dcos type bridge");
    assert!(worker.finish().is_ok());
    assert_eq!(port(&host, "d-dcos"), "veth7");
}

/// Changes the subnets of the agent: the plugin would reject the bridge if it kept the old
/// addresses.
#[test]
fn a_bridge_follows_its_subnets() {
    if !testkit::root("a_bridge_follows_its_subnets") {
        return;
    }
    let (host, one, other) = (Host::new(), Host::new(), Host::new());
    let worker = host.worker();
    worker.apply_ok(&host.desired(1));
    assert!(cni(&host, "ADD", &one));
    let moved = Desired {
        vtep: host.desired(1).vtep,
        ..host.desired(2)
    };
    worker.apply_ok(&moved);
    assert!(
        reaches(&one, "9.0.1.1"),
        "the gateway was taken from under a container"
    );
    drop(one);
    eventually("the old addresses are gone", || {
        worker.apply_ok(&moved);
        let addresses = host.ip("-brief address show dev m-dcos");
        !addresses.contains("9.0.1.1") && !addresses.contains("fd01:b::1:")
    });
    assert!(cni(&host, "ADD", &other));
    assert!(reaches(&other, "9.0.2.1") && reaches(&other, "fd01:b::2:0:0:1"));
}
