//! One master or one agent with everything it needs around it.
//!
//! A node owns a [`Machine`] and may lose it: a panic throws the machine away, and
//! after a delay a new one is made from the same configuration. It is told who
//! leads and finds everything else in the replicated log, or on its host. What its
//! predecessor asked for and is answered only now never reaches it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::AuthenticateHttp;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::usage::InUse;
use overlay_core::metrics::{AGENT_PREFIX, MASTER_PREFIX, Metric};
use overlay_core::util::backoff::Backoff;
use overlay_core::util::throttle::Throttle;
use overlay_core::{
    Effect, EngineReport, HostReport, Input, Level, Machine, Request, RequestId, Response,
    StoreOutcome, Time, Upid,
};

use super::{Action, Clock, LogSettings, Panic, Role, catch, log};

#[cfg(test)]
mod tests;

/// Makes a machine.
pub type Make = Box<dyn Fn(Birth<'_>) -> Box<dyn Machine + Send> + Send>;

/// What a machine is made with, besides its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    /// Its own pid.
    pub me: &'a Upid,
    /// Of its randomness.
    pub seed: u64,
    /// How many machines there were before.
    pub restarts: u64,
}

/// What carries out [`Effect::ApplyHost`] and [`Effect::ApplyEngine`].
pub trait Host: Send {
    /// Wants the host to be like `desired`; never blocks.
    fn apply(&mut self, generation: u64, desired: Arc<Desired>);

    /// A report that was not taken yet.
    fn poll(&mut self) -> Option<HostReport>;

    /// Wants the container engine's networks to be like `networks`; never blocks.
    fn apply_engine(&mut self, generation: u64, networks: Arc<EngineDesired>);

    /// A report about the engine that was not taken yet. There may be several of one
    /// generation.
    fn poll_engine(&mut self) -> Option<EngineReport>;

    /// A sample of the addresses in use that was not taken yet.
    fn poll_usage(&mut self) -> Option<BTreeMap<String, InUse>> {
        None
    }
}

/// What a node is made of.
pub struct NodeOptions {
    /// Which of the two.
    pub role: Role,
    /// Makes its machine, now and after each panic.
    pub make: Make,
    /// Where to learn who leads; `None`: this Mesos master does, always.
    pub detect: Option<String>,
    /// Which endpoints want authenticated requests.
    pub authenticate_http: AuthenticateHttp,
    /// The replicated log; `None`: state is in memory, and outlives panics only.
    pub log: Option<LogSettings>,
    /// The host.
    pub host: Box<dyn Host>,
    /// The clock.
    pub clock: Clock,
    /// Seed of all randomness.
    pub seed: u64,
}

/// Why an input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The node was not started, or is to be started again.
    State,
    /// The input is not what it should be.
    Invalid,
}

/// A write that the driver has not answered yet.
struct Storing {
    id: u64,
    /// As the machine knows it.
    number: u64,
    overdue_at: Time,
}

/// How long a write may take. One that was under way when the replicas of other
/// masters went away is never finished, not even when they are back; Mesos gives
/// writes of its own registry the same time.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// After this long without a panic the next one counts as the first.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// A master or an agent. See the module's text, and `include/mesos_overlay.h` for
/// the one rule, which is the same here.
pub struct Node {
    options: NodeOptions,
    random: fastrand::Rng,
    /// Our pid; `None` before the start.
    me: Option<Upid>,
    machine: Option<Box<dyn Machine + Send>>,
    /// When the machine was made, or when it is to be made again.
    since: Time,
    restarts: Backoff,
    /// How many machines there have been.
    machines: u64,
    /// Whether a panic was caught since the last [`take_panicked`](Node::take_panicked).
    panicked: bool,
    /// Inputs that were lost because there was no machine.
    lost_inputs: u64,
    throttle: Throttle,
    /// Waiting to be taken by [`poll`](Node::poll).
    actions: VecDeque<Action>,
    /// The latest news; `None`: there was none yet.
    leader: Option<Option<Upid>>,
    detection: Backoff,
    detect_at: Option<Time>,
    /// Who the machine holds connections to. They do not break when it panics.
    linked: BTreeSet<Upid>,
    /// Requests that the driver waits for an answer to.
    open: BTreeSet<RequestId>,
    /// The state, if there is no replicated log.
    memory: Bytes,
    /// Numbers everything that is answered later, across all machines.
    last_id: u64,
    fetching: Option<u64>,
    /// Fetches that a newer one overtook; they are answered along with it.
    overtaken: u32,
    storing: Option<Storing>,
    /// Our generation, and the machine's. There may be more reports of it after the
    /// first.
    applying: Option<(u64, u64)>,
    /// The same for the container engine, which is reported on again and again.
    applying_engine: Option<(u64, u64)>,
}

impl Node {
    /// A node that does nothing before its [`start`](Node::start).
    pub fn new(options: NodeOptions) -> Node {
        Node {
            random: fastrand::Rng::with_seed(options.seed),
            options,
            me: None,
            machine: None,
            since: Time::default(),
            restarts: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            machines: 0,
            panicked: false,
            lost_inputs: 0,
            throttle: Throttle::default(),
            actions: VecDeque::new(),
            leader: None,
            detection: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            detect_at: None,
            linked: BTreeSet::new(),
            open: BTreeSet::new(),
            memory: Bytes::new(),
            last_id: 0,
            fetching: None,
            overtaken: 0,
            storing: None,
            applying: None,
            applying_engine: None,
        }
    }

    /// Which of the two it is.
    pub fn role(&self) -> Role {
        self.options.role
    }

    /// Which endpoints want authenticated requests.
    pub fn authenticate_http(&self) -> AuthenticateHttp {
        self.options.authenticate_http
    }

    /// Starts it as the process `me`.
    ///
    /// # Errors
    /// It was started before.
    pub fn start(&mut self, me: Upid) -> Result<(), Refused> {
        if self.me.is_some() {
            return Err(Refused::State);
        }
        match &self.options.detect {
            Some(master) => self.actions.push_back(Action::Detect {
                master: master.clone(),
            }),
            None => self.leader = Some(Some(Upid::new("master", me.address))),
        }
        if let Some(log) = &self.options.log {
            self.actions.push_back(Action::OpenLog(log.clone()));
        }
        self.me = Some(me);
        let now = self.options.clock.now();
        self.make_machine(now);
        Ok(())
    }

    /// A message came.
    ///
    /// # Errors
    /// The node was not started.
    pub fn message(&mut self, from: Upid, name: String, body: Bytes) -> Result<(), Refused> {
        self.input(Input::Message { from, name, body })
    }

    /// A request came. It will be answered by an [`Action::Respond`].
    ///
    /// # Errors
    /// The node was not started, or a request of this id is open.
    pub fn request(&mut self, request: Request) -> Result<(), Refused> {
        self.started()?;
        let id = request.id;
        if !self.open.insert(id) {
            return Err(Refused::Invalid);
        }
        if self.machine.is_some() {
            return self.input(Input::Request(request));
        }
        let now = self.options.clock.now();
        let sentence = format!(
            "{} failed and starts again in {} ms; the log of Mesos says why.\n",
            self.role().id(),
            self.since.since(now).as_millis()
        );
        self.respond(id, unavailable(503, sentence));
        Ok(())
    }

    /// Something came from `sender` that is no input at all, for `reason`.
    pub fn malformed(&mut self, sender: &str, reason: &str) {
        let now = self.options.clock.now();
        let text = || format!("dropped what {sender} sent: {reason}");
        if let Some(line) = self.throttle.line(now, reason, text) {
            self.log(Level::Warning, &line);
        }
    }

    /// The connection to a linked peer broke.
    ///
    /// # Errors
    /// The node was not started.
    pub fn exited(&mut self, pid: Upid) -> Result<(), Refused> {
        self.linked.remove(&pid);
        self.input(Input::Exited(pid))
    }

    /// There is news of who leads.
    ///
    /// # Errors
    /// The node was not started.
    pub fn leader(&mut self, leader: Option<Upid>) -> Result<(), Refused> {
        self.started()?;
        self.detection.reset();
        self.detect_at = None;
        self.leader = Some(leader.clone());
        self.input(Input::Leader(leader))
    }

    /// Nobody watches any more who leads.
    ///
    /// # Errors
    /// The node was not started.
    pub fn detect_failed(&mut self, reason: &str) -> Result<(), Refused> {
        self.started()?;
        let delay = self.detection.next(&mut self.random);
        self.detect_at = Some(self.options.clock.now() + delay);
        let line = format!(
            "cannot learn which Mesos master leads: {reason}; trying again in {:.1} s",
            delay.as_secs_f64()
        );
        self.log(Level::Warning, &line);
        Ok(())
    }

    /// The answer to [`Action::Fetch`].
    ///
    /// # Errors
    /// The node was not started.
    pub fn fetched(&mut self, id: u64, result: Result<Bytes, String>) -> Result<(), Refused> {
        self.started()?;
        if self.fetching != Some(id) {
            return Ok(());
        }
        self.fetching = None;
        for _ in 0..std::mem::take(&mut self.overtaken) {
            self.input(Input::Fetched(Err(
                "overtaken by a newer attempt".to_owned()
            )))?;
        }
        self.input(Input::Fetched(result))
    }

    /// The answer to [`Action::Store`].
    ///
    /// # Errors
    /// The node was not started.
    pub fn stored(&mut self, id: u64, outcome: StoreOutcome) -> Result<(), Refused> {
        self.started()?;
        match self.storing.take_if(|storing| storing.id == id) {
            Some(Storing { number, .. }) => self.input(Input::Stored { number, outcome }),
            None => Ok(()),
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The node was not started.
    pub fn tick(&mut self) -> Result<(), Refused> {
        self.started()?;
        let now = self.options.clock.now();
        if self.detect_at.is_some_and(|at| at <= now) {
            self.detect_at = None;
            let master = self.options.detect.clone().unwrap_or_default();
            self.actions.push_back(Action::Detect { master });
        }
        if self.machine.is_none() && self.since <= now {
            self.make_machine(now);
        }
        if let Some(Storing { number, .. }) =
            self.storing.take_if(|storing| storing.overdue_at <= now)
        {
            let reason = format!(
                "no answer within {} s; is a quorum of the masters up?",
                STORE_PATIENCE.as_secs()
            );
            self.input(Input::Stored {
                number,
                outcome: StoreOutcome::Failed(reason),
            })?;
        }
        if self.timeout().is_some_and(|at| at <= now) {
            self.input(Input::Timeout)?;
        }
        Ok(())
    }

    /// What to do next.
    ///
    /// # Errors
    /// The node was not started.
    pub fn poll(&mut self) -> Result<Action, Refused> {
        self.started()?;
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Ok(action);
            }
            if let Some(report) = self.options.host.poll() {
                self.host_done(report)?;
            } else if let Some(report) = self.options.host.poll_engine() {
                self.engine_done(report)?;
            } else if let Some(usage) = self.options.host.poll_usage() {
                self.input(Input::Usage(usage))?;
            } else if let Some(effect) = self.guarded(|machine| machine.poll_effect()).flatten() {
                self.carry_out(effect)?;
            } else {
                let deadline = self.deadline();
                // A panic on the way, here or above, leaves answers to be given.
                if self.actions.is_empty() {
                    return Ok(Action::Idle(deadline));
                }
            }
        }
    }

    /// The numbers for Mesos's metrics. Those of the machine are absent while there is
    /// none, and its counts begin anew with each one.
    pub fn metrics(&mut self) -> Vec<Metric> {
        let mut metrics = self
            .guarded(|machine| machine.metrics())
            .unwrap_or_default();
        let prefix = match self.role() {
            Role::Master => MASTER_PREFIX,
            Role::Agent => AGENT_PREFIX,
        };
        let restarts = self.machines.saturating_sub(1);
        metrics.push(Metric::count(format!("{prefix}process_restarts"), restarts));
        metrics
    }

    /// Whether a panic was caught since this was asked last.
    pub fn take_panicked(&mut self) -> bool {
        std::mem::take(&mut self.panicked)
    }

    /// Throws the machine away and plans its restart, because of `panic`.
    pub fn crashed(&mut self, panic: &Panic) {
        self.panicked = true;
        let now = self.options.clock.now();
        if self.machine.is_some() && now.since(self.since) >= HEALTHY_AFTER {
            self.restarts.reset();
        }
        // The drop of what is broken may panic again; that is no news.
        let machine = self.machine.take();
        let _ = catch(|| drop(machine));
        (self.fetching, self.storing) = (None, None);
        (self.applying, self.applying_engine) = (None, None);
        self.overtaken = 0;
        let delay = self.restarts.next(&mut self.random);
        self.since = now + delay;
        let line = format!(
            "{panic}. This is a defect in the overlay module; Mesos goes on, and the module starts again from its \
             stored state in {} ms",
            delay.as_millis()
        );
        self.log(Level::Error, &line);
        let sentence = format!(
            "{} failed and starts again; the log of Mesos says why.\n",
            self.role().id()
        );
        for id in std::mem::take(&mut self.open) {
            self.actions.push_back(Action::Respond {
                id,
                response: unavailable(500, sentence.clone()),
            });
        }
    }

    fn started(&self) -> Result<(), Refused> {
        self.me.as_ref().map(|_| ()).ok_or(Refused::State)
    }

    /// Makes a machine and tells it who leads.
    fn make_machine(&mut self, now: Time) {
        let (Some(me), seed) = (&self.me, self.random.u64(..)) else {
            return;
        };
        match catch(|| {
            (self.options.make)(Birth {
                me,
                seed,
                restarts: self.machines,
            })
        }) {
            Ok(machine) => self.machine = Some(machine),
            Err(panic) => return self.crashed(&panic),
        }
        self.machines += 1;
        if self.machines > 1 {
            let lost = std::mem::take(&mut self.lost_inputs);
            self.log(
                Level::Info,
                &format!("started again; messages and events lost meanwhile: {lost}"),
            );
            self.call_back();
        }
        self.since = now;
        if let Some(leader) = self.leader.clone() {
            self.guarded(|machine| machine.handle(now, Input::Leader(leader)));
        }
    }

    /// Nothing tells the agents of a leading master that it was away: their
    /// connections hold. They would stay unknown to the new machine.
    fn call_back(&mut self) {
        let linked = std::mem::take(&mut self.linked);
        let me = self.me.as_ref().map(|me| me.address);
        let leads = self
            .leader
            .iter()
            .flatten()
            .any(|leader| Some(leader.address) == me);
        if self.role() == Role::Master && leads {
            for agent in linked {
                if let Effect::Send { to, name, body } = Effect::register_again(agent) {
                    self.actions.push_back(Action::Send { to, name, body });
                }
            }
        }
    }

    /// Calls the machine, if there is one. `None`: there is none (any more).
    fn guarded<R>(&mut self, call: impl FnOnce(&mut dyn Machine) -> R) -> Option<R> {
        let machine = self.machine.as_mut()?;
        match catch(|| call(machine.as_mut())) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.crashed(&panic);
                None
            }
        }
    }

    fn input(&mut self, input: Input) -> Result<(), Refused> {
        self.started()?;
        if self.machine.is_none() {
            self.lost_inputs += 1;
            return Ok(());
        }
        let now = self.options.clock.now();
        self.guarded(|machine| {
            #[cfg(feature = "fault-injection")]
            super::fault::inject(&input);
            machine.handle(now, input);
        });
        Ok(())
    }

    fn timeout(&mut self) -> Option<Time> {
        self.guarded(|machine| machine.poll_timeout()).flatten()
    }

    /// When [`tick`](Node::tick) is due, from now.
    fn deadline(&mut self) -> Option<Duration> {
        let machine = self.timeout();
        let restart = self.machine.is_none().then_some(self.since);
        let store = self.storing.as_ref().map(|storing| storing.overdue_at);
        let due = [machine, restart, store, self.detect_at]
            .into_iter()
            .flatten()
            .min()?;
        Some(due.since(self.options.clock.now()))
    }

    /// Carries out what can be done here, and passes on the rest.
    fn carry_out(&mut self, effect: Effect) -> Result<(), Refused> {
        match effect {
            Effect::Send { to, name, body } => {
                self.actions.push_back(Action::Send { to, name, body })
            }
            Effect::Link { to, reconnect } => {
                self.linked.insert(to.clone());
                self.actions.push_back(Action::Link { to, reconnect });
            }
            Effect::Respond { id, response } => self.respond(id, response),
            Effect::Log(level, line) => self.log(level, &line),
            Effect::ApplyHost {
                generation,
                desired,
            } => {
                let id = self.next_id();
                self.applying = Some((id, generation));
                self.options.host.apply(id, desired);
            }
            Effect::ApplyEngine {
                generation,
                networks,
            } => {
                let id = self.next_id();
                self.applying_engine = Some((id, generation));
                self.options.host.apply_engine(id, networks);
            }
            Effect::Fetch if self.options.log.is_none() => {
                let value = self.memory.clone();
                self.input(Input::Fetched(Ok(value)))?;
            }
            Effect::Fetch => {
                let id = self.next_id();
                self.overtaken += u32::from(self.fetching.replace(id).is_some());
                self.actions.push_back(Action::Fetch { id });
            }
            Effect::Store { number, state } if self.options.log.is_none() => {
                self.memory = state;
                self.input(Input::Stored {
                    number,
                    outcome: StoreOutcome::Stored,
                })?;
            }
            Effect::Store { number, state } => {
                let id = self.next_id();
                let overdue_at = self.options.clock.now() + STORE_PATIENCE;
                self.storing = Some(Storing {
                    id,
                    number,
                    overdue_at,
                });
                self.actions.push_back(Action::Store { id, value: state });
            }
        }
        Ok(())
    }

    fn host_done(&mut self, mut report: HostReport) -> Result<(), Refused> {
        match self.applying {
            Some((ours, generation)) if ours == report.generation => {
                report.generation = generation;
                self.input(Input::HostDone(report))
            }
            // Of a machine that is gone, or overtaken.
            _ => Ok(()),
        }
    }

    fn engine_done(&mut self, mut report: EngineReport) -> Result<(), Refused> {
        match self.applying_engine {
            Some((ours, generation)) if ours == report.generation => {
                report.generation = generation;
                self.input(Input::EngineDone(report))
            }
            _ => Ok(()),
        }
    }

    fn respond(&mut self, id: RequestId, response: Response) {
        // An id that is not open was answered when its machine panicked.
        if self.open.remove(&id) {
            self.actions.push_back(Action::Respond { id, response });
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn log(&self, level: Level, line: &str) {
        log(level, &format!("{}: {line}", self.role().id()));
    }
}

/// An answer that says in one sentence that there is none.
fn unavailable(status: u16, sentence: String) -> Response {
    Response {
        status,
        content_type: "text/plain; charset=utf-8",
        headers: Vec::new(),
        body: sentence.into(),
    }
}
