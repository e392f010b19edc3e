//! What is not wanted any more leaves the host, down to the bridges that CNI made,
//! and not under a container's feet; and `mesos-overlay cleanup`.
mod docker;

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::sync::Arc;

use overlay_core::host_api::desired::{Desired, Overlay, Peer};
use testkit::host::{Host, Worker, eventually, net, peer};

const BINARY: &str = env!("CARGO_BIN_EXE_mesos-overlay");

/// What the agent wants of a host that has no overlays (any more).
fn nothing(host: &Host) -> Desired {
    Desired {
        cni: host.desired(1).cni,
        ..Desired::default()
    }
}

fn with_peers(host: &Host) -> Desired {
    Desired {
        peers: Some(Arc::new([peer(2), peer(3)].into())),
        ..host.desired(1)
    }
}

/// Makes the bridge of an overlay as the CNI plugin does with the first container,
/// and gives the container.
fn container(host: &Host) -> Host {
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

/// An overlay that went away: its bridge goes after its last container.
#[test]
fn an_overlay_in_use_goes_after_its_last_container() {
    if !testkit::root("an_overlay_in_use_goes") {
        return;
    }
    let host = Host::new();
    let worker: Worker = host.worker();
    worker.apply_ok(&with_peers(&host));
    let container = container(&host);
    let routes = host.command("ip route show proto 142");
    let rules = host.command("ip rule show table 42");

    worker.start(&nothing(&host));
    let report = worker.finish();
    assert!(report.is_ok(), "{report:?}");
    assert_eq!(report.draining.len(), 1, "{report:?}");
    assert!(
        report.draining["m-dcos"].contains("1 container on m-dcos"),
        "{report:?}"
    );
    assert!(
        !host.cni.path().join("dcos.conf").exists(),
        "no further container may come"
    );
    assert_eq!(devices(&host), ["lo", "m-dcos", "veth1", "vtep1024"]);
    assert_eq!(host.command("ip route show proto 142"), routes);
    assert_eq!(host.command("ip rule show table 42"), rules);
    let nat = host.command("iptables -w -t nat -S POSTROUTING");
    assert!(
        nat.contains("-s 9.0.0.0/8"),
        "its packets still go outside: {nat}"
    );

    drop(container);
    let report = worker.finish();
    assert_eq!(
        (report.is_ok(), report.draining.len()),
        (true, 0),
        "{report:?}"
    );
    eventually("all of it is gone", || devices(&host) == ["lo"]);
    assert_eq!(host.command("ip rule show table 42"), "");
    assert!(
        !host
            .command("iptables -w -t nat -S POSTROUTING")
            .contains("9.0.0.0/8")
    );
}

/// The same for one of two overlays: the other one is as before.
#[test]
fn one_overlay_of_two_goes_and_the_other_stays() {
    if !testkit::root("one_overlay_of_two_goes") {
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
    let container = container(&host);
    desired.overlays.remove("dcos");
    let bare = |(ip, mut peer): (Ipv4Addr, Arc<Peer>)| {
        Arc::make_mut(&mut peer).subnets.clear();
        (ip, peer)
    };
    desired.peers = Some(std::sync::Arc::new([2, 3].map(|n| bare(peer(n))).into()));
    worker.start(&desired);
    assert_eq!(worker.finish().draining.len(), 1);
    let v4 = || host.field("ip -j route show dev vtep1024 proto 142", "dst");
    assert_eq!(
        v4(),
        ["9.0.2.0/24", "9.0.3.0/24"],
        "the container still reaches the others"
    );
    drop(container);
    assert_eq!(worker.finish().draining.len(), 0);
    assert_eq!(v4(), [""; 0]);
    assert_eq!(devices(&host), ["lo", "vtep1024"]);
    assert_eq!(host.field("ip -j rule show table 42", "src"), ["8.0.0.0"]);
}

/// A bridge of which nothing but its name says that it is ours.
#[test]
fn an_operators_bridge_stays() {
    if !testkit::root("an_operators_bridge_stays") {
        return;
    }
    let host = Host::new();
    host.ip("link add m-lan type bridge");
    host.ip("address add 192.168.1.1/24 dev m-lan");
    host.settle(&with_peers(&host));
    host.settle(&nothing(&host));
    assert_eq!(devices(&host), ["lo", "m-lan"]);
}

/// Runs the binary on the host, which has no container engine.
fn cleanup(host: &Host, arguments: &str) -> (Option<i32>, String, String) {
    host.cleanup(
        BINARY,
        &format!("{arguments} --docker-socket /no/such/socket"),
    )
}

#[test]
fn cleanup_removes_everything_of_ours_and_says_what() {
    if !testkit::root("cleanup_removes_everything") {
        return;
    }
    let host = Host::new();
    for line in [
        "ip link add foreign type bridge",
        "ip route add 192.168.7.0/24 dev lo",
    ] {
        host.command(line);
    }
    let everything = || {
        let rules = [
            "iptables-save -t nat",
            "iptables-save -t filter",
            "ip6tables-save -t nat",
        ];
        let shown = [
            "ip route show table all proto 142",
            "ip rule show",
            "ip -6 rule show",
        ];
        let lines = rules
            .iter()
            .chain(&shown)
            .map(|line| host.command(line))
            .collect::<String>();
        let lines = format!("{lines}{}", devices(&host).join("\n"));
        let kept = |line: &&str| !line.starts_with(['#', ':', '*']) && *line != "COMMIT";
        lines
            .lines()
            .filter(kept)
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    host.settle(&with_peers(&host));
    let container = container(&host);
    let before = everything();
    let config = host.cni.path().join("agent.json");
    fs::write(
        &config,
        format!(r#"{{"cni_dir": "{}"}}"#, host.cni.path().display()),
    )
    .unwrap();
    let options = format!("--agent-config {}", config.display());

    let (status, out, error) = cleanup(&host, &format!("--dry-run {options}"));
    assert_eq!(status, Some(3), "{error}");
    assert!(
        out.contains("would remove CNI configuration dcos.conf\n"),
        "{out}"
    );
    assert!(
        error.contains("in use: overlay dcos was removed, but 1 container on m-dcos still uses it"),
        "{error}"
    );
    assert_eq!(everything(), before, "it changed something");
    assert!(host.cni.path().join("dcos.conf").exists());

    let (status, out, error) = cleanup(&host, &options);
    assert_eq!(status, Some(3), "{out}{error}");
    assert!(
        out.contains("removed CNI configuration dcos.conf\n"),
        "{out}"
    );
    assert!(
        devices(&host).contains(&"vtep1024".to_owned()),
        "a container uses it"
    );

    drop(container);
    eventually("the cable is gone", || {
        !devices(&host).contains(&"veth1".to_owned())
    });
    let (status, out, error) = cleanup(&host, &options);
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    for line in [
        "removed device m-dcos\n",
        "removed device vtep1024\n",
        "removed rule from 9.0.0.0/8",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert_eq!(devices(&host), ["foreign", "lo"]);
    assert_eq!(host.command("ip rule show table 42"), "");
    assert!(host.command("ip route").contains("192.168.7.0/24"));
    let left = everything().concat();
    assert!(
        !left.contains("9.0.0.0/8") && !left.contains("mesos"),
        "{left}"
    );
    assert_eq!(
        cleanup(&host, &options),
        (Some(0), "nothing to remove\n".into(), String::new())
    );
}

#[test]
fn cleanup_takes_a_bridge_from_its_containers_only_if_forced() {
    if !testkit::root("cleanup_takes_a_bridge") {
        return;
    }
    let host = Host::new();
    host.settle(&with_peers(&host));
    let _container = container(&host);
    assert_eq!(cleanup(&host, "").0, Some(3));
    let (status, out, error) = cleanup(&host, "--force");
    assert_eq!(status, Some(0), "{out}{error}");
    assert_eq!(devices(&host), ["lo", "veth1"]);
}

/// What is asked in vain is answered in one line, and with a status.
#[test]
fn cleanup_says_what_is_wrong_with_the_question() {
    let run = |arguments: &[&str]| {
        let Output { status, stderr, .. } = Command::new(BINARY).args(arguments).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
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
        let (status, error) = run(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}
