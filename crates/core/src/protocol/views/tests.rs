//! Tests of the JSON of the endpoints.

use std::net::Ipv4Addr;

use proto::agent_overlay_info::state::Status;

use super::messages::{AgentOverlayInfo, OverlayState};
use super::*;
use crate::allocation::allocator::Capacity;
use crate::host_api::usage::{Addresses, InUse};
use crate::proto;

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
        ..Default::default()
    }
}

const OVERLAY: &str = concat!(
    r#"{"backend":{"vxlan":{"vni":1024,"vtep_ip":"44.128.0.1/20","vtep_mac":"70:b3:d5:80:00:01","#,
    r#""vtep_name":"vtep1024"}},"info":{"enabled":true,"name":"dcos","prefix":24,"subnet":"9.0.0.0/8"},"#,
    r#""mesos_bridge":{"ip":"9.0.0.0/25","name":"m-dcos"},STATE"subnet":"9.0.0.0/24"}"#
);

#[test]
fn the_state_has_the_form_that_readers_expect() {
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
        release: Some("0.1.9"),
        ..Presence::default()
    };
    let prepared = AgentJson::new(&info);
    let agents = || {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let (prepared, failed) = (&prepared, &failed);
        let state = move |name: &str| (name == "dcos").then_some(failed);
        std::iter::once(Agent::new(ip, prepared, presence.clone(), state))
    };
    let capacity = |overlay: Option<&str>| match overlay {
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
        String::from_utf8(state(&network, capacity, agents(), &[], Some("0.2.0"))).unwrap(),
        format!(
            concat!(
                r#"{{"agents":[{{"connected":true,"ip":"10.0.0.1","#,
                r#""last_error":{{"error":"no \"x\"","seconds_ago":3}},"overlays":[{}],"release":"0.1.9","since_seconds":7}}],"#,
                r#"{},"release":"0.2.0"}}"#
            ),
            with_state, network_json
        )
    );
    assert_eq!(
        String::from_utf8(state(&network, capacity, agents().take(0), &[], None)).unwrap(),
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
fn an_agent_shows_more_of_itself_than_its_master() {
    let info = proto::AgentInfo {
        ip: "10.0.0.1".into(),
        overlays: vec![overlay()],
        configuration_attempts: Some(2),
        ..Default::default()
    };
    let details = AgentDetails {
        registered: true,
        ..AgentDetails::default()
    };
    let bare = OVERLAY.replace("STATE", "");
    assert_eq!(
        String::from_utf8(agent(&info, &details)).unwrap(),
        format!(
            r#"{{"configuration_attempts":2,"ip":"10.0.0.1","overlays":[{bare}],"registered":true}}"#
        )
    );
    let info = proto::AgentInfo {
        ip: "10.0.0.1".into(),
        ..Default::default()
    };
    let (errors, problems) = (["e".to_owned()], ["p".to_owned()]);
    let details = AgentDetails {
        addresses: None,
        draining: &["d".to_owned()],
        host_errors: &errors,
        master: Some("m@1.2.3.4:5"),
        master_authentication: Some("confirmed"),
        notices: &["n".to_owned()],
        problems: &problems,
        registered: false,
    };
    assert_eq!(
        String::from_utf8(agent(&info, &details)).unwrap(),
        r#"{"draining":["d"],"host_errors":["e"],"ip":"10.0.0.1","master":"m@1.2.3.4:5","master_authentication":"confirmed","notices":["n"],"problems":["p"],"registered":false}"#
    );
}

#[test]
fn an_agent_shows_how_many_addresses_it_has() {
    let info = proto::AgentInfo {
        ip: "10.0.0.1".into(),
        overlays: vec![overlay()],
        ..Default::default()
    };
    let in_use = Some(InUse {
        v4: 3,
        v6: 0,
        leaked: 0,
    });
    let mesos = Addresses::new(&["9.0.0.0/25".parse().unwrap()], in_use);
    let addresses = [("dcos".to_owned(), [("mesos", mesos)].into())].into();
    let details = AgentDetails {
        addresses: Some(&addresses),
        ..AgentDetails::default()
    };
    let json = String::from_utf8(agent(&info, &details)).unwrap();
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
