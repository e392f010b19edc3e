//! Parsing and validation of the overlays that the master assigns to this agent.
//!
//! The values become devices, files and routes on the host, so each is checked. An overlay
//! with an invalid value fails with a sentence, and does not affect the other overlays. What the
//! host had of it before stays.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::ranges::{Ranges, UnderlayHosts, check_range, check_subnet, check_vtep};
use crate::config::overlay::is_overlay_name;
use crate::config::{AgentConfig, OVERLAY_MTU};
use crate::host_api::desired::{Bridge, Mac, Overlay, Vtep};
use crate::host_api::names::vtep_name;
use crate::host_api::usage::Containerizer;
use crate::proto::{AgentOverlayInfo, BridgeInfo, VxLanInfo};
use crate::util::family::Family;
pub(super) use crate::util::line::quote;

/// Longest text of an assignment that is kept, in characters. Names, addresses and prefixes are
/// shorter.
const MAX_TEXT: usize = 64;

/// Overlays and VTEP that the master assigned to this agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Assignment {
    /// Tunnel endpoint that all overlays share.
    pub vtep: Option<Vtep>,
    /// Overlays in the master's order.
    pub overlays: Vec<OverlayAssignment>,
}

impl Assignment {
    /// Returns the ranges in which the values of peers must lie.
    pub fn ranges(&self, hosts: UnderlayHosts) -> Ranges {
        let overlays = self
            .overlays
            .iter()
            .filter_map(|assigned| Some((assigned.name(), assigned.desired()?)));
        Ranges::new(hosts, self.vtep.as_ref(), overlays)
    }

    /// Returns the first overlay of this name.
    pub fn find(&self, name: &str) -> Option<&OverlayAssignment> {
        self.overlays.iter().find(|overlay| overlay.name() == name)
    }

    /// Keeps of the assignment `before` what this one has invalid values for.
    pub fn keep(&mut self, before: &Assignment) {
        let mut names = BTreeSet::new();
        let mut keeps_any = false;
        for assigned in &mut self.overlays {
            let is_first = names.insert(assigned.info.info.name.clone());
            if is_first && assigned.overlay.is_err() {
                let earlier = before.find(assigned.name());
                assigned.kept = earlier.and_then(OverlayAssignment::desired).cloned();
                keeps_any |= assigned.kept.is_some();
            }
        }
        if keeps_any && self.vtep.is_none() {
            self.vtep.clone_from(&before.vtep);
        }
    }
}

/// Overlay that the master assigned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OverlayAssignment {
    /// The master's message, without a state.
    pub info: AgentOverlayInfo,
    /// Desired state on the host, or why the message is invalid.
    pub overlay: Result<Overlay, String>,
    /// State on the host before an invalid message, which stays.
    pub kept: Option<Overlay>,
}

impl OverlayAssignment {
    /// Returns the overlay's name.
    pub fn name(&self) -> &str {
        &self.info.info.name
    }

    /// Returns the state that the host should have; `None`: it has nothing of this overlay.
    pub fn desired(&self) -> Option<&Overlay> {
        self.overlay.as_ref().ok().or(self.kept.as_ref())
    }
}

/// Parses an address of this family with a prefix length.
fn parse_address(family: Family, field: &str, text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok();
    net.filter(|net| family.includes(*net)).ok_or_else(|| {
        let example = family.pick(
            "IPv4 prefix such as 9.0.0.0/24",
            "IPv6 prefix such as fd01:b::/80",
        );
        let text = quote(text);
        format!("the master sent {field} {text}, which is not an {example}")
    })
}

/// Parses a network of this family, which must lie within `outer` if that is given.
fn parse_network(
    family: Family,
    field: &str,
    text: &str,
    outer: Option<IpNet>,
) -> Result<IpNet, String> {
    let net = parse_address(family, field, text)?;
    if net.trunc() != net {
        return Err(format!(
            "the master sent {field} {net}, which has bits set behind its prefix"
        ));
    }
    match outer {
        Some(outer) if !outer.contains(&net) => Err(format!(
            "the master sent {field} {net}, which does not lie within {outer}"
        )),
        _ => Ok(net),
    }
}

/// Parses the master's list of overlays. `hosts` are reached over the underlay.
pub(super) fn parse(
    config: &AgentConfig,
    hosts: &UnderlayHosts,
    overlays: Vec<AgentOverlayInfo>,
) -> Assignment {
    let mut assignment = Assignment::default();
    for mut info in overlays {
        info.state = None;
        shorten(&mut info);
        let overlay = match assignment.find(&info.info.name) {
            Some(_) => Err("the master sent this overlay twice".to_owned()),
            None => parse_assigned(config, hosts, &info, &mut assignment.vtep),
        };
        assignment.overlays.push(OverlayAssignment {
            info,
            overlay,
            kept: None,
        });
    }
    assignment
}

/// Cuts texts that are too long to be valid, since reports and endpoints repeat them.
fn shorten(overlay: &mut AgentOverlayInfo) {
    let info = &mut overlay.info;
    let mut texts = vec![&mut info.name];
    texts.extend(info.subnet.iter_mut().chain(&mut info.subnet6));
    texts.extend(overlay.subnet.iter_mut().chain(&mut overlay.subnet6));
    let bridges = overlay.mesos_bridge.iter_mut();
    for bridge in bridges.chain(&mut overlay.docker_bridge) {
        texts.push(&mut bridge.name);
        texts.extend(bridge.ip.iter_mut().chain(&mut bridge.ip6));
    }
    if let Some(vxlan) = &mut overlay.backend.vxlan {
        texts.extend([
            &mut vxlan.vtep_name,
            &mut vxlan.vtep_ip,
            &mut vxlan.vtep_mac,
        ]);
        texts.extend(&mut vxlan.vtep_ip6);
    }
    for text in texts {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(end);
            text.shrink_to_fit();
        }
    }
}

/// Parses one overlay. The first valid VTEP becomes the host's.
fn parse_assigned(
    config: &AgentConfig,
    hosts: &UnderlayHosts,
    info: &AgentOverlayInfo,
    vtep: &mut Option<Vtep>,
) -> Result<Overlay, String> {
    check_name(&info.info.name)?;
    let vxlan = info
        .backend
        .vxlan
        .as_ref()
        .ok_or("the master sent no VXLAN backend")?;
    let own = parse_vtep(hosts, vxlan)?;
    let overlay = parse_overlay(config, info)?;
    check_subnets(hosts, &own, &overlay)?;
    let shared = vtep.get_or_insert_with(|| own.clone());
    if *shared != own {
        let [own, shared] = [&own, shared].map(|vtep| {
            let addresses: Vec<String> = vtep.addresses.iter().map(ToString::to_string).collect();
            format!("{} {} {}", vtep.name, vtep.mac, addresses.join(" "))
        });
        return Err(format!(
            "the master sent another VTEP ({own}) than for the overlay before ({shared}); a host has one"
        ));
    }
    Ok(overlay)
}

/// Checks a name, which becomes part of file and device names.
fn check_name(name: &str) -> Result<(), String> {
    if is_overlay_name(name) {
        return Ok(());
    }
    Err(format!(
        "the master sent {}, which cannot be the name of an overlay",
        quote(name)
    ))
}

/// Checks that traffic to an overlay's subnets can go to its bridges.
fn check_subnets(hosts: &UnderlayHosts, vtep: &Vtep, overlay: &Overlay) -> Result<(), String> {
    for subnet in &overlay.subnets {
        check_subnet(hosts, &vtep.addresses, *subnet)
            .map_err(|rule| format!("the master sent subnet {subnet}, {rule}"))?;
    }
    Ok(())
}

/// Parses the tunnel endpoint.
fn parse_vtep(hosts: &UnderlayHosts, vxlan: &VxLanInfo) -> Result<Vtep, String> {
    if vxlan.vni >= 1 << 24 {
        return Err(format!(
            "the master sent vni {}, which has more than 24 bits",
            vxlan.vni
        ));
    }
    // A device of this name is created, changed and deleted, so it must not be another
    // program's.
    if vxlan.vtep_name != vtep_name(vxlan.vni) {
        return Err(format!(
            "the master sent vtep_name {}; the device of vni {1} is called vtep{1}",
            quote(&vxlan.vtep_name),
            vxlan.vni
        ));
    }
    let mac = vxlan.vtep_mac.parse::<Mac>().ok();
    let mac = mac.filter(Mac::is_of_host).ok_or_else(|| {
        let got = quote(&vxlan.vtep_mac);
        format!(
            "the master sent vtep_mac {got}, which is not a host's MAC such as 70:b3:d5:80:00:01"
        )
    })?;
    let address = |family, field, text| {
        let address = parse_address(family, field, text)?;
        check_vtep(hosts, address)
            .map_err(|rule| format!("the master sent {field} {address}, {rule}"))?;
        Ok::<_, String>(address)
    };
    let mut addresses = vec![address(Family::V4, "vtep_ip", &vxlan.vtep_ip)?];
    if let Some(text) = &vxlan.vtep_ip6 {
        addresses.push(address(Family::V6, "vtep_ip6", text)?);
    }
    Ok(Vtep {
        name: vxlan.vtep_name.clone(),
        vni: vxlan.vni,
        mac,
        addresses,
        mtu: vxlan.vtep_mtu,
    })
}

/// Parses ranges, subnets and bridges.
fn parse_overlay(config: &AgentConfig, info: &AgentOverlayInfo) -> Result<Overlay, String> {
    let network = &config.network;
    // A bridge that this agent did not request is not created.
    let mesos = info.mesos_bridge.as_ref().filter(|_| network.mesos_bridge);
    let docker = info
        .docker_bridge
        .as_ref()
        .filter(|_| network.docker_bridge);
    let bridge = |bridge: Option<&BridgeInfo>, field, containerizer: Containerizer| {
        let name = containerizer.bridge_name(&info.info.name);
        bridge.map(|bridge| parse_bridge(bridge, field, name))
    };
    let mut overlay = Overlay {
        mtu: network.overlay_mtu.unwrap_or(OVERLAY_MTU),
        mesos_bridge: bridge(mesos, "mesos_bridge", Containerizer::Mesos).transpose()?,
        docker_bridge: bridge(docker, "docker_bridge", Containerizer::Docker).transpose()?,
        ..Overlay::default()
    };
    for family in Family::BOTH {
        let Some(Prefixes { range, subnet }) = parse_prefixes(family, info)? else {
            continue;
        };
        overlay.ranges.push(range);
        let Some(subnet) = subnet else { continue };
        overlay.subnets.push(subnet);
        for (info, field, bridge) in [
            (mesos, "mesos_bridge", &mut overlay.mesos_bridge),
            (docker, "docker_bridge", &mut overlay.docker_bridge),
        ] {
            let (Some(info), Some(bridge)) = (info, bridge) else {
                continue;
            };
            if let Some(text) = family.pick(&info.ip, &info.ip6) {
                let net = parse_network(family, field, text, Some(subnet))?;
                bridge.subnets.push(net);
            }
        }
    }
    Ok(overlay)
}

/// Prefixes of an overlay in one address family.
struct Prefixes {
    /// Range of the whole overlay.
    range: IpNet,
    /// This agent's part of it.
    subnet: Option<IpNet>,
}

/// Parses the prefixes of an overlay in one family; `None`: it has none.
fn parse_prefixes(family: Family, info: &AgentOverlayInfo) -> Result<Option<Prefixes>, String> {
    let (range, range_field) = family.pick(
        (&info.info.subnet, "info.subnet"),
        (&info.info.subnet6, "info.subnet6"),
    );
    let (subnet, subnet_field) = family.pick((&info.subnet, "subnet"), (&info.subnet6, "subnet6"));
    let Some(range) = range else {
        return match subnet {
            None => Ok(None),
            Some(_) => Err(format!(
                "the master sent {subnet_field} without {range_field}"
            )),
        };
    };
    let range = parse_network(family, range_field, range, None)?;
    check_range(range).map_err(|rule| format!("the master sent {range_field} {range}, {rule}"))?;
    let subnet = subnet
        .as_ref()
        .map(|subnet| parse_network(family, subnet_field, subnet, Some(range)))
        .transpose()?;
    Ok(Some(Prefixes { range, subnet }))
}

/// Parses a bridge without its subnets.
fn parse_bridge(info: &BridgeInfo, field: &str, name: String) -> Result<Bridge, String> {
    if info.name != name {
        return Err(format!(
            "the master sent {field} {}, which must be called {name}",
            quote(&info.name)
        ));
    }
    Ok(Bridge {
        name,
        subnets: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
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
}
