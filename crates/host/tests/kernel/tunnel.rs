//! Options of the VXLAN device.

use overlay_core::host_api::desired::Desired;
use testkit::host::Host;

use super::{DEVICE, assert_host, assert_peers, with_peers};

/// A host that reaches its peers over `eth0`, on which the agent's address is not the first one.
fn host() -> (Host, Host, Desired) {
    let (host, other) = (Host::new(), Host::new());
    host.connect("eth0", &other, "eth0");
    host.connect("eth1", &other, "eth1");
    host.ip("address add 10.0.0.100/24 dev eth0");
    host.ip("address add 10.0.0.1/24 dev eth0");
    let desired = Desired {
        underlay_ip: Some([10, 0, 0, 1].into()),
        ..with_peers(&host)
    };
    (host, other, desired)
}

fn local(host: &Host) -> String {
    host.json(DEVICE)[0]["linkinfo"]["info_data"]["local"].to_string()
}

fn index(host: &Host) -> String {
    host.json(DEVICE)[0]["ifindex"].to_string()
}

#[test]
fn packets_of_the_tunnel_have_the_agents_address() {
    if !testkit::root("packets_of_the_tunnel_have_the_agents_address") {
        return;
    }
    let (host, _other, desired) = host();
    host.settle(&desired);
    assert_eq!(local(&host), "\"10.0.0.1\"");
    // The device is not made anew, so no packet is lost.
    let before = index(&host);
    for by_hand in [
        "link set vtep1024 type vxlan local 10.0.0.100",
        "link set vtep1024 type vxlan local 0.0.0.0",
        "link set vtep1024 type vxlan ttl 1",
        "link set vtep1024 type vxlan tos 16",
    ] {
        host.ip(by_hand);
        assert_eq!(host.settle(&desired), 1, "{by_hand}");
        assert_eq!(
            (local(&host), index(&host)),
            ("\"10.0.0.1\"".into(), before.clone())
        );
    }
    // An address that the host does not have would let no packet out.
    host.ip("address delete 10.0.0.1/24 dev eth0");
    assert_eq!(host.settle(&desired), 1);
    assert_eq!(local(&host), "null");
}

#[test]
fn a_device_with_other_options_is_made_anew() {
    if !testkit::root("a_device_with_other_options_is_made_anew") {
        return;
    }
    let (host, _other, desired) = host();
    for options in [
        "local 10.0.0.1 dev eth1",
        "local 10.0.0.1 remote 10.0.0.9",
        "local 10.0.0.1 gbp",
        "local 10.0.0.1 maxaddress 1",
        "local 10.0.0.1 ttl inherit",
        "local 10.0.0.1 proxy rsc",
        "local fd99::1",
    ] {
        host.settle(&desired);
        let before = index(&host);
        host.ip("link delete vtep1024");
        let line =
            format!("link add vtep1024 type vxlan id 1024 dstport 64000 nolearning {options}");
        host.ip(&line);
        host.ip("link set vtep1024 up");
        let wrong = index(&host);
        host.settle(&desired);
        assert_ne!(index(&host), before, "{options}");
        assert_ne!(index(&host), wrong, "{options}");
        assert_eq!(local(&host), "\"10.0.0.1\"", "{options}");
        assert_host(&host);
        assert_peers(&host);
    }
}

/// What `dcos-net` makes works, and stays but for its source address.
#[test]
fn a_device_of_the_predecessor_stays() {
    if !testkit::root("a_device_of_the_predecessor_stays") {
        return;
    }
    for options in ["", "dev eth0"] {
        let (host, _other, desired) = host();
        host.ip(&format!(
            "link add vtep1024 type vxlan id 1024 dstport 64000 learning {options}"
        ));
        let before = index(&host);
        host.settle(&desired);
        assert_eq!(index(&host), before, "{options}");
        assert_eq!(local(&host), "\"10.0.0.1\"");
        assert_host(&host);
    }
}
