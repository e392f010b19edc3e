use super::super::announced::Names;
use super::super::assignment::{Assignment, OverlayAssignment};
use super::*;
use crate::host_api::desired::Overlay;
use crate::proto::AgentOverlayInfo;
use crate::proto::internal::{Peer, PeerSubnet};
use proptest::prelude::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

const HOSTS: UnderlayHosts = UnderlayHosts {
    own: Ipv4Addr::new(10, 0, 0, 2),
    master: Some(IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9))),
};

/// Returns the ranges of a host with the overlays `dcos` and `far`, which contains the underlay.
fn ranges(hosts: UnderlayHosts) -> Ranges {
    let overlay = |name: &str, ranges: &[&str], subnets: &[&str]| {
        let mut info = AgentOverlayInfo::default();
        info.info.name = name.into();
        let nets = |texts: &[&str]| texts.iter().map(|text| net(text)).collect();
        let overlay = Overlay {
            ranges: nets(ranges),
            subnets: nets(subnets),
            ..Overlay::default()
        };
        OverlayAssignment {
            info,
            overlay: Ok(overlay),
            kept: None,
        }
    };
    let dcos = overlay(
        "dcos",
        &["9.0.0.0/8", "fd01:b::/64"],
        &["9.0.2.0/24", "fd01:b:0:0:2::/80"],
    );
    let vtep = Vtep {
        name: "vtep1024".into(),
        vni: 1024,
        mac: Default::default(),
        addresses: vec![net("44.128.0.2/20"), net("fd01:a::2/64")],
        mtu: None,
    };
    let assignment = Assignment {
        vtep: Some(vtep),
        overlays: vec![dcos, overlay("far", &["10.0.0.0/8"], &[])],
    };
    assignment.ranges(hosts)
}

/// Returns a peer with these VTEP addresses, and one subnet of an overlay.
fn announced(vtep: &str, vtep6: &str, overlay: &str, subnet: &str) -> AnnouncedPeer {
    let is_v6 = subnet.contains(':');
    let peer = Peer {
        vtep_ip: vtep.into(),
        vtep_ip6: Some(vtep6.into()),
        vtep_mac: "70:b3:d5:80:00:03".into(),
        subnets: vec![PeerSubnet {
            overlay: overlay.into(),
            subnet: (!is_v6).then(|| subnet.to_owned()),
            subnet6: is_v6.then(|| subnet.to_owned()),
        }],
        ..Peer::default()
    };
    AnnouncedPeer::parse(&peer, &mut Names::default()).unwrap()
}

fn subnet(overlay: &str, subnet: &str) -> Result<(), String> {
    let peer = announced("44.128.0.3", "fd01:a::3", overlay, subnet);
    ranges(HOSTS).check_peer([10, 0, 0, 3].into(), &peer)
}

#[test]
fn subnets_of_peers_lie_in_their_overlays() {
    for (overlay, right) in [
        ("dcos", "9.0.3.0/24"),
        ("dcos", "9.64.0.0/10"),
        ("dcos", "fd01:b:0:0:3::/80"),
        ("far", "10.0.3.0/24"),
        // Not used, since this host does not have the overlay.
        ("new", "9.0.3.0/24"),
    ] {
        assert_eq!(subnet(overlay, right), Ok(()), "{overlay} {right}");
    }
    for (overlay, wrong, rule) in [
        ("dcos", "0.0.0.0/1", "does not lie within 9.0.0.0/8"),
        ("dcos", "128.0.0.0/1", "does not lie within 9.0.0.0/8"),
        ("dcos", "10.9.9.9/32", "does not lie within 9.0.0.0/8"),
        ("dcos", "8.0.0.0/7", "does not lie within 9.0.0.0/8"),
        ("dcos", "fd01:c::/80", "does not lie within fd01:b::/64"),
        (
            "far",
            "10.9.9.9/32",
            "contains 10.9.9.9, the address of the leading master",
        ),
        (
            "far",
            "10.0.0.0/24",
            "contains 10.0.0.2, the address of this agent",
        ),
        ("far", "fd01:b::/80", "which has no range of this family"),
    ] {
        let fault = subnet(overlay, wrong).unwrap_err();
        assert!(fault.contains(wrong) && fault.contains(rule), "{fault}");
    }
}

#[test]
fn own_subnets_and_unknown_overlays_are_not_used() {
    let uses = |overlay, subnet| ranges(HOSTS).uses(net(subnet), overlay);
    assert!(uses("dcos", "9.0.3.0/24") && uses("far", "10.0.3.0/24"));
    for (overlay, subnet) in [
        ("dcos", "9.0.2.0/24"),
        ("dcos", "9.0.2.7/32"),
        ("dcos", "9.0.0.0/8"),
        ("dcos", "fd01:b::/64"),
        ("new", "9.0.3.0/24"),
    ] {
        assert!(!uses(overlay, subnet), "{overlay} {subnet}");
        assert!(super::tests::subnet(overlay, subnet).is_ok());
    }
}

#[test]
fn the_range_of_the_vteps_contains_no_known_host() {
    let check = |address: &str| check_vtep(&HOSTS, net(address));
    assert_eq!(check("10.0.1.1/24"), Ok(()));
    for (address, host) in [
        ("10.0.0.9/28", "10.0.0.2, the address of this agent"),
        ("10.9.0.9/16", "10.9.9.9, the address of the leading master"),
    ] {
        let fault = check(address).unwrap_err();
        assert_eq!(fault, format!("whose range contains {host}"));
    }
}

#[test]
fn vteps_of_peers_lie_in_the_range_of_the_vteps() {
    let check = |vtep, vtep6| {
        let peer = announced(vtep, vtep6, "dcos", "9.0.3.0/24");
        ranges(HOSTS).check_peer([10, 0, 0, 3].into(), &peer)
    };
    assert_eq!(check("44.128.0.3", "fd01:a::3"), Ok(()));
    for (vtep, vtep6, word) in [
        ("10.9.9.9", "fd01:a::3", "44.128.0.0/20"),
        ("44.128.16.1", "fd01:a::3", "44.128.0.0/20"),
        ("44.128.0.0", "fd01:a::3", "first or last"),
        ("44.128.15.255", "fd01:a::3", "first or last"),
        ("44.128.0.3", "fd01:b::3", "fd01:a::/64"),
    ] {
        let fault = check(vtep, vtep6).unwrap_err();
        assert!(fault.contains(word), "{fault}");
    }
}

#[test]
fn peers_are_hosts_of_the_underlay() {
    let check = |ip: &str, hosts| {
        let peer = announced("44.128.0.3", "fd01:a::3", "dcos", "9.0.3.0/24");
        ranges(hosts).check_peer(ip.parse().unwrap(), &peer)
    };
    for ip in ["10.0.0.3", "10.9.9.9", "192.168.0.1"] {
        assert_eq!(check(ip, HOSTS), Ok(()), "{ip}");
    }
    for (ip, word) in [
        ("0.0.0.0", "the unspecified range"),
        ("127.0.0.1", "the loopback range"),
        ("224.0.0.5", "the multicast range"),
        ("255.255.255.255", "the broadcast range"),
        ("44.128.0.5", "the range of the VTEPs"),
        ("9.0.0.1", "the range of overlay dcos"),
    ] {
        let fault = check(ip, HOSTS).unwrap_err();
        assert!(fault.contains(word), "{fault}");
    }
    let local = UnderlayHosts {
        own: Ipv4Addr::LOCALHOST,
        master: Some(Ipv4Addr::LOCALHOST.into()),
    };
    assert_eq!(check("127.0.0.3", local), Ok(()));
    assert!(
        check("10.0.0.3", local)
            .unwrap_err()
            .contains("overlay far")
    );
}

proptest! {
    /// Whatever a list says, no route to a peer takes traffic of a host, or of something that is
    /// no container of a peer.
    #[test]
    fn routes_to_peers_lead_to_containers_only(bits: u32, prefix in 1u8..=32, ip: u32, vtep: u32, far: bool) {
        let hosts = HOSTS;
        let net = IpNet::new(Ipv4Addr::from(bits).into(), prefix).unwrap().trunc();
        let overlay = if far { "far" } else { "dcos" };
        let vtep = Ipv4Addr::from(0x2c80_0000 | vtep & 0x1fff).to_string();
        let peer = announced(&vtep, "fd01:a::3", overlay, &net.to_string());
        let ranges = ranges(hosts);
        if ranges.check_peer(ip.into(), &peer).is_ok() && ranges.uses(net, overlay) {
            let range = if far { "10.0.0.0/8" } else { "9.0.0.0/8" };
            prop_assert!(self::net(range).contains(&net));
            prop_assert!(!net.contains(&IpAddr::V4(hosts.own)) && !net.contains(&hosts.master.unwrap()));
            prop_assert!(!overlap(net, "9.0.2.0/24".parse().unwrap()));
            prop_assert!(!Ipv4Addr::from(ip).is_multicast() && !Ipv4Addr::from(ip).is_loopback());
        }
    }
}
