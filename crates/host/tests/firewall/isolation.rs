//! Who may talk to whom on hosts where not everybody may: Docker's isolation, and
//! FORWARD chains that drop. Shown with packets.

use testkit::host::Host;

use crate::site::{DOCKER, FOREIGN, MESOS, OUTSIDE, PEER, Site, UPLINK, is_cut_off, seen};
use crate::tools::{Tools, on};

on!(IptablesNft IptablesLegacy Nftables; docker, super::docker_isolates_others_and_not_us);
on!(IptablesNft IptablesLegacy; old_docker, super::an_old_engine_isolates_others_and_not_us);
on!(IptablesNft IptablesLegacy; predecessor, super::a_predecessors_hole_is_closed);
on!(IptablesNft IptablesLegacy Nftables; policy, super::a_host_that_drops_lets_us_pass);
on!(IptablesNft IptablesLegacy; reject, super::a_host_that_rejects_lets_us_pass);

/// Runs lines for both families.
fn iptables(host: &Host, lines: &[&str]) {
    for line in lines {
        host.command(&format!("iptables {line}"));
        host.command(&format!("ip6tables {line}"));
    }
}

/// The rules of an engine with two networks, `d-dcos` and `foreign`, as Docker
/// 20.10 has them. (No engine is needed to see what they do.)
fn docker(host: &Host) {
    iptables(
        host,
        &[
            "-P FORWARD DROP",
            "-N DOCKER",
            "-N DOCKER-ISOLATION-STAGE-1",
            "-N DOCKER-ISOLATION-STAGE-2",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
        ],
    );
    for bridge in ["d-dcos", "foreign"] {
        for rule in [
            "FORWARD -o BRIDGE -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "FORWARD -o BRIDGE -j DOCKER",
            "FORWARD -i BRIDGE ! -o BRIDGE -j ACCEPT",
            "FORWARD -i BRIDGE -o BRIDGE -j ACCEPT",
            "DOCKER-ISOLATION-STAGE-1 -i BRIDGE ! -o BRIDGE -j DOCKER-ISOLATION-STAGE-2",
            "DOCKER-ISOLATION-STAGE-2 -o BRIDGE -j DROP",
        ] {
            iptables(host, &[&format!("-A {}", rule.replace("BRIDGE", bridge))]);
        }
    }
    iptables(
        host,
        &[
            "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
            "-A DOCKER-ISOLATION-STAGE-2 -j RETURN",
        ],
    );
}

fn site(tools: Tools, host: Host) -> Site {
    let site = Site::new(tools, host);
    site.settle();
    meet(&site);
    site
}

/// Has everybody talk to everybody, so that silence afterwards has one reason.
fn meet(site: &Site) {
    for client in [&site.mesos, &site.docker, &site.foreign] {
        for server in [MESOS, DOCKER, FOREIGN] {
            server.iter().for_each(|server| _ = seen(client, server));
        }
    }
}

fn assert_others_are_isolated(site: &Site) {
    for family in 0..2 {
        assert!(
            is_cut_off(&site.foreign, DOCKER[family]),
            "foreign reaches {}",
            DOCKER[family]
        );
        assert!(
            is_cut_off(&site.docker, FOREIGN[family]),
            "docker reaches {}",
            FOREIGN[family]
        );
        assert!(
            is_cut_off(&site.mesos, FOREIGN[family]),
            "mesos reaches {}",
            FOREIGN[family]
        );
    }
}

fn docker_isolates_others_and_not_us(tools: Tools, host: Host) {
    let site = site(tools, host);
    docker(&site.host);
    // What it is about.
    assert!(is_cut_off(&site.mesos, DOCKER[0]) && is_cut_off(&site.mesos, OUTSIDE[1]));
    assert!(is_cut_off(&site.mesos, PEER[0]) && is_cut_off(&site.peer, DOCKER[1]));
    site.host.settle(&site.desired());
    site.assert_addresses();
    assert_others_are_isolated(&site);

    // An operator's own rules come first.
    site.host
        .command("iptables -I DOCKER-USER -s 9.0.1.5 -d 9.0.1.133 -j DROP");
    assert_eq!(site.host.apply_ok(&site.desired()), 0);
    assert!(is_cut_off(&site.mesos, DOCKER[0]));
    site.host
        .command("iptables -D DOCKER-USER -s 9.0.1.5 -d 9.0.1.133 -j DROP");

    for by_hand in [
        "iptables -F MESOS-OVERLAY",
        "iptables -D MESOS-OVERLAY-TO -o m-dcos -j ACCEPT",
        "ip6tables -A MESOS-OVERLAY-TO -o foreign -j ACCEPT",
        "iptables -F DOCKER-USER",
        "ip6tables -D DOCKER-USER -m comment --comment mesos-overlay -j MESOS-OVERLAY",
        "iptables -I FORWARD -m comment --comment mesos-overlay -j MESOS-OVERLAY",
        "iptables -F MESOS-OVERLAY-OUT",
    ] {
        site.host.command(by_hand);
        assert_ne!(site.host.settle(&site.desired()), 0, "{by_hand}");
    }
    // The predecessor's hole, but made after us: an operator's wish.
    site.host
        .command("iptables -I DOCKER-ISOLATION-STAGE-2 -j RETURN");
    assert_eq!(site.host.apply_ok(&site.desired()), 0);
    site.host
        .command("iptables -D DOCKER-ISOLATION-STAGE-2 -j RETURN");
    site.assert_addresses();
    assert_others_are_isolated(&site);

    site.clear();
    let listing = site.listing();
    assert!(!listing.to_lowercase().contains("mesos"), "{listing}");
}

fn an_old_engine_isolates_others_and_not_us(tools: Tools, host: Host) {
    let site = site(tools, host);
    let isolate = ["-I FORWARD -j DOCKER-ISOLATION"];
    iptables(
        &site.host,
        &[
            "-N DOCKER-ISOLATION",
            "-A DOCKER-ISOLATION -i m-dcos -o d-dcos -j DROP",
            "-A DOCKER-ISOLATION -i foreign -o d-dcos -j DROP",
            "-A DOCKER-ISOLATION -i d-dcos -o foreign -j DROP",
            "-A DOCKER-ISOLATION -i m-dcos -o foreign -j DROP",
            "-A DOCKER-ISOLATION -j RETURN",
        ],
    );
    iptables(&site.host, &isolate);
    assert!(is_cut_off(&site.mesos, DOCKER[0]));
    site.host.settle(&site.desired());
    site.assert_addresses();
    assert_others_are_isolated(&site);
    // The engine is restarted, and puts itself before us.
    iptables(&site.host, &["-D FORWARD -j DOCKER-ISOLATION"]);
    iptables(&site.host, &isolate);
    assert!(is_cut_off(&site.mesos, DOCKER[0]));
    site.host.settle(&site.desired());
    site.assert_addresses();
}

fn a_predecessors_hole_is_closed(tools: Tools, host: Host) {
    let site = Site::new(tools, host);
    site.host
        .command("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    meet(&site);
    docker(&site.host);
    for line in [
        "ipset create overlay hash:net counters",
        "ipset add overlay 0.0.0.0/1",
        "ipset add overlay 128.0.0.0/1",
        "ipset add overlay 9.0.0.0/8 nomatch",
        "iptables -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE",
        "iptables -I DOCKER-ISOLATION-STAGE-2 -j RETURN",
        "iptables -I DOCKER-ISOLATION-STAGE-2 -j RETURN",
    ] {
        site.host.command(line);
    }
    assert_eq!(seen(&site.foreign, DOCKER[0]), FOREIGN[0], "the hole");
    site.host.settle(&site.desired());
    assert_others_are_isolated(&site);
    let isolation = site.host.command("iptables -S DOCKER-ISOLATION-STAGE-2");
    assert_eq!(isolation.matches("-j RETURN").count(), 1, "{isolation}");
}

fn a_host_that_drops_lets_us_pass(tools: Tools, host: Host) {
    let site = site(tools, host);
    iptables(&site.host, &["-P FORWARD DROP"]);
    assert!(is_cut_off(&site.mesos, DOCKER[0]) && is_cut_off(&site.peer, MESOS[1]));
    assert_passes(&site);
    assert_leaves_nothing(&site);
}

fn a_host_that_rejects_lets_us_pass(tools: Tools, host: Host) {
    let site = site(tools, host);
    iptables(
        &site.host,
        &["-A FORWARD -p icmp -j ACCEPT", "-A FORWARD -j REJECT"],
    );
    assert!(is_cut_off(&site.mesos, DOCKER[0]) && is_cut_off(&site.peer, MESOS[1]));
    assert_passes(&site);
    // Something is written behind us and before the end.
    site.host.command("iptables -I FORWARD 2 -j REJECT");
    site.host.settle(&site.desired());
    assert_eq!(seen(&site.mesos, DOCKER[0]), MESOS[0]);
    assert_leaves_nothing(&site);
}

/// Overlay traffic and that of Mesos containers with the outside passes, that of
/// others does not.
fn assert_passes(site: &Site) {
    site.host.settle(&site.desired());
    for family in 0..2 {
        assert_eq!(seen(&site.mesos, DOCKER[family]), MESOS[family]);
        assert_eq!(seen(&site.docker, MESOS[family]), DOCKER[family]);
        assert_eq!(seen(&site.peer, MESOS[family]), PEER[family]);
        assert_eq!(seen(&site.docker, PEER[family]), DOCKER[family]);
        assert_eq!(seen(&site.mesos, OUTSIDE[family]), UPLINK[family]);
        assert!(is_cut_off(&site.foreign, MESOS[family]));
        assert!(is_cut_off(&site.foreign, OUTSIDE[family]));
        assert!(is_cut_off(&site.mesos, FOREIGN[family]));
    }
    // An uplink goes, another comes.
    site.host.ip("link set uplink name wan0");
    assert!(is_cut_off(&site.mesos, OUTSIDE[0]));
    assert_ne!(site.host.apply_ok(&site.desired()), 0);
    assert_eq!(seen(&site.mesos, OUTSIDE[0]), UPLINK[0]);
}

fn assert_leaves_nothing(site: &Site) {
    site.clear();
    assert!(!site.listing().contains("MESOS"));
}
