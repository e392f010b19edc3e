//! Tests of assignments.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::proto::{BackendInfo, OverlayInfo};

/// Returns the message of a master about an overlay of both families.
fn info() -> AgentOverlayInfo {
    let bridge = |name: &str, ip: &str, ip6: &str| {
        Some(BridgeInfo {
            name: name.into(),
            ip: Some(ip.into()),
            ip6: Some(ip6.into()),
        })
    };
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_ip: "44.128.0.1/20".into(),
        vtep_mac: "70:b3:d5:80:00:01".into(),
        vtep_ip6: Some("fd01:a::1/64".into()),
        vtep_mtu: Some(1450),
    };
    AgentOverlayInfo {
        info: OverlayInfo {
            name: "dcos".into(),
            subnet: Some("9.0.0.0/8".into()),
            prefix: Some(24),
            subnet6: Some("fd01:b::/64".into()),
            prefix6: Some(80),
            enabled: None,
        },
        subnet: Some("9.0.1.0/24".into()),
        subnet6: Some("fd01:b:0:0:1::/80".into()),
        mesos_bridge: bridge("m-dcos", "9.0.1.0/25", "fd01:b:0:0:1::/81"),
        docker_bridge: bridge("d-dcos", "9.0.1.128/25", "fd01:b:0:0:1:8000::/81"),
        backend: BackendInfo { vxlan: Some(vxlan) },
        state: None,
        ..Default::default()
    }
}

const HOSTS: UnderlayHosts = UnderlayHosts {
    own: Ipv4Addr::new(10, 0, 0, 2),
    master: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
};

fn parse_one(info: AgentOverlayInfo) -> (Option<Vtep>, Result<Overlay, String>) {
    let mut assignment = parse(&AgentConfig::new("/cni"), &HOSTS, vec![info]);
    (assignment.vtep, assignment.overlays.remove(0).overlay)
}

#[test]
fn parses_both_families() {
    let (vtep, overlay) = parse_one(info());
    let (vtep, overlay) = (vtep.unwrap(), overlay.unwrap());
    let nets = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<IpNet>>()
    };
    assert_eq!(vtep.addresses, nets(&["44.128.0.1/20", "fd01:a::1/64"]));
    assert_eq!(vtep.mtu, Some(1450));
    assert_eq!(overlay.ranges, nets(&["9.0.0.0/8", "fd01:b::/64"]));
    assert_eq!(overlay.subnets, nets(&["9.0.1.0/24", "fd01:b:0:0:1::/80"]));
    assert_eq!(
        overlay.mesos_bridge.unwrap().subnets,
        nets(&["9.0.1.0/25", "fd01:b:0:0:1::/81"])
    );
    assert_eq!(
        overlay.docker_bridge.unwrap().subnets,
        nets(&["9.0.1.128/25", "fd01:b:0:0:1:8000::/81"])
    );
    assert_eq!(overlay.mtu, 1420);
}

#[test]
fn a_bridge_needs_an_address_for_a_container() {
    let with = |subnet: &str, half: &str, subnet6: &str, half6: &str| {
        let mut info = info();
        let text = |text: &str| Some(text.to_owned());
        (info.subnet, info.subnet6) = (text(subnet), text(subnet6));
        info.docker_bridge = None;
        let bridge = info.mesos_bridge.as_mut().unwrap();
        (bridge.ip, bridge.ip6) = (text(half), text(half6));
        info
    };
    let wide6 = ("fd01:b:0:0:1::/80", "fd01:b:0:0:1::/81");
    let info = with("9.0.1.0/29", "9.0.1.0/30", wide6.0, wide6.1);
    assert!(parse_one(info).1.is_ok());
    let info = with("9.0.1.0/30", "9.0.1.0/31", wide6.0, wide6.1);
    assert_eq!(
        parse_one(info.clone()).1.unwrap_err(),
        "the master sent mesos_bridge 9.0.1.0/31, which has no address for a container beside the bridge's own: \
         half of the agent's subnet 9.0.1.0/30; give the overlay a prefix of at most 29"
    );
    // Without a bridge, the whole subnet may be of use to another program.
    let mut config = AgentConfig::new("/cni");
    (config.network.mesos_bridge, config.network.docker_bridge) = (false, false);
    let mut assignment = parse(&config, &HOSTS, vec![info]);
    assert!(assignment.overlays.remove(0).overlay.is_ok());
    let narrow6 = with(
        "9.0.1.0/24",
        "9.0.1.0/25",
        "fd01:b:0:0:1::/126",
        "fd01:b:0:0:1::/127",
    );
    let error = parse_one(narrow6).1.unwrap_err();
    assert!(error.contains("a prefix6 of at most 125"), "{error}");
}

#[test]
fn without_subnets_there_are_ranges_only() {
    let bare = AgentOverlayInfo {
        subnet: None,
        subnet6: None,
        mesos_bridge: None,
        docker_bridge: None,
        ..info()
    };
    let overlay = parse_one(bare).1.unwrap();
    assert_eq!((overlay.ranges.len(), overlay.subnets.len()), (2, 0));
}

#[test]
fn ignores_bridges_that_were_not_requested() {
    let mut config = AgentConfig::new("/cni");
    config.network.docker_bridge = false;
    let overlay = parse(&config, &HOSTS, vec![info()])
        .overlays
        .remove(0)
        .overlay
        .unwrap();
    assert!(overlay.docker_bridge.is_none() && overlay.mesos_bridge.is_some());
}

/// Each change makes the overlay fail, with a sentence that contains the word.
#[test]
fn rejects_values_that_must_not_reach_the_host() {
    type Change = fn(&mut AgentOverlayInfo, &mut VxLanInfo);
    let changes: [(&str, Change); 35] = [
        ("\"../dcos\"", |info, _| info.info.name = "../dcos".into()),
        ("\"a name\\nmore", |info, _| {
            info.info.name = "a name\nmore".into()
        }),
        ("\"eth0\"", |_, vxlan| vxlan.vtep_name = "eth0".into()),
        ("24 bits", |_, vxlan| vxlan.vni = 1 << 24),
        ("vtep7", |_, vxlan| vxlan.vni = 7),
        ("01:00:5e:00:00:01", |_, vxlan| {
            vxlan.vtep_mac = "01:00:5e:00:00:01".into()
        }),
        ("00:00:00:00:00:00", |_, vxlan| {
            vxlan.vtep_mac = "00:00:00:00:00:00".into()
        }),
        ("vtep_ip \"fd01", |_, vxlan| {
            vxlan.vtep_ip = "fd01:a::1/64".into()
        }),
        ("vtep_ip6", |_, vxlan| {
            vxlan.vtep_ip6 = Some("44.128.0.1/20".into())
        }),
        ("info.subnet6", |info, _| {
            info.info.subnet6 = Some("fd01:b::1/64".into())
        }),
        ("without info.subnet", |info, _| info.info.subnet = None),
        ("within 9.0.0.0/8", |info, _| {
            info.subnet = Some("10.0.1.0/24".into())
        }),
        ("within fd01:b::/64", |info, _| {
            info.subnet6 = Some("fd01:c::/80".into())
        }),
        ("within fd01:b:0:0:1::/80", |info, _| {
            info.docker_bridge.as_mut().unwrap().ip6 = Some("fd01:b:0:0:2::/81".into())
        }),
        ("without info.subnet6", |info, _| info.info.subnet6 = None),
        ("subnet6 \"9.0.1.0/24\"", |info, _| {
            info.subnet6 = Some("9.0.1.0/24".into())
        }),
        ("must be called m-dcos", |info, _| {
            info.mesos_bridge.as_mut().unwrap().name = "eth0".into()
        }),
        ("must be called d-dcos", |info, _| {
            info.docker_bridge.as_mut().unwrap().name = "m-dcos".into()
        }),
        ("within 9.0.1.0/24", |info, _| {
            info.mesos_bridge.as_mut().unwrap().ip = Some("9.0.2.0/25".into())
        }),
        ("docker_bridge", |info, _| {
            info.docker_bridge.as_mut().unwrap().ip6 = Some("x".into())
        }),
        // A VTEP that takes the traffic of others.
        (
            "vtep_ip 10.0.0.1/1, whose prefix is shorter than /8",
            |_, vxlan| vxlan.vtep_ip = "10.0.0.1/1".into(),
        ),
        (
            "whose range contains 10.0.0.1, the address of the leading master",
            |_, vxlan| vxlan.vtep_ip = "10.0.0.1/28".into(),
        ),
        (
            "which overlaps the loopback range 127.0.0.0/8",
            |_, vxlan| vxlan.vtep_ip = "127.0.0.2/8".into(),
        ),
        ("which overlaps the multicast range", |_, vxlan| {
            vxlan.vtep_ip = "224.128.0.2/20".into()
        }),
        ("which overlaps the link-local range", |_, vxlan| {
            vxlan.vtep_ip = "169.254.0.2/16".into()
        }),
        (
            "which is the first or last address of 44.128.0.0/20",
            |_, vxlan| vxlan.vtep_ip = "44.128.0.0/20".into(),
        ),
        (
            "which is the first or last address of 44.128.0.0/20",
            |_, vxlan| vxlan.vtep_ip = "44.128.15.255/20".into(),
        ),
        ("shorter than /7", |_, vxlan| {
            vxlan.vtep_ip6 = Some("2001::1/3".into())
        }),
        (
            "which overlaps the link-local range fe80::/10",
            |_, vxlan| vxlan.vtep_ip6 = Some("fe80::1/64".into()),
        ),
        // Ranges and subnets of containers.
        ("info.subnet 0.0.0.0/1, which overlaps", |info, _| {
            info.info.subnet = Some("0.0.0.0/1".into())
        }),
        ("info.subnet 224.0.0.0/8, which overlaps", |info, _| {
            info.info.subnet = Some("224.0.0.0/8".into())
        }),
        ("info.subnet6 ::/0, which overlaps", |info, _| {
            info.info.subnet6 = Some("::/0".into())
        }),
        (
            "which contains 10.0.0.1, the address of the leading",
            |info, _| {
                (info.mesos_bridge, info.docker_bridge) = (None, None);
                info.info.subnet = Some("10.0.0.0/8".into());
                info.subnet = Some("10.0.0.0/24".into());
            },
        ),
        (
            "which overlaps 44.128.0.0/20, the range of the VTEPs",
            |info, _| {
                (info.mesos_bridge, info.docker_bridge) = (None, None);
                info.info.subnet = Some("44.0.0.0/8".into());
                info.subnet = Some("44.128.1.0/24".into());
            },
        ),
        ("\"eth0xxx", |_, vxlan| {
            vxlan.vtep_name = "eth0".to_owned() + &"x".repeat(1 << 20)
        }),
    ];
    for (word, change) in changes {
        let mut info = info();
        let mut vxlan = info.backend.vxlan.take().unwrap();
        change(&mut info, &mut vxlan);
        info.backend.vxlan = Some(vxlan);
        let fault = parse_one(info).1.expect_err(word);
        assert!(
            fault.contains(word) && !fault.contains('\n'),
            "{word}: {fault}"
        );
    }
    let without = AgentOverlayInfo {
        backend: BackendInfo { vxlan: None },
        ..info()
    };
    assert_eq!(
        parse_one(without),
        (None, Err("the master sent no VXLAN backend".into()))
    );
}

#[test]
fn long_texts_are_cut() {
    let long = || "x".repeat(1 << 20);
    let mut info = info();
    info.info.name = long();
    info.subnet6 = Some(long());
    info.mesos_bridge.as_mut().unwrap().ip = Some(long());
    info.backend.vxlan.as_mut().unwrap().vtep_mac = long();
    let assignment = parse(&AgentConfig::new("/cni"), &HOSTS, vec![info]);
    assert!(assignment.overlays[0].overlay.is_err());
    assert!(prost::Message::encoded_len(&assignment.overlays[0].info) < 1000);
}

#[test]
fn what_was_right_before_stays() {
    let list = |change: fn(&mut AgentOverlayInfo)| {
        let mut info = info();
        change(&mut info);
        parse(&AgentConfig::new("/cni"), &HOSTS, vec![info])
    };
    let good = list(|_| ());
    let bad: fn(&mut AgentOverlayInfo) =
        |info| info.backend.vxlan.as_mut().unwrap().vtep_ip = "10.0.0.1/1".into();
    let mut assignment = list(bad);
    assignment.keep(&good);
    assert!(assignment.overlays[0].overlay.is_err());
    assert_eq!(assignment.vtep, good.vtep);
    assert_eq!(assignment.overlays[0].desired(), good.overlays[0].desired());
    // Nor does a second invalid list replace it.
    let mut again = list(bad);
    again.keep(&assignment);
    assert_eq!(again, assignment);
    // An overlay that is not in the list goes.
    let mut other = list(|info| info.info.name = "web".into());
    other.keep(&good);
    assert_eq!(other.overlays[0].desired(), None);
}

#[test]
fn a_host_has_one_vtep() {
    let mut other = AgentOverlayInfo {
        mesos_bridge: None,
        docker_bridge: None,
        ..info()
    };
    other.info.name = "web".into();
    other.backend.vxlan.as_mut().unwrap().vtep_ip = "44.128.0.2/20".into();
    let assignment = parse(&AgentConfig::new("/cni"), &HOSTS, vec![info(), other]);
    assert!(assignment.overlays[0].overlay.is_ok());
    assert!(
        assignment.overlays[1]
            .overlay
            .as_ref()
            .unwrap_err()
            .contains("44.128.0.2/20")
    );
}
