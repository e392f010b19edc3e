//! Tests of the page's files, and of the endpoints that it asks: `overview` and `agents`.

use std::fmt::Write;
use std::time::Instant;

use bytes::Bytes;
use overlay_core::proto::agent_overlay_info::{State, state::Status};
use overlay_core::proto::internal::AgentRegisteredMessage;
use overlay_core::proto::{AgentOverlayInfo, OverlayInfo};
use overlay_core::{Input, Response, StoreOutcome};
use serde_json::{Value, json};

use crate::driver::{Driver, FIRST, SECOND, THIRD};

/// Returns the answer's header, or an empty text.
fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let mut headers = response.headers.iter();
    let found = headers.find(|(header, _)| *header == name);
    found.map_or("", |(_, value)| value)
}

fn json(response: &Response) -> Value {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(response.status, 200, "{text}");
    serde_json::from_slice(&response.body).unwrap()
}

/// Returns the addresses of the agents that a query selects.
fn select(driver: &mut Driver, query: &[(&str, &str)]) -> Vec<String> {
    let agents = json(&driver.get("/overlay-master/agents", query));
    let agents = agents["agents"].as_array().cloned().unwrap_or_default();
    let ip = |agent: &Value| agent["ip"].as_str().unwrap().to_owned();
    agents.iter().map(ip).collect()
}

/// Returns a leader with three agents: the second one reports an error of its overlay `more`, the
/// third one is gone.
fn three_agents() -> Driver {
    let mut driver = Driver::leading();
    for agent in [FIRST, SECOND, THIRD] {
        driver.register_as(agent, Some("0.2.0"));
    }
    driver.stored(StoreOutcome::Stored);
    driver.stored(StoreOutcome::Stored);
    let overlay = |name: &str, error: Option<&str>| AgentOverlayInfo {
        info: OverlayInfo {
            name: name.to_owned(),
            ..Default::default()
        },
        state: Some(State {
            status: Some(match error {
                Some(_) => Status::Failed.into(),
                None => Status::Ok.into(),
            }),
            error: error.map(str::to_owned),
        }),
        ..Default::default()
    };
    let report = |error| AgentRegisteredMessage {
        overlays: vec![overlay("dcos", None), overlay("more", error)],
        ..Default::default()
    };
    driver.message(FIRST, &report(None));
    driver.message(SECOND, &report(Some("no VXLAN <b>here</b>")));
    driver.input(Input::Exited(THIRD.parse().unwrap()));
    driver
}

#[test]
fn every_master_has_the_page() {
    let standby = Driver::new();
    let mut broken = Driver::new();
    broken.lead(Bytes::from_static(b"\xff"));
    for mut driver in [standby, Driver::leading(), broken] {
        let page = driver.get("/overlay-master/ui", &[]);
        let kind = (page.status, page.content_type);
        assert_eq!(kind, (200, "text/html; charset=utf-8"));
        let policy = header(&page, "Content-Security-Policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let script = driver.get("/overlay-master/ui/main.js", &[]);
        let kind = (script.status, script.content_type);
        assert_eq!(kind, (200, "text/javascript; charset=utf-8"));
        assert_eq!(driver.get("/overlay-master/ui/none.js", &[]).status, 404);
        assert_eq!(driver.get("/overlay-master/ui/../state", &[]).status, 404);
    }
    let mut driver = Driver::new();
    for path in ["/overlay-master/overview", "/overlay-master/agents"] {
        assert_eq!(driver.get(path, &[]).status, 503, "only the leader knows");
    }
}

#[test]
fn a_slash_at_the_end_leads_to_the_page() {
    let mut driver = Driver::new();
    for (path, location) in [
        ("/overlay-master/ui/", "../ui"),
        ("/overlay-master/ui//", "../../ui"),
    ] {
        let response = driver.get(path, &[]);
        assert_eq!(
            (response.status, header(&response, "Location")),
            (308, location)
        );
    }
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let mut driver = three_agents();
    for path in [
        "/overlay-master/ui",
        "/overlay-master/ui/page.css",
        "/overlay-master/overview",
        "/overlay-master/agents",
    ] {
        let first = driver.get(path, &[]);
        let tag = header(&first, "ETag").to_owned();
        assert!(tag.starts_with("W/\""), "{path}: {tag}");
        assert_eq!(header(&first, "Cache-Control"), "no-cache");
        driver.wait(7);
        let again = driver.get_unless(path, &tag);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(header(&again, "ETag"), tag);
        assert_eq!(driver.get_unless(path, "W/\"0\"").status, 200, "{path}");
    }
    let tag = |driver: &mut Driver, path: &str| header(&driver.get(path, &[]), "ETag").to_owned();
    for path in ["/overlay-master/overview", "/overlay-master/agents"] {
        let before = tag(&mut driver, path);
        driver.input(Input::Exited(FIRST.parse().unwrap()));
        assert_ne!(tag(&mut driver, path), before, "{path}");
        driver.register(FIRST);
    }
    // An agent that was lost and is back is as before, but not since then.
    let before = tag(&mut driver, "/overlay-master/agents");
    driver.wait(1);
    driver.input(Input::Exited(FIRST.parse().unwrap()));
    driver.register(FIRST);
    assert_ne!(tag(&mut driver, "/overlay-master/agents"), before);
}

/// The master says whose leases have ended, also of agents that it has not seen.
#[test]
fn leases_end_at_the_same_time_for_the_page_and_for_requests() {
    const LEASE: &str = r#"{"agent_lease": "15secs", "network": {"vtep_subnet": "44.128.0.0/29",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "more", "subnet": "10.1.0.0/16", "prefix": 24}]}}"#;
    let mut driver = Driver::with_config(LEASE);
    driver.lead(Bytes::new());
    for agent in [FIRST, SECOND] {
        driver.register(agent);
    }
    driver.stored(StoreOutcome::Stored);
    driver.stored(StoreOutcome::Stored);
    let log = driver.log.clone();
    // The next leader has seen none of them, until the first one registers.
    let mut driver = Driver::with_config(LEASE);
    driver.lead(log);
    driver.register(FIRST);
    let ends = |driver: &mut Driver| {
        let response = driver.get("/overlay-master/agents", &[]);
        let agents = json(&response)["agents"].as_array().cloned().unwrap();
        let ends = |agent: &Value| agent["lease_ends_in_seconds"].as_u64();
        let tag = header(&response, "ETag").to_owned();
        (agents.iter().map(ends).collect::<Vec<_>>(), tag)
    };
    let (before, tag) = ends(&mut driver);
    assert_eq!(before, [None, Some(15)]);
    driver.wait(14);
    assert_eq!(ends(&mut driver), (vec![None, Some(1)], tag.clone()));
    assert_eq!(select(&mut driver, &[("status", "expired")]), [""; 0]);
    let named = r#"{"agents": ["10.0.0.2"]}"#;
    let refused = driver.post("/overlay-master/agents/reclaim", named);
    assert_eq!(refused.status, 409);
    driver.wait(1);
    let (after, later) = ends(&mut driver);
    assert_eq!(after, [None, Some(0)]);
    assert_ne!(later, tag);
    assert_eq!(select(&mut driver, &[("status", "expired")]), ["10.0.0.2"]);
}

#[test]
fn the_overview_counts_agents() {
    let mut driver = three_agents();
    let overview = json(&driver.get("/overlay-master/overview", &[]));
    assert_eq!(
        overview["agents"],
        json!({"connected": 2, "failing": 1, "total": 3})
    );
    assert_eq!(overview["dns_domain"], "dcos.thisdcos.directory");
    assert_eq!(overview["network"]["vteps"]["used"], 3);
    let overlay = |name: &str| {
        let overlays = overview["overlays"].as_array().unwrap();
        let found = overlays.iter().find(|overlay| overlay["name"] == name);
        found.unwrap().clone()
    };
    let more = overlay("more");
    assert_eq!(
        (&more["agents"], &more["connected"], &more["failing"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert_eq!(more["agent_subnets"]["used"], 3);
    assert_eq!(
        (&more["state"], &more["source"]),
        (&json!("active"), &json!("file"))
    );
    assert_eq!(overlay("dcos")["failing"], 0);
    assert_eq!(overlay("six")["state"], "disabled");
    // A disabled overlay is one of the networks, without agents.
    assert_eq!(overlay("six")["agents"], 0);
}

#[test]
fn agents_are_selected_by_the_master() {
    let mut driver = three_agents();
    let (first, second, third) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
    let state = driver.state();
    let of = |agent: usize, overlay: &str| {
        let overlays = state["agents"][agent]["overlays"].as_array().unwrap();
        let found = overlays.iter().find(|one| one["info"]["name"] == overlay);
        found.unwrap()["subnet"].as_str().unwrap().to_owned()
    };
    let more = of(1, "more");
    let inside = more.replace(".0/24", ".77");
    for (query, agents) in [
        (&[][..], &[first, second, third][..]),
        (&[("network", "more")], &[first, second, third]),
        (&[("network", "six")], &[]),
        (&[("network", "none")], &[]),
        (&[("agent", "10.0.0.3")], &[third]),
        (&[("agent", "10.0.0.3,10.0.0.1,10.9.9.9")], &[first, third]),
        (&[("status", "connected")], &[first, second]),
        (&[("status", "disconnected")], &[third]),
        (&[("status", "failing")], &[second]),
        (&[("status", "failing"), ("network", "more")], &[second]),
        // As the overview counts them.
        (&[("status", "failing"), ("network", "dcos")], &[]),
        (&[("status", "expired")], &[]),
        (&[("q", "10.0.0.2")], &[second]),
        (&[("q", "10.0.0.0/30")], &[first, second, third]),
        (&[("q", &inside)], &[second]),
        (&[("q", &more)], &[second]),
        (&[("q", "44.128.0.3")], &[third]),
        (&[("q", "80:00:03")], &[third]),
        (&[("q", "VXLAN <b>")], &[second]),
        (&[("q", "0.2.0")], &[first, second, third]),
        (&[("q", "nothing has this")], &[]),
        (&[("q", "nothing"), ("also", "10.0.0.3")], &[third]),
        (
            &[("q", "10.0.0.2/32"), ("also", "10.0.0.3")],
            &[second, third],
        ),
        (&[("q", "mesos_bridge")], &[]),
        (
            &[
                ("q", "10.0.0.2"),
                ("status", "connected"),
                ("network", "more"),
            ],
            &[second],
        ),
    ] {
        assert_eq!(select(&mut driver, query), agents, "{query:?}");
    }
}

#[test]
fn agents_are_shown_in_parts() {
    let mut driver = three_agents();
    let part = |driver: &mut Driver, limit: &str, offset: &str| {
        let query = [("limit", limit), ("offset", offset)];
        json(&driver.get("/overlay-master/agents", &query))
    };
    let answer = part(&mut driver, "2", "1");
    assert_eq!(
        (&answer["matched"], &answer["offset"], &answer["total"]),
        (&json!(3), &json!(1), &json!(3))
    );
    assert_eq!(answer["agents"].as_array().unwrap().len(), 2);
    assert_eq!(answer["agents"][0]["ip"], "10.0.0.2");
    assert_eq!(part(&mut driver, "1", "7").get("agents"), None);
    // Agents are as in the state.
    let state = driver.state();
    let all = json(&driver.get("/overlay-master/agents", &[]));
    assert_eq!(all["agents"], state["agents"]);
}

#[test]
fn a_wrong_query_is_refused() {
    let mut driver = three_agents();
    let many = "10.0.0.1,".repeat(201);
    for (key, value, says) in [
        (
            "networks",
            "a",
            "there is no parameter \"networks\"; did you mean network?",
        ),
        (
            "limit",
            "0",
            "limit: \"0\" is not a number of at least 1 and at most 1000",
        ),
        ("limit", "1001", "limit: "),
        (
            "offset",
            "-1",
            "offset: \"-1\" is not a number of at least 0.",
        ),
        (
            "status",
            "lost",
            "status: \"lost\" is none of connected, disconnected, failing and expired",
        ),
        ("jsonp", "f", "there is no parameter \"jsonp\""),
        (
            "agent",
            "fd00::1",
            "agent: \"fd00::1\" is not an IPv4 address",
        ),
        ("agent", &many, "more than 200 agents"),
        ("q", &"x".repeat(201), "q has more than 200 bytes"),
    ] {
        let response = driver.get("/overlay-master/agents", &[(key, value)]);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, 400, "{key}: {text}");
        assert!(text.contains(says), "{text}");
    }
    let overview = driver.get("/overlay-master/overview", &[("jsonp", "f")]);
    assert_eq!(overview.status, 400);
}

/// Overlays of the agents: more of them only where the code is optimised.
const OVERLAYS: usize = if cfg!(debug_assertions) { 2 } else { 20 };

/// Prints how long each answer takes with 10,000 agents: `cargo nextest run --release -p
/// overlay-core --test master answers_to_the_page --no-capture`. The bound is for a debug build on
/// a busy machine; docs/dev/performance.md has the times.
#[test]
fn answers_to_the_page_take_milliseconds() {
    const AGENTS: u32 = 10_000;
    let names = || (0..OVERLAYS).map(|number| format!("net{number}"));
    let overlay = |(number, name): (usize, String)| json!({"name": name, "subnet": format!("{}.0.0.0/8", 11 + number), "prefix": 24});
    let overlays: Vec<_> = names().enumerate().map(overlay).collect();
    let config = json!({"network": {"vtep_subnet": "44.128.0.0/16",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": overlays}});
    let mut driver = Driver::with_config(&config.to_string());
    driver.lead(Bytes::new());
    for number in 0..AGENTS {
        let [_, a, b, c] = number.to_be_bytes();
        driver.register(&format!("overlay-agent@10.{a}.{b}.{c}:5051"));
    }
    while driver.writing.is_some() {
        driver.stored(StoreOutcome::Stored);
    }
    let ok = |name| AgentOverlayInfo {
        info: OverlayInfo {
            name,
            ..Default::default()
        },
        state: Some(State {
            status: Some(Status::Ok.into()),
            error: None,
        }),
        ..Default::default()
    };
    let report = AgentRegisteredMessage {
        overlays: names().map(ok).collect(),
        ..Default::default()
    };
    for number in 0..AGENTS {
        let [_, a, b, c] = number.to_be_bytes();
        driver.message(&format!("overlay-agent@10.{a}.{b}.{c}:5051"), &report);
    }
    let total = &json(&driver.get("/overlay-master/overview", &[]))["agents"]["total"];
    assert_eq!(*total, AGENTS);
    let mut table = String::new();
    for (path, query) in [
        ("overview", &[][..]),
        ("agents", &[]),
        ("agents", &[("limit", "1000"), ("offset", "9000")]),
        ("agents", &[("network", "net1"), ("offset", "5000")]),
        ("agents", &[("status", "failing")]),
        ("agents", &[("q", "11.20.7.9")]),
        ("agents", &[("q", "no agent has this")]),
        ("state", &[]),
    ] {
        // Each other input makes a new overview.
        let input = |driver: &mut Driver| driver.message(FIRST, &report);
        // The shortest: other programs on the machine do not count.
        let time = (0..21)
            .map(|_| {
                input(&mut driver);
                let start = Instant::now();
                let response = driver.get(&format!("/overlay-master/{path}"), query);
                assert_eq!(response.status, 200);
                start.elapsed()
            })
            .min()
            .unwrap_or_default();
        let _ = writeln!(
            table,
            "{path:<10} {query:<40?} {:>8.2} ms",
            time.as_secs_f64() * 1e3
        );
        assert!(time.as_millis() < 1000, "{table}");
    }
    driver.get("/overlay-master/overview", &[]);
    let start = Instant::now();
    driver.get("/overlay-master/overview", &[]);
    let again = start.elapsed();
    println!("{table}the same overview again: {again:?}");
}
