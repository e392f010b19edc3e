use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::super::node::*;

mod supervision;

/// A machine that does as its inputs say, so that a test can make it do anything.
struct Puppet {
    me: Upid,
    effects: VecDeque<Effect>,
    timeout: Option<Time>,
    broken_timeout: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Machine for Puppet {
    fn handle(&mut self, now: Time, input: Input) {
        self.seen.lock().push(match &input {
            Input::Message { name, .. } => name.clone(),
            Input::Leader(leader) => {
                format!(
                    "leader {}",
                    leader.as_ref().map_or("-".into(), Upid::to_string)
                )
            }
            other => format!("{other:?}"),
        });
        match input {
            Input::Message { name, from, body } => match name.as_str() {
                "panic" => panic!("as told"),
                "fetch" => self.effects.push_back(Effect::Fetch),
                "store" => self.effects.push_back(Effect::Store {
                    number: 7,
                    state: body,
                }),
                "apply" => self.effects.push_back(Effect::ApplyHost {
                    generation: 3,
                    desired: Arc::new(Desired::default()),
                }),
                "break timeout" => self.broken_timeout = true,
                "anew" => self.effects.push_back(Effect::Link {
                    to: from,
                    reconnect: true,
                }),
                "link" => self.effects.push_back(Effect::Link {
                    to: from,
                    reconnect: false,
                }),
                "engine" => {
                    self.effects.push_back(Effect::ApplyEngine {
                        generation: 4,
                        networks: Arc::default(),
                    });
                }
                "wait" => self.timeout = Some(now + Duration::from_secs(5)),
                "echo" => self.effects.push_back(Effect::Send {
                    to: from,
                    name: "echo",
                    body,
                }),
                _ => {}
            },
            Input::Request(request) if request.path != "/later" => {
                let answer = Effect::Respond {
                    id: request.id,
                    response: unavailable(200, self.me.to_string()),
                };
                let count = if request.path == "/twice" { 2 } else { 1 };
                self.effects.extend(std::iter::repeat_n(answer, count));
            }
            Input::Timeout => self.timeout = None,
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        assert!(!self.broken_timeout, "as told");
        self.timeout
    }
}

/// The generations that were asked for, and the next reports.
#[derive(Clone, Default)]
struct FakeHost(
    Arc<Mutex<(Vec<u64>, Option<HostReport>)>>,
    Arc<Mutex<(Vec<u64>, Option<EngineReport>)>>,
    Arc<Mutex<Option<BTreeMap<String, InUse>>>>,
);

impl Host for FakeHost {
    fn apply(&mut self, generation: u64, _: Arc<Desired>) {
        self.0.lock().0.push(generation);
    }

    fn poll(&mut self) -> Option<HostReport> {
        self.0.lock().1.take()
    }

    fn apply_engine(&mut self, generation: u64, _: Arc<EngineDesired>) {
        self.1.lock().0.push(generation);
    }

    fn poll_engine(&mut self) -> Option<EngineReport> {
        self.1.lock().1.take()
    }

    fn poll_usage(&mut self) -> Option<BTreeMap<String, InUse>> {
        self.2.lock().take()
    }
}

struct Bench {
    node: Node,
    nanos: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<String>>>,
    host: FakeHost,
    /// Seed and number of restarts of each machine.
    births: Arc<Mutex<Vec<(u64, u64)>>>,
    /// No machine can be made.
    barren: Arc<AtomicBool>,
}

impl Bench {
    fn new(detect: Option<&str>, log: Option<LogSettings>) -> Bench {
        Bench::of(Role::Master, detect, log)
    }

    fn of(role: Role, detect: Option<&str>, log: Option<LogSettings>) -> Bench {
        let nanos = Arc::new(AtomicU64::new(0));
        let births = Arc::new(Mutex::new(Vec::new()));
        let barren = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let host = FakeHost::default();
        let node = Node::new(NodeOptions {
            role,
            make: Box::new({
                let (seen, births, barren) = (seen.clone(), births.clone(), barren.clone());
                move |Birth { me, seed, restarts }| {
                    assert!(!barren.load(Ordering::Relaxed), "as told");
                    births.lock().push((seed, restarts));
                    Box::new(Puppet {
                        me: me.clone(),
                        effects: VecDeque::new(),
                        timeout: None,
                        broken_timeout: false,
                        seen: seen.clone(),
                    })
                }
            }),
            detect: detect.map(str::to_owned),
            authenticate_http: AuthenticateHttp::default(),
            log,
            host: Box::new(host.clone()),
            clock: Clock::new({
                let nanos = nanos.clone();
                move || Duration::from_nanos(nanos.load(Ordering::Relaxed))
            }),
            seed: 1,
        });
        Bench {
            node,
            nanos,
            seen,
            host,
            births,
            barren,
        }
    }

    fn started() -> Bench {
        let mut bench = Bench::new(None, Some(log_settings()));
        bench.node.start(me()).unwrap();
        assert_eq!(bench.drain(), [Action::OpenLog(log_settings())]);
        bench.seen.lock().clear();
        bench
    }

    /// Everything up to `Idle`, without it.
    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| match self.node.poll().unwrap() {
            Action::Idle(_) => None,
            action => Some(action),
        })
        .collect()
    }

    fn idle(&mut self) -> Option<Duration> {
        match self.node.poll().unwrap() {
            Action::Idle(deadline) => deadline,
            action => panic!("{action:?}"),
        }
    }

    fn message(&mut self, name: &str) {
        self.node
            .message(peer(), name.to_owned(), Bytes::from_static(b"body"))
            .unwrap();
    }

    fn request(&mut self, id: u64, path: &str) {
        let request = Request {
            id: RequestId(id),
            method: "GET".into(),
            path: path.into(),
            query: Default::default(),
            accept: None,
            body: Bytes::new(),
        };
        self.node.request(request).unwrap();
    }

    fn advance(&mut self, by: Duration) {
        self.nanos
            .fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::Relaxed);
    }

    /// Waits as long as the node wants, exactly; returns how long that was.
    fn wait(&mut self) -> Duration {
        let delay = self.idle().expect("a deadline");
        self.advance(delay);
        self.node.tick().unwrap();
        delay
    }

    /// Makes the machine panic, and waits for the next one; returns how long that took.
    fn restart(&mut self) -> Duration {
        self.message("panic");
        let delay = self.wait();
        self.seen();
        delay
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock())
    }
}

fn me() -> Upid {
    "overlay-master@10.0.0.1:5050".parse().unwrap()
}

fn peer() -> Upid {
    "overlay-agent@10.0.0.2:5051".parse().unwrap()
}

fn log_settings() -> LogSettings {
    LogSettings {
        quorum: 1,
        path: "/log".into(),
        zookeeper: None,
    }
}

fn statuses(actions: &[Action]) -> Vec<(u64, u16)> {
    actions
        .iter()
        .map(|action| match action {
            Action::Respond { id, response } => (id.0, response.status),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn nothing_before_the_start_and_one_start_only() {
    let mut bench = Bench::new(None, None);
    assert_eq!(bench.node.tick(), Err(Refused::State));
    assert_eq!(bench.node.poll(), Err(Refused::State));
    assert_eq!(bench.node.leader(None), Err(Refused::State));
    bench.node.start(me()).unwrap();
    assert_eq!(bench.node.start(me()), Err(Refused::State));
}

#[test]
fn without_zookeeper_the_own_master_leads() {
    let mut bench = Bench::new(None, None);
    bench.node.start(me()).unwrap();
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.seen(), ["leader master@10.0.0.1:5050"]);
}

#[test]
fn with_zookeeper_the_leader_is_watched_again_after_a_failure() {
    let mut bench = Bench::new(Some("zk://a:1/m"), None);
    bench.node.start(me()).unwrap();
    let detect = Action::Detect {
        master: "zk://a:1/m".into(),
    };
    assert_eq!(bench.drain(), std::slice::from_ref(&detect));
    assert_eq!(bench.seen(), [""; 0]);

    let mut delays = Vec::new();
    for _ in 0..7 {
        bench.node.detect_failed("no route").unwrap();
        let delay = bench.idle().unwrap();
        delays.push(delay);
        bench.node.tick().unwrap();
        assert_eq!(bench.drain(), [], "too early");
        bench.advance(delay + Duration::from_millis(1));
        bench.node.tick().unwrap();
        assert_eq!(bench.drain(), std::slice::from_ref(&detect));
        assert_eq!(bench.idle(), None);
    }
    assert!(delays[0] <= Duration::from_secs(1), "{delays:?}");
    assert!(
        delays[6] >= Duration::from_secs(15) && delays[6] <= Duration::from_secs(30),
        "{delays:?}"
    );

    bench
        .node
        .leader(Some("master@10.0.0.9:5050".parse().unwrap()))
        .unwrap();
    bench.node.leader(None).unwrap();
    assert_eq!(bench.seen(), ["leader master@10.0.0.9:5050", "leader -"]);
}

#[test]
fn state_without_a_log_is_in_memory_and_outlives_a_panic() {
    let mut bench = Bench::new(None, None);
    bench.node.start(me()).unwrap();
    bench.message("fetch");
    bench.message("store");
    assert_eq!(bench.drain(), []);
    bench.message("panic");
    let delay = bench.idle().unwrap();
    bench.advance(delay + Duration::from_millis(1));
    bench.node.tick().unwrap();
    for _ in 0..2 {
        bench.message("fetch");
        assert_eq!(bench.drain(), []);
    }
    assert_eq!(
        bench.seen(),
        [
            "leader master@10.0.0.1:5050",
            "fetch",
            "store",
            "Fetched(Ok(b\"\"))",
            "Stored { number: 7, outcome: Stored }",
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
    let mut bench = Bench::started();
    bench.request(1, "/later");
    bench.request(2, "/now");
    bench.message("panic");
    assert!(bench.node.take_panicked());
    assert!(!bench.node.take_panicked());
    assert_eq!(statuses(&bench.drain()), [(1, 500), (2, 500)]);

    // Nobody is in, and the requests' ids are free again.
    bench.request(1, "/now");
    assert_eq!(statuses(&bench.drain()), [(1, 503)]);
    bench.message("echo");
    assert_eq!(bench.drain(), []);

    let delay = bench.idle().unwrap();
    assert!(
        (Duration::from_millis(50)..=Duration::from_millis(100)).contains(&delay),
        "{delay:?}"
    );
    bench.advance(delay + Duration::from_millis(1));
    bench.node.tick().unwrap();
    bench.request(1, "/now");
    assert_eq!(statuses(&bench.drain()), [(1, 200)]);
}

#[test]
fn restarts_get_rarer_while_the_panics_go_on_and_fast_again_after_a_good_minute() {
    let mut bench = Bench::started();
    let crash = |bench: &mut Bench| {
        bench.message("panic");
        let delay = bench.idle().unwrap();
        bench.advance(delay + Duration::from_millis(1));
        bench.node.tick().unwrap();
        delay
    };
    let delays: Vec<_> = (0..12).map(|_| crash(&mut bench)).collect();
    assert!(
        delays.iter().all(|delay| *delay <= Duration::from_secs(30)),
        "{delays:?}"
    );
    assert!(delays[11] >= Duration::from_secs(15), "{delays:?}");
    bench.advance(HEALTHY_AFTER);
    assert!(crash(&mut bench) <= Duration::from_millis(100));
}

#[test]
fn after_a_panic_of_the_leading_master_its_agents_are_made_to_register_again() {
    let other = "overlay-agent@10.0.0.3:5051".parse::<Upid>().unwrap();
    let mut bench = Bench::started();
    bench.message("link");
    bench
        .node
        .message(other.clone(), "link".to_owned(), Bytes::new())
        .unwrap();
    bench.drain();
    bench.node.exited(other).unwrap();
    let restart = |bench: &mut Bench| {
        bench.message("panic");
        let delay = bench.idle().unwrap();
        bench.advance(delay + Duration::from_millis(1));
        bench.node.tick().unwrap();
        bench.drain()
    };
    let actions = restart(&mut bench);
    let [Action::Send { to, name, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (to, *name),
        (
            &peer(),
            "mesos.modules.overlay.internal.RegistrationRefusedMessage"
        )
    );

    // It links those that come again; and a standby has none to call.
    assert_eq!(restart(&mut bench), []);
    bench.message("link");
    bench.drain();
    bench.node.leader(None).unwrap();
    assert_eq!(restart(&mut bench), []);
}

#[test]
fn late_answers_of_a_former_machine_are_ignored() {
    let mut bench = Bench::started();
    for name in ["fetch", "store", "apply"] {
        bench.message(name);
    }
    let actions = bench.drain();
    let [Action::Fetch { id: fetch }, Action::Store { id: store, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    let generation = bench.host.0.lock().0[0];
    bench.message("panic");
    let delay = bench.idle().unwrap();
    bench.advance(delay + Duration::from_millis(1));
    bench.node.tick().unwrap();
    bench.seen();

    bench
        .node
        .fetched(fetch, Ok(Bytes::from_static(b"old")))
        .unwrap();
    bench.node.stored(store, StoreOutcome::Stored).unwrap();
    bench.host.0.lock().1 = Some(HostReport {
        generation,
        ..HostReport::default()
    });
    assert_eq!(bench.drain(), []);
    assert_eq!(bench.seen(), [""; 0]);

    // The new machine's own ones arrive, under the numbers that it knows.
    for name in ["fetch", "store", "apply"] {
        bench.message(name);
    }
    let actions = bench.drain();
    let [Action::Fetch { id: fetch }, Action::Store { id: store, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    bench.node.fetched(fetch, Err("why".into())).unwrap();
    bench.node.stored(store, StoreOutcome::Superseded).unwrap();
    let generation = *bench.host.0.lock().0.last().unwrap();
    bench.host.0.lock().1 = Some(HostReport {
        generation,
        ..HostReport::default()
    });
    assert_eq!(bench.drain(), []);
    assert_eq!(
        bench.seen()[3..],
        [
            "Fetched(Err(\"why\"))".to_owned(),
            "Stored { number: 7, outcome: Superseded }".to_owned(),
            format!(
                "HostDone({:?})",
                HostReport {
                    generation: 3,
                    ..HostReport::default()
                }
            ),
        ]
    );
}

#[test]
fn the_engine_is_reported_on_until_another_machine_asks() {
    let mut bench = Bench::started();
    bench.message("engine");
    bench.drain();
    let first = bench.host.1.lock().0[0];
    bench.seen();
    let report = |generation| EngineReport {
        generation,
        ..EngineReport::default()
    };
    let done = format!("EngineDone({:?})", report(4));
    for _ in 0..2 {
        bench.host.1.lock().1 = Some(report(first));
        bench.drain();
        assert_eq!(bench.seen(), std::slice::from_ref(&done));
    }

    // What the first machine asked for is nothing to the second one.
    bench.message("panic");
    let delay = bench.idle().unwrap();
    bench.advance(delay + Duration::from_millis(1));
    bench.node.tick().unwrap();
    bench.message("engine");
    bench.drain();
    bench.seen();
    let second = *bench.host.1.lock().0.last().unwrap();
    for (generation, seen) in [(first, vec![]), (second, vec![done])] {
        bench.host.1.lock().1 = Some(report(generation));
        bench.drain();
        assert_eq!(bench.seen(), seen);
    }
}

#[test]
fn every_fetch_is_answered_the_newest_with_the_value() {
    let mut bench = Bench::started();
    for _ in 0..2 {
        bench.message("fetch");
    }
    let actions = bench.drain();
    let [Action::Fetch { id: old }, Action::Fetch { id: new }] = actions[..] else {
        panic!("{actions:?}")
    };
    bench.seen();
    bench
        .node
        .fetched(old, Ok(Bytes::from_static(b"old")))
        .unwrap();
    bench
        .node
        .fetched(new, Ok(Bytes::from_static(b"new")))
        .unwrap();
    assert_eq!(
        bench.seen(),
        [
            "Fetched(Err(\"overtaken by a newer attempt\"))",
            "Fetched(Ok(b\"new\"))"
        ]
    );
}

#[test]
fn a_write_that_hangs_has_failed_after_a_while() {
    let mut bench = Bench::started();
    bench.message("store");
    let actions = bench.drain();
    let [Action::Store { id, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    bench.seen();
    assert_eq!(bench.idle(), Some(STORE_PATIENCE));
    bench.advance(STORE_PATIENCE - Duration::from_millis(1));
    bench.node.tick().unwrap();
    assert_eq!(bench.seen(), [""; 0]);
    bench.advance(Duration::from_millis(1));
    bench.node.tick().unwrap();
    let seen = bench.seen();
    assert!(
        seen[0].starts_with("Stored { number: 7, outcome: Failed(\"no answer within 20 s"),
        "{seen:?}"
    );
    bench.node.stored(id, StoreOutcome::Stored).unwrap();
    assert_eq!(
        (bench.seen().len(), bench.idle()),
        (0, None),
        "the late answer counts no more"
    );
}

#[test]
fn the_deadline_is_the_machines_and_ticks_before_it_do_nothing() {
    let mut bench = Bench::started();
    assert_eq!(bench.idle(), None);
    bench.message("wait");
    assert_eq!(bench.idle(), Some(Duration::from_secs(5)));
    bench.seen();
    bench.advance(Duration::from_millis(4999));
    bench.node.tick().unwrap();
    assert_eq!(
        (bench.seen().len(), bench.idle()),
        (0, Some(Duration::from_millis(1)))
    );
    bench.advance(Duration::from_millis(1));
    bench.node.tick().unwrap();
    assert_eq!(
        (bench.seen(), bench.idle()),
        (vec!["Timeout".to_owned()], None)
    );
}

#[test]
fn an_id_that_is_open_is_not_taken_twice() {
    let mut bench = Bench::started();
    bench.request(1, "/later");
    let again = Request {
        id: RequestId(1),
        method: "GET".into(),
        path: "/now".into(),
        query: Default::default(),
        accept: None,
        body: Bytes::new(),
    };
    assert_eq!(bench.node.request(again), Err(Refused::Invalid));
    assert_eq!(bench.drain(), []);
}

#[test]
#[cfg(feature = "fault-injection")]
fn a_fault_can_be_ordered() {
    let mut bench = Bench::started();
    bench.message(super::super::fault::PANIC);
    assert!(bench.node.take_panicked());
    assert_eq!(bench.seen(), [""; 0], "the machine never saw it");
}

#[test]
#[cfg(not(feature = "fault-injection"))]
fn no_fault_can_be_ordered() {
    let mut bench = Bench::started();
    bench.message("mesos_overlay.fault.Panic");
    assert!(!bench.node.take_panicked());
}
