//! Tests of the container engine's networks with real engines. Each test host has its own; the
//! machine's engine, if there is one, is not used.
use std::time::{Duration, Instant};

use overlay_core::EngineReport;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::problem::Problem;
use overlay_core::host_api::usage::{InUse, assignable};
use serde_json::json;
use testkit::engine::{DockerHost, EngineKeeper, FakeEngine, HungEngine, network};
use testkit::host::{eventually, net};

mod stopped;

/// Time limit of a repair, and timeout of the fake engine's calls.
const REPAIR: Duration = Duration::from_secs(2);

#[test]
fn network_is_created_once() {
    if !testbed::skip::require_docker("network_is_created_once") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    let desired = host.desired(1);
    assert_eq!(keeper.apply_ok(&desired), 1);
    let made = host.network("dcos").unwrap();
    assert_eq!(made["Driver"], "bridge");
    assert_eq!(made["EnableIPv6"], true);
    let mut options = made["Options"].clone();
    // Since release 28.2.
    let trusted = "com.docker.network.bridge.trusted_host_interfaces";
    if let Some(trusted) = options.as_object_mut().unwrap().remove(trusted) {
        assert_eq!(trusted, "vtep1024:m-dcos");
    }
    assert_eq!(
        options,
        json!({
            "com.docker.network.bridge.enable_ip_masquerade": "false",
            "com.docker.network.bridge.name": "d-dcos",
            "com.docker.network.driver.mtu": "1420",
        })
    );
    assert_eq!(
        made["Labels"],
        json!({ "io.github.mesos-overlay.overlay": "dcos" })
    );
    let subnets = made["IPAM"]["Config"].as_array().unwrap();
    let subnets: Vec<&str> = subnets
        .iter()
        .map(|subnet| subnet["Subnet"].as_str().unwrap())
        .collect();
    assert_eq!(subnets, ["9.0.1.128/25", "fd01:b::1:8000:0:0/81"]);
    let addresses = host.host.ip("-brief address show dev d-dcos");
    assert!(addresses.contains(" 9.0.1.129/25 "), "{addresses}");

    assert_eq!(
        keeper.apply_ok(&desired),
        0,
        "the second reconciliation found a difference"
    );
    assert_eq!(
        EngineKeeper::spawn().apply_ok(&desired),
        0,
        "another executor found a difference"
    );
    assert_eq!(host.id("dcos").unwrap(), made["Id"]);
}

#[test]
fn overlay_with_one_family_has_a_network() {
    if !testbed::skip::require_docker("overlay_with_one_family_has_a_network") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    let mut desired = host.desired(1);
    let (mut four, mut six) = (network("d-four", 1), network("d-six", 2));
    four.subnets.remove(1);
    six.subnets.remove(0);
    desired.networks = [("four".to_owned(), four), ("six".to_owned(), six)].into();
    assert_eq!(keeper.apply_ok(&desired), 2);
    assert_eq!(
        keeper.apply_ok(&desired),
        0,
        "the subnet that the engine chose itself must be no difference"
    );
    assert_eq!(host.network("four").unwrap()["EnableIPv6"], false);
    assert_eq!(host.network("six").unwrap()["EnableIPv6"], true);
}

#[test]
fn deleted_network_is_recreated() {
    if !testbed::skip::require_docker("deleted_network_is_recreated") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    keeper.apply_ok(&host.desired(1));
    for _ in 0..3 {
        let old = host.id("dcos").unwrap();
        host.docker("network rm dcos");
        let deleted = Instant::now();
        eventually("the network is recreated", || {
            host.id("dcos").is_some_and(|new| new != old)
        });
        assert!(
            deleted.elapsed() < REPAIR,
            "recreated after {:?}",
            deleted.elapsed()
        );
    }
}

#[test]
fn network_of_another_program_is_reported_and_not_touched() {
    if !testbed::skip::require_docker("network_of_another_program_is_reported_and_not_touched") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    host.docker("network create --subnet 10.99.0.0/16 dcos");
    host.docker("network create --subnet 9.0.2.192/26 mine");
    let theirs = [host.id("dcos"), host.id("mine")];
    let mut desired = host.desired(1);
    desired.networks.insert("web".into(), network("d-web", 2));
    desired.networks.insert("fine".into(), network("d-fine", 3));
    let report = keeper.apply(&desired);
    assert_eq!(
        report.overlays["dcos"],
        "Docker network dcos exists with an unnamed bridge, 10.99.0.0/16 instead of bridge d-dcos, 9.0.1.128/25, \
         fd01:b::1:8000:0:0/81; remove it (docker network rm dcos) or rename one of them"
    );
    assert_eq!(
        report.overlays["web"],
        "cannot create Docker network web (bridge d-web, 9.0.2.128/25, fd01:b::2:8000:0:0/81): network mine (an \
         unnamed bridge, 9.0.2.192/26) overlaps it"
    );
    assert_eq!(report.overlays.len(), 2, "{report:?}");
    assert!(host.id("fine").is_some());
    assert_eq!([host.id("dcos"), host.id("mine")], theirs);

    // Without the obstacles the networks are created without another request.
    host.docker("network rm dcos mine");
    keeper.wait("all networks", |report| report.is_ok());
    assert_eq!(
        host.network("dcos").unwrap()["Options"]["com.docker.network.bridge.name"],
        "d-dcos"
    );
}

#[test]
fn predecessors_network_is_taken_over() {
    if !testbed::skip::require_docker("predecessors_network_is_taken_over") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    host.docker(
        "network create --driver=bridge --subnet=9.0.1.128/25 --ipv6 --subnet=fd01:b::1:8000:0:0/81 \
         --opt com.docker.network.bridge.name=d-dcos --opt com.docker.network.bridge.enable_ip_masquerade=false \
         --opt com.docker.network.driver.mtu=1420 dcos",
    );
    host.engine.container("web.1", "dcos", &[]).unwrap();
    let id = host.id("dcos");
    assert_eq!(keeper.apply_ok(&host.desired(1)), 0);
    assert_eq!(host.id("dcos"), id);

    // A network with another subnet is not replaced while containers use it.
    let report = keeper.apply(&host.desired(2));
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.contains("9.0.1.128/25") && sentence.contains("9.0.2.128/25"),
        "{sentence}"
    );
    assert!(
        sentence.ends_with("it is replaced when no container uses it any more (web.1)"),
        "{sentence}"
    );
    assert_eq!(host.id("dcos"), id);
    host.docker("rm --force web.1");
    keeper.wait("the new network", |report| report.is_ok());
    let subnet = &host.network("dcos").unwrap()["IPAM"]["Config"][0]["Subnet"];
    assert_eq!(subnet, "9.0.2.128/25");
}

#[test]
fn unwanted_network_is_removed_after_its_last_container() {
    if !testbed::skip::require_docker("unwanted_network_is_removed_after_its_last_container") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    let mut desired = host.desired(1);
    desired.networks.insert("web".into(), network("d-web", 2));
    keeper.apply_ok(&desired);
    host.docker("network create --opt com.docker.network.bridge.name=d-other mine");
    host.engine.container("web.1", "dcos", &[]).unwrap();
    let none = EngineDesired {
        networks: Default::default(),
        ..desired
    };
    let report = keeper.apply(&none);
    assert!(
        report.is_ok(),
        "a network that is kept must not be an error of the others: {report:?}"
    );
    assert_eq!(
        Problem::texts(&report.notes),
        [
            "Docker network dcos is not wanted any more and is kept as long as containers use it: web.1"
        ]
    );
    assert!(host.id("web").is_none() && host.id("dcos").is_some());
    host.docker("rm --force web.1");
    keeper.wait("no note", |report| report.notes.is_empty());
    assert!(host.id("dcos").is_none());
    assert!(
        host.host
            .field("ip -j link show type bridge", "ifname")
            .iter()
            .all(|name| name != "d-dcos")
    );
    assert!(
        host.id("mine").is_some(),
        "a network of another program was removed"
    );
}

#[test]
fn counts_addresses() {
    if !testbed::skip::require_docker("counts_addresses") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    let report = keeper.apply(&host.desired(1));
    assert_eq!(report.usage["dcos"], InUse::default());
    for name in ["one", "two"] {
        host.engine.container(name, "dcos", &[]).unwrap();
    }
    keeper.wait("two addresses in use", |report| {
        report.usage["dcos"].v4 == 2
    });
    host.docker("rm --force one");
    keeper.wait("one address in use", |report| report.usage["dcos"].v4 == 1);
    // The engine assigns as many addresses as are counted as assignable, and no more.
    let mut narrow = host.desired(1);
    let small = narrow
        .networks
        .entry("small".into())
        .or_insert_with(|| network("d-small", 2));
    small.subnets = vec![net("9.0.2.128/29")];
    keeper.apply(&narrow);
    let total = assignable(net("9.0.2.128/29"));
    assert_eq!(total, 5);
    for n in 0..total {
        host.engine
            .container(&format!("small{n}"), "small", &[])
            .unwrap();
    }
    host.engine
        .container("one-too-many", "small", &[])
        .unwrap_err();
}

#[test]
fn absent_engine_is_reported_and_found_when_it_starts() {
    if !testbed::skip::require_docker("absent_engine_is_reported_and_found_when_it_starts") {
        return;
    }
    let (mut host, mut keeper) = (DockerHost::stopped(), EngineKeeper::spawn());
    let desired = host.desired(1);
    let report = keeper.apply(&desired);
    let sentence = report.engine.clone().unwrap();
    assert_eq!(report.overlays["dcos"], sentence);
    assert!(
        sentence.starts_with("cannot reach the container engine at /"),
        "{sentence}"
    );
    assert!(
        sentence.ends_with("docker.sock: No such file or directory (os error 2)"),
        "{sentence}"
    );
    host.engine.spawn().unwrap();
    keeper.wait("the network", |report| report.is_ok());
    assert!(host.id("dcos").is_some());

    // A killed engine leaves its socket behind.
    host.engine.kill().unwrap();
    let report = keeper.wait("its absence", |report| !report.is_ok());
    let sentence = report.engine.unwrap();
    assert!(
        sentence.ends_with("docker.sock: Connection refused (os error 111)"),
        "{sentence}"
    );
    // A later request fails alike, unless no network is desired.
    assert_eq!(EngineKeeper::spawn().apply(&desired).engine, Some(sentence));
    let none = EngineDesired {
        networks: Default::default(),
        ..desired
    };
    assert_eq!(EngineKeeper::spawn().apply_ok(&none), 0);
    host.engine.spawn().unwrap();
    keeper.wait("the network again", |report| report.is_ok());
}

#[test]
fn restart_of_the_engine_is_noticed() {
    if !testbed::skip::require_docker("restart_of_the_engine_is_noticed") {
        return;
    }
    let (mut host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    keeper.apply_ok(&host.desired(1));
    host.engine.stop().unwrap();
    keeper.wait("its absence", |report| !report.is_ok());
    host.engine.spawn().unwrap();
    keeper.wait("recovery", |report| report.is_ok());
    // The executor has subscribed to its events again.
    host.docker("network rm dcos");
    let deleted = Instant::now();
    eventually("the network is recreated", || host.id("dcos").is_some());
    assert!(
        deleted.elapsed() < REPAIR,
        "recreated after {:?}",
        deleted.elapsed()
    );
}

#[test]
fn hanging_engine_delays_a_report_by_the_timeout_only() {
    let (hung, mut keeper) = (HungEngine::spawn(), EngineKeeper::spawn());
    let timeout = Duration::from_millis(700);
    let networks = [("dcos".to_owned(), network("d-dcos", 1))].into();
    let desired = EngineDesired {
        socket: hung.socket.clone(),
        timeout,
        networks,
        ..EngineDesired::default()
    };
    let begin = Instant::now();
    let report = keeper.apply(&desired);
    let took = begin.elapsed();
    assert!(
        (timeout..timeout * 2).contains(&took),
        "reported after {took:?}"
    );
    let sentence = report.engine.unwrap();
    assert!(
        sentence.ends_with(" did not answer within 700 ms when asked for its version"),
        "{sentence}"
    );
    assert_eq!(report.overlays["dcos"], sentence);

    // The end of an executor is not delayed by the engine.
    let desired = EngineDesired {
        timeout: Duration::from_secs(3600),
        ..desired
    };
    let (wake, _woken) = std::sync::mpsc::channel::<()>();
    let executor = overlay_host::docker::Executor::spawn(move || _ = wake.send(())).unwrap();
    executor.apply(1, std::sync::Arc::new(desired));
    let begin = Instant::now();
    drop(executor);
    assert!(
        begin.elapsed() < timeout,
        "ended after {:?}",
        begin.elapsed()
    );
}

#[test]
fn stopped_engine_is_reported_and_found_when_it_continues() {
    if !testbed::skip::require_docker("stopped_engine_is_reported_and_found_when_it_continues") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    let desired = EngineDesired {
        timeout: Duration::from_secs(2),
        ..host.desired(1)
    };
    keeper.apply_ok(&desired);
    let signal = |name: &str| {
        let pid = host.engine.pid().unwrap().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    let report = keeper.apply(&desired);
    assert!(
        report
            .engine
            .unwrap()
            .contains("did not answer within 2000 ms")
    );
    signal("-CONT");
    // The executor notices it without another request.
    let continued = Instant::now();
    assert_eq!(
        keeper
            .wait("its recovery", |report| report.is_ok())
            .operations,
        0
    );
    assert!(
        continued.elapsed() < Duration::from_secs(10),
        "found after {:?}",
        continued.elapsed()
    );
}

/// Two agents take each other's network for a leftover.
#[test]
fn two_agents_with_one_engine_slow_down() {
    if !testbed::skip::require_docker("two_agents_with_one_engine_slow_down") {
        return;
    }
    let (host, mut one, mut other) = (
        DockerHost::started(),
        EngineKeeper::spawn(),
        EngineKeeper::spawn(),
    );
    one.apply_ok(&host.desired(1));
    other.apply(&host.desired(2));
    let is_reported = |report: &EngineReport| {
        let sentence =
            "another program keeps removing or replacing Docker networks of this agent (dcos)";
        report.is_ok() && report.notes.len() == 1 && report.notes[0].text.starts_with(sentence)
    };
    // As soon as one agent is slow, the other has less to repair as well.
    one.wait("a note about the other agent", is_reported);
    let mut networks = std::collections::BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        networks.extend(host.id("dcos"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        networks.len() <= 6,
        "{} networks in six seconds",
        networks.len()
    );
}

/// The engine is observed once per request if no network is desired and none is left.
#[test]
fn engine_without_desired_networks_is_not_polled() {
    let engine = FakeEngine::new(|line| match line.contains("/networks") {
        true => Some((200, "[]".to_owned())),
        false => Some((200, json!({ "ApiVersion": "1.41" }).to_string())),
    });
    let none = EngineDesired {
        socket: engine.socket.clone(),
        ..EngineDesired::default()
    };
    let mut keeper = EngineKeeper::spawn();
    for times in 1..=3 {
        assert_eq!(keeper.apply_ok(&none), 0);
        let requests = engine.requests.lock().unwrap();
        let lines: Vec<&str> = requests.iter().map(|request| &*request.line).collect();
        assert_eq!(lines.len(), times * 2, "{lines:?}");
        assert!(
            !lines.iter().any(|line| line.contains("/events")),
            "{lines:?}"
        );
    }
}

/// Returns the requests for the creation of networks to an engine with this API version.
fn creation_requests(api: &str) -> serde_json::Value {
    let version = json!({ "ApiVersion": api }).to_string();
    let engine = FakeEngine::new(move |line| {
        let path = line
            .split(['/', '?', ' '])
            .filter(|part| !part.is_empty())
            .nth(1)
            .unwrap();
        match (line.starts_with("POST"), path) {
            (true, _) => Some((201, json!({ "Id": "1", "Warning": "" }).to_string())),
            (false, "version") => Some((200, version.clone())),
            (false, "networks") => Some((200, "[]".to_owned())),
            (false, _) => None,
        }
    });
    let mut six = network("d-six", 2);
    six.subnets.remove(0);
    let networks = [
        ("dcos".to_owned(), network("d-dcos", 1)),
        ("six".to_owned(), six),
    ]
    .into();
    let desired = EngineDesired {
        socket: engine.socket.clone(),
        timeout: REPAIR,
        networks,
        ..EngineDesired::default()
    };
    let report = EngineKeeper::spawn().apply(&desired);
    assert!(report.is_ok() && report.operations == 2, "{report:?}");
    let requests = engine.requests.lock().unwrap();
    requests
        .iter()
        .filter(|request| request.line.starts_with("POST"))
        .map(|request| serde_json::from_str::<serde_json::Value>(&request.body).unwrap())
        .collect()
}

/// Engines from release 28.2 on need the trusted interfaces, and those from 28 on support
/// networks without IPv4. Older engines reject both options.
#[test]
fn engine_gets_only_options_that_it_supports() {
    const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
    for (api, trusted, v4) in [
        ("1.41", [None, None], [None, None]),
        ("1.48", [None, None], [Some(true), Some(false)]),
        (
            "1.50",
            [Some("vtep1024:m-dcos"), Some("vtep1024:m-six")],
            [Some(true), Some(false)],
        ),
    ] {
        let requests = creation_requests(api);
        for n in [0, 1] {
            assert_eq!(
                requests[n]["Options"]
                    .get(TRUSTED)
                    .and_then(|value| value.as_str()),
                trusted[n],
                "{api}"
            );
            assert_eq!(
                requests[n]
                    .get("EnableIPv4")
                    .and_then(|value| value.as_bool()),
                v4[n],
                "{api}"
            );
            assert_eq!(requests[n]["EnableIPv6"], true);
        }
    }
}

#[test]
fn invalid_response_is_reported_in_one_line() {
    for (status, body, expected) in [
        (200, "<html>", "cannot talk to the container engine at "),
        (200, "{}", "\"\" is not a version of the engine's API"),
        (
            500,
            "{\"message\": \"on\\nfire\"}",
            "the container engine answered \"on fire\" (status 500)",
        ),
        (503, "", "the container engine answered \"\" (status 503)"),
    ] {
        let engine = FakeEngine::new(move |_| Some((status, body.to_owned())));
        let networks = [("dcos".to_owned(), network("d-dcos", 1))].into();
        let desired = EngineDesired {
            socket: engine.socket.clone(),
            timeout: REPAIR,
            networks,
            ..EngineDesired::default()
        };
        let sentence = EngineKeeper::spawn().apply(&desired).overlays["dcos"].clone();
        assert!(
            sentence.starts_with(expected) && !sentence.contains('\n'),
            "{sentence}"
        );
    }
}
