use super::*;
use crate::runtime::supervisor::HEALTHY_AFTER;
use fixture::{Fixture, engine_report, host_report, log_settings, me, peer, statuses};

mod fixture;
mod supervision;

#[test]
fn inputs_are_rejected_before_the_start_and_a_second_start_too() {
    let mut fixture = Fixture::new(None, None);
    assert_eq!(fixture.node.tick(), Err(InputError::State));
    assert_eq!(fixture.node.poll(), Err(InputError::State));
    assert_eq!(fixture.node.leader(None), Err(InputError::State));
    fixture.node.start(me()).unwrap();
    assert_eq!(fixture.node.start(me()), Err(InputError::State));
}

#[test]
fn without_zookeeper_this_master_leads() {
    let mut fixture = Fixture::new(None, None);
    fixture.node.start(me()).unwrap();
    assert_eq!(fixture.drain(), []);
    assert_eq!(fixture.seen(), ["leader master@10.0.0.1:5050"]);
}

#[test]
fn leader_detection_is_repeated_after_a_failure() {
    let mut fixture = Fixture::new(Some("zk://a:1/m"), None);
    fixture.node.start(me()).unwrap();
    let detect = Action::Detect {
        master: "zk://a:1/m".into(),
    };
    assert_eq!(fixture.drain(), std::slice::from_ref(&detect));
    assert_eq!(fixture.seen(), [""; 0]);

    let mut delays = Vec::new();
    for _ in 0..7 {
        fixture.node.detect_failed("no route").unwrap();
        let delay = fixture.idle().unwrap();
        delays.push(delay);
        fixture.node.tick().unwrap();
        assert_eq!(fixture.drain(), [], "too early");
        fixture.advance(delay + Duration::from_millis(1));
        fixture.node.tick().unwrap();
        assert_eq!(fixture.drain(), std::slice::from_ref(&detect));
        assert_eq!(fixture.idle(), None);
    }
    assert!(delays[0] <= Duration::from_secs(1), "{delays:?}");
    assert!(
        delays[6] >= Duration::from_secs(15) && delays[6] <= Duration::from_secs(30),
        "{delays:?}"
    );

    fixture
        .node
        .leader(Some("master@10.0.0.9:5050".parse().unwrap()))
        .unwrap();
    fixture.node.leader(None).unwrap();
    assert_eq!(fixture.seen(), ["leader master@10.0.0.9:5050", "leader -"]);
}

#[test]
fn state_without_a_log_survives_a_panic() {
    let mut fixture = Fixture::new(None, None);
    fixture.node.start(me()).unwrap();
    fixture.message("fetch");
    fixture.message("store");
    assert_eq!(fixture.drain(), []);
    fixture.message("panic");
    let delay = fixture.idle().unwrap();
    fixture.advance(delay + Duration::from_millis(1));
    fixture.node.tick().unwrap();
    for _ in 0..2 {
        fixture.message("fetch");
        assert_eq!(fixture.drain(), []);
    }
    assert_eq!(
        fixture.seen(),
        [
            "leader master@10.0.0.1:5050",
            "fetch",
            "store",
            "Fetched(Ok(b\"\"))",
            "Stored { number: 1, outcome: Stored }",
            "panic",
            "leader master@10.0.0.1:5050",
            "fetch",
            "Fetched(Ok(b\"body\"))",
            "fetch",
            "Fetched(Ok(b\"body\"))",
        ]
    );
}

#[test]
fn a_panic_answers_open_requests_and_restarts_the_machine() {
    let mut fixture = Fixture::started();
    fixture.request(1, "/later");
    fixture.request(2, "/now");
    fixture.message("panic");
    assert!(fixture.node.take_panicked());
    assert!(!fixture.node.take_panicked());
    assert_eq!(statuses(&fixture.drain()), [(1, 500), (2, 500)]);

    // Without a machine requests are answered at once, and their ids are free again.
    fixture.request(1, "/now");
    assert_eq!(statuses(&fixture.drain()), [(1, 503)]);
    fixture.message("echo");
    assert_eq!(fixture.drain(), []);

    let delay = fixture.idle().unwrap();
    assert!(
        (Duration::from_millis(50)..=Duration::from_millis(100)).contains(&delay),
        "{delay:?}"
    );
    fixture.advance(delay + Duration::from_millis(1));
    fixture.node.tick().unwrap();
    fixture.request(1, "/now");
    assert_eq!(statuses(&fixture.drain()), [(1, 200)]);
}

#[test]
fn the_restart_delay_grows_and_is_reset_after_a_minute_without_a_panic() {
    let mut fixture = Fixture::started();
    let crash = |fixture: &mut Fixture| {
        fixture.message("panic");
        let delay = fixture.idle().unwrap();
        fixture.advance(delay + Duration::from_millis(1));
        fixture.node.tick().unwrap();
        delay
    };
    let delays: Vec<_> = (0..12).map(|_| crash(&mut fixture)).collect();
    assert!(
        delays.iter().all(|delay| *delay <= Duration::from_secs(30)),
        "{delays:?}"
    );
    assert!(delays[11] >= Duration::from_secs(15), "{delays:?}");
    fixture.advance(HEALTHY_AFTER);
    assert!(crash(&mut fixture) <= Duration::from_millis(100));
}

#[test]
fn a_leading_master_makes_its_agents_register_again_after_a_panic() {
    let other = "overlay-agent@10.0.0.3:5051".parse::<Upid>().unwrap();
    let mut fixture = Fixture::started();
    fixture.message("link");
    fixture
        .node
        .message(other.clone(), "link".to_owned(), Bytes::new())
        .unwrap();
    fixture.drain();
    fixture.node.exited(other).unwrap();
    let restart = |fixture: &mut Fixture| {
        fixture.message("panic");
        let delay = fixture.idle().unwrap();
        fixture.advance(delay + Duration::from_millis(1));
        fixture.node.tick().unwrap();
        fixture.drain()
    };
    let actions = restart(&mut fixture);
    let [Action::Io(Io::Send { to, name, .. })] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (to, *name),
        (
            &peer(),
            "mesos.modules.overlay.internal.RegistrationRefusedMessage"
        )
    );

    // No agent has registered since; and a standby sends nothing.
    assert_eq!(restart(&mut fixture), []);
    fixture.message("link");
    fixture.drain();
    fixture.node.leader(None).unwrap();
    assert_eq!(restart(&mut fixture), []);
}

/// Makes the machine read, write and reconcile the host. Returns the id of the read, the number
/// of the write and the generation.
fn fetch_store_apply(fixture: &mut Fixture) -> (u64, u64, u64) {
    for name in ["fetch", "store", "apply"] {
        fixture.message(name);
    }
    let actions = fixture.drain();
    let [
        Action::Fetch { id, .. },
        Action::Io(Io::Store { number, .. }),
    ] = actions[..]
    else {
        panic!("{actions:?}")
    };
    (id, number, *fixture.host.generations().last().unwrap())
}

#[test]
fn late_answers_for_the_machine_before_are_ignored() {
    let mut fixture = Fixture::started();
    let (fetch, store, generation) = fetch_store_apply(&mut fixture);
    fixture.restart();
    let old = Ok(Bytes::from_static(b"old"));
    fixture.node.fetched(fetch, old).unwrap();
    fixture.node.stored(store, StoreOutcome::Stored).unwrap();
    fixture.host.report(generation);
    assert_eq!(fixture.drain(), []);
    assert_eq!(fixture.seen(), [""; 0]);

    // The new machine gets the answers to its own effects.
    let (fetch, store, generation) = fetch_store_apply(&mut fixture);
    fixture.node.fetched(fetch, Err("why".into())).unwrap();
    let outcome = StoreOutcome::Superseded;
    fixture.node.stored(store, outcome).unwrap();
    fixture.host.report(generation);
    assert_eq!(fixture.drain(), []);
    assert_eq!(
        fixture.seen()[3..],
        [
            "Fetched(Err(\"why\"))".to_owned(),
            format!("Stored {{ number: {store}, outcome: Superseded }}"),
            format!("HostDone({:?})", host_report(generation)),
        ]
    );
}

#[test]
fn repeated_reports_on_the_engine_reach_the_machine_that_asked() {
    let mut fixture = Fixture::started();
    fixture.message("engine");
    fixture.drain();
    let first = fixture.host.engine_generations()[0];
    fixture.seen();
    let done = |generation| format!("EngineDone({:?})", engine_report(generation));
    for _ in 0..2 {
        fixture.host.report_engine(first);
        fixture.drain();
        assert_eq!(fixture.seen(), [done(first)]);
    }

    // The second machine gets no reports on what the first one asked for.
    fixture.message("panic");
    let delay = fixture.idle().unwrap();
    fixture.advance(delay + Duration::from_millis(1));
    fixture.node.tick().unwrap();
    fixture.message("engine");
    fixture.drain();
    fixture.seen();
    let second = *fixture.host.engine_generations().last().unwrap();
    for (generation, seen) in [(first, vec![]), (second, vec![done(second)])] {
        fixture.host.report_engine(generation);
        fixture.drain();
        assert_eq!(fixture.seen(), seen);
    }
}

#[test]
fn each_fetch_is_answered_and_the_newest_has_the_value() {
    let mut fixture = Fixture::started();
    for _ in 0..2 {
        fixture.message("fetch");
    }
    let actions = fixture.drain();
    let [Action::Fetch { id: old, .. }, Action::Fetch { id: new, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    fixture.seen();
    fixture
        .node
        .fetched(old, Ok(Bytes::from_static(b"old")))
        .unwrap();
    fixture
        .node
        .fetched(new, Ok(Bytes::from_static(b"new")))
        .unwrap();
    assert_eq!(
        fixture.seen(),
        [
            "Fetched(Err(\"overtaken by a newer attempt\"))",
            "Fetched(Ok(b\"new\"))"
        ]
    );
}

/// Threads that hang do not report.
#[test]
fn the_host_is_looked_after_though_nothing_happens() {
    let mut fixture = Fixture::started();
    fixture.host.look_again_after(Duration::from_secs(7));
    assert_eq!(fixture.idle(), Some(Duration::from_secs(7)));
    fixture.message("wait");
    assert_eq!(fixture.idle(), Some(Duration::from_secs(5)));
}

#[test]
fn a_tick_before_the_deadline_does_nothing() {
    let mut fixture = Fixture::started();
    assert_eq!(fixture.idle(), None);
    fixture.message("wait");
    assert_eq!(fixture.idle(), Some(Duration::from_secs(5)));
    fixture.seen();
    fixture.advance(Duration::from_millis(4999));
    fixture.node.tick().unwrap();
    assert_eq!(
        (fixture.seen().len(), fixture.idle()),
        (0, Some(Duration::from_millis(1)))
    );
    fixture.advance(Duration::from_millis(1));
    fixture.node.tick().unwrap();
    assert_eq!(
        (fixture.seen(), fixture.idle()),
        (vec!["Timeout".to_owned()], None)
    );
}

#[test]
fn the_id_of_an_open_request_is_rejected() {
    let mut fixture = Fixture::started();
    fixture.request(1, "/later");
    let again = Request {
        id: RequestId(1),
        method: "GET".into(),
        path: "/now".into(),
        query: Default::default(),
        accept: None,
        headers: Default::default(),
        body: Bytes::new(),
    };
    assert_eq!(fixture.node.request(again, None), Err(InputError::Invalid));
    assert_eq!(fixture.drain(), []);
}

#[test]
#[cfg(feature = "fault-injection")]
fn a_fault_can_be_injected() {
    let mut fixture = Fixture::started();
    fixture.message(crate::runtime::fault::PANIC);
    assert!(fixture.node.take_panicked());
    assert_eq!(fixture.seen(), [""; 0], "the machine never saw it");
}

#[test]
#[cfg(not(feature = "fault-injection"))]
fn no_fault_can_be_injected() {
    let mut fixture = Fixture::started();
    fixture.message("mesos_overlay.fault.Panic");
    assert!(!fixture.node.take_panicked());
}
