//! A node with a machine, a host and a clock that tests control.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::usage::InUse;
use overlay_core::machine::number_base;
use overlay_core::{EngineReport, HostReport, Seed};
use parking_lot::Mutex;

use super::super::*;
use crate::runtime::MachineContext;

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
            "fetch" => Effect::Fetch { reopen: false },
            "fetch anew" => Effect::Fetch { reopen: true },
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
                session: Bytes::new(),
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

/// Applied generations of the host or the engine, and its next report.
struct Target<R> {
    generations: Vec<u64>,
    report: Option<R>,
}

impl<R> Default for Target<R> {
    fn default() -> Target<R> {
        Target {
            generations: Vec::new(),
            report: None,
        }
    }
}

/// Host that only records, and reports what the test says.
#[derive(Clone, Default)]
pub(super) struct FakeHost {
    host: Arc<Mutex<Target<HostReport>>>,
    engine: Arc<Mutex<Target<EngineReport>>>,
    usage: Arc<Mutex<Option<BTreeMap<String, InUse>>>>,
    next_look: Arc<Mutex<Option<Duration>>>,
}

impl FakeHost {
    /// Returns the generations that were applied to the host.
    pub(super) fn generations(&self) -> Vec<u64> {
        self.host.lock().generations.clone()
    }

    /// Returns the generations that were applied to the engine.
    pub(super) fn engine_generations(&self) -> Vec<u64> {
        self.engine.lock().generations.clone()
    }

    /// Sets the next report on the host.
    pub(super) fn report(&self, generation: u64) {
        self.host.lock().report = Some(host_report(generation));
    }

    /// Sets the next report on the engine.
    pub(super) fn report_engine(&self, generation: u64) {
        self.engine.lock().report = Some(engine_report(generation));
    }

    /// Sets the time after which the host is to be looked after again.
    pub(super) fn look_again_after(&self, delay: Duration) {
        *self.next_look.lock() = Some(delay);
    }

    /// Sets the next sample of the addresses in use.
    pub(super) fn report_usage(&self, usage: BTreeMap<String, InUse>) {
        *self.usage.lock() = Some(usage);
    }
}

impl Host for FakeHost {
    fn apply(&mut self, generation: u64, _: Arc<Desired>) {
        self.host.lock().generations.push(generation);
    }

    fn poll(&mut self) -> Option<HostReport> {
        self.host.lock().report.take()
    }

    fn apply_engine(&mut self, generation: u64, _: Arc<EngineDesired>) {
        self.engine.lock().generations.push(generation);
    }

    fn poll_engine(&mut self) -> Option<EngineReport> {
        self.engine.lock().report.take()
    }

    fn poll_usage(&mut self) -> Option<BTreeMap<String, InUse>> {
        self.usage.lock().take()
    }

    fn look_after(&mut self) -> Option<Duration> {
        *self.next_look.lock()
    }
}

pub(super) fn host_report(generation: u64) -> HostReport {
    HostReport {
        generation,
        ..HostReport::default()
    }
}

pub(super) fn engine_report(generation: u64) -> EngineReport {
    EngineReport {
        generation,
        ..EngineReport::default()
    }
}

pub(super) struct Fixture {
    pub(super) node: Node,
    pub(super) nanos: Arc<AtomicU64>,
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    pub(super) host: FakeHost,
    /// Seed and number of restarts of each machine.
    pub(super) created: Arc<Mutex<Vec<(Seed, u64)>>>,
    /// Makes the factory panic.
    pub(super) factory_fails: Arc<AtomicBool>,
}

impl Fixture {
    pub(super) fn new(detect: Option<&str>, log: Option<LogSettings>) -> Fixture {
        Fixture::of(Role::Master, detect, log)
    }

    pub(super) fn of(role: Role, detect: Option<&str>, log: Option<LogSettings>) -> Fixture {
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
                        last_number: number_base(restarts),
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
            seeds: Seeds::of(1),
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

    pub(super) fn started() -> Fixture {
        let mut fixture = Fixture::new(None, Some(log_settings()));
        fixture.node.start(me()).unwrap();
        assert_eq!(fixture.drain(), [Action::OpenLog(log_settings())]);
        fixture.seen.lock().clear();
        fixture
    }

    /// Takes all actions before `Idle`.
    pub(super) fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| match self.node.poll().unwrap() {
            Action::Idle(_) => None,
            action => Some(action),
        })
        .collect()
    }

    pub(super) fn idle(&mut self) -> Option<Duration> {
        match self.node.poll().unwrap() {
            Action::Idle(deadline) => deadline,
            action => panic!("{action:?}"),
        }
    }

    pub(super) fn message(&mut self, name: &str) {
        self.node
            .message(peer(), name.to_owned(), Bytes::from_static(b"body"))
            .unwrap();
    }

    pub(super) fn request(&mut self, id: u64, path: &str) {
        let request = Request {
            id: RequestId(id),
            method: "GET".into(),
            path: path.into(),
            query: Default::default(),
            accept: None,
            headers: Default::default(),
            body: Bytes::new(),
        };
        self.node.request(request, None).unwrap();
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.nanos
            .fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::Relaxed);
    }

    /// Waits exactly until the deadline. Returns the time that it waited.
    pub(super) fn wait(&mut self) -> Duration {
        let delay = self.idle().expect("a deadline");
        self.advance(delay);
        self.node.tick().unwrap();
        delay
    }

    /// Makes the machine panic and waits for the next one. Returns the delay.
    pub(super) fn restart(&mut self) -> Duration {
        self.message("panic");
        let delay = self.wait();
        self.seen();
        delay
    }

    pub(super) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock())
    }
}

pub(super) fn me() -> Upid {
    "overlay-master@10.0.0.1:5050".parse().unwrap()
}

pub(super) fn peer() -> Upid {
    "overlay-agent@10.0.0.2:5051".parse().unwrap()
}

pub(super) fn log_settings() -> LogSettings {
    LogSettings {
        quorum: 1,
        path: "/log".into(),
        zookeeper: None,
    }
}

pub(super) fn statuses(actions: &[Action]) -> Vec<(u64, u16)> {
    actions
        .iter()
        .map(|action| match action {
            Action::Io(Io::Respond { id, response }) => (id.0, response.status),
            other => panic!("{other:?}"),
        })
        .collect()
}
