//! Repair of changes by other programs: the executor keeps the configuration of a real kernel, in
//! network namespaces.

mod obstacles;
mod peers;
mod port;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Checksum, Desired};
use testkit::host::{Host, PATIENCE, Worker, eventually, peer};

/// Limit of the time from a change to its repair.
const LIMIT: Duration = Duration::from_secs(2);

/// Returns our configuration of a host, as `ip` and `bridge` print it.
fn state(host: &Host) -> String {
    // The index changes when a device is recreated.
    let link = host.json("ip -j -d link show");
    let link = link
        .iter()
        .find(|link| link["ifname"] == "vtep1024")
        .map(|link| {
            let data = &link["linkinfo"]["info_data"];
            format!(
                "{} {} {} {} {} {}",
                link["address"],
                link["mtu"],
                link["flags"],
                data["id"],
                data["port"],
                data["learning"]
            )
        });
    let objects = |line: &str| {
        let mut lines: Vec<String> = host
            .command(line)
            .lines()
            .map(str::trim)
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines.join("\n")
    };
    let mut all = vec![format!("{link:?}")];
    if link.is_some() {
        all.extend(
            [
                "ip -o -4 address show dev vtep1024 scope global",
                "ip -o -6 address show dev vtep1024 scope global",
                "ip neighbour show dev vtep1024 nud permanent",
                "bridge fdb show dev vtep1024",
                "ip route show dev vtep1024",
                "ip -6 route show dev vtep1024 proto 142",
            ]
            .map(|line| without_index(&objects(line))),
        );
    }
    all.extend(
        [
            "ip route show table all proto 142",
            "ip rule show table 42",
            "ip -6 rule show table 42",
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
        ]
        .map(objects),
    );
    let file = fs::read_to_string(host.cni.path().join("dcos.conf"));
    all.push(file.unwrap_or_default());
    all.join("\n")
}

/// Removes the index of the device, with which `ip -o` begins lines.
fn without_index(text: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((index, rest)) if index.bytes().all(|b| b.is_ascii_digit()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Makes a configured host of agent 1 with peers 2 and 3, and an executor.
fn kept_host() -> (Host, Worker, Desired) {
    let host = Host::new();
    let desired = Desired {
        peers: Some(Arc::new([peer(2), peer(3)].into())),
        ..host.desired(1)
    };
    let worker = host.worker();
    worker.apply_ok(&desired);
    (host, worker, desired)
}

/// Changes the host, and asserts that it is repaired within [`LIMIT`]. `before` is the expected
/// configuration.
fn repaired((host, worker): (&Host, &Worker), before: &str, what: &str, change: impl FnOnce()) {
    let repairs = worker.counters().repairs;
    change();
    let start = Instant::now();
    loop {
        let (state, mended) = (state(host), worker.counters().repairs > repairs);
        let took = start.elapsed();
        if mended && state == before {
            assert!(took < LIMIT, "{what}: repaired only after {took:?}");
            return;
        }
        assert!(
            took < PATIENCE,
            "{what}: not repaired ({mended}); was\n{before}\nis\n{state}"
        );
    }
}

/// Checks that manual changes are repaired within two seconds.
#[test]
fn what_somebody_changes_by_hand_is_repaired() {
    if !testkit::root("what_somebody_changes_by_hand_is_repaired") {
        return;
    }
    let (host, worker, _) = kept_host();
    let before = state(&host);
    for by_hand in [
        "ip link delete vtep1024",
        "ip link set vtep1024 mtu 1300",
        "ip link set vtep1024 mtu 1200",
        "ip link set vtep1024 address 02:00:00:00:00:01",
        "ip link set vtep1024 down",
        "ip link set vtep1024 type vxlan learning",
        "ip address add 44.128.0.9/20 dev vtep1024",
        "ip address delete 44.128.0.1/20 dev vtep1024",
        "ip address delete fd01:a::1/64 dev vtep1024",
        "ip address flush dev vtep1024",
        "ip neighbour flush dev vtep1024 nud permanent",
        "ip neighbour replace 44.128.0.2 lladdr 02:00:00:00:00:01 nud permanent dev vtep1024",
        "ip neighbour add fd01:a::9 lladdr 02:00:00:00:00:01 nud permanent dev vtep1024",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.9.9.9 self permanent dev vtep1024",
        "bridge fdb delete 70:b3:d5:80:00:02 self dev vtep1024",
        "bridge fdb add 02:00:00:00:00:01 dst 10.9.9.9 self permanent dev vtep1024",
        "ip route replace 9.0.2.0/24 via 44.128.0.3",
        "ip route delete 9.0.2.0/24 via 44.128.0.2",
        "ip route add 9.0.9.0/24 via 44.128.0.3 dev vtep1024",
        "ip -6 route delete fd01:b:0:0:2::/80",
        "ip -6 route append fd01:b:0:0:2::/80 via fd01:a::3",
        "ip route flush table 42",
        "ip rule delete from 9.0.0.0/8 lookup 42",
        "ip -6 rule delete from fd01:b::/64 lookup 42",
        "ip rule add from 8.0.0.0/8 lookup 42 proto 142",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
    ] {
        repaired((&host, &worker), &before, by_hand, || {
            _ = host.command(by_hand)
        });
    }
}

#[test]
fn a_cni_file_comes_back() {
    if !testkit::root("a_cni_file_comes_back") {
        return;
    }
    let (host, worker, _) = kept_host();
    let before = state(&host);
    let file = host.cni.path().join("dcos.conf");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("removed", &|| fs::remove_file(&file).unwrap()),
        ("changed", &|| fs::write(&file, "{}").unwrap()),
        ("replaced", &|| {
            fs::write(host.cni.path().join("new"), "{}").unwrap();
            fs::rename(host.cni.path().join("new"), &file).unwrap();
        }),
        ("removed with its directory", &|| {
            fs::remove_dir_all(host.cni.path()).unwrap()
        }),
    ];
    for _ in 0..2 {
        for (what, change) in changes {
            repaired((&host, &worker), &before, what, change);
        }
    }
}

/// Waits until the counters of an executor do not change any more, and returns them.
fn quiet(worker: &Worker) -> overlay_host::Counters {
    let (mut last, mut since) = (worker.counters(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(50));
        let now = worker.counters();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Checks that the executor's own changes, unrelated objects, and writes of unchanged values cause no
/// passes.
#[test]
fn what_is_no_business_of_ours_leads_to_nothing() {
    if !testkit::root("what_is_no_business_of_ours_leads_to_nothing") {
        return;
    }
    let (host, worker, _) = kept_host();
    let before = quiet(&worker);
    assert_eq!(before.reconciliations, 1, "its own echoes");
    for line in [
        "ip link add foreign type bridge",
        "ip link set foreign up",
        "ip address add 172.16.0.1/24 dev foreign",
        "ip neighbour add 172.16.0.9 lladdr 02:00:00:00:00:09 nud permanent dev foreign",
        "ip route add 192.168.7.0/24 via 172.16.0.9",
        "ip route add 192.168.8.0/24 via 44.128.0.2 dev vtep1024 proto static",
        "ip rule add from 192.168.0.0/16 lookup 43",
        "ip route replace 9.0.2.0/24 via 44.128.0.2 dev vtep1024",
        "ip neighbour replace 44.128.0.2 lladdr 70:b3:d5:80:00:02 nud permanent dev vtep1024",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.0.0.2 self permanent dev vtep1024",
        "ip neighbour add 44.128.0.77 lladdr 02:00:00:00:00:09 nud reachable dev vtep1024",
        "ip link set vtep1024 up",
        "ip link delete foreign",
    ] {
        host.command(line);
    }
    fs::write(
        host.cni.path().join("foreign.conf"),
        r#"{"name":"foreign","type":"bridge"}"#,
    )
    .unwrap();
    assert_eq!(quiet(&worker), before);
}

/// Checks that permanent changes cause few passes, and that the host is configured at the end.
#[test]
fn a_storm_of_changes_leads_to_few_passes() {
    if !testkit::root("a_storm_of_changes_leads_to_few_passes") {
        return;
    }
    let (host, worker, _) = kept_host();
    let before = state(&host);
    let start = Instant::now();
    let mut changes = 0;
    while start.elapsed() < LIMIT {
        host.command("ip route replace 9.0.2.0/24 via 44.128.0.3");
        host.command("ip neighbour flush dev vtep1024 nud permanent");
        changes += 2;
    }
    repaired((&host, &worker), &before, "a storm", || {
        _ = host.command("ip link delete vtep1024")
    });
    let passes = worker.counters().reconciliations;
    assert!(passes <= 16, "{passes} passes for {changes} changes");
    assert!(changes > 100, "that was no storm: {changes}");
}

/// Checks that lost events, which did not fit into the receive buffer, cause a pass.
#[test]
fn lost_events_lead_to_a_pass() {
    if !testkit::root("lost_events_lead_to_a_pass") {
        return;
    }
    let (host, worker, desired) = kept_host();
    let before = state(&host);
    let batch = host.cni.path().join("batch");
    // The last change is the relevant one, and its events do not fit into the buffer.
    let mut lines: Vec<String> = (0..40_000)
        .map(|n| format!("route add 10.77.{}.{}/32 dev lo", n >> 8, n & 255))
        .collect();
    lines.push("route flush table 42".to_owned());
    fs::write(&batch, lines.join("\n")).unwrap();
    // The executor does not read while it is paused.
    let pause = worker.pause();
    worker.start(&desired);
    assert!(worker.finish().is_ok());
    host.command(&format!("ip -batch {}", batch.display()));
    assert!(dropped_events(&host) > 0, "the buffer did not overflow");
    repaired((&host, &worker), &before, "lost events", || drop(pause));
}

/// Returns the number of netlink messages that the kernel dropped in the namespace because a receive
/// buffer was full.
fn dropped_events(host: &Host) -> u64 {
    let table = host.command("cat /proc/net/netlink");
    let drops = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(8)?.parse::<u64>().ok());
    drops.sum()
}

/// Checks that a failed repair is reported, and also its later success.
#[test]
fn what_cannot_be_repaired_is_reported_and_so_is_the_end_of_it() {
    if !testkit::root("what_cannot_be_repaired_is_reported") {
        return;
    }
    let (host, worker, _) = kept_host();
    let before = state(&host);
    // The name is taken in the same batch, before the executor can repair.
    let batch = host.cni.path().join("batch");
    fs::write(
        &batch,
        "link delete vtep1024\nlink add vtep1024 type bridge\n",
    )
    .unwrap();
    // Repeated until it is faster than the repair.
    let taken = || {
        let batch = batch.clone();
        host.run(move || {
            Command::new("ip")
                .arg("-batch")
                .arg(batch)
                .status()
                .unwrap()
                .success()
        })
    };
    eventually("the name is taken", taken);
    let report = worker.finish();
    assert!(
        report.overlays["dcos"].contains("remove or rename it"),
        "{report:?}"
    );
    repaired((&host, &worker), &before, "the name is free", || {
        _ = host.command("ip link delete vtep1024")
    });
    assert!(worker.finish().is_ok());
}

/// Returns the state of the VXLAN device's checksum offload from `ethtool`.
fn tx_checksum(host: &Host) -> String {
    let features = host.command("ethtool -k vtep1024");
    let line = features
        .lines()
        .find(|line| line.trim().starts_with("tx-checksum-ip-generic:"));
    line.unwrap().trim().to_owned()
}

/// Checks the configured checksum offload, at the start and after a change by others.
#[test]
fn checksums_are_computed_where_the_operator_says() {
    if !testkit::root("checksums_are_computed") {
        return;
    }
    let (host, worker, mut desired) = kept_host();
    let (on, off) = ("tx-checksum-ip-generic: on", "tx-checksum-ip-generic: off");
    assert_eq!(tx_checksum(&host), on);
    desired.tx_checksum = Checksum::Off;
    assert_eq!(worker.apply_ok(&desired), 1);
    assert_eq!(tx_checksum(&host), off);
    assert_eq!(worker.apply_ok(&desired), 0);
    for by_hand in [
        "ethtool -K vtep1024 tx-checksum-ip-generic on",
        "ip link delete vtep1024",
    ] {
        let before = state(&host);
        repaired((&host, &worker), &before, by_hand, || {
            _ = host.command(by_hand)
        });
        assert_eq!(tx_checksum(&host), off, "{by_hand}");
    }
    desired.tx_checksum = Checksum::On;
    assert_eq!(worker.apply_ok(&desired), 1);
    assert_eq!(tx_checksum(&host), on);
    // Without a configured value, manual settings are kept.
    desired.tx_checksum = Checksum::Auto;
    host.command("ethtool -K vtep1024 tx-checksum-ip-generic off");
    assert_eq!(worker.apply_ok(&desired), 0);
    assert_eq!(tx_checksum(&host), off);
}

/// Returns the rules of the firewall, as its tools print them.
fn firewall(host: &Host) -> String {
    let members = host.command("ipset list overlay -output save");
    let mut members: Vec<&str> = members
        .lines()
        .filter(|line| line.starts_with("add "))
        .map(counted)
        .collect();
    members.sort_unstable();
    let rules = [
        "iptables -w -t nat -S POSTROUTING",
        "ip6tables -w -t nat -S POSTROUTING",
    ];
    let rules: String = rules.map(|line| host.command(line)).concat();
    format!("{rules}{}", members.join("\n"))
}

/// Removes packet counters.
fn counted(line: &str) -> &str {
    line.split(" packets ").next().unwrap_or(line)
}

/// Checks the repair of the rules that masquerade containers' traffic.
#[test]
fn the_firewall_is_repaired() {
    if !testkit::root("the_firewall_is_repaired") {
        return;
    }
    let (host, worker, _) = kept_host();
    let before = firewall(&host);
    assert!(
        before.contains("-s 9.0.0.0/8") && before.contains("add overlay 9.0.0.0/8 nomatch"),
        "{before}"
    );
    for by_hand in [
        "iptables -w -t nat -F POSTROUTING",
        "ip6tables -w -t nat -F POSTROUTING",
        "ipset del overlay 9.0.0.0/8",
        "ipset flush overlay",
        "ipset add overlay 10.0.0.0/8 nomatch",
        "nft flush ruleset",
    ] {
        let repairs = worker.counters().repairs;
        host.command(by_hand);
        let start = Instant::now();
        while firewall(&host) != before {
            let took = start.elapsed();
            assert!(
                took < LIMIT,
                "{by_hand}: {took:?}; was\n{before}\nis\n{}",
                firewall(&host)
            );
        }
        // A repair is counted at the end of the pass.
        while worker.counters().repairs == repairs {
            assert!(
                start.elapsed() < LIMIT,
                "{by_hand}: {:?}",
                worker.counters()
            );
            std::thread::yield_now();
        }
    }
}
