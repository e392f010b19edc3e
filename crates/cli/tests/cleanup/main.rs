//! Removal of overlays from a host, by the agent's executor and by `mesos-overlay cleanup`:
//! everything is removed, including the bridges that CNI plugins created, except what
//! containers use.
mod docker;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::Arc;

use overlay_core::host_api::desired::{Desired, Overlay, Peer};
use testkit::host::{Host, Worker, eventually, net, peer};

const BINARY: &str = env!("CARGO_BIN_EXE_mesos-overlay");

/// Returns the desired state without overlays.
fn without_overlays(host: &Host) -> Desired {
    Desired {
        cni: host.desired(1).cni,
        ..Desired::default()
    }
}

/// Returns the desired state with one overlay and two peers.
fn with_peers(host: &Host) -> Desired {
    Desired {
        peers: Some(Arc::new([peer(2), peer(3)].into())),
        ..host.desired(1)
    }
}

/// Attaches a container to the overlay's bridge, and creates the bridge if necessary, like
/// the CNI plugin.
fn attach_container(host: &Host) -> Host {
    if !devices(host).iter().any(|name| name == "m-dcos") {
        host.ip("link add m-dcos type bridge");
    }
    host.ip("link set m-dcos up");
    host.ip("address replace 9.0.1.1/25 dev m-dcos");
    let container = Host::new();
    host.connect("veth1", &container, "eth0");
    host.ip("link set veth1 master m-dcos");
    container
}

fn devices(host: &Host) -> Vec<String> {
    host.field("ip -j link show", "ifname")
}

#[test]
fn removed_overlay_stays_until_its_last_container_ends() {
    if !testkit::root("removed_overlay_stays") {
        return;
    }
    let host = Host::new();
    let worker: Worker = host.worker();
    worker.apply_ok(&with_peers(&host));
    let container = attach_container(&host);
    let routes = host.command("ip route show proto 142");
    let rules = host.command("ip rule show table 42");

    worker.start(&without_overlays(&host));
    let report = worker.finish();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.draining_bridges.len(), 1, "{report:?}");
    assert!(
        report.draining_bridges["m-dcos"].contains("1 container on m-dcos"),
        "{report:?}"
    );
    assert!(
        !host.cni.path().join("dcos.conf").exists(),
        "new containers could still join"
    );
    assert_eq!(devices(&host), ["lo", "m-dcos", "veth1", "vtep1024"]);
    assert_eq!(host.command("ip route show proto 142"), routes);
    assert_eq!(host.command("ip rule show table 42"), rules);
    let nat = host.command("iptables -w -t nat -S POSTROUTING");
    assert!(
        nat.contains("-s 9.0.0.0/8"),
        "its packets are not masqueraded any more: {nat}"
    );

    drop(container);
    let report = worker.finish();
    assert_eq!(
        (report.is_ok(), report.draining_bridges.len()),
        (true, 0),
        "{report:?}"
    );
    eventually("everything is removed", || devices(&host) == ["lo"]);
    assert_eq!(host.command("ip rule show table 42"), "");
    assert!(
        !host
            .command("iptables -w -t nat -S POSTROUTING")
            .contains("9.0.0.0/8")
    );
}

/// Files that an unprivileged user can write are not run as root, whatever the environment says.
#[test]
fn tools_of_the_working_directory_are_not_run() {
    if !testkit::root("tools_of_the_working_directory") {
        return;
    }
    let host = Host::new();
    let dir = host.cni.path().to_owned();
    for tool in [
        "iptables",
        "iptables-save",
        "ip6tables-save",
        "ipset",
        "nft",
    ] {
        let file = dir.join(tool);
        fs::write(&file, format!("#!/bin/sh\ntouch {}.ran\n", file.display())).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(BINARY);
    command
        .args(["cleanup", "--dry-run"])
        .env("PATH", format!(":{}:/usr/sbin:/usr/bin", dir.display()))
        .current_dir(&dir);
    let output: Output = host.run(move || command.output().unwrap());
    assert!(output.status.success(), "{output:?}");
    let names = fs::read_dir(&dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    let ran: Vec<_> = names
        .filter(|name| name.to_string_lossy().ends_with(".ran"))
        .collect();
    assert_eq!(ran, [""; 0]);
}

/// The removal of one of two overlays does not affect the other.
#[test]
fn one_of_two_overlays_can_be_removed() {
    if !testkit::root("one_of_two_overlays") {
        return;
    }
    let host = Host::new();
    let worker = host.worker();
    let mut desired = with_peers(&host);
    let other = Overlay {
        ranges: vec![net("8.0.0.0/8")],
        subnets: vec![net("8.0.1.0/24")],
        mtu: 1420,
        ..Overlay::default()
    };
    desired.overlays.insert("other".into(), other);
    worker.apply_ok(&desired);
    let container = attach_container(&host);
    desired.overlays.remove("dcos");
    let without_subnets = |(ip, mut peer): (Ipv4Addr, Arc<Peer>)| {
        Arc::make_mut(&mut peer).subnets.clear();
        (ip, peer)
    };
    desired.peers = Some(Arc::new([2, 3].map(|n| without_subnets(peer(n))).into()));
    worker.start(&desired);
    assert_eq!(worker.finish().draining_bridges.len(), 1);
    let v4 = || host.field("ip -j route show dev vtep1024 proto 142", "dst");
    assert_eq!(
        v4(),
        ["9.0.2.0/24", "9.0.3.0/24"],
        "the container does not reach the peers any more"
    );
    drop(container);
    assert_eq!(worker.finish().draining_bridges.len(), 0);
    assert_eq!(v4(), [""; 0]);
    assert_eq!(devices(&host), ["lo", "vtep1024"]);
    assert_eq!(host.field("ip -j rule show table 42", "src"), ["8.0.0.0"]);
}

/// A bridge is not removed if only its name looks like an overlay's.
#[test]
fn operators_bridge_stays() {
    if !testkit::root("operators_bridge_stays") {
        return;
    }
    let host = Host::new();
    host.ip("link add m-lan type bridge");
    host.ip("address add 192.168.1.1/24 dev m-lan");
    host.settle(&with_peers(&host));
    host.settle(&without_overlays(&host));
    assert_eq!(devices(&host), ["lo", "m-lan"]);
}

/// Runs the command on a host without container engine. Returns exit status, standard output
/// and standard error.
fn cleanup(host: &Host, arguments: &str) -> (Option<i32>, String, String) {
    host.cleanup(
        BINARY,
        &format!("{arguments} --docker-socket /no/such/socket"),
    )
}

/// Returns everything on a host that the command may change.
fn configuration(host: &Host) -> Vec<String> {
    let mut text: String = [
        "iptables-save -t nat",
        "iptables-save -t filter",
        "ip6tables-save -t nat",
        "ip route show table all proto 142",
        "ip rule show",
        "ip -6 rule show",
    ]
    .iter()
    .map(|line| host.command(line))
    .collect();
    text += &devices(host).join("\n");
    let is_significant = |line: &&str| !line.starts_with(['#', ':', '*']) && *line != "COMMIT";
    text.lines()
        .filter(is_significant)
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Writes an agent's configuration file, and returns the option that names it.
fn agent_config(host: &Host) -> String {
    let (dir, file) = (host.cni.path(), host.cni.path().join("agent.json"));
    fs::write(&file, format!(r#"{{"cni_dir": "{}"}}"#, dir.display())).unwrap();
    format!("--agent-config {}", file.display())
}

/// Returns a host with an overlay, objects of other programs, and the command's options.
fn configured_host() -> (Host, String) {
    let host = Host::new();
    host.ip("link add foreign type bridge");
    host.ip("route add 192.168.7.0/24 dev lo");
    host.ip("rule add from 192.168.8.0/24 lookup 42 proto static");
    host.settle(&with_peers(&host));
    let options = agent_config(&host);
    (host, options)
}

#[test]
fn cleanup_keeps_what_containers_use() {
    if !testkit::root("cleanup_keeps_what_containers_use") {
        return;
    }
    let (host, options) = configured_host();
    let _container = attach_container(&host);
    let before = configuration(&host);
    let in_use = "in use: overlay dcos was removed, but 1 container on m-dcos still uses it";

    let (status, out, error) = cleanup(&host, &format!("--dry-run {options}"));
    assert_eq!(status, Some(3), "{error}");
    assert!(
        out.contains("would remove CNI configuration dcos.conf\n"),
        "{out}"
    );
    assert!(error.contains(in_use), "{error}");
    assert_eq!(
        configuration(&host),
        before,
        "the dry run changed something"
    );
    assert!(host.cni.path().join("dcos.conf").exists());

    let (status, out, error) = cleanup(&host, &options);
    assert_eq!(status, Some(3), "{out}{error}");
    assert!(error.contains(in_use), "{error}");
    assert!(
        out.contains("removed CNI configuration dcos.conf\n"),
        "{out}"
    );
    assert!(
        devices(&host).contains(&"vtep1024".to_owned()),
        "it was removed although a container uses the overlay"
    );
}

#[test]
fn cleanup_removes_everything_and_prints_it() {
    if !testkit::root("cleanup_removes_everything") {
        return;
    }
    let (host, options) = configured_host();
    let container = attach_container(&host);
    assert_eq!(cleanup(&host, &options).0, Some(3));
    drop(container);
    eventually("the container's interface is removed", || {
        !devices(&host).contains(&"veth1".to_owned())
    });
    let (status, out, error) = cleanup(&host, &options);
    assert_eq!(status, Some(0), "{out}{error}");
    assert!(!error.is_empty(), "no message");
    for line in error.lines() {
        assert!(line.starts_with("info: configured the "), "{line}");
    }
    for line in [
        "removed device m-dcos\n",
        "removed device vtep1024\n",
        "removed rule from 9.0.0.0/8",
        "changed rule: iptables -t nat -D POSTROUTING -s 9.0.0.0/8 ",
        "destroyed ipset overlay\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert_eq!(devices(&host), ["foreign", "lo"]);
    // An operator's.
    assert_eq!(
        host.field("ip -j rule show table 42", "src"),
        ["192.168.8.0"]
    );
    assert!(host.command("ip route").contains("192.168.7.0/24"));
    let remaining = configuration(&host).concat();
    assert!(
        !remaining.contains("9.0.0.0/8") && !remaining.contains("mesos"),
        "{remaining}"
    );
    assert_eq!(
        cleanup(&host, &options),
        (Some(0), "nothing to remove\n".into(), String::new())
    );
}

#[test]
fn cleanup_removes_a_bridge_in_use_only_by_force() {
    if !testkit::root("cleanup_removes_a_bridge_in_use") {
        return;
    }
    let host = Host::new();
    host.settle(&with_peers(&host));
    let _container = attach_container(&host);
    assert_eq!(cleanup(&host, "").0, Some(3));
    let (status, out, error) = cleanup(&host, "--force");
    assert_eq!(status, Some(0), "{out}{error}");
    assert_eq!(devices(&host), ["lo", "veth1"]);
}

/// Runs the program and returns exit status, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(BINARY).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The long help has the exit statuses, the list of commands one line for each.
#[test]
fn help_explains_the_command() {
    let (status, out, _) = run(&["cleanup", "--help"]);
    assert_eq!(status, Some(0));
    for line in [
        "Removes everything that belongs to overlay networks from this host:",
        "Stop the Mesos agent first.",
        "  3  something remains because containers use it",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (_, out, _) = run(&["--help"]);
    let summary = "cleanup   Removes everything that belongs to overlay networks from this host\n";
    assert!(out.contains(summary), "{out}");
}

#[test]
fn wrong_arguments_are_an_error_with_a_reason() {
    for (arguments, words) in [
        (
            &["cleanup", "--cni-dir", "/no/such"][..],
            "--cni-dir: /no/such is not a directory",
        ),
        (
            &["cleanup", "--agent-config", "/no/such"],
            "--agent-config: cannot read /no/such",
        ),
        (
            &["cleanup", "--agent-config", "/proc/self/comm"],
            "--agent-config: /proc/self/comm",
        ),
        (&["cleanup", "--dryrun"], "--dry-run"),
        (
            &["cleanup", "--cni-dir", "/", "--agent-config", "/"],
            "cannot be used with",
        ),
        (&["clean"], "cleanup"),
        (&[], "Usage: mesos-overlay"),
    ] {
        let (status, _, error) = run(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}
