//! Hosts without IPv6, in whole or in part.

use nix::sched::{CloneFlags, unshare};
use overlay_core::host_api::problem::Problem;
use testkit::host::Host;

use super::{assert_host, assert_peers, with_peers};

#[test]
fn devices_of_ours_have_ipv6_whatever_the_default_is() {
    if !testkit::root("devices_of_ours_have_ipv6") {
        return;
    }
    let host = Host::new();
    host.command("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    let desired = with_peers(&host);
    host.settle(&desired);
    assert_host(&host);
    assert_peers(&host);
    for device in ["vtep1024", "m-dcos"] {
        host.command(&format!("sysctl -qw net.ipv6.conf.{device}.disable_ipv6=1"));
        host.settle(&desired);
        assert_host(&host);
        assert_peers(&host);
    }
    // A device that gets IPv6 back has the default settings.
    host.ip("link set vtep1024 mtu 1200");
    host.settle(&desired);
    assert_host(&host);
    assert_peers(&host);
}

#[test]
fn on_a_narrow_underlay_the_overlay_has_ipv4_alone() {
    if !testkit::root("on_a_narrow_underlay") {
        return;
    }
    let (host, other) = (Host::new(), Host::new());
    host.connect("eth0", &other, "eth0");
    host.ip("link set eth0 mtu 1329");
    host.ip("address add 10.0.0.1/24 dev eth0");
    let mut desired = with_peers(&host);
    desired.underlay_ip = Some([10, 0, 0, 1].into());
    desired.vtep.as_mut().unwrap().mtu = None;
    desired.fit_mtu = true;
    let sentence = "the overlays have no IPv6 on this host, since the MTU of eth0 is 1329, and IPv6 in a tunnel \
                    needs 1330; raise it, or set enable_ipv6: false in the network_config of the agent";
    for operations in [true, false] {
        let report = host.apply(&desired);
        assert_eq!(Problem::texts(&report.host), [sentence]);
        assert_eq!(report.overlays["dcos"], sentence);
        assert_eq!(report.operations > 0, operations);
    }
    let routes = host.field("ip -j route show dev vtep1024 proto 142", "dst");
    assert_eq!(routes, ["9.0.2.0/24", "9.0.3.0/24"]);
    let file = std::fs::read_to_string(host.cni.path().join("dcos.conf")).unwrap();
    assert!(
        file.contains("9.0.1.0/25") && !file.contains("fd01"),
        "{file}"
    );
    host.ip("link set eth0 mtu 1500");
    host.settle(&desired);
    assert_host(&host);
    assert_peers(&host);
}

/// Settings that cannot be written fail alone.
#[test]
fn settings_that_cannot_be_written_take_nothing_else() {
    if !testkit::root("settings_that_cannot_be_written") {
        return;
    }
    let host = Host::new();
    host.command("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.run(|| unshare(CloneFlags::CLONE_NEWNS).unwrap());
    for line in [
        "mount --make-rprivate /",
        "mount --bind /proc/sys /proc/sys",
        "mount -o remount,bind,ro /proc/sys",
    ] {
        host.command(line);
    }
    let desired = with_peers(&host);
    let report = host.apply(&desired);
    assert!(report.overlays.is_empty(), "{report:?}");
    let sentence = "cannot set device m-dcos accept_dad 0: Read-only file system (os error 30)";
    assert_eq!(Problem::texts(&report.host), [sentence]);
    assert_host(&host);
    assert_peers(&host);
    assert_eq!(
        host.apply(&desired).operations,
        0,
        "what failed was not done"
    );

    // New devices without IPv6, which nobody can turn on.
    host.command("mount -o remount,bind,rw /proc/sys");
    host.command("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    host.command("mount -o remount,bind,ro /proc/sys");
    host.ip("link delete vtep1024");
    host.ip("link delete m-dcos");
    let report = host.apply(&desired);
    let [problem] = &report.host[..] else {
        panic!("{report:?}")
    };
    assert!(
        problem
            .text
            .contains("net.ipv6.conf.default.disable_ipv6 is 1")
            && problem.text.contains("enable_ipv6: false"),
        "{problem:?}"
    );
    let routes = host.field("ip -j route show dev vtep1024 proto 142", "dst");
    assert_eq!(routes, ["9.0.2.0/24", "9.0.3.0/24"]);
    assert_eq!(host.apply(&desired).operations, 0);
}
