//! Bounds of what a master keeps of reports, and of what it reads of requests.

use overlay_core::StoreOutcome;
use overlay_core::proto::agent_overlay_info::State;
use overlay_core::proto::internal::{AgentRegisteredMessage, PeersReceivedMessage, PeersVersion};
use overlay_core::proto::{AgentOverlayInfo, OverlayInfo};
use overlay_core::protocol::limits::{MAX_AGENTS, MAX_BODY};
use serde_json::{Value, json};

use crate::driver::{Driver, FIRST};

fn overlay(name: &str, error: &str) -> AgentOverlayInfo {
    AgentOverlayInfo {
        info: OverlayInfo {
            name: name.to_owned(),
            ..OverlayInfo::default()
        },
        state: Some(State {
            status: Some(2),
            error: Some(error.to_owned()),
        }),
        ..AgentOverlayInfo::default()
    }
}

/// Returns a leader with one agent.
fn with_agent() -> Driver {
    let mut driver = Driver::leading();
    driver.register(FIRST);
    driver.stored(StoreOutcome::Stored);
    driver
}

#[test]
fn a_report_is_kept_in_part() {
    let mut driver = with_agent();
    let long = "x".repeat(50_000);
    let mut overlays: Vec<_> = (0..20_000)
        .map(|number| overlay(&format!("unknown{number}"), "x"))
        .collect();
    overlays.extend([overlay("dcos", "old"), overlay("more", &long)]);
    overlays.extend([overlay("dcos", "new")]);
    let report = AgentRegisteredMessage {
        overlays,
        host_errors: (0..149).map(|number| number.to_string()).collect(),
        draining: (0..20_000).map(|number| number.to_string()).collect(),
        ..AgentRegisteredMessage::default()
    };
    driver.message(FIRST, &report);
    let agent = driver.state()["agents"][0].clone();
    let errors = agent["host_errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[32]), (33, &json!("… and 117 more")));
    let error = |index: usize| agent["overlays"][index]["state"]["error"].clone();
    assert_eq!(error(0), json!("new"));
    assert_eq!(error(1), json!(format!("{}…", "x".repeat(1_000))));
    let last = agent["last_error"]["error"].as_str().unwrap();
    assert!(last.chars().count() <= 1_001, "{last}");
    assert!(agent.to_string().len() < 5_000, "{agent}");
}

#[test]
fn a_report_with_too_many_elements_is_dropped() {
    let mut driver = with_agent();
    let good = AgentRegisteredMessage {
        host_errors: vec!["known".to_owned()],
        ..AgentRegisteredMessage::default()
    };
    driver.message(FIRST, &good);
    for report in [
        AgentRegisteredMessage {
            overlays: vec![AgentOverlayInfo::default(); MAX_AGENTS + 1],
            ..AgentRegisteredMessage::default()
        },
        AgentRegisteredMessage {
            host_errors: vec!["x".repeat(20 << 20)],
            ..AgentRegisteredMessage::default()
        },
    ] {
        driver.message(FIRST, &report);
        let errors = driver.state()["agents"][0]["host_errors"].clone();
        assert_eq!(errors, json!(["known"]));
    }
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let mut driver = with_agent();
    let before = driver.state();
    for number in [u64::MAX, u64::MAX - 1, 1 << 63, 0] {
        let version = PeersVersion {
            epoch: Some(number),
            version: Some(number),
            digest: Some(number),
        };
        driver.message(
            FIRST,
            &PeersReceivedMessage {
                version,
                ..PeersReceivedMessage::default()
            },
        );
        driver.message(
            FIRST,
            &AgentRegisteredMessage {
                revision: Some(number),
                ..AgentRegisteredMessage::default()
            },
        );
    }
    assert_eq!(driver.state(), before);
}

#[test]
fn a_body_has_a_largest_size() {
    let mut driver = with_agent();
    let response = driver.post("/overlay-master/agents/delete", vec![b' '; MAX_BODY + 1]);
    assert_eq!(response.status, 413);
    let agents: Vec<Value> = vec![json!("1.1.1.1"); MAX_AGENTS + 1];
    let body = json!({ "agents": agents }).to_string();
    let response = driver.post("/overlay-master/agents/delete", body);
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, 400, "{text}");
    assert!(text.contains("more than 100000 elements"), "{text}");
}
