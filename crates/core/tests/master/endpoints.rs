//! Tests of the endpoints `state` and `health`.

use bytes::Bytes;
use overlay_core::proto::internal::AgentRegisteredMessage;
use overlay_core::{Input, StoreOutcome};
use serde_json::{Value, json};

use crate::driver::{Driver, FIRST, SECOND, THIRD};

#[test]
fn the_state_has_the_free_subnets() {
    let mut driver = Driver::leading();
    let capacity = |driver: &mut Driver| {
        let network = driver.state()["network"].clone();
        let overlay = |index: usize| network["overlays"][index]["agent_subnets"].clone();
        [overlay(0), overlay(1), overlay(2), network["vteps"].clone()]
    };
    let numbers =
        |used: u32, total: u32| json!({"free": total - used, "total": total, "used": used});
    let six = json!({"free6": 65_536, "total6": 65_536, "used6": 0});
    assert_eq!(
        capacity(&mut driver),
        [numbers(0, 2), numbers(0, 256), six.clone(), numbers(0, 6)]
    );
    for agent in [FIRST, SECOND, THIRD] {
        driver.register(agent);
    }
    driver.stored(StoreOutcome::Stored);
    driver.stored(StoreOutcome::Stored);
    assert_eq!(
        capacity(&mut driver),
        [numbers(2, 2), numbers(3, 256), six, numbers(3, 6)]
    );
}

/// Agents of other implementations, and of release 0.1, do not say which release they are.
#[test]
fn the_state_has_the_releases_of_agents() {
    let mut driver = Driver::leading();
    driver.register(FIRST);
    driver.register_as(SECOND, Some("0.2.0"));
    // A release is one short line, whatever the message has.
    let long = format!("\u{1b}[2J{}", "9".repeat(10_000));
    driver.register_as(THIRD, Some(&long));
    driver.stored(StoreOutcome::Stored);
    driver.stored(StoreOutcome::Stored);
    let releases = |driver: &mut Driver| {
        let state = driver.state();
        let agents = state["agents"].as_array().unwrap().clone();
        agents
            .iter()
            .map(|agent| agent["release"].clone())
            .collect::<Vec<_>>()
    };
    let short = format!(" [2J{}…", "9".repeat(28));
    assert_eq!(
        releases(&mut driver),
        [Value::Null, json!("0.2.0"), json!(short)]
    );
    // An agent that goes back to release 0.1 has none any more.
    driver.register(SECOND);
    assert_eq!(releases(&mut driver)[1], Value::Null);
}

#[test]
fn the_state_has_the_connection_and_the_last_error() {
    let mut driver = Driver::leading();
    driver.register(FIRST);
    driver.stored(StoreOutcome::Stored);
    let shown = |driver: &mut Driver| {
        let agent = driver.state()["agents"][0].clone();
        (
            agent["connected"].clone(),
            agent["since_seconds"].clone(),
            agent["last_error"].clone(),
        )
    };
    driver.wait(5);
    assert_eq!(shown(&mut driver), (json!(true), json!(5), Value::Null));
    // Agents register again to refresh their data.
    driver.register(FIRST);
    assert_eq!(shown(&mut driver), (json!(true), json!(5), Value::Null));
    let report = AgentRegisteredMessage {
        host_errors: vec!["no vxlan".to_owned()],
        ..Default::default()
    };
    driver.message(FIRST, &report);
    driver.message(FIRST, &AgentRegisteredMessage::default());
    driver.wait(3);
    let error = |seconds: u64| json!({"error": "no vxlan", "seconds_ago": seconds});
    assert_eq!(
        shown(&mut driver),
        (json!(true), json!(8), error(3)),
        "the last error is kept after it was resolved"
    );
    driver.input(Input::Exited(FIRST.parse().unwrap()));
    driver.wait(2);
    assert_eq!(shown(&mut driver), (json!(false), json!(2), error(5)));
    driver.register(FIRST);
    assert_eq!(shown(&mut driver), (json!(true), json!(0), error(5)));
    // A new process of the master has no sessions.
    let log = driver.log.clone();
    let mut driver = Driver::new();
    driver.lead(log);
    assert_eq!(shown(&mut driver), (json!(false), Value::Null, Value::Null));
}

#[test]
fn the_report_of_another_process_at_the_same_address_is_not_shown() {
    let mut driver = Driver::leading();
    driver.register(FIRST);
    driver.stored(StoreOutcome::Stored);
    let shown = |driver: &mut Driver| driver.state()["agents"][0]["host_errors"].clone();
    let report = AgentRegisteredMessage {
        host_errors: vec!["no vxlan".to_owned()],
        ..Default::default()
    };
    driver.message(FIRST, &report);
    assert_eq!(shown(&mut driver), json!(["no vxlan"]));
    driver.register(FIRST);
    assert_eq!(
        shown(&mut driver),
        json!(["no vxlan"]),
        "the process has not reported since"
    );
    driver.input(Input::Exited(FIRST.parse().unwrap()));
    driver.register("overlay-agent@10.0.0.1:6000");
    assert_eq!(shown(&mut driver).as_array().map_or(0, Vec::len), 0);
}

#[test]
fn repeated_and_unknown_keys_of_a_request_are_refused() {
    let mut driver = Driver::leading();
    let mut says = |path: &str, body: &str| {
        let response = driver.post(path, body.to_owned());
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, 400, "{body}: {text}");
        text
    };
    for (action, body, what) in [
        (
            "delete",
            r#"{"agents": ["10.0.0.1"], "agents": ["10.0.0.2"]}"#,
            r#"The body has "agents" twice; the body must look like"#,
        ),
        (
            "delete",
            r#"{"agents": ["10.0.0.1"], "Force": true}"#,
            r#"The body has the unknown key "Force" (did you mean "force"?)"#,
        ),
        (
            "unconfirm",
            r#"{"agents": [], "force": true}"#,
            r#"the unknown key "force""#,
        ),
        (
            "reclaim",
            r#"{"agent": ["10.0.0.1"]}"#,
            r#"(did you mean "agents"?)"#,
        ),
        ("reclaim", "{\"a\": \"\u{0}\"}", "The body is not JSON"),
    ] {
        let text = says(&format!("/overlay-master/agents/{action}"), body);
        assert!(text.contains(what), "{text}");
    }
    let delete = |driver: &mut Driver, body: &[u8]| {
        driver.post("/overlay-master/agents/delete", body.to_vec())
    };
    let response = delete(&mut driver, b"\xff\xfe{\0}\0");
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert!(
        text.starts_with("The body is UTF-16; save it as UTF-8"),
        "{text}"
    );
}

#[test]
fn an_exhausted_range_is_an_error_of_the_agent() {
    let mut driver = Driver::leading();
    for agent in [FIRST, SECOND, THIRD] {
        driver.register(agent);
    }
    driver.stored(StoreOutcome::Stored);
    driver.stored(StoreOutcome::Stored);
    let errors = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| {
        let state = driver.state();
        let agent = state["agents"]
            .as_array()
            .unwrap()
            .iter()
            .find(|agent| agent["ip"] == ip)
            .unwrap();
        agent["last_error"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    assert_eq!((errors[0].as_str(), errors[1].as_str()), ("", ""));
    assert!(
        errors[2].starts_with("no /31 is left for overlay dcos in 9.0.0.0/30"),
        "{}",
        errors[2]
    );
}

#[test]
fn health_is_for_load_balancers() {
    let check = |driver: &mut Driver, status: &str, codes: [u16; 2]| {
        for (query, code) in [(&[][..], codes[0]), (&[("standby", "ok")][..], codes[1])] {
            let response = driver.get("/overlay-master/health", query);
            assert_eq!(
                (response.status, response.content_type),
                (code, "application/json"),
                "{status}"
            );
            let health: Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(health["status"], status);
            assert_eq!(health["reason"].is_null(), status == "serving", "{health}");
        }
    };
    let mut driver = Driver::new();
    check(&mut driver, "standby", [503, 200]);
    driver.input(Input::Leader(Some(
        "master@10.255.0.2:5050".parse().unwrap(),
    )));
    check(&mut driver, "standby", [503, 200]);
    let health = driver.get("/overlay-master/health", &[]);
    assert!(String::from_utf8_lossy(&health.body).contains(r#""leader":"10.255.0.2:5050""#));
    driver.input(Input::Leader(Some(
        "master@10.255.0.1:5050".parse().unwrap(),
    )));
    check(&mut driver, "recovering", [503, 503]);
    driver.input(Input::Fetched(Ok(Bytes::new())));
    check(&mut driver, "serving", [200, 200]);
    let mut driver = Driver::new();
    driver.lead(Bytes::from_static(b"\xff"));
    check(&mut driver, "broken", [503, 503]);
}
