//! The endpoints' JSON. Keys stand in alphabetical order (so the fields below do),
//! fields with a default are always there, unset ones and empty lists never, and
//! there is no white space: what readers of the endpoints have come to expect.

mod agents;

use std::collections::BTreeMap;

use proto::agent_overlay_info::{State as AgentState, state::Status};
use serde::Serialize;

use crate::allocation::allocator::Capacity;
use crate::host_api::usage::Addresses;
use crate::proto;

pub use agents::{Agent, AgentJson, LastError, Presence};

/// The master's whole state. `room` says how much is left of an overlay; `None`: of
/// the VTEPs' ranges.
pub fn state<'a>(
    network: &'a proto::NetworkConfig,
    room: impl Fn(Option<&str>) -> Capacity,
    agents: impl Iterator<Item = Agent<'a, impl Fn(&str) -> Option<&'a AgentState>>>,
) -> Vec<u8> {
    let overlay = |overlay: &'a proto::OverlayInfo| OverlayInfo {
        agent_subnets: Some(room(Some(&overlay.name))),
        ..OverlayInfo::from(overlay)
    };
    let network = NetworkConfig {
        overlays: network.overlays.iter().map(overlay).collect(),
        vtep_mac_oui: &network.vtep_mac_oui,
        vtep_mtu: network.vtep_mtu,
        vtep_subnet: &network.vtep_subnet,
        vtep_subnet6: network.vtep_subnet6.as_deref(),
        vteps: room(None),
    };
    // An agent with one overlay takes about 400 bytes.
    let mut out = Vec::with_capacity(1000 + 512 * agents.size_hint().0);
    out.push(b'{');
    for (index, agent) in agents.enumerate() {
        out.extend_from_slice(if index == 0 { b"\"agents\":[" } else { b"," });
        agent.write(&mut out);
    }
    out.extend_from_slice(if out.len() > 1 {
        b"],\"network\":"
    } else {
        b"\"network\":"
    });
    write(&mut out, &network);
    out.push(b'}');
    out
}

/// Whether a master serves, for load balancers.
#[derive(Serialize)]
pub struct Health<'a> {
    /// Where the master is that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Why it does not serve, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// `serving`, `standby`, `recovering` or `broken`.
    pub status: &'static str,
}

impl Health<'_> {
    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        to_bytes(self)
    }
}

/// What an agent shows of itself: its [`proto::AgentInfo`], and what an operator
/// wants to know besides.
pub fn agent<'a>(info: &'a proto::AgentInfo, about: &About<'a>) -> Vec<u8> {
    let overlay = |overlay: &'a proto::AgentOverlayInfo| AgentOverlayInfo {
        addresses: about
            .addresses
            .and_then(|addresses| addresses.get(&overlay.info.name)),
        ..AgentOverlayInfo::from(overlay)
    };
    to_bytes(&OwnAgent {
        configuration_attempts: info.configuration_attempts,
        draining: about.draining,
        host_errors: about.host_errors,
        ip: &info.ip,
        master: about.master,
        notices: about.notices,
        overlays: info.overlays.iter().map(overlay).collect(),
        problems: about.problems,
        registered: about.registered,
    })
}

/// What an agent shows besides its [`proto::AgentInfo`].
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The addresses of this host by overlay and containerizer.
    pub addresses: Option<&'a BTreeMap<String, BTreeMap<&'static str, Addresses>>>,
    /// Overlays that are gone but for their containers.
    pub draining: &'a [String],
    /// What is not right with the host beyond one overlay.
    pub host_errors: &'a [String],
    /// Pid of the leading overlay master.
    pub master: Option<&'a str>,
    /// What became of ranges that the agent had before.
    pub notices: &'a [String],
    /// What the agent should have had from its master and did not get.
    pub problems: &'a [String],
    /// Whether the master acknowledged what the agent last reported.
    pub registered: bool,
}

/// The master's overlays. `revision` grows with each change of one.
pub fn overlays<'a>(revision: u64, overlays: impl Iterator<Item = Overlay<'a>>) -> Vec<u8> {
    to_bytes(&Overlays {
        overlays: overlays.collect(),
        revision,
    })
}

/// One of them.
pub fn overlay(overlay: &Overlay<'_>) -> Vec<u8> {
    to_bytes(overlay)
}

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    // Maps with keys that are not strings, and failing writers, are the only
    // errors; there are neither.
    let _ = serde_json::to_writer(out, value);
}

#[derive(Serialize)]
struct NetworkConfig<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<OverlayInfo<'a>>,
    vtep_mac_oui: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_mtu: Option<u32>,
    vtep_subnet: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_subnet6: Option<&'a str>,
    vteps: Capacity,
}

#[derive(Serialize)]
struct OwnAgent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_attempts: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    draining: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    host_errors: &'a [String],
    ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notices: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<AgentOverlayInfo<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    problems: &'a [String],
    registered: bool,
}

#[derive(Serialize)]
struct Overlays<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<Overlay<'a>>,
    revision: u64,
}

/// An overlay as operators see it.
#[derive(Debug, Serialize)]
pub struct Overlay<'a> {
    /// How many subnets for agents there are, if it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_subnets: Option<Capacity>,
    /// How many agents hold it.
    pub agents: usize,
    /// Why an overlay of the configuration is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// What the configuration says, if something else is in force.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "overlay_info"
    )]
    pub file: Option<&'a proto::OverlayInfo>,
    /// The agents that have to let go of an overlay that is not in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
    /// What is in force, or was last.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "overlay_info"
    )]
    pub info: Option<&'a proto::OverlayInfo>,
    /// Its name.
    pub name: &'a str,
    /// `file`, `stored` or `none`.
    pub source: &'static str,
    /// Where it stands.
    pub state: &'static str,
}

fn overlay_info<S: serde::Serializer>(
    info: &Option<&proto::OverlayInfo>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    info.map(OverlayInfo::from).serialize(serializer)
}

#[derive(Serialize)]
struct AgentOverlayInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<&'a BTreeMap<&'static str, Addresses>>,
    backend: BackendInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    docker_bridge: Option<BridgeInfo<'a>>,
    info: OverlayInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesos_bridge: Option<BridgeInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<OverlayState<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet6: Option<&'a str>,
}

impl<'a> From<&'a proto::AgentOverlayInfo> for AgentOverlayInfo<'a> {
    fn from(overlay: &'a proto::AgentOverlayInfo) -> Self {
        AgentOverlayInfo {
            addresses: None,
            backend: BackendInfo {
                vxlan: overlay.backend.vxlan.as_ref().map(Into::into),
            },
            docker_bridge: overlay.docker_bridge.as_ref().map(Into::into),
            info: (&overlay.info).into(),
            mesos_bridge: overlay.mesos_bridge.as_ref().map(Into::into),
            state: overlay.state.as_ref().map(Into::into),
            subnet: overlay.subnet.as_deref(),
            subnet6: overlay.subnet6.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct OverlayInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_subnets: Option<Capacity>,
    enabled: bool,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix6: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet6: Option<&'a str>,
}

impl<'a> From<&'a proto::OverlayInfo> for OverlayInfo<'a> {
    fn from(overlay: &'a proto::OverlayInfo) -> Self {
        OverlayInfo {
            agent_subnets: None,
            enabled: overlay.enabled(),
            name: &overlay.name,
            prefix: overlay.prefix,
            prefix6: overlay.prefix6,
            subnet: overlay.subnet.as_deref(),
            subnet6: overlay.subnet6.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct BackendInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vxlan: Option<VxLanInfo<'a>>,
}

#[derive(Serialize)]
struct VxLanInfo<'a> {
    vni: u32,
    vtep_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_ip6: Option<&'a str>,
    vtep_mac: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_mtu: Option<u32>,
    vtep_name: &'a str,
}

impl<'a> From<&'a proto::VxLanInfo> for VxLanInfo<'a> {
    fn from(vxlan: &'a proto::VxLanInfo) -> Self {
        VxLanInfo {
            vni: vxlan.vni,
            vtep_ip: &vxlan.vtep_ip,
            vtep_ip6: vxlan.vtep_ip6.as_deref(),
            vtep_mac: &vxlan.vtep_mac,
            vtep_mtu: vxlan.vtep_mtu,
            vtep_name: &vxlan.vtep_name,
        }
    }
}

#[derive(Serialize)]
struct BridgeInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<&'a str>,
    name: &'a str,
}

impl<'a> From<&'a proto::BridgeInfo> for BridgeInfo<'a> {
    fn from(bridge: &'a proto::BridgeInfo) -> Self {
        BridgeInfo {
            ip: bridge.ip.as_deref(),
            ip6: bridge.ip6.as_deref(),
            name: &bridge.name,
        }
    }
}

#[derive(Serialize)]
struct OverlayState<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    status: &'static str,
}

impl<'a> From<&'a AgentState> for OverlayState<'a> {
    fn from(state: &'a AgentState) -> Self {
        // A number that no status has reads as the default, as in every protobuf 2.
        let status = state
            .status
            .and_then(|number| Status::try_from(number).ok())
            .unwrap_or(Status::Invalid);
        OverlayState {
            error: state.error.as_deref(),
            status: status.as_str_name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::host_api::usage::InUse;

    fn overlay() -> proto::AgentOverlayInfo {
        proto::AgentOverlayInfo {
            info: proto::OverlayInfo {
                name: "dcos".into(),
                subnet: Some("9.0.0.0/8".into()),
                prefix: Some(24),
                ..Default::default()
            },
            subnet: Some("9.0.0.0/24".into()),
            mesos_bridge: Some(proto::BridgeInfo {
                name: "m-dcos".into(),
                ip: Some("9.0.0.0/25".into()),
                ip6: None,
            }),
            docker_bridge: None,
            backend: proto::BackendInfo {
                vxlan: Some(proto::VxLanInfo {
                    vni: 1024,
                    vtep_name: "vtep1024".into(),
                    vtep_ip: "44.128.0.1/20".into(),
                    vtep_mac: "70:b3:d5:80:00:01".into(),
                    ..Default::default()
                }),
            },
            state: None,
            subnet6: None,
        }
    }

    const OVERLAY: &str = concat!(
        r#"{"backend":{"vxlan":{"vni":1024,"vtep_ip":"44.128.0.1/20","vtep_mac":"70:b3:d5:80:00:01","#,
        r#""vtep_name":"vtep1024"}},"info":{"enabled":true,"name":"dcos","prefix":24,"subnet":"9.0.0.0/8"},"#,
        r#""mesos_bridge":{"ip":"9.0.0.0/25","name":"m-dcos"},STATE"subnet":"9.0.0.0/24"}"#
    );

    #[test]
    fn state_as_readers_know_it() {
        let network = proto::NetworkConfig {
            vtep_subnet: "44.128.0.0/20".into(),
            vtep_mac_oui: "70:B3:D5:00:00:00".into(),
            overlays: vec![overlay().info],
            vtep_subnet6: None,
            vtep_mtu: Some(1400),
        };
        let info = proto::AgentInfo {
            ip: "10.0.0.1".into(),
            overlays: vec![overlay()],
            ..Default::default()
        };
        let failed = proto::agent_overlay_info::State {
            status: Some(Status::Failed.into()),
            error: Some("no \"x\"".into()),
        };
        let presence = Presence {
            connected: true,
            since_seconds: Some(7),
            last_error: Some(LastError {
                error: "no \"x\"",
                seconds_ago: 3,
            }),
            ..Presence::default()
        };
        let prepared = AgentJson::new(&info);
        let agents = || {
            let ip = Ipv4Addr::new(10, 0, 0, 1);
            let (prepared, failed) = (&prepared, &failed);
            let state = move |name: &str| (name == "dcos").then_some(failed);
            std::iter::once(Agent::new(ip, prepared, presence, state))
        };
        let room = |overlay: Option<&str>| match overlay {
            Some(name) => {
                assert_eq!(name, "dcos");
                Capacity {
                    free: Some(65_535),
                    total: Some(65_536),
                    used: Some(1),
                    ..Capacity::default()
                }
            }
            None => Capacity {
                free6: Some(u128::MAX),
                total6: Some(u128::MAX),
                used6: Some(0),
                ..Capacity::default()
            },
        };
        let with_state = OVERLAY.replace(
            "STATE",
            r#""state":{"error":"no \"x\"","status":"STATUS_FAILED"},"#,
        );
        let network_json = concat!(
            r#""network":{"overlays":[{"agent_subnets":{"free":65535,"total":65536,"used":1},"enabled":true,"#,
            r#""name":"dcos","prefix":24,"subnet":"9.0.0.0/8"}],"#,
            r#""vtep_mac_oui":"70:B3:D5:00:00:00","vtep_mtu":1400,"vtep_subnet":"44.128.0.0/20","#,
            r#""vteps":{"free6":340282366920938463463374607431768211455,"#,
            r#""total6":340282366920938463463374607431768211455,"used6":0}}"#
        );
        assert_eq!(
            String::from_utf8(state(&network, room, agents())).unwrap(),
            format!(
                concat!(
                    r#"{{"agents":[{{"connected":true,"ip":"10.0.0.1","#,
                    r#""last_error":{{"error":"no \"x\"","seconds_ago":3}},"overlays":[{}],"since_seconds":7}}],{}}}"#
                ),
                with_state, network_json
            )
        );
        assert_eq!(
            String::from_utf8(state(&network, room, agents().take(0))).unwrap(),
            format!("{{{network_json}}}")
        );
    }

    #[test]
    fn both_families_are_shown() {
        let mut info = overlay();
        info.info.subnet6 = Some("fd01:b::/64".into());
        info.info.prefix6 = Some(80);
        info.info.enabled = Some(false);
        info.subnet6 = Some("fd01:b:0:0:1::/80".into());
        let bridge = proto::BridgeInfo {
            name: "d-dcos".into(),
            ip: Some("9.0.0.128/25".into()),
            ip6: Some("fd01:b:0:0:1:8000::/81".into()),
        };
        info.docker_bridge = Some(bridge);
        info.mesos_bridge = None;
        let vxlan = info.backend.vxlan.as_mut().unwrap();
        (vxlan.vtep_ip6, vxlan.vtep_mtu) = (Some("fd01:a::1/64".into()), Some(1450));
        assert_eq!(
            String::from_utf8(to_bytes(&AgentOverlayInfo::from(&info))).unwrap(),
            concat!(
                r#"{"backend":{"vxlan":{"vni":1024,"vtep_ip":"44.128.0.1/20","vtep_ip6":"fd01:a::1/64","#,
                r#""vtep_mac":"70:b3:d5:80:00:01","vtep_mtu":1450,"vtep_name":"vtep1024"}},"#,
                r#""docker_bridge":{"ip":"9.0.0.128/25","ip6":"fd01:b:0:0:1:8000::/81","name":"d-dcos"},"#,
                r#""info":{"enabled":false,"name":"dcos","prefix":24,"prefix6":80,"subnet":"9.0.0.0/8","#,
                r#""subnet6":"fd01:b::/64"},"subnet":"9.0.0.0/24","subnet6":"fd01:b:0:0:1::/80"}"#
            )
        );
    }

    #[test]
    fn an_agent_may_have_no_overlays_and_no_state() {
        let no_overlays = proto::AgentInfo {
            ip: "10.0.0.1".into(),
            ..Default::default()
        };
        let mut bare = overlay();
        (bare.subnet, bare.mesos_bridge) = (None, None);
        let overlays = vec![overlay(), bare];
        let no_state = proto::AgentInfo {
            configuration_attempts: Some(2),
            overlays,
            ..no_overlays.clone()
        };
        let json = |info: &proto::AgentInfo| {
            let prepared = AgentJson::new(info);
            let presence = Presence::default();
            let mut out = Vec::new();
            Agent::new(Ipv4Addr::new(10, 0, 0, 1), &prepared, presence, |_| None).write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(&no_overlays), r#"{"connected":false,"ip":"10.0.0.1"}"#);
        let first = OVERLAY.replace("STATE", "");
        let (backend, _) = first.split_once(r#","mesos_bridge""#).unwrap();
        assert_eq!(
            json(&no_state),
            format!(
                r#"{{"configuration_attempts":2,"connected":false,"ip":"10.0.0.1","overlays":[{first},{backend}}}]}}"#
            )
        );
    }

    #[test]
    fn an_agent_shows_what_its_master_does_not() {
        let info = proto::AgentInfo {
            ip: "10.0.0.1".into(),
            overlays: vec![overlay()],
            configuration_attempts: Some(2),
        };
        let about = About {
            registered: true,
            ..About::default()
        };
        let bare = OVERLAY.replace("STATE", "");
        assert_eq!(
            String::from_utf8(agent(&info, &about)).unwrap(),
            format!(
                r#"{{"configuration_attempts":2,"ip":"10.0.0.1","overlays":[{bare}],"registered":true}}"#
            )
        );
        let info = proto::AgentInfo {
            ip: "10.0.0.1".into(),
            ..Default::default()
        };
        let (errors, problems) = (["e".to_owned()], ["p".to_owned()]);
        let about = About {
            addresses: None,
            draining: &["d".to_owned()],
            host_errors: &errors,
            master: Some("m@1.2.3.4:5"),
            notices: &["n".to_owned()],
            problems: &problems,
            registered: false,
        };
        assert_eq!(
            String::from_utf8(agent(&info, &about)).unwrap(),
            r#"{"draining":["d"],"host_errors":["e"],"ip":"10.0.0.1","master":"m@1.2.3.4:5","notices":["n"],"problems":["p"],"registered":false}"#
        );
    }

    #[test]
    fn an_agent_shows_how_many_addresses_it_has() {
        let info = proto::AgentInfo {
            ip: "10.0.0.1".into(),
            overlays: vec![overlay()],
            ..Default::default()
        };
        let in_use = Some(InUse { v4: 3, v6: 0 });
        let mesos = Addresses::new(&["9.0.0.0/25".parse().unwrap()], in_use);
        let addresses = [("dcos".to_owned(), [("mesos", mesos)].into())].into();
        let about = About {
            addresses: Some(&addresses),
            ..About::default()
        };
        let json = String::from_utf8(agent(&info, &about)).unwrap();
        let first = r#"{"ip":"10.0.0.1","overlays":[{"addresses":{"mesos":{"in_use":3,"total":125}},"backend":"#;
        assert!(json.starts_with(first), "{json}");
    }

    #[test]
    fn an_unset_status_is_invalid() {
        for status in [None, Some(77)] {
            let state = proto::agent_overlay_info::State {
                status,
                error: None,
            };
            let json = serde_json::to_string(&OverlayState::from(&state)).unwrap();
            assert_eq!(json, r#"{"status":"STATUS_INVALID"}"#);
        }
    }
}
