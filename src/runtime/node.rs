//! A master or an agent with everything around its machine.
//!
//! A [`Node`] passes inputs to the machine and carries out its effects, or passes them to
//! the driver. Its parts: the [`Supervisor`] owns the machine and replaces it after a
//! panic, the [`LogProxy`] and the [`HostProxy`] stand for the replicated log and the
//! host, the [`LeaderWatch`] learns which master leads.
//!
//! A new machine starts from the configuration and the leader. It reads everything else
//! from the replicated log or from its host. Answers to effects of its predecessor are
//! ignored.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::AuthenticateHttp;
use overlay_core::master::reregistration;
use overlay_core::metrics::{AGENT_PREFIX, MASTER_PREFIX, Metric};
use overlay_core::util::throttle::Throttle;
use overlay_core::{
    Effect, Input, Io, Level, Machine, Request, RequestId, Response, StoreOutcome, Time, Upid,
};

use super::answer_files::{AnswerFiles, AnswerLimits, LARGE, Placement};
use super::host::Host;
use super::host_proxy::HostProxy;
use super::leader_watch::LeaderWatch;
use super::log_proxy::{LogProxy, LogStep};
use super::seeds::Seeds;
use super::supervisor::{MachineFactory, Supervisor};
use super::{Action, Clock, LogSettings, Panic, Role, log};

#[cfg(test)]
mod tests;

/// Arguments of a [`Node`].
pub struct NodeOptions {
    /// Role of the machine.
    pub role: Role,
    /// Creates the machine, also after each panic.
    pub factory: MachineFactory,
    /// Mesos master or ZooKeeper URL from which to learn the leader; `None` if this Mesos
    /// master always leads.
    pub detect: Option<String>,
    /// Endpoints that require authentication.
    pub authenticate_http: AuthenticateHttp,
    /// Replicated log; `None` to keep the state in memory, where it survives panics only.
    pub log: Option<LogSettings>,
    /// Executor of changes to the host.
    pub host: Box<dyn Host>,
    /// Clock of the node and of its machines.
    pub clock: Clock,
    /// Source of all randomness.
    pub seeds: Seeds,
}

/// Error of an input. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputError {
    /// The node was not started, or is started a second time.
    State,
    /// The input is invalid.
    Invalid,
}

/// A master or an agent. Its driver calls a method for each event, then takes actions with
/// [`poll`](Node::poll) until [`Action::Idle`]; `include/mesos_overlay.h` has the contract.
pub struct Node {
    role: Role,
    authenticate_http: AuthenticateHttp,
    /// Pid of the process; `None` before the start.
    me: Option<Upid>,
    clock: Clock,
    random: fastrand::Rng,
    seeds: Seeds,
    supervisor: Supervisor,
    leader: LeaderWatch,
    log: LogProxy,
    host: HostProxy,
    /// Processes that the machine is linked to. The links survive its panics.
    linked: BTreeSet<Upid>,
    /// Requests without an answer.
    open_requests: BTreeMap<RequestId, Asker>,
    answer_files: AnswerFiles,
    /// Actions that the driver has not taken yet.
    actions: VecDeque<Action>,
    throttle: Throttle,
}

impl Node {
    /// Creates a node. It does nothing before [`start`](Node::start).
    pub fn new(mut options: NodeOptions) -> Node {
        let random = options.seeds.draw().random();
        Node {
            role: options.role,
            authenticate_http: options.authenticate_http,
            me: None,
            clock: options.clock,
            random,
            seeds: options.seeds,
            supervisor: Supervisor::new(options.factory),
            leader: LeaderWatch::new(options.detect),
            log: LogProxy::new(options.log),
            host: HostProxy::new(options.host),
            linked: BTreeSet::new(),
            open_requests: BTreeMap::new(),
            answer_files: AnswerFiles::new(AnswerLimits::default()),
            actions: VecDeque::new(),
            throttle: Throttle::default(),
        }
    }

    /// Returns the role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns which endpoints require authentication.
    pub fn authenticate_http(&self) -> AuthenticateHttp {
        self.authenticate_http
    }

    /// Starts the node as the process `me`.
    ///
    /// # Errors
    /// The node was started before.
    pub fn start(&mut self, me: Upid) -> Result<(), InputError> {
        if self.me.is_some() {
            return Err(InputError::State);
        }
        self.actions.extend(self.leader.start(me.address));
        self.actions.extend(self.log.open());
        self.me = Some(me);
        let now = self.clock.now();
        self.create_machine(now);
        Ok(())
    }

    /// Handles a libprocess message.
    ///
    /// # Errors
    /// The node was not started.
    pub fn message(&mut self, from: Upid, name: String, body: Bytes) -> Result<(), InputError> {
        self.input(Input::Message { from, name, body })
    }

    /// Handles an HTTP request. Its answer is an [`Io::Respond`]. A large answer to `client`,
    /// which must be connected to this process, is an [`Action::RespondFromFile`].
    ///
    /// # Errors
    /// The node was not started, or a request with this id is open.
    pub fn request(
        &mut self,
        request: Request,
        client: Option<SocketAddr>,
    ) -> Result<(), InputError> {
        self.check_started()?;
        let id = request.id;
        let Entry::Vacant(vacant) = self.open_requests.entry(id) else {
            return Err(InputError::Invalid);
        };
        vacant.insert(Asker {
            // The answer to HEAD has no body.
            client: client.filter(|_| request.method != "HEAD"),
            reads: request.method == "GET",
        });
        let Some(restart_at) = self.supervisor.restart_at() else {
            return self.input(Input::Request(request));
        };
        let delay = restart_at.since(self.clock.now());
        let text = format!(
            "{} failed and starts again in {} ms; the log of Mesos says why.\n",
            self.role.id(),
            delay.as_millis()
        );
        self.respond(id, plain_text(503, text));
        Ok(())
    }

    /// Logs input from `sender` that was dropped because of `reason`.
    pub fn log_dropped_input(&mut self, sender: &str, reason: &str) {
        let now = self.clock.now();
        let text = || format!("dropped input from {sender}: {reason}");
        if let Some(line) = self.throttle.line(now, reason, text) {
            self.log(Level::Warning, &line);
        }
    }

    /// Handles the end of the connection to a linked process.
    ///
    /// # Errors
    /// The node was not started.
    pub fn exited(&mut self, pid: Upid) -> Result<(), InputError> {
        self.linked.remove(&pid);
        self.input(Input::Exited(pid))
    }

    /// Handles a change of the leading master.
    ///
    /// # Errors
    /// The node was not started.
    pub fn leader(&mut self, leader: Option<Upid>) -> Result<(), InputError> {
        self.check_started()?;
        self.leader.changed(leader.clone());
        self.input(Input::Leader(leader))
    }

    /// Handles the failure of [`Action::Detect`], which is repeated after a delay.
    ///
    /// # Errors
    /// The node was not started.
    pub fn detect_failed(&mut self, reason: &str) -> Result<(), InputError> {
        self.check_started()?;
        let delay = self.leader.failed(self.clock.now(), &mut self.random);
        let line = format!(
            "cannot learn which Mesos master leads: {reason}; trying again in {:.1} s",
            delay.as_secs_f64()
        );
        self.log(Level::Warning, &line);
        Ok(())
    }

    /// Handles the answer to [`Action::Fetch`].
    ///
    /// # Errors
    /// The node was not started.
    pub fn fetched(&mut self, id: u64, result: Result<Bytes, String>) -> Result<(), InputError> {
        self.check_started()?;
        for answer in self.log.fetched(id, result) {
            self.input(answer)?;
        }
        Ok(())
    }

    /// Handles the answer to [`Io::Store`].
    ///
    /// # Errors
    /// The node was not started.
    pub fn stored(&mut self, number: u64, outcome: StoreOutcome) -> Result<(), InputError> {
        self.check_started()?;
        match self.log.stored(number, outcome) {
            Some(answer) => self.input(answer),
            None => Ok(()),
        }
    }

    /// Does what is due by now.
    ///
    /// # Errors
    /// The node was not started.
    pub fn tick(&mut self) -> Result<(), InputError> {
        self.check_started()?;
        let now = self.clock.now();
        self.actions.extend(self.leader.tick(now));
        self.answer_files.tick(now, self.port());
        if self.supervisor.restart_at().is_some_and(|at| at <= now) {
            self.create_machine(now);
        }
        if self.machine_timeout().is_some_and(|at| at <= now) {
            self.input(Input::Timeout)?;
        }
        Ok(())
    }

    /// Returns the next action.
    ///
    /// # Errors
    /// The node was not started.
    pub fn poll(&mut self) -> Result<Action, InputError> {
        self.check_started()?;
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Ok(action);
            }
            if let Some(report) = self.host.poll() {
                self.input(report)?;
            } else if let Some(effect) = self.call(|machine| machine.poll_effect()).flatten() {
                self.carry_out(effect)?;
            } else {
                let deadline = self.deadline();
                // A panic in the calls above has left answers to open requests.
                if self.actions.is_empty() {
                    return Ok(Action::Idle(deadline));
                }
            }
        }
    }

    /// Returns the metrics for Mesos. Metrics of the machine are absent while it is down,
    /// and its counters start at zero after a restart.
    pub fn metrics(&mut self) -> Vec<Metric> {
        let mut metrics = self.call(|machine| machine.metrics()).unwrap_or_default();
        let prefix = match self.role {
            Role::Master => MASTER_PREFIX,
            Role::Agent => AGENT_PREFIX,
        };
        let name = format!("{prefix}process_restarts");
        metrics.push(Metric::count(name, self.supervisor.restarts()));
        metrics
    }

    /// Returns whether a panic was caught since the last call.
    pub fn take_panicked(&mut self) -> bool {
        self.supervisor.take_panicked()
    }

    /// Discards the machine because of `panic`, answers open requests, and schedules the
    /// restart.
    pub fn crashed(&mut self, panic: &Panic) {
        let delay = self.supervisor.crashed(self.clock.now(), &mut self.random);
        self.log.forget();
        self.host.forget();
        let line = format!(
            "{panic}. This is a defect in the overlay module; Mesos goes on, and the module starts \
             again from its stored state in {} ms",
            delay.as_millis()
        );
        self.log(Level::Error, &line);
        let text = format!(
            "{} failed and starts again; the log of Mesos says why.\n",
            self.role.id()
        );
        for id in std::mem::take(&mut self.open_requests).into_keys() {
            let response = plain_text(500, text.clone());
            let respond = Io::Respond { id, response };
            self.actions.push_back(Action::Io(respond));
        }
    }

    fn check_started(&self) -> Result<(), InputError> {
        self.me.as_ref().map(|_| ()).ok_or(InputError::State)
    }

    /// Creates a machine and tells it the leader.
    fn create_machine(&mut self, now: Time) {
        let (Some(me), seed) = (&self.me, self.seeds.draw()) else {
            return;
        };
        if let Err(panic) = self.supervisor.create(now, me, seed) {
            return self.crashed(&panic);
        }
        if self.supervisor.restarts() > 0 {
            let lost = self.supervisor.take_lost_inputs();
            let line = format!("started again; messages and events lost meanwhile: {lost}");
            self.log(Level::Info, &line);
            self.force_reregistration();
        }
        if let Some(leader) = self.leader.leader().cloned() {
            self.call(|machine| machine.handle(now, Input::Leader(leader)));
        }
    }

    /// Makes the agents of a leading master register again. Their connections survived the
    /// panic, so they do not notice it by themselves, and the new machine does not know
    /// them.
    fn force_reregistration(&mut self) {
        let linked = std::mem::take(&mut self.linked);
        let leads = self
            .me
            .as_ref()
            .is_some_and(|me| self.leader.leads(me.address));
        if self.role == Role::Master && leads {
            let requests = linked.into_iter().map(reregistration);
            self.actions.extend(requests.map(Action::Io));
        }
    }

    /// Calls the machine and handles its panic; `None` if there is no machine, or not any
    /// more.
    fn call<R>(&mut self, call: impl FnOnce(&mut dyn Machine) -> R) -> Option<R> {
        self.supervisor.call(call).unwrap_or_else(|panic| {
            self.crashed(&panic);
            None
        })
    }

    fn input(&mut self, input: Input) -> Result<(), InputError> {
        self.check_started()?;
        let now = self.clock.now();
        if let Err(panic) = self.supervisor.handle(now, input) {
            self.crashed(&panic);
        }
        Ok(())
    }

    fn machine_timeout(&mut self) -> Option<Time> {
        self.call(|machine| machine.poll_timeout()).flatten()
    }

    /// Returns the time until [`tick`](Node::tick) is due.
    fn deadline(&mut self) -> Option<Duration> {
        let due = [
            self.machine_timeout(),
            self.supervisor.restart_at(),
            self.leader.due(),
            self.answer_files.due(),
        ];
        let first = due.into_iter().flatten().min();
        let delay = first.map(|first| first.since(self.clock.now()));
        delay.into_iter().chain(self.host.next_look()).min()
    }

    /// Carries out `effect`, or passes it to the driver.
    fn carry_out(&mut self, effect: Effect) -> Result<(), InputError> {
        match effect {
            Effect::Io(io) => self.io(io),
            Effect::Fetch { reopen } => {
                let step = self.log.fetch(reopen);
                self.log_step(step)
            }
            Effect::Log(level, line) => {
                self.log(level, &line);
                Ok(())
            }
            Effect::ApplyHost {
                generation,
                desired,
            } => {
                self.host.apply(generation, desired);
                Ok(())
            }
            Effect::ApplyEngine {
                generation,
                networks,
            } => {
                self.host.apply_engine(generation, networks);
                Ok(())
            }
        }
    }

    fn io(&mut self, io: Io) -> Result<(), InputError> {
        match io {
            Io::Store { number, state } => {
                let step = self.log.store(number, state);
                return self.log_step(step);
            }
            Io::Respond { id, response } => self.respond(id, response),
            io => {
                if let Io::Link { to, .. } = &io {
                    self.linked.insert(to.clone());
                }
                self.actions.push_back(Action::Io(io));
            }
        }
        Ok(())
    }

    fn log_step(&mut self, step: LogStep) -> Result<(), InputError> {
        match step {
            LogStep::Action(action) => self.actions.push_back(action),
            LogStep::Answer(input) => self.input(input)?,
        }
        Ok(())
    }

    /// Answers a request unless it was answered when its machine panicked.
    fn respond(&mut self, id: RequestId, response: Response) {
        if let Some(asker) = self.open_requests.remove(&id) {
            let action = self.answer(id, response, &asker);
            self.actions.push_back(action);
        }
    }

    /// Returns the action for an answer, whose body is put into a file if it is large.
    fn answer(&mut self, id: RequestId, mut response: Response, asker: &Asker) -> Action {
        if let Some(client) = asker.client.filter(|_| response.body.len() > LARGE) {
            let (now, port) = (self.clock.now(), self.port());
            match self.answer_files.place(now, client, port, &response.body) {
                Placement::File(path) => {
                    response.body = Bytes::new();
                    return Action::RespondFromFile { id, response, path };
                }
                Placement::Busy => response = too_many_answers(asker.reads),
                Placement::Bytes => {}
            }
        }
        Action::Io(Io::Respond { id, response })
    }

    /// Returns the port of the process, 0 before the start.
    fn port(&self) -> u16 {
        self.me.as_ref().map_or(0, |me| me.address.port())
    }

    fn log(&self, level: Level, line: &str) {
        log(self.role, level, line);
    }
}

/// Sender of a request.
#[derive(Clone, Copy, Debug)]
struct Asker {
    /// Address to which a large answer can be sent from a file.
    client: Option<SocketAddr>,
    /// The request changed nothing.
    reads: bool,
}

/// Returns the response in place of a large one that is over the limits.
fn too_many_answers(reads: bool) -> Response {
    let done = if reads {
        ""
    } else {
        "The request was carried out, and this is about its answer only. "
    };
    let text = format!(
        "{done}Too many large answers are under way, to this connection, to this host or to all; \
         read them, or try again later.\n"
    );
    let mut response = plain_text(503, text);
    response.headers.push(("Retry-After", "1".to_owned()));
    response
}

/// Returns a response with a sentence of plain text.
fn plain_text(status: u16, text: String) -> Response {
    Response {
        status,
        content_type: "text/plain; charset=utf-8",
        headers: Vec::new(),
        body: text.into(),
    }
}
