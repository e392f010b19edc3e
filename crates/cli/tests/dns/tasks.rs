//! Names of tasks from their start to their end.

use std::net::IpAddr;
use std::time::Instant;
use std::{env, fs};

use overlay_dns::events::{self, Item, State};
use serde_json::{Value, json};
use testbed::framework::{Framework, TaskSpec};
use testbed::recordio::Events;

use crate::bed::{DOMAIN, LIMIT, PROMISE, SERVER, Server, run, setup, start};

#[test]
fn a_task_has_names_while_it_runs() {
    let Some(setup) = setup("a_task_has_names_while_it_runs", 1, 2) else {
        return;
    };
    let cluster = start(&setup);
    let mut server = Server::start(&cluster, &cluster.master, SERVER, &[]);
    server.wait_ready();
    let agent: IpAddr = cluster.agents[0].ip().parse().unwrap();
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    // A first task, so that the framework and its agent are nothing new.
    run(
        &framework,
        &TaskSpec::new("first", &cluster.agents[0].ip(), None),
    );

    let mut spec = TaskSpec::new("t1", &cluster.agents[0].ip(), Some("dcos"));
    spec.info = json!({
        "name": "Web_Server.shop",
        "discovery": {
            "visibility": "CLUSTER", "name": "shop.Web_Server",
            "ports": { "ports": [{ "number": 80, "name": "http", "protocol": "tcp" }] },
        },
    });
    let state = run(&framework, &spec);
    let running = Instant::now();
    assert_eq!(state.ips.len(), 2, "{state:?}");
    server.wait_addresses("shop-web-server.testbed.containerip", PROMISE, &state.ips);
    println!("a name after {:?}", running.elapsed());
    server.wait_addresses("shop-web-server.testbed.autoip", PROMISE, &state.ips);
    server.wait_addresses("shop-web-server.testbed.agentip", PROMISE, &[agent]);
    server.wait_addresses("SHOP-web-server.testbed.dcos.overlay", PROMISE, &state.ips);
    server.wait_addresses("first.testbed.containerip", LIMIT, &[agent]);
    // There is no second name, and a name between others is no error.
    server.wait_status("web-server-shop.testbed.containerip", PROMISE, "NXDOMAIN");
    server.wait_status("testbed.containerip", PROMISE, "NOERROR");

    let name = format!("shop-web-server.testbed.containerip.{DOMAIN}");
    let v4 = state
        .ips
        .iter()
        .find(|ip| ip.is_ipv4())
        .unwrap()
        .to_string();
    let instance = format!("{}.{name}.", v4.replace('.', "-"));
    let service = server.dig(&format!("_http._tcp.{name}"), "SRV").unwrap();
    assert_eq!(service.data, [format!("0 0 80 {instance}")]);
    assert_eq!(server.dig(&instance, "A").unwrap().data.concat(), v4);
    // The ranges of the overlays are asked for once a master is found.
    let labels: Vec<&str> = v4.split('.').rev().collect();
    let reverse = format!("{}.in-addr.arpa", labels.join("."));
    assert_eq!(
        server.dig(&reverse, "PTR").unwrap().data,
        [format!("{name}.")]
    );
    let leader = server.dig(&format!("leader.{DOMAIN}"), "A").unwrap();
    assert_eq!(leader.data, [cluster.master.ip()]);
    let masters = server.dig(&format!("master.{DOMAIN}"), "A").unwrap();
    assert_eq!(masters, leader);

    framework.kill("t1").unwrap();
    framework.wait_ended("t1", LIMIT).unwrap();
    let ended = Instant::now();
    server.wait_status("shop-web-server.testbed.containerip", PROMISE, "NXDOMAIN");
    println!("gone after {:?}", ended.elapsed());
    server.wait_status("shop-web-server.testbed.dcos.overlay", PROMISE, "NXDOMAIN");
    assert_eq!(server.dig(&reverse, "PTR").unwrap().status, "NXDOMAIN");
}

#[test]
fn instances_share_a_name_and_networks_have_their_own() {
    let Some(setup) = setup("instances_share_a_name_and_networks_have_their_own", 1, 2) else {
        return;
    };
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let named = |id: &str, agent: usize, network: &str| {
        let mut spec = TaskSpec::new(id, &cluster.agents[agent].ip(), Some(network));
        spec.info = json!({ "name": "app" });
        spec
    };
    // Tasks that ran before the server was started.
    let one = run(&framework, &named("one", 0, "dcos")).ips;
    let two = run(&framework, &named("two", 1, "web")).ips;
    let server = Server::start(&cluster, &cluster.master, SERVER, &[]);
    let both = [one.clone(), two.clone()].concat();
    server.wait_addresses("app.testbed.containerip", LIMIT, &both);
    server.wait_addresses("app.testbed.dcos.overlay", LIMIT, &one);
    server.wait_addresses("app.testbed.web.overlay", LIMIT, &two);
    let name = format!("app.testbed.web.overlay.{DOMAIN}");
    let six = server.dig(&name, "AAAA").unwrap();
    assert_eq!((six.status.as_str(), six.data.len()), ("NOERROR", 0));
    framework.kill("one").unwrap();
    framework.wait_ended("one", LIMIT).unwrap();
    server.wait_addresses("app.testbed.containerip", PROMISE, &two);
    server.wait_status("app.testbed.dcos.overlay", PROMISE, "NXDOMAIN");

    // A port of the host leads to the agent.
    let mut spec = named("three", 0, "web");
    spec.info = json!({
        "name": "ported",
        "discovery": {
            "visibility": "CLUSTER",
            "ports": { "ports": [{ "number": 8080, "name": "http", "protocol": "tcp" }] },
        },
    });
    spec.ports = vec![(31_080, 8080)];
    let three = run(&framework, &spec).ips;
    let agent: IpAddr = cluster.agents[0].ip().parse().unwrap();
    server.wait_addresses("ported.testbed.autoip", PROMISE, &[agent]);
    server.wait_addresses("ported.testbed.containerip", PROMISE, &three);
    let service = |kind: &str| {
        let name = format!("_http._tcp.ported.testbed.{kind}.{DOMAIN}");
        server.dig(&name, "SRV").unwrap().data.join(" ")
    };
    assert!(
        service("containerip").starts_with("0 0 8080 10-64-"),
        "{}",
        service("containerip")
    );
    assert!(
        service("agentip").starts_with("0 0 31080 10-77-1-1."),
        "{}",
        service("agentip")
    );
    assert_eq!(service("autoip"), service("agentip"));
}

/// Events that the unit tests of the name server replay. `UPDATE_FIXTURES=1` records them anew.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dns/tests/fixtures/events");

/// Returns the event without what is of the machine that it was recorded on.
fn without_paths(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('/') && text.parse::<ipnet::IpNet>().is_err() => {
            *text = "/a/path".to_owned();
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_paths),
        Value::Object(members) => members.values_mut().for_each(without_paths),
        _ => {}
    }
}

#[test]
fn a_masters_events_are_understood() {
    let Some(setup) = setup("a_masters_events_are_understood", 1, 1) else {
        return;
    };
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let agent = cluster.agents[0].ip();
    run(&framework, &TaskSpec::new("before", &agent, Some("dcos")));
    let headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json"),
    ];
    let body = br#"{"type":"SUBSCRIBE"}"#;
    let stream = cluster
        .master
        .client()
        .stream("/api/v1", &headers, body)
        .unwrap();
    let mut spec = TaskSpec::new("later", &agent, Some("dcos"));
    spec.info = json!({ "discovery": {
        "visibility": "CLUSTER", "name": "found.by",
        "ports": { "ports": [{ "number": 8080, "name": "http", "protocol": "tcp" }] },
    } });
    spec.ports = vec![(31_080, 8080)];
    run(&framework, &spec);
    framework.kill("before").unwrap();
    framework.wait_ended("before", LIMIT).unwrap();

    let mut recorded = Vec::new();
    let mut ended = 0;
    for event in Events::new(stream.reader) {
        let mut event = event.unwrap();
        let text = event.to_string();
        events::decode(text.as_bytes(), &mut |item| {
            if let Item::Status { state, .. } = item {
                ended += usize::from(state == State::Ended);
            }
        })
        .unwrap();
        without_paths(&mut event);
        let text = event.to_string();
        recorded.extend_from_slice(format!("{}\n{text}", text.len()).as_bytes());
        if ended > 0 {
            break;
        }
    }
    if env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(RECORDED, recorded).unwrap();
    }
}
