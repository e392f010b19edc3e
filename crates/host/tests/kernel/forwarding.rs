//! Forwarding of the overlays' own devices.

use testkit::host::{Host, eventually, noticed};

use super::with_peers;

fn setting(family: &str, device: &str) -> String {
    format!("net.{family}.conf.{device}.forwarding")
}

fn assert_forwards(host: &Host) {
    for family in ["ipv4", "ipv6"] {
        for device in ["vtep1024", "m-dcos"] {
            let setting = setting(family, device);
            assert_eq!(
                host.command(&format!("sysctl -n {setting}")),
                "1\n",
                "{setting}"
            );
        }
    }
}

/// The host forwards, but not what comes from new devices.
#[test]
fn new_devices_forward_whatever_the_default_is() {
    if !testkit::root("new_devices_forward") {
        return;
    }
    let host = Host::new();
    host.command("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.command(&format!(
        "sysctl -qw {}=0 {}=0",
        setting("ipv4", "default"),
        setting("ipv6", "default")
    ));
    let desired = with_peers(&host);
    host.settle(&desired);
    assert_forwards(&host);
    let default = host.command(&format!("sysctl -n {}", setting("ipv4", "default")));
    assert_eq!(default, "0\n", "it is the operator's");
}

#[test]
fn a_device_that_forwards_no_more_is_noticed() {
    if !testkit::root("a_device_that_forwards_no_more") {
        return;
    }
    let host = Host::new();
    let worker = host.worker();
    worker.apply_ok(&with_peers(&host));
    assert_forwards(&host);
    for family in ["ipv4", "ipv6"] {
        for device in ["vtep1024", "m-dcos"] {
            let setting = setting(family, device);
            host.command(&format!("sysctl -qw {setting}=0"));
            let read = format!("sysctl -n {setting}");
            noticed(&setting, || host.command(&read) == "1\n");
        }
    }
    // The switch of the host closes all devices.
    host.command("sysctl -qw net.ipv4.ip_forward=0");
    eventually("the host", || {
        host.command("sysctl -n net.ipv4.ip_forward") == "1\n"
    });
    assert_forwards(&host);
}
