//! What a node keeps, forgets and counts when its machine is lost or things are late.

use super::super::tests::*;

fn store_id(actions: &[Action]) -> u64 {
    let [Action::Store { id, .. }] = actions else {
        panic!("{actions:?}")
    };
    *id
}

fn fetch_id(actions: &[Action]) -> u64 {
    let [Action::Fetch { id }] = actions else {
        panic!("{actions:?}")
    };
    *id
}

/// What the machine asks for after this message.
fn asked(bench: &mut Bench, message: &str) -> Vec<Action> {
    bench.message(message);
    bench.drain()
}

#[test]
fn nothing_is_taken_before_the_start() {
    let mut bench = Bench::new(Some("zk://a:1/m"), Some(log_settings()));
    let node = &mut bench.node;
    let refused = Err(Refused::State);
    assert_eq!(node.message(peer(), "fetch".into(), Bytes::new()), refused);
    assert_eq!(node.exited(peer()), refused);
    assert_eq!(node.detect_failed("why"), refused);
    assert_eq!(node.fetched(1, Ok(Bytes::new())), refused);
    assert_eq!(node.stored(1, StoreOutcome::Stored), refused);
    node.start(me()).unwrap();
    let detect = Action::Detect {
        master: "zk://a:1/m".into(),
    };
    assert_eq!(bench.drain(), [detect, Action::OpenLog(log_settings())]);
    assert_eq!(bench.seen(), [""; 0]);
    assert_eq!(bench.idle(), None);
}

#[test]
fn news_of_the_leader_end_the_detections_backoff() {
    let mut bench = Bench::new(Some("zk://a:1/m"), None);
    bench.node.start(me()).unwrap();
    bench.drain();
    let second = Duration::from_secs(1);
    for _ in 0..2 {
        for _ in 0..5 {
            bench.node.detect_failed("no route").unwrap();
            bench.wait();
            assert_eq!(
                bench.drain(),
                [Action::Detect {
                    master: "zk://a:1/m".into()
                }],
                "when it is due"
            );
        }
        bench.node.detect_failed("no route").unwrap();
        assert!(bench.idle().unwrap() > second);
        bench.node.leader(None).unwrap();
        assert_eq!(bench.idle(), None, "somebody watches");
        bench.node.detect_failed("no route").unwrap();
        assert!(
            bench.idle().unwrap() <= second,
            "as after the first failure"
        );
        bench.node.leader(None).unwrap();
    }
}

#[test]
fn a_machine_is_made_again_when_it_is_due() {
    let mut bench = Bench::started();
    for restarts in 1..=3 {
        bench.message("panic");
        let delay = bench.idle().unwrap();
        bench.advance(delay - Duration::from_nanos(1));
        bench.node.tick().unwrap();
        assert_eq!(bench.births.lock().len(), restarts, "too early");
        bench.advance(Duration::from_nanos(1));
        bench.node.tick().unwrap();
        assert_eq!(bench.births.lock().len(), restarts + 1);
        assert_eq!(bench.idle(), None);
    }
    let births = bench.births.lock();
    assert_eq!(
        births
            .iter()
            .map(|(_, restarts)| *restarts)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let seeds: BTreeSet<u64> = births.iter().map(|(seed, _)| *seed).collect();
    assert_eq!(seeds.len(), 4, "each draws anew");
}

#[test]
fn a_machine_that_cannot_be_made_is_tried_again_ever_more_rarely() {
    let mut bench = Bench::new(None, None);
    bench.barren.store(true, Ordering::Relaxed);
    bench.node.start(me()).unwrap();
    assert!(bench.node.take_panicked());
    let mut last = Duration::ZERO;
    for _ in 0..12 {
        bench.request(1, "/now");
        assert_eq!(statuses(&bench.drain()), [(1, 503)]);
        // Whoever comes late finds that nothing got well meanwhile.
        bench.advance(HEALTHY_AFTER * 2);
        last = bench.idle().unwrap_or_default();
        bench.node.tick().unwrap();
    }
    assert_eq!(last, Duration::ZERO, "it is late");
    last = bench.wait();
    assert!(
        last >= Duration::from_secs(15) && last <= Duration::from_secs(30),
        "{last:?}"
    );
    bench.barren.store(false, Ordering::Relaxed);
    bench.wait();
    assert_eq!(bench.seen(), ["leader master@10.0.0.1:5050"]);
    assert_eq!(
        bench.births.lock().last().unwrap().1,
        0,
        "how many machines there were before"
    );
}

#[test]
fn a_good_minute_begins_when_the_machine_is_made() {
    let mut bench = Bench::started();
    let first = bench.restart();
    assert!(first <= Duration::from_millis(100));
    bench.message("panic");
    // The tick comes a minute late.
    bench.advance(HEALTHY_AFTER * 2);
    bench.node.tick().unwrap();
    assert!(
        bench.restart() > Duration::from_millis(200),
        "the third in a row"
    );
    bench.advance(HEALTHY_AFTER - Duration::from_nanos(1));
    assert!(
        bench.restart() > Duration::from_millis(400),
        "not quite a minute"
    );
    bench.advance(HEALTHY_AFTER);
    assert!(bench.restart() <= Duration::from_millis(100));
}

#[test]
fn answers_for_a_former_machine_are_not_taken_for_the_new_ones() {
    let mut bench = Bench::started();
    let old_store = store_id(&asked(&mut bench, "store"));
    let old_fetch = fetch_id(&asked(&mut bench, "fetch"));
    bench.restart();
    let new_store = store_id(&asked(&mut bench, "store"));
    let new_fetch = fetch_id(&asked(&mut bench, "fetch"));
    bench.seen();
    bench
        .node
        .stored(old_store, StoreOutcome::Superseded)
        .unwrap();
    bench
        .node
        .fetched(old_fetch, Ok(Bytes::from_static(b"old")))
        .unwrap();
    assert_eq!(bench.seen(), [""; 0]);
    bench.node.stored(new_store, StoreOutcome::Stored).unwrap();
    bench
        .node
        .fetched(new_fetch, Ok(Bytes::from_static(b"new")))
        .unwrap();
    assert_eq!(
        bench.seen(),
        [
            "Stored { number: 7, outcome: Stored }",
            "Fetched(Ok(b\"new\"))"
        ]
    );
    // Nor is one taken twice.
    bench.node.stored(new_store, StoreOutcome::Stored).unwrap();
    bench
        .node
        .fetched(new_fetch, Ok(Bytes::from_static(b"new")))
        .unwrap();
    assert_eq!(bench.seen(), [""; 0]);
}

#[test]
fn what_a_former_machine_waited_for_is_forgotten() {
    let mut bench = Bench::started();
    for message in ["fetch", "fetch", "store"] {
        bench.message(message);
    }
    bench.drain();
    bench.restart();
    assert_eq!(bench.idle(), None, "nobody waits for the write");
    let id = fetch_id(&asked(&mut bench, "fetch"));
    bench.seen();
    bench.node.fetched(id, Ok(Bytes::new())).unwrap();
    assert_eq!(
        bench.seen(),
        ["Fetched(Ok(b\"\"))"],
        "nor for reads that were overtaken"
    );
    bench.advance(STORE_PATIENCE);
    bench.node.tick().unwrap();
    assert_eq!(bench.seen(), [""; 0]);
}

#[test]
fn inputs_are_counted_while_there_is_no_machine() {
    let mut bench = Bench::started();
    for _ in 0..2 {
        bench.message("panic");
        bench.message("echo");
        bench.node.exited(peer()).unwrap();
        bench.node.leader(None).unwrap();
        assert_eq!(bench.node.lost_inputs, 3);
        bench.wait();
        assert_eq!(bench.node.lost_inputs, 0);
        assert_eq!(
            bench.seen(),
            ["panic", "leader -"],
            "it is told who leads now"
        );
    }
}

#[test]
fn only_the_leading_masters_process_calls_agents_back() {
    let register_again = |mut bench: Bench, leader: &str| {
        bench.node.start(me()).unwrap();
        bench.node.leader(Some(leader.parse().unwrap())).unwrap();
        bench.message("link");
        bench.drain();
        bench.restart();
        let actions = bench.drain();
        assert!(
            actions
                .iter()
                .all(|action| matches!(action, Action::Send { to, .. } if *to == peer()))
        );
        actions.len()
    };
    let ours = "master@10.0.0.1:5050";
    assert_eq!(register_again(Bench::of(Role::Master, None, None), ours), 1);
    assert_eq!(
        register_again(Bench::of(Role::Master, None, None), "master@10.0.0.9:5050"),
        0
    );
    assert_eq!(
        register_again(Bench::of(Role::Master, None, None), "master@10.0.0.1:5051"),
        0
    );
    assert_eq!(register_again(Bench::of(Role::Agent, None, None), ours), 0);
}

#[test]
fn the_deadline_is_the_earliest_of_all() {
    let mut bench = Bench::started();
    bench.message("store");
    bench.drain();
    assert_eq!(bench.idle(), Some(STORE_PATIENCE));
    bench.message("wait");
    assert_eq!(bench.idle(), Some(Duration::from_secs(5)), "the machine's");
    bench.node.detect_failed("no route").unwrap();
    assert!(
        bench.idle().unwrap() <= Duration::from_secs(1),
        "the detection's"
    );
    bench.message("panic");
    assert!(
        bench.idle().unwrap() <= Duration::from_millis(100),
        "the restart's"
    );
    bench.advance(Duration::from_secs(3));
    assert_eq!(bench.idle(), Some(Duration::ZERO), "late is now");
}

#[test]
fn reports_of_a_pass_that_was_overtaken_are_ignored() {
    let mut bench = Bench::started();
    for message in ["apply", "apply", "engine", "engine"] {
        bench.message(message);
    }
    bench.drain();
    bench.seen();
    let hosts = bench.host.0.lock().0.clone();
    let engines = bench.host.1.lock().0.clone();
    let mut report = |host: u64, engine: u64| {
        bench.host.0.lock().1 = Some(HostReport {
            generation: host,
            ..HostReport::default()
        });
        bench.host.1.lock().1 = Some(EngineReport {
            generation: engine,
            ..EngineReport::default()
        });
        bench.drain();
        bench.seen().len()
    };
    assert_eq!((hosts.len(), engines.len()), (2, 2));
    assert_eq!(report(hosts[0], engines[0]), 0);
    assert_eq!(report(engines[1], hosts[1]), 0, "each has its own numbers");
    assert_eq!(report(hosts[1], engines[1]), 2);
    assert_eq!(report(hosts[1], engines[1]), 2, "a repair ended otherwise");
}

#[test]
fn reports_for_a_former_machine_are_ignored() {
    let mut bench = Bench::started();
    bench.message("apply");
    bench.message("engine");
    bench.drain();
    let host = bench.host.0.lock().0[0];
    let engine = bench.host.1.lock().0[0];
    bench.restart();
    bench.host.0.lock().1 = Some(HostReport {
        generation: host,
        ..HostReport::default()
    });
    bench.host.1.lock().1 = Some(EngineReport {
        generation: engine,
        ..EngineReport::default()
    });
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.seen(), [""; 0], "the new machine did not ask yet");
}

#[test]
fn usage_reaches_the_machine() {
    let mut bench = Bench::started();
    let usage = BTreeMap::from([("dcos".to_owned(), InUse { v4: 3, v6: 2 })]);
    *bench.host.2.lock() = Some(usage.clone());
    bench.drain();
    assert_eq!(bench.seen(), [format!("Usage({usage:?})")]);
}

#[test]
fn a_request_is_answered_once() {
    let mut bench = Bench::started();
    bench.request(1, "/twice");
    assert_eq!(statuses(&bench.drain()), [(1, 200)]);
    bench.request(1, "/now");
    assert_eq!(statuses(&bench.drain()), [(1, 200)], "the id is free again");
}

#[test]
fn links_are_passed_on_as_they_are_wanted() {
    let mut bench = Bench::started();
    assert_eq!(
        asked(&mut bench, "link"),
        [Action::Link {
            to: peer(),
            reconnect: false
        }]
    );
    assert_eq!(
        asked(&mut bench, "anew"),
        [Action::Link {
            to: peer(),
            reconnect: true
        }]
    );
}

#[test]
fn restarts_are_a_metric_of_the_role() {
    for (role, name) in [
        (Role::Master, "overlay/master/process_restarts"),
        (Role::Agent, "overlay/slave/process_restarts"),
    ] {
        let mut bench = Bench::of(role, None, None);
        assert_eq!(
            bench.node.metrics(),
            [Metric::count(name, 0)],
            "before the start"
        );
        bench.node.start(me()).unwrap();
        assert_eq!(bench.node.metrics(), [Metric::count(name, 0)]);
        for restarts in 1..=2 {
            bench.restart();
            assert_eq!(bench.node.metrics(), [Metric::count(name, restarts)]);
        }
    }
}

#[test]
fn a_panic_while_the_deadline_is_asked_for_holds_up_no_answer() {
    let mut bench = Bench::started();
    bench.request(1, "/later");
    bench.message("break timeout");
    assert_eq!(
        statuses(&bench.drain()),
        [(1, 500)],
        "before the node is idle"
    );
    assert!(bench.node.take_panicked());
    bench.wait();
    bench.request(1, "/now");
    assert_eq!(statuses(&bench.drain()), [(1, 200)]);
}
