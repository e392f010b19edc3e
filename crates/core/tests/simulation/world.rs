//! Time, and what happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::proto::internal::UpdateAgentOverlaysMessage;
use overlay_core::protocol::http::PROTOBUF;
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Level, RequestId, Response, StoreOutcome, Time, Upid};

use super::host::{EngineFailure, Failure};
use crate::check::Check;
use crate::cluster;
use crate::cluster::{Life, Process};
use crate::network::Network;
use crate::replicated_log::ReplicatedLog;

/// Everything there is.
pub struct World {
    now: Time,
    pub random: Rng,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub processes: Vec<Process>,
    /// There are predecessors, and processes are upgraded and downgraded.
    pub mixed: bool,
    pub network: Network,
    pub log: ReplicatedLog,
    /// The process that is elected.
    pub leader: Option<usize>,
    /// How many of a hundred passes over a host fail.
    pub host_failures: u8,
    /// The same of a container engine's answers.
    pub engine_failures: u8,
    /// The longest that a log or host operation takes, and the news of a leader.
    pub slowness: Duration,
    pub check: Check,
    /// What happened that must not.
    violation: Option<String>,
    pub requests: u64,
    pub answers: BTreeMap<RequestId, Response>,
    trace: Option<Vec<String>>,
    /// Messages, and operations on the log.
    sent: u64,
    pub log_operations: u64,
}

/// What is going to happen.
enum Event {
    Message {
        to: Upid,
        from: Upid,
        name: &'static str,
        body: Bytes,
    },
    /// An input for this life of a process, if it still lives then.
    Tell(Life, Input),
    /// A process hears who leads (then).
    Detect(Life),
    Fetch(Life),
    Store(Life, u64, Bytes),
    /// The pass over the host ends.
    Pass(Life),
    /// The pass over the container engine ends, or another one of this generation.
    EnginePass(Life, u64),
    Restart(usize),
    Heal(usize, usize),
}

impl World {
    /// A cluster that starts, in fair weather, and in which versions may be mixed.
    pub fn mixed(seed: u64, trace: bool) -> World {
        let mut random = Rng::with_seed(seed);
        let mixed = random.u8(0..5) < 2;
        let mut processes = cluster::random(&mut random, mixed);
        for process in &mut processes {
            process.old = mixed && random.bool();
        }
        let mut world = World {
            mixed,
            ..World::with(processes, random, trace)
        };
        world.check.watch.agreed &= !mixed;
        world
    }

    /// The same without predecessors.
    pub fn new(seed: u64, trace: bool) -> World {
        let mut random = Rng::with_seed(seed);
        let processes = cluster::random(&mut random, false);
        World::with(processes, random, trace)
    }

    /// The same as [`World::new`] where nobody has to give anything back.
    pub fn without_leases(seed: u64, trace: bool) -> World {
        let mut random = Rng::with_seed(seed);
        let processes = cluster::random(&mut random, true);
        World::with(processes, random, trace)
    }

    /// Starts these processes, in fair weather.
    pub fn with(processes: Vec<Process>, mut random: Rng, trace: bool) -> World {
        let masters = processes
            .iter()
            .filter(|process| process.is_master())
            .count();
        let mut world = World {
            now: Time::default(),
            leader: Some(random.usize(0..masters)),
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            processes,
            mixed: false,
            network: Network::new(),
            log: ReplicatedLog::new(),
            host_failures: 0,
            engine_failures: 0,
            slowness: Duration::from_millis(20),
            check: Check::default(),
            violation: None,
            requests: 0,
            answers: BTreeMap::new(),
            trace: trace.then(Vec::new),
            sent: 0,
            log_operations: 0,
        };
        world.check.watch.agreed = cluster::has_one_file(&world.processes);
        world.check.watch.weather(true);
        for process in 0..world.processes.len() {
            world.start(process);
        }
        world
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// The end of the trace.
    pub fn trace(&self) -> String {
        const LINES: usize = 400;
        let lines = self.trace.as_deref().unwrap_or_default();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Notes what happens, if anybody wants to know.
    pub fn note(&mut self, line: impl FnOnce(&World) -> String) {
        if let Some(mut trace) = self.trace.take() {
            let line: String = line(self).chars().take(300).collect();
            trace.push(format!("{} {line}", self.now));
            self.trace = Some(trace);
        }
    }

    pub fn life(&self, process: usize) -> Life {
        Life {
            process,
            start: self.processes[process].start,
        }
    }

    fn lives(&self, life: Life) -> bool {
        self.life(life.process) == life && self.processes[life.process].machine.is_some()
    }

    fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), event);
    }

    fn after(&mut self, longest: Duration, event: Event) {
        let time = self.now + longest.mul_f64(self.random.f64());
        self.at(time, event);
    }

    /// Something about the log: after what was about to happen there before.
    fn in_order(&mut self, life: Life, which: usize, event: Event) {
        // Now and then, something hangs for a while.
        let hangs = if self.log.failures > 0 && self.random.u8(0..10) == 0 {
            10.0
        } else {
            1.0
        };
        let time = self.now + self.slowness.mul_f64(self.random.f64() * hangs);
        let last = &mut self.processes[life.process].log_order[which];
        *last = time.max(*last);
        let time = *last;
        self.at(time, event);
    }

    // What happens to processes.

    pub fn start(&mut self, process: usize) {
        if self.processes[process].machine.is_some() || self.processes[process].removed {
            return;
        }
        self.note(|world| format!("{} starts", world.processes[process].upid));
        self.processes[process].start(&mut self.random);
        self.detect(process);
    }

    pub fn crash(&mut self, process: usize) {
        self.note(|world| format!("{} crashes", world.processes[process].upid));
        for id in self.processes[process].requests.keys() {
            self.check.operators.forget(*id);
        }
        if self.leader == Some(process) {
            self.check.watch.leaderless();
        }
        self.check.watch.ended(&self.processes[process]);
        self.processes[process].crash();
        let upid = self.processes[process].upid.clone();
        for other in 0..self.processes.len() {
            self.break_link(other, &upid);
        }
    }

    /// Another version is installed, and runs when it is started again.
    pub fn change_version(&mut self, process: usize) {
        let old = !self.processes[process].old;
        self.note(|world| {
            let to = if old { "a predecessor" } else { "ours" };
            format!("{} becomes {to}", world.processes[process].upid)
        });
        self.crash(process);
        self.processes[process].old = old;
        self.check.watch.agreed = false;
    }

    pub fn restart_later(&mut self, process: usize, longest: Duration) {
        self.after(longest, Event::Restart(process));
    }

    /// Cuts two processes off from each other, for a while.
    pub fn cut(&mut self, a: usize, b: usize, longest: Duration) {
        self.note(|world| {
            format!(
                "{} and {} are cut off",
                world.processes[a].upid, world.processes[b].upid
            )
        });
        self.network.cut.push((a.min(b), a.max(b)));
        self.after(longest, Event::Heal(a.min(b), a.max(b)));
    }

    /// The connection from `process` to `peer`, if there is one, ends.
    pub fn break_link(&mut self, process: usize, peer: &Upid) {
        if self.processes[process].links.remove(peer) {
            let life = self.life(process);
            self.after(
                self.network.weather.delay * 4,
                Event::Tell(life, Input::Exited(peer.clone())),
            );
        }
    }

    /// Another process leads, or nobody.
    pub fn elect(&mut self, leader: Option<usize>) {
        self.leader = leader;
        self.check.watch.leaderless();
        self.note(|world| match leader {
            Some(leader) => format!("{} is elected", world.processes[leader].upid),
            None => "nobody is elected".into(),
        });
        for process in 0..self.processes.len() {
            self.detect(process);
        }
    }

    fn detect(&mut self, process: usize) {
        if self.processes[process].machine.is_some() {
            let life = self.life(process);
            self.after(self.slowness, Event::Detect(life));
        }
    }

    /// Other containers run on an agent's host.
    pub fn set_containers(
        &mut self,
        process: usize,
        mesos: BTreeSet<String>,
        engine: BTreeSet<String>,
    ) {
        self.note(|world| {
            format!(
                "{}: containers use {mesos:?} {engine:?}",
                world.processes[process].upid
            )
        });
        let it = &mut self.processes[process];
        it.host.containers = mesos;
        it.host.engine_containers = engine;
        if it.machine.is_some() && it.executor.look_again() {
            let life = self.life(process);
            self.after(self.slowness, Event::Pass(life));
        }
    }

    // Time.

    /// Goes on for this long.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        while self.step(end)? {}
        self.now = end;
        Ok(())
    }

    /// Goes on until everything is as it should be.
    pub fn run_until_converged(&mut self, deadline: Time) -> Result<(), String> {
        loop {
            self.run_for(Duration::from_millis(200))?;
            let trace = self.trace.take();
            let converged = Check::converged(self);
            self.trace = trace;
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            match converged {
                Ok(()) => return Ok(()),
                Err(why) if self.now >= deadline => return Err(format!("at {}: {why}", self.now)),
                Err(_) => {}
            }
        }
    }

    /// Goes on in a cluster in which everything is as it should be: it must stay so,
    /// the log must not be touched, and nobody says more than that it is still there.
    pub fn run_silently(&mut self, duration: Duration) -> Result<(), String> {
        // What is under way (acknowledgements) may end. And an agent may be registered with what
        // it wanted in a former life, by a message that came late, until it registers anew, which
        // takes 75 s at most.
        self.run_for(Duration::from_secs(80))?;
        let (sent, operations) = (self.sent, self.log_operations);
        let registers = self.check.watch.registers.clone();
        self.run_for(duration)?;
        Check::converged(self).map_err(|why| format!("it did not stay so: {why}"))?;
        self.check
            .watch
            .refreshed(&self.processes, &registers, duration)?;
        // A refresh takes at most six messages, every 45 to 75 seconds.
        let refreshes = duration.as_secs() / 45 + 1;
        let most = refreshes * 6 * self.processes.len() as u64;
        match (self.sent - sent, self.log_operations - operations) {
            (messages, _) if messages > most => {
                Err(format!("{messages} messages in {duration:?} of silence"))
            }
            (_, 1..) => Err("the log was touched though nothing happened".into()),
            _ => Ok(()),
        }
    }

    /// The next thing that happens, if it happens before `end`.
    fn step(&mut self, end: Time) -> Result<bool, String> {
        let timers = self
            .processes
            .iter()
            .enumerate()
            .filter_map(|(n, process)| {
                let timer = process.machine.as_ref()?.poll_timeout()?;
                Some((timer.max(self.now), n))
            });
        let timer = timers.min();
        if let Err(what) = self.check.watch.deadlines.check(self.now) {
            self.violation.get_or_insert_with(|| what.clone());
            return Err(what);
        }
        let event = self.queue.first_key_value().map(|((time, _), _)| *time);
        match (timer, event) {
            (Some((at, process)), event) if at <= end && event.is_none_or(|event| at < event) => {
                self.now = at;
                self.input(process, Input::Timeout)?;
                let next = self.processes[process]
                    .machine
                    .as_ref()
                    .and_then(|machine| machine.poll_timeout());
                if next.is_some_and(|next| next <= at) {
                    return Err(format!(
                        "{}: its timer stands still",
                        self.processes[process].upid
                    ));
                }
            }
            (_, Some(event)) if event <= end => {
                let ((at, _), event) = self.queue.pop_first().unwrap();
                self.now = at;
                self.happen(event)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Message {
                to,
                from,
                name,
                body,
            } => {
                let at = self.processes.iter().position(|process| process.upid == to);
                if let Some(process) = at.filter(|at| self.processes[*at].machine.is_some()) {
                    self.input(
                        process,
                        Input::Message {
                            from,
                            name: name.into(),
                            body,
                        },
                    )?;
                }
            }
            Event::Tell(life, input) if self.lives(life) => {
                self.learn(life.process, &input);
                self.input(life.process, input)?;
            }
            Event::Detect(life) if self.lives(life) => {
                let leader = self
                    .leader
                    .map(|leader| self.processes[leader].upid.clone());
                let process = &mut self.processes[life.process];
                process.leader.clone_from(&leader);
                if !process.leads() {
                    process.stored = None;
                }
                let before = self.shown_overlays(life.process)?;
                let leader = leader.map(|leader| Upid::new("master", leader.address));
                self.input(life.process, Input::Leader(leader))?;
                if self.shown_overlays(life.process)? != before {
                    return self.violated(life.process, "a change of leader changed its overlays");
                }
            }
            Event::Fetch(life) if self.lives(life) => {
                let fetched = self.log.fetch(life, &mut self.random);
                if let Ok(value) = &fetched {
                    self.processes[life.process].stored = Some(value.clone());
                    self.processes[life.process].doomed = false;
                }
                self.logged()?;
                self.in_order(life, 1, Event::Tell(life, Input::Fetched(fetched)));
            }
            // The write of a process that crashed may arrive all the same.
            Event::Store(life, number, state) if self.lives(life) || self.random.bool() => {
                let outcome = self.log.store(life, state.clone(), &mut self.random);
                if self.lives(life) {
                    let process = &mut self.processes[life.process];
                    // A predecessor does not get over it.
                    if process.old && outcome != StoreOutcome::Stored {
                        self.crash(life.process);
                        self.restart_later(life.process, Duration::from_secs(5));
                        return self.logged();
                    }
                    match outcome {
                        StoreOutcome::Stored => process.stored = Some(state),
                        _ => process.doomed = true,
                    }
                }
                self.logged()?;
                if self.log.unanswered && matches!(outcome, StoreOutcome::Failed(_)) {
                    return Ok(());
                }
                self.in_order(
                    life,
                    1,
                    Event::Tell(life, Input::Stored { number, outcome }),
                );
            }
            Event::Pass(life) if self.lives(life) => {
                let failure = (self.random.u8(0..100) < self.host_failures).then(|| {
                    match self.random.bool() {
                        true => Failure::Host,
                        false => Failure::Overlay(self.random.usize(0..5)),
                    }
                });
                let process = &mut self.processes[life.process];
                let (report, another) = process.executor.finish(&mut process.host, failure);
                if another {
                    self.after(self.slowness, Event::Pass(life));
                }
                self.input(life.process, Input::HostDone(report))?;
            }
            Event::EnginePass(life, generation) if self.lives(life) => {
                self.engine_pass(life, generation)?
            }
            Event::Restart(process) => self.start(process),
            Event::Heal(a, b) => self.network.cut.retain(|cut| *cut != (a, b)),
            Event::Tell(..)
            | Event::Detect(_)
            | Event::Fetch(_)
            | Event::Store(..)
            | Event::Pass(_)
            | Event::EnginePass(..) => {}
        }
        Ok(())
    }

    /// The worker for the container engine reports, and looks again later unless the
    /// engine is away.
    fn engine_pass(&mut self, life: Life, generation: u64) -> Result<(), String> {
        let failure =
            (self.random.u8(0..100) < self.engine_failures).then(|| match self.random.bool() {
                true => EngineFailure::Away,
                false => EngineFailure::Network(self.random.usize(0..5)),
            });
        let process = &mut self.processes[life.process];
        if process.engine.generation() != Some(generation) || process.engine.stuck {
            return Ok(());
        }
        let Some(report) = process.engine.finish(&mut process.host, failure) else {
            return Ok(());
        };
        if !process.engine.stuck {
            self.after(Duration::from_secs(20), Event::EnginePass(life, generation));
        }
        self.input(life.process, Input::EngineDone(report))
    }

    /// The log may have changed.
    fn logged(&mut self) -> Result<(), String> {
        let value = self.log.value().clone();
        self.check.log(self.now, &value, &self.processes)
    }

    /// What a master's log operation means for what it may answer.
    fn learn(&mut self, process: usize, input: &Input) {
        let process = &mut self.processes[process];
        match input {
            Input::Fetched(_) => {}
            Input::Stored { .. } => {
                process.storing = None;
                if std::mem::take(&mut process.doomed) {
                    process.stored = None;
                }
            }
            _ => return,
        }
        process.known.clone_from(&process.stored);
    }

    /// Hands an input to a process and does what it wants done.
    pub fn input(&mut self, process: usize, input: Input) -> Result<(), String> {
        self.note(|world| {
            format!(
                "{} <- {}",
                world.processes[process].upid,
                crate::trace::show_input(&input)
            )
        });
        self.check
            .input(self.now, &mut self.processes[process], &input);
        let life = self.life(process);
        let now = self.now;
        let Some(machine) = &mut self.processes[process].machine else {
            return Ok(());
        };
        machine.handle(now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| machine.poll_effect()).collect();
        for effect in effects {
            self.note(|world| {
                format!(
                    "{} -> {}",
                    world.processes[process].upid,
                    crate::trace::show_effect(&effect)
                )
            });
            if let Err(what) = self.check.effect(now, &self.processes[process], &effect) {
                return self.violated(process, &what);
            }
            self.effect(life, effect);
        }
        Ok(())
    }

    /// Something happened that must not.
    fn violated(&mut self, process: usize, what: &str) -> Result<(), String> {
        let what = format!("at {}: {}: {what}", self.now, self.processes[process].upid);
        self.violation.get_or_insert(what.clone());
        Err(what)
    }

    /// What an agent shows of its overlays; nothing for a master.
    fn shown_overlays(&mut self, process: usize) -> Result<Option<Bytes>, String> {
        const PATH: &str = "/overlay-agent/overlay";
        if self.processes[process].is_master() {
            return Ok(None);
        }
        let trace = self.trace.take();
        // JSON is looked at closely, which takes long.
        if self.requests.is_multiple_of(8) {
            self.request(process, "GET", PATH, "")?;
        }
        let response = self.request_as(process, "GET", PATH, "", Some(PROTOBUF));
        self.trace = trace;
        Ok(response?.map(|response| response.body))
    }

    fn effect(&mut self, life: Life, effect: Effect) {
        let process = life.process;
        match effect {
            Effect::Io(Io::Send { to, name, body }) => self.send(process, &to, name, &body),
            Effect::Io(Io::Link { to, .. }) => self.link(process, to),
            Effect::Io(Io::Respond { id, response }) => {
                self.processes[process].requests.remove(&id);
                self.answers.insert(id, response);
            }
            Effect::Fetch => {
                self.log_operations += 1;
                self.in_order(life, 0, Event::Fetch(life));
            }
            Effect::Io(Io::Store { number, state }) => {
                self.log_operations += 1;
                self.processes[process].storing = Some(self.now);
                self.in_order(life, 0, Event::Store(life, number, state));
            }
            Effect::ApplyHost {
                generation,
                desired,
            } => {
                if self.processes[process].executor.apply(generation, desired) {
                    self.after(self.slowness, Event::Pass(life));
                }
            }
            Effect::ApplyEngine {
                generation,
                networks,
            } => {
                // An engine that hangs is waited for.
                let longest = match self.engine_failures {
                    0 => self.slowness,
                    _ => networks.timeout,
                };
                self.processes[process].engine.apply(generation, networks);
                self.after(longest, Event::EnginePass(life, generation));
            }
            Effect::Log(level, line) => debug_assert!(level >= Level::Info, "{line}"),
        }
    }

    fn send(&mut self, process: usize, to: &Upid, name: &'static str, body: &Bytes) {
        self.sent += 1;
        if name == UpdateAgentOverlaysMessage::NAME && body.is_empty() {
            // It was deleted, and is nobody to this master until it registers again.
            self.processes[process]
                .connected
                .remove(&to.address.ip().to_string());
        }
        let from = self.processes[process].upid.clone();
        let peer = self
            .processes
            .iter()
            .position(|process| process.upid == *to);
        let cut = peer.is_none_or(|peer| self.network.is_cut(process, peer));
        let arrivals = match cut {
            true => Vec::new(),
            false => self.network.arrivals(self.now, &from, to, &mut self.random),
        };
        if arrivals.is_empty() {
            self.note(|_| format!("lost: {name} from {from} to {to}"));
            // A message is lost with its connection, of which each end may or may
            // not hear.
            if self.random.bool() {
                self.break_link(process, to);
            }
            if let Some(peer) = peer.filter(|_| self.random.bool()) {
                self.break_link(peer, &from);
            }
        }
        for arrival in arrivals {
            let (to, from, body) = (to.clone(), from.clone(), body.clone());
            self.at(
                arrival,
                Event::Message {
                    to,
                    from,
                    name,
                    body,
                },
            );
        }
    }

    fn link(&mut self, process: usize, to: Upid) {
        let peer = self.processes.iter().position(|process| process.upid == to);
        let reached = peer.is_some_and(|peer| {
            self.processes[peer].machine.is_some() && !self.network.is_cut(process, peer)
        });
        if self.processes[process].is_master() {
            self.processes[process]
                .connected
                .insert(to.address.ip().to_string());
        }
        self.processes[process].links.insert(to.clone());
        if !reached {
            self.break_link(process, &to);
        }
    }
}
