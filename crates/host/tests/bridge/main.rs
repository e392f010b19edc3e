//! Bridges of Mesos's containers with the real CNI plugins; the first container works as well as
//! later ones.
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::Desired;
use serde_json::Value;
use testbed::cni::{Invocation, PLUGINS};
use testkit::host::{Host, eventually};

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

#[test]
fn a_bridge_that_somebody_changes_is_right_within_two_seconds() {
    if !testkit::root("a_bridge_that_somebody_changes") {
        return;
    }
    let host = Host::new();
    let worker = host.worker();
    worker.apply_ok(&host.desired(1));
    let right = || {
        let text = host.ip("-brief address show");
        let bridge = text
            .lines()
            .find(|line| line.starts_with("m-dcos "))
            .map(str::to_owned);
        bridge
            .filter(|line| !line.contains(" UNKNOWN "))
            .is_some_and(|line| {
                line.contains(" 9.0.1.1/25 ")
                    && line.contains(" fd01:b::1:0:0:1/81")
                    && !line.contains("9.9.9.9")
            })
            && host
                .json("ip -j link show m-dcos up")
                .iter()
                .any(|link| link["ifname"] == "m-dcos")
    };
    assert!(right());
    for by_hand in [
        "link delete m-dcos",
        "link set m-dcos down",
        "address delete 9.0.1.1/25 dev m-dcos",
        "address delete fd01:b::1:0:0:1/81 dev m-dcos",
        "address flush dev m-dcos",
    ] {
        host.ip(by_hand);
        let changed = Instant::now();
        eventually(by_hand, right);
        assert!(
            changed.elapsed() < Duration::from_secs(2),
            "{by_hand}: right after {:?}",
            changed.elapsed()
        );
    }
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
        !host
            .ip("-brief address show dev m-dcos")
            .contains("9.0.1.1")
    });
    assert!(cni(&host, "ADD", &other));
    assert!(reaches(&other, "9.0.2.1") && reaches(&other, "fd01:b::2:0:0:1"));
}
