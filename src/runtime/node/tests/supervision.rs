//! State of a node after a panic, and late answers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use overlay_core::host_api::usage::InUse;

use super::*;

fn store_id(actions: &[Action]) -> u64 {
    let [Action::Io(Io::Store { number: id, .. })] = actions else {
        panic!("{actions:?}")
    };
    *id
}

fn fetch_id(actions: &[Action]) -> u64 {
    let [Action::Fetch { id, .. }] = actions else {
        panic!("{actions:?}")
    };
    *id
}

/// Sends a message and returns the actions that follow.
fn actions_of(fixture: &mut Fixture, message: &str) -> Vec<Action> {
    fixture.message(message);
    fixture.drain()
}

#[test]
fn every_input_is_rejected_before_the_start() {
    let mut fixture = Fixture::new(Some("zk://a:1/m"), Some(log_settings()));
    let node = &mut fixture.node;
    let refused = Err(InputError::State);
    assert_eq!(node.message(peer(), "fetch".into(), Bytes::new()), refused);
    assert_eq!(node.exited(peer()), refused);
    assert_eq!(node.detect_failed("why"), refused);
    assert_eq!(node.fetched(1, Ok(Bytes::new())), refused);
    assert_eq!(node.stored(1, StoreOutcome::Stored), refused);
    node.start(me()).unwrap();
    let detect = Action::Detect {
        master: "zk://a:1/m".into(),
    };
    assert_eq!(fixture.drain(), [detect, Action::OpenLog(log_settings())]);
    assert_eq!(fixture.seen(), [""; 0]);
    assert_eq!(fixture.idle(), None);
}

#[test]
fn a_change_of_the_leader_resets_the_backoff_of_the_detection() {
    let mut fixture = Fixture::new(Some("zk://a:1/m"), None);
    fixture.node.start(me()).unwrap();
    fixture.drain();
    let second = Duration::from_secs(1);
    for _ in 0..2 {
        for _ in 0..5 {
            fixture.node.detect_failed("no route").unwrap();
            fixture.wait();
            assert_eq!(
                fixture.drain(),
                [Action::Detect {
                    master: "zk://a:1/m".into()
                }],
                "when it is due"
            );
        }
        fixture.node.detect_failed("no route").unwrap();
        assert!(fixture.idle().unwrap() > second);
        fixture.node.leader(None).unwrap();
        assert_eq!(fixture.idle(), None, "somebody watches");
        fixture.node.detect_failed("no route").unwrap();
        assert!(
            fixture.idle().unwrap() <= second,
            "as after the first failure"
        );
        fixture.node.leader(None).unwrap();
    }
}

#[test]
fn a_machine_is_created_again_when_it_is_due() {
    let mut fixture = Fixture::started();
    for restarts in 1..=3 {
        fixture.message("panic");
        let delay = fixture.idle().unwrap();
        fixture.advance(delay - Duration::from_nanos(1));
        fixture.node.tick().unwrap();
        assert_eq!(fixture.created.lock().len(), restarts, "too early");
        fixture.advance(Duration::from_nanos(1));
        fixture.node.tick().unwrap();
        assert_eq!(fixture.created.lock().len(), restarts + 1);
        assert_eq!(fixture.idle(), None);
    }
    let created = fixture.created.lock();
    assert_eq!(
        created
            .iter()
            .map(|(_, restarts)| *restarts)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let seeds: BTreeSet<u64> = created
        .iter()
        .map(|(seed, _)| seed.random().u64(..))
        .collect();
    assert_eq!(seeds.len(), 4, "each draws anew");
}

#[test]
fn a_failing_factory_is_tried_again_with_growing_delays() {
    let mut fixture = Fixture::new(None, None);
    fixture.factory_fails.store(true, Ordering::Relaxed);
    fixture.node.start(me()).unwrap();
    assert!(fixture.node.take_panicked());
    let mut last = Duration::ZERO;
    for _ in 0..12 {
        fixture.request(1, "/now");
        assert_eq!(statuses(&fixture.drain()), [(1, 503)]);
        // A late tick does not count as time without a panic.
        fixture.advance(HEALTHY_AFTER * 2);
        last = fixture.idle().unwrap_or_default();
        fixture.node.tick().unwrap();
    }
    assert_eq!(last, Duration::ZERO, "the restart is overdue");
    last = fixture.wait();
    assert!(
        last >= Duration::from_secs(15) && last <= Duration::from_secs(30),
        "{last:?}"
    );
    fixture.factory_fails.store(false, Ordering::Relaxed);
    fixture.wait();
    assert_eq!(fixture.seen(), ["leader master@10.0.0.1:5050"]);
    assert_eq!(
        fixture.created.lock().last().unwrap().1,
        0,
        "how many machines there were before"
    );
}

#[test]
fn time_without_a_panic_begins_with_the_machine() {
    let mut fixture = Fixture::started();
    let first = fixture.restart();
    assert!(first <= Duration::from_millis(100));
    fixture.message("panic");
    // The tick comes a minute late.
    fixture.advance(HEALTHY_AFTER * 2);
    fixture.node.tick().unwrap();
    assert!(
        fixture.restart() > Duration::from_millis(200),
        "the third in a row"
    );
    fixture.advance(HEALTHY_AFTER - Duration::from_nanos(1));
    assert!(
        fixture.restart() > Duration::from_millis(400),
        "not quite a minute"
    );
    fixture.advance(HEALTHY_AFTER);
    assert!(fixture.restart() <= Duration::from_millis(100));
}

#[test]
fn answers_for_the_machine_before_are_ignored_while_the_new_one_waits() {
    let mut fixture = Fixture::started();
    let old_store = store_id(&actions_of(&mut fixture, "store"));
    let old_fetch = fetch_id(&actions_of(&mut fixture, "fetch"));
    fixture.restart();
    let new_store = store_id(&actions_of(&mut fixture, "store"));
    let new_fetch = fetch_id(&actions_of(&mut fixture, "fetch"));
    fixture.seen();
    fixture
        .node
        .stored(old_store, StoreOutcome::Superseded)
        .unwrap();
    fixture
        .node
        .fetched(old_fetch, Ok(Bytes::from_static(b"old")))
        .unwrap();
    assert_eq!(fixture.seen(), [""; 0]);
    fixture
        .node
        .stored(new_store, StoreOutcome::Stored)
        .unwrap();
    fixture
        .node
        .fetched(new_fetch, Ok(Bytes::from_static(b"new")))
        .unwrap();
    assert_eq!(
        fixture.seen(),
        [
            format!("Stored {{ number: {new_store}, outcome: Stored }}"),
            "Fetched(Ok(b\"new\"))".to_owned()
        ]
    );
    // A second answer is ignored.
    fixture
        .node
        .stored(new_store, StoreOutcome::Stored)
        .unwrap();
    fixture
        .node
        .fetched(new_fetch, Ok(Bytes::from_static(b"new")))
        .unwrap();
    assert_eq!(fixture.seen(), [""; 0]);
}

#[test]
fn reads_and_writes_of_the_machine_before_are_forgotten() {
    let mut fixture = Fixture::started();
    for message in ["fetch", "fetch", "store"] {
        fixture.message(message);
    }
    fixture.drain();
    fixture.restart();
    assert_eq!(fixture.idle(), None, "nobody waits for the write");
    let id = fetch_id(&actions_of(&mut fixture, "fetch"));
    fixture.seen();
    fixture.node.fetched(id, Ok(Bytes::new())).unwrap();
    assert_eq!(
        fixture.seen(),
        ["Fetched(Ok(b\"\"))"],
        "nor for reads that were overtaken"
    );
}

#[test]
fn inputs_are_counted_while_the_machine_is_down() {
    let mut fixture = Fixture::started();
    for _ in 0..2 {
        fixture.message("panic");
        fixture.message("echo");
        fixture.node.exited(peer()).unwrap();
        fixture.node.leader(None).unwrap();
        assert_eq!(fixture.node.supervisor.lost_inputs(), 3);
        fixture.wait();
        assert_eq!(fixture.node.supervisor.lost_inputs(), 0);
        assert_eq!(
            fixture.seen(),
            ["panic", "leader -"],
            "the new machine gets the leader"
        );
    }
}

#[test]
fn only_a_leading_master_makes_agents_register_again() {
    let register_again = |mut fixture: Fixture, leader: &str| {
        fixture.node.start(me()).unwrap();
        fixture.node.leader(Some(leader.parse().unwrap())).unwrap();
        fixture.message("link");
        fixture.drain();
        fixture.restart();
        let actions = fixture.drain();
        assert!(
            actions
                .iter()
                .all(|action| matches!(action, Action::Io(Io::Send { to, .. }) if *to == peer()))
        );
        actions.len()
    };
    let ours = "master@10.0.0.1:5050";
    assert_eq!(
        register_again(Fixture::of(Role::Master, None, None), ours),
        1
    );
    assert_eq!(
        register_again(
            Fixture::of(Role::Master, None, None),
            "master@10.0.0.9:5050"
        ),
        0
    );
    assert_eq!(
        register_again(
            Fixture::of(Role::Master, None, None),
            "master@10.0.0.1:5051"
        ),
        0
    );
    assert_eq!(
        register_again(Fixture::of(Role::Agent, None, None), ours),
        0
    );
}

#[test]
fn the_deadline_is_the_earliest_of_all() {
    let mut fixture = Fixture::started();
    fixture.message("wait");
    assert_eq!(
        fixture.idle(),
        Some(Duration::from_secs(5)),
        "the machine's"
    );
    fixture.node.detect_failed("no route").unwrap();
    assert!(
        fixture.idle().unwrap() <= Duration::from_secs(1),
        "the detection's"
    );
    fixture.message("panic");
    assert!(
        fixture.idle().unwrap() <= Duration::from_millis(100),
        "the restart's"
    );
    fixture.advance(Duration::from_secs(3));
    assert_eq!(fixture.idle(), Some(Duration::ZERO), "late is now");
}

#[test]
fn reports_on_a_replaced_desired_state_are_ignored() {
    let mut fixture = Fixture::started();
    for message in ["apply", "apply", "engine", "engine"] {
        fixture.message(message);
    }
    fixture.drain();
    fixture.seen();
    let hosts = fixture.host.generations();
    let engines = fixture.host.engine_generations();
    let mut report = |host: u64, engine: u64| {
        fixture.host.report(host);
        fixture.host.report_engine(engine);
        fixture.drain();
        fixture.seen().len()
    };
    assert_eq!((hosts.len(), engines.len()), (2, 2));
    assert_eq!(report(hosts[0], engines[0]), 0);
    assert_eq!(report(engines[1], hosts[1]), 0, "each has its own numbers");
    assert_eq!(report(hosts[1], engines[1]), 2);
    assert_eq!(report(hosts[1], engines[1]), 2, "a repair ended otherwise");
}

#[test]
fn reports_for_the_machine_before_are_ignored() {
    let mut fixture = Fixture::started();
    fixture.message("apply");
    fixture.message("engine");
    fixture.drain();
    let host = fixture.host.generations()[0];
    let engine = fixture.host.engine_generations()[0];
    fixture.restart();
    fixture.host.report(host);
    fixture.host.report_engine(engine);
    assert_eq!(fixture.drain(), []);
    assert_eq!(fixture.seen(), [""; 0], "the new machine did not ask yet");
}

#[test]
fn usage_reaches_the_machine() {
    let mut fixture = Fixture::started();
    let usage = BTreeMap::from([(
        "dcos".to_owned(),
        InUse {
            v4: 3,
            v6: 2,
            leaked: 0,
        },
    )]);
    fixture.host.report_usage(usage.clone());
    fixture.drain();
    assert_eq!(fixture.seen(), [format!("Usage({usage:?})")]);
}

#[test]
fn a_request_is_answered_once() {
    let mut fixture = Fixture::started();
    fixture.request(1, "/twice");
    assert_eq!(statuses(&fixture.drain()), [(1, 200)]);
    fixture.request(1, "/now");
    assert_eq!(
        statuses(&fixture.drain()),
        [(1, 200)],
        "the id is free again"
    );
}

#[test]
fn links_reach_the_driver() {
    let mut fixture = Fixture::started();
    assert_eq!(
        actions_of(&mut fixture, "link"),
        [Action::Io(Io::Link {
            to: peer(),
            reconnect: false
        })]
    );
    assert_eq!(
        actions_of(&mut fixture, "anew"),
        [Action::Io(Io::Link {
            to: peer(),
            reconnect: true
        })]
    );
}

#[test]
fn restarts_are_a_metric_of_the_role() {
    for (role, name) in [
        (Role::Master, "overlay/master/process_restarts"),
        (Role::Agent, "overlay/slave/process_restarts"),
    ] {
        let mut fixture = Fixture::of(role, None, None);
        assert_eq!(
            fixture.node.metrics(),
            [Metric::count(name, 0)],
            "before the start"
        );
        fixture.node.start(me()).unwrap();
        assert_eq!(fixture.node.metrics(), [Metric::count(name, 0)]);
        for restarts in 1..=2 {
            fixture.restart();
            assert_eq!(fixture.node.metrics(), [Metric::count(name, restarts)]);
        }
    }
}

#[test]
fn a_panic_in_poll_timeout_answers_open_requests_at_once() {
    let mut fixture = Fixture::started();
    fixture.request(1, "/later");
    fixture.message("break timeout");
    assert_eq!(
        statuses(&fixture.drain()),
        [(1, 500)],
        "before the node is idle"
    );
    assert!(fixture.node.take_panicked());
    fixture.wait();
    fixture.request(1, "/now");
    assert_eq!(statuses(&fixture.drain()), [(1, 200)]);
}
