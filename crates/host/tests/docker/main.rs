//! The container engine's networks, against real engines. Each test host runs its
//! own; the machine's engine, if it has one, is never spoken to.
use std::time::{Duration, Instant};

use overlay_core::EngineReport;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::usage::{InUse, assignable};
use serde_json::json;
use testkit::engine::{DockerHost, FakeEngine, HungEngine, Keeper, network};
use testkit::host::{eventually, net};

/// Anything that was deleted is back within this time.
const REPAIR: Duration = Duration::from_secs(2);

#[test]
fn makes_the_network_once() {
    if !testbed::skip::require_docker("makes_the_network_once") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
    let desired = host.desired(1);
    assert_eq!(keeper.apply_ok(&desired), 1);
    let made = host.network("dcos").unwrap();
    assert_eq!(made["Driver"], "bridge");
    assert_eq!(made["EnableIPv6"], true);
    assert_eq!(
        made["Options"],
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
        "a second pass has something to do"
    );
    assert_eq!(
        Keeper::new().apply_ok(&desired),
        0,
        "another worker has something to do"
    );
    assert_eq!(host.id("dcos").unwrap(), made["Id"]);
}

#[test]
fn an_overlay_with_one_family_has_a_network_too() {
    if !testbed::skip::require_docker("an_overlay_with_one_family") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
    let mut desired = host.desired(1);
    let (mut four, mut six) = (network("d-four", 1), network("d-six", 2));
    four.subnets.remove(1);
    six.subnets.remove(0);
    desired.networks = [("four".to_owned(), four), ("six".to_owned(), six)].into();
    assert_eq!(keeper.apply_ok(&desired), 2);
    assert_eq!(
        keeper.apply_ok(&desired),
        0,
        "the engine's own choice of an IPv4 subnet is no difference"
    );
    assert_eq!(host.network("four").unwrap()["EnableIPv6"], false);
    assert_eq!(host.network("six").unwrap()["EnableIPv6"], true);
}

#[test]
fn what_somebody_deletes_comes_back() {
    if !testbed::skip::require_docker("what_somebody_deletes_comes_back") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
    keeper.apply_ok(&host.desired(1));
    for _ in 0..3 {
        let old = host.id("dcos").unwrap();
        host.docker("network rm dcos");
        let deleted = Instant::now();
        eventually("the network is back", || {
            host.id("dcos").is_some_and(|new| new != old)
        });
        assert!(
            deleted.elapsed() < REPAIR,
            "back after {:?}",
            deleted.elapsed()
        );
    }
}

#[test]
fn a_network_of_somebody_else_is_told_and_left_alone() {
    if !testbed::skip::require_docker("a_network_of_somebody_else") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
    host.docker("network create --subnet 10.99.0.0/16 dcos");
    host.docker("network create --subnet 9.0.2.192/26 mine");
    let theirs = [host.id("dcos"), host.id("mine")];
    let mut desired = host.desired(1);
    desired.networks.insert("web".into(), network("d-web", 2));
    desired.networks.insert("fine".into(), network("d-fine", 3));
    let report = keeper.apply(&desired);
    assert_eq!(
        report.overlays["dcos"],
        "the engine has a network dcos (bridge of the engine's choice, 10.99.0.0/16), and the overlay's would be \
         another one (bridge d-dcos, 9.0.1.128/25, fd01:b::1:8000:0:0/81); remove it (docker network rm dcos) or \
         rename one of them"
    );
    assert_eq!(
        report.overlays["web"],
        "Docker network web (bridge d-web, 9.0.2.128/25, fd01:b::2:8000:0:0/81) cannot be made: the engine's \
         network mine (bridge of the engine's choice, 9.0.2.192/26) overlaps it"
    );
    assert_eq!(report.overlays.len(), 2, "{report:?}");
    assert!(host.id("fine").is_some());
    assert_eq!([host.id("dcos"), host.id("mine")], theirs);

    // Out of the way, and nobody has to ask again.
    host.docker("network rm dcos mine");
    keeper.wait("all networks", |report| report.is_ok());
    assert_eq!(
        host.network("dcos").unwrap()["Options"]["com.docker.network.bridge.name"],
        "d-dcos"
    );
}

#[test]
fn the_predecessors_network_is_taken_over() {
    if !testbed::skip::require_docker("the_predecessors_network") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
    host.docker(
        "network create --driver=bridge --subnet=9.0.1.128/25 --ipv6 --subnet=fd01:b::1:8000:0:0/81 \
         --opt com.docker.network.bridge.name=d-dcos --opt com.docker.network.bridge.enable_ip_masquerade=false \
         --opt com.docker.network.driver.mtu=1420 dcos",
    );
    host.engine.container("web.1", "dcos", &[]).unwrap();
    let id = host.id("dcos");
    assert_eq!(keeper.apply_ok(&host.desired(1)), 0);
    assert_eq!(host.id("dcos"), id);

    // The agent gets another subnet: not while containers use the old one.
    let report = keeper.apply(&host.desired(2));
    let sentence = &report.overlays["dcos"];
    assert!(
        sentence.contains("9.0.1.128/25") && sentence.contains("9.0.2.128/25"),
        "{sentence}"
    );
    assert!(
        sentence.ends_with("it is replaced as soon as no container uses it: web.1"),
        "{sentence}"
    );
    assert_eq!(host.id("dcos"), id);
    host.docker("rm --force web.1");
    keeper.wait("the new network", |report| report.is_ok());
    let subnet = &host.network("dcos").unwrap()["IPAM"]["Config"][0]["Subnet"];
    assert_eq!(subnet, "9.0.2.128/25");
}

#[test]
fn what_is_not_wanted_any_more_goes_when_nobody_uses_it() {
    if !testbed::skip::require_docker("what_is_not_wanted_any_more") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
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
        "a network that is kept is no fault of the wanted ones: {report:?}"
    );
    assert_eq!(
        report.notes,
        [
            "Docker network dcos is not wanted any more and is kept as long as containers use it: web.1"
        ]
    );
    assert!(host.id("web").is_none() && host.id("dcos").is_some());
    host.docker("rm --force web.1");
    keeper.wait("nothing to say", |report| report.notes.is_empty());
    assert!(host.id("dcos").is_none());
    assert!(
        host.host
            .field("ip -j link show type bridge", "ifname")
            .iter()
            .all(|name| name != "d-dcos")
    );
    assert!(host.id("mine").is_some(), "somebody else's network is gone");
}

#[test]
fn counts_addresses() {
    if !testbed::skip::require_docker("counts_addresses") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
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
    // What counts as all is true: one more is refused.
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
fn an_absent_engine_is_told_and_found_when_it_comes() {
    if !testbed::skip::require_docker("an_absent_engine") {
        return;
    }
    let (mut host, mut keeper) = (DockerHost::new(), Keeper::new());
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

    // Killed, it leaves its socket behind.
    host.engine.kill().unwrap();
    let report = keeper.wait("a word of its absence", |report| !report.is_ok());
    let sentence = report.engine.unwrap();
    assert!(
        sentence.ends_with("docker.sock: Connection refused (os error 111)"),
        "{sentence}"
    );
    // Who comes later hears the same, and one who wants nothing does not mind.
    assert_eq!(Keeper::new().apply(&desired).engine, Some(sentence));
    let none = EngineDesired {
        networks: Default::default(),
        ..desired
    };
    assert_eq!(Keeper::new().apply_ok(&none), 0);
    host.engine.spawn().unwrap();
    keeper.wait("the network again", |report| report.is_ok());
}

#[test]
fn a_restart_of_the_engine_is_noticed() {
    if !testbed::skip::require_docker("a_restart_of_the_engine") {
        return;
    }
    let (mut host, mut keeper) = (DockerHost::started(), Keeper::new());
    keeper.apply_ok(&host.desired(1));
    host.engine.stop().unwrap();
    keeper.wait("a word of its absence", |report| !report.is_ok());
    host.engine.spawn().unwrap();
    keeper.wait("all well", |report| report.is_ok());
    // It is listened to again.
    host.docker("network rm dcos");
    let deleted = Instant::now();
    eventually("the network is back", || host.id("dcos").is_some());
    assert!(
        deleted.elapsed() < REPAIR,
        "back after {:?}",
        deleted.elapsed()
    );
}

#[test]
fn a_hung_engine_is_not_waited_for_any_longer_than_told() {
    let (hung, mut keeper) = (HungEngine::new(), Keeper::new());
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
        "told after {took:?}"
    );
    let sentence = report.engine.unwrap();
    assert!(
        sentence.ends_with(" did not answer within 700 ms when asked for its version"),
        "{sentence}"
    );
    assert_eq!(report.overlays["dcos"], sentence);

    // Nor does anybody who wants to go.
    let desired = EngineDesired {
        timeout: Duration::from_secs(3600),
        ..desired
    };
    let (wake, _woken) = std::sync::mpsc::channel::<()>();
    let worker = overlay_host::docker::Worker::spawn(move || _ = wake.send(())).unwrap();
    worker.apply(1, std::sync::Arc::new(desired));
    let begin = Instant::now();
    drop(worker);
    assert!(
        begin.elapsed() < timeout,
        "gone after {:?}",
        begin.elapsed()
    );
}

#[test]
fn an_engine_that_froze_is_told_and_found_when_it_thaws() {
    if !testbed::skip::require_docker("an_engine_that_froze") {
        return;
    }
    let (host, mut keeper) = (DockerHost::started(), Keeper::new());
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
    // Nobody has to ask again: the agent would not for up to a minute.
    let thawed = Instant::now();
    assert_eq!(
        keeper
            .wait("a word of its return", |report| report.is_ok())
            .operations,
        0
    );
    assert!(
        thawed.elapsed() < Duration::from_secs(10),
        "found after {:?}",
        thawed.elapsed()
    );
}

/// Two agents that each take the other's network for a leftover.
#[test]
fn two_agents_at_one_engine_do_not_fight_for_ever() {
    if !testbed::skip::require_docker("two_agents_at_one_engine") {
        return;
    }
    let (host, mut one, mut other) = (DockerHost::started(), Keeper::new(), Keeper::new());
    one.apply_ok(&host.desired(1));
    other.apply(&host.desired(2));
    let told = |report: &EngineReport| {
        let sentence = "somebody else removes or replaces Docker networks as often as this agent makes them (dcos)";
        report.is_ok() && report.notes.len() == 1 && report.notes[0].starts_with(sentence)
    };
    // Once one of them is slow, there are no more repairs of the other's either.
    one.wait("a word of the quarrel", told);
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

/// Where nothing is wanted and nothing is left, the engine is looked at once.
#[test]
fn an_engine_of_which_nothing_is_wanted_is_left_alone() {
    let engine = FakeEngine::new(|line| match line.contains("/networks") {
        true => Some((200, "[]".to_owned())),
        false => Some((200, json!({ "ApiVersion": "1.41" }).to_string())),
    });
    let none = EngineDesired {
        socket: engine.socket.clone(),
        ..EngineDesired::default()
    };
    let mut keeper = Keeper::new();
    for times in 1..=3 {
        assert_eq!(keeper.apply_ok(&none), 0);
        let asked: Vec<String> = engine
            .asked
            .lock()
            .unwrap()
            .iter()
            .map(|(line, _)| line.clone())
            .collect();
        assert_eq!(asked.len(), times * 2, "{asked:?}");
        assert!(
            !asked.iter().any(|line| line.contains("/events")),
            "{asked:?}"
        );
    }
}

/// What is asked of an engine that speaks this version of the API, and has no
/// networks yet.
fn asked_for(api: &str) -> serde_json::Value {
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
    let report = Keeper::new().apply(&desired);
    assert!(report.is_ok() && report.operations == 2, "{report:?}");
    let asked = engine.asked.lock().unwrap();
    asked
        .iter()
        .filter(|(line, _)| line.starts_with("POST"))
        .map(|(_, body)| serde_json::from_str::<serde_json::Value>(body).unwrap())
        .collect()
}

/// From 28.2 on the engine must be told by which devices packets may come; from 28
/// on a network can do without IPv4. To older ones neither may be said.
#[test]
fn new_engines_are_told_what_only_they_understand() {
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
        let asked = asked_for(api);
        for n in [0, 1] {
            assert_eq!(
                asked[n]["Options"]
                    .get(TRUSTED)
                    .and_then(|value| value.as_str()),
                trusted[n],
                "{api}"
            );
            assert_eq!(
                asked[n].get("EnableIPv4").and_then(|value| value.as_bool()),
                v4[n],
                "{api}"
            );
            assert_eq!(asked[n]["EnableIPv6"], true);
        }
    }
}

#[test]
fn an_engine_that_answers_nonsense_is_told_in_one_line() {
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
        let sentence = Keeper::new().apply(&desired).overlays["dcos"].clone();
        assert!(
            sentence.starts_with(expected) && !sentence.contains('\n'),
            "{sentence}"
        );
    }
}
