use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use overlay_core::machine::first_number;
use parking_lot::Mutex;

use super::super::MachineContext;
use super::super::supervisor::HEALTHY_AFTER;
use super::*;

mod supervision;

/// Machine that does what the name of a message says.
struct Puppet {
    me: Upid,
    /// Number of the last effect that has one.
    last_number: u64,
    effects: VecDeque<Effect>,
    timeout: Option<Time>,
    broken_timeout: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Puppet {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Returns the effect that the message `name` asks for.
    fn effect(&mut self, name: &str, from: Upid, body: Bytes) -> Option<Effect> {
        let link = |reconnect| Io::Link {
            to: from.clone(),
            reconnect,
        };
        Some(match name {
            "fetch" => Effect::Fetch,
            "store" => Effect::Io(Io::Store {
                number: self.next_number(),
                state: body,
            }),
            "apply" => Effect::ApplyHost {
                generation: self.next_number(),
                desired: Arc::new(Desired::default()),
            },
            "engine" => Effect::ApplyEngine {
                generation: self.next_number(),
                networks: Arc::default(),
            },
            "anew" => Effect::Io(link(true)),
            "link" => Effect::Io(link(false)),
            "echo" => Effect::Io(Io::Send {
                to: from,
                name: "echo",
                body,
            }),
            _ => return None,
        })
    }
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
                "break timeout" => self.broken_timeout = true,
                "wait" => self.timeout = Some(now + Duration::from_secs(5)),
                name => {
                    let effect = self.effect(name, from, body);
                    self.effects.extend(effect);
                }
            },
            Input::Request(request) if request.path != "/later" => {
                let answer = Effect::Io(Io::Respond {
                    id: request.id,
                    response: plain_text(200, self.me.to_string()),
                });
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

/// Generations that were applied, and the next reports.
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

struct Fixture {
    node: Node,
    nanos: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<String>>>,
    host: FakeHost,
    /// Seed and number of restarts of each machine.
    created: Arc<Mutex<Vec<(u64, u64)>>>,
    /// Whether the factory panics.
    factory_fails: Arc<AtomicBool>,
}

impl Fixture {
    fn new(detect: Option<&str>, log: Option<LogSettings>) -> Fixture {
        Fixture::of(Role::Master, detect, log)
    }

    fn of(role: Role, detect: Option<&str>, log: Option<LogSettings>) -> Fixture {
        let nanos = Arc::new(AtomicU64::new(0));
        let created = Arc::new(Mutex::new(Vec::new()));
        let factory_fails = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let host = FakeHost::default();
        let node = Node::new(NodeOptions {
            role,
            factory: Box::new({
                let (seen, created, factory_fails) =
                    (seen.clone(), created.clone(), factory_fails.clone());
                move |MachineContext { me, seed, restarts }| {
                    assert!(!factory_fails.load(Ordering::Relaxed), "as told");
                    created.lock().push((seed, restarts));
                    Box::new(Puppet {
                        me: me.clone(),
                        last_number: first_number(restarts),
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
        Fixture {
            node,
            nanos,
            seen,
            host,
            created,
            factory_fails,
        }
    }

    fn started() -> Fixture {
        let mut fixture = Fixture::new(None, Some(log_settings()));
        fixture.node.start(me()).unwrap();
        assert_eq!(fixture.drain(), [Action::OpenLog(log_settings())]);
        fixture.seen.lock().clear();
        fixture
    }

    /// Takes all actions before `Idle`.
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

    /// Waits exactly until the deadline. Returns the time that it waited.
    fn wait(&mut self) -> Duration {
        let delay = self.idle().expect("a deadline");
        self.advance(delay);
        self.node.tick().unwrap();
        delay
    }

    /// Makes the machine panic and waits for the next one. Returns the delay.
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
            Action::Io(Io::Respond { id, response }) => (id.0, response.status),
            other => panic!("{other:?}"),
        })
        .collect()
}

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

#[test]
fn late_answers_for_the_machine_before_are_ignored() {
    let mut fixture = Fixture::started();
    for name in ["fetch", "store", "apply"] {
        fixture.message(name);
    }
    let actions = fixture.drain();
    let [
        Action::Fetch { id: fetch },
        Action::Io(Io::Store { number: store, .. }),
    ] = actions[..]
    else {
        panic!("{actions:?}")
    };
    let generation = fixture.host.0.lock().0[0];
    fixture.message("panic");
    let delay = fixture.idle().unwrap();
    fixture.advance(delay + Duration::from_millis(1));
    fixture.node.tick().unwrap();
    fixture.seen();

    fixture
        .node
        .fetched(fetch, Ok(Bytes::from_static(b"old")))
        .unwrap();
    fixture.node.stored(store, StoreOutcome::Stored).unwrap();
    fixture.host.0.lock().1 = Some(HostReport {
        generation,
        ..HostReport::default()
    });
    assert_eq!(fixture.drain(), []);
    assert_eq!(fixture.seen(), [""; 0]);

    // The new machine gets the answers to its own effects.
    for name in ["fetch", "store", "apply"] {
        fixture.message(name);
    }
    let actions = fixture.drain();
    let [
        Action::Fetch { id: fetch },
        Action::Io(Io::Store { number: store, .. }),
    ] = actions[..]
    else {
        panic!("{actions:?}")
    };
    fixture.node.fetched(fetch, Err("why".into())).unwrap();
    fixture
        .node
        .stored(store, StoreOutcome::Superseded)
        .unwrap();
    let generation = *fixture.host.0.lock().0.last().unwrap();
    fixture.host.0.lock().1 = Some(HostReport {
        generation,
        ..HostReport::default()
    });
    assert_eq!(fixture.drain(), []);
    assert_eq!(
        fixture.seen()[3..],
        [
            "Fetched(Err(\"why\"))".to_owned(),
            format!("Stored {{ number: {store}, outcome: Superseded }}"),
            format!(
                "HostDone({:?})",
                HostReport {
                    generation,
                    ..HostReport::default()
                }
            ),
        ]
    );
}

#[test]
fn repeated_reports_on_the_engine_reach_the_machine_that_asked() {
    let mut fixture = Fixture::started();
    fixture.message("engine");
    fixture.drain();
    let first = fixture.host.1.lock().0[0];
    fixture.seen();
    let report = |generation| EngineReport {
        generation,
        ..EngineReport::default()
    };
    let done = |generation| format!("EngineDone({:?})", report(generation));
    for _ in 0..2 {
        fixture.host.1.lock().1 = Some(report(first));
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
    let second = *fixture.host.1.lock().0.last().unwrap();
    for (generation, seen) in [(first, vec![]), (second, vec![done(second)])] {
        fixture.host.1.lock().1 = Some(report(generation));
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
    let [Action::Fetch { id: old }, Action::Fetch { id: new }] = actions[..] else {
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
        body: Bytes::new(),
    };
    assert_eq!(fixture.node.request(again), Err(InputError::Invalid));
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
