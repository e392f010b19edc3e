//! Rules of other programs that drop or reject packets of the overlays: the module's jump stands in
//! front of them, or they are reported with a command that helps.

use overlay_core::HostReport;
use testkit::host::{Host, eventually};

use crate::tool_set::{self, ToolSet, test_with};
use crate::topology::{
    DOCKER, MESOS, OUTSIDE, PEER, Topology, assert_connects, connects, is_closed, seen,
};

test_with!(IptablesNft IptablesLegacy; called_chain, super::a_reject_in_a_called_chain_is_passed);
test_with!(IptablesNft NftablesAlone; nftables, super::a_forward_chain_of_nftables_is_reported);
test_with!(IptablesNft; zones, super::a_table_like_firewalls_is_reported_until_the_devices_are_trusted);
test_with!(IptablesNft IptablesLegacy; comes_and_goes, super::an_obstacle_is_reported_when_it_comes_and_goes);
test_with!(IptablesNft; variant, super::tables_of_the_other_variant_are_reported);

/// Tells if TCP passes between the containers of the overlay.
fn passes(topology: &Topology) -> bool {
    [
        (&topology.mesos, DOCKER),
        (&topology.docker, PEER),
        (&topology.peer, MESOS),
    ]
    .iter()
    .all(|(client, server)| connects(client, server[0]))
}

fn connected(tools: ToolSet, host: Host) -> Topology {
    let topology = Topology::new(tools, host);
    topology.settle();
    for (client, server) in [
        (&topology.mesos, DOCKER),
        (&topology.docker, PEER),
        (&topology.peer, MESOS),
    ] {
        seen(client, server[0]);
    }
    assert!(passes(&topology));
    topology
}

/// The rules that ufw writes with `default reject routed`; it accepts ICMP.
fn a_reject_in_a_called_chain_is_passed(tools: ToolSet, host: Host) {
    let topology = connected(tools, host);
    for tool in ["iptables", "ip6tables"] {
        for rule in [
            "-P FORWARD DROP",
            "-N ufw-before-forward",
            "-N ufw-user-forward",
            "-N ufw-reject-forward",
            "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A ufw-before-forward -p icmp -j ACCEPT",
            "-A ufw-before-forward -j ufw-user-forward",
            "-A ufw-reject-forward -j REJECT",
            "-A FORWARD -j ufw-before-forward",
            "-A FORWARD -j ufw-reject-forward",
        ] {
            topology.host.command(&format!("{tool} {rule}"));
        }
    }
    assert!(!passes(&topology));
    topology.host.settle(&topology.desired());
    assert!(passes(&topology));
    assert_connects(&topology.mesos, OUTSIDE[0]);
    assert!(is_closed(&topology.foreign, OUTSIDE[0]));
    // What somebody drops on purpose is not let through.
    let refused = "-I ufw-user-forward -s 9.0.1.5 -d 9.0.1.133 -j DROP";
    topology.host.command(&format!("iptables {refused}"));
    topology.host.settle(&topology.desired());
    assert!(is_closed(&topology.mesos, DOCKER[0]));
    assert_connects(&topology.docker, MESOS[0]);
}

/// Returns the only problem of the host, which must not be one of the overlays.
fn problem(topology: &Topology) -> String {
    let report = topology.host.apply(&topology.desired());
    assert!(report.overlays.is_empty(), "{report:?}");
    assert_eq!(report.host.len(), 1, "{report:?}");
    report.host[0].text.clone()
}

/// Runs a command that a sentence recommends.
fn run(host: &Host, command: &str) {
    let command = command.to_owned();
    let status = host.run(move || {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &command]).status().unwrap()
    });
    assert!(status.success());
}

/// Has nft read a script.
fn nft(host: &Host, script: &str) {
    run(host, &format!("nft -f - <<'END'\n{script}\nEND"));
}

fn a_forward_chain_of_nftables_is_reported(tools: ToolSet, host: Host) {
    let topology = connected(tools, host);
    nft(
        &topology.host,
        "table inet filter {
           chain forward {
             type filter hook forward priority 0; policy drop;
             ct state established,related accept
             iifname \"eth9\" accept
           }
         }",
    );
    assert!(!passes(&topology));
    let sentence = problem(&topology);
    let start = "packets between the overlays are dropped by nftables table inet filter, chain forward: \
                 policy drop; let them through: ";
    let remedy = sentence.strip_prefix(start).expect(&sentence);
    let (remedy, _) = remedy.split_once(", and the same").unwrap();
    assert_eq!(problem(&topology), sentence, "it is told each time");
    run(&topology.host, remedy);
    topology.host.settle(&topology.desired());
    assert!(passes(&topology));
    // A rule that drops everything is found as well, and one in another chain.
    nft(
        &topology.host,
        "flush ruleset
         table ip mine {
           chain everything { counter reject; }
           chain routed {
             type filter hook forward priority 10; policy accept;
             ct state vmap { established : accept, invalid : drop }
             jump everything
           }
         }",
    );
    let report = topology.host.apply(&topology.desired());
    assert_eq!(report.host.len(), 1, "{report:?}");
    let sentence = &report.host[0].text;
    assert!(
        sentence.contains("table ip mine, chain routed: rule of chain everything with handle ")
    );
    assert!(!passes(&topology));
    // Whether this chain drops the packets cannot be judged, so nothing is said.
    nft(
        &topology.host,
        "flush table ip mine
         add rule ip mine routed meta mark 7 accept
         add rule ip mine routed drop",
    );
    topology.host.settle(&topology.desired());
}

/// The chains that firewalld writes, with the default zone for all devices.
fn a_table_like_firewalls_is_reported_until_the_devices_are_trusted(tools: ToolSet, host: Host) {
    let topology = connected(tools, host);
    let with = |zones: &str| {
        format!(
            "table inet firewalld {{
               chain trusted {{ accept; }}
               chain public {{ meta l4proto {{ icmp, ipv6-icmp }} accept; }}
               chain zones {{ {zones} goto public; }}
               chain filter_FORWARD {{
                 type filter hook forward priority filter + 10; policy accept;
                 ct state {{ established, related }} accept
                 ct status dnat accept
                 iifname \"lo\" accept
                 ct state invalid drop
                 ip6 daddr {{ ::/96, 2002::/24 }} reject with icmpv6 type addr-unreachable
                 jump zones
                 reject with icmpx type admin-prohibited
               }}
             }}"
        )
    };
    nft(&topology.host, &with(""));
    assert!(!passes(&topology));
    let sentence = problem(&topology);
    for part in [
        "dropped by nftables table inet firewalld, chain filter_FORWARD: rule of chain ",
        "firewall-cmd --permanent --zone=trusted --add-interface=d-dcos --add-interface=m-dcos \
         --add-interface=vtep1024; ",
        "; firewall-cmd --reload",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    run(&topology.host, "nft delete table inet firewalld");
    let trusted = ["d-dcos", "m-dcos", "vtep1024"]
        .map(|device| format!("iifname \"{device}\" goto trusted; "));
    nft(&topology.host, &with(&trusted.concat()));
    topology.host.settle(&topology.desired());
    assert!(passes(&topology));
}

fn tables_of_the_other_variant_are_reported(tools: ToolSet, host: Host) {
    if let Err(reason) = tool_set::check_legacy() {
        return testbed::skip::skip("others::variant", &reason);
    }
    let topology = connected(tools, host);
    topology.host.command("iptables-legacy -P FORWARD DROP");
    assert!(!passes(&topology));
    let sentence = problem(&topology);
    let start = "packets between the overlays are dropped by the tables of iptables-legacy, which \
                 iptables (nf_tables) does not show: policy DROP of FORWARD; let them through there: ";
    let remedy = sentence.strip_prefix(start).expect(&sentence);
    let command = remedy.split_once(", and so on").unwrap().0;
    assert!(command.starts_with("iptables-legacy -I FORWARD -i "));
    for from in ["d-dcos", "m-dcos", "vtep1024"] {
        for to in ["d-dcos", "m-dcos", "vtep1024"] {
            topology.host.command(&format!(
                "iptables-legacy -I FORWARD -i {from} -o {to} -j ACCEPT"
            ));
        }
    }
    // Answers pass in the opposite direction by the same rules.
    topology.host.settle(&topology.desired());
    eventually("packets pass", || passes(&topology));
}

/// The agent finds by itself what another firewall starts or stops to drop.
fn an_obstacle_is_reported_when_it_comes_and_goes(tools: ToolSet, host: Host) {
    let topology = Topology::new(tools, host);
    let worker = topology.host.worker();
    worker.apply_ok(&topology.desired());
    let next = |is_expected: fn(&HostReport) -> bool| {
        while !is_expected(&worker.finish()) {
            // The next report comes in time, or this fails.
        }
    };
    for _ in 0..2 {
        nft(
            &topology.host,
            "table inet mine { chain routed { type filter hook forward priority 0; policy drop; }; }",
        );
        next(|report| {
            let mut problems = report.host.iter();
            problems.any(|problem| problem.text.contains("dropped by nftables table inet mine"))
        });
        run(&topology.host, "nft delete table inet mine");
        next(HostReport::is_ok);
    }
}
