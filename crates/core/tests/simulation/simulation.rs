//! Scheduler of the simulation: time, events, and the processes they happen to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use overlay_core::{Input, RequestId, Response, Time, Upid};

use crate::adversary;
use crate::adversary::Adversary;
use crate::authentication;
use crate::checker::Checker;
use crate::cluster;
use crate::cluster::{Incarnation, Process};
use crate::network::Network;
use crate::replicated_log::ReplicatedLog;

mod effects;
mod events;

use events::Event;

/// State of a simulation.
pub struct Simulation {
    now: Time,
    pub random: Rng,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub processes: Vec<Process>,
    /// Some processes run C++ modules, and processes are upgraded and downgraded.
    pub mixed: bool,
    /// Masters of earlier releases lead at times, whose logs may lack what they do not know.
    pub has_old_masters: bool,
    pub network: Network,
    pub log: ReplicatedLog,
    /// Elected process.
    pub leader: Option<usize>,
    /// Percentage of failing reconciliations of a host.
    pub host_failures: u8,
    /// Percentage of failing reconciliations of a container engine.
    pub engine_failures: u8,
    /// Maximum duration of operations on log or host, and of the detection of a leader.
    pub max_latency: Duration,
    pub checker: Checker,
    pub adversary: Adversary,
    /// Leaders and agents that went back, whose confirmation was taken back there.
    unconfirmed: BTreeSet<(Incarnation, Incarnation)>,
    /// First violation of an invariant.
    first_violation: Option<String>,
    pub requests: u64,
    pub answers: BTreeMap<RequestId, Response>,
    trace: Option<Vec<String>>,
    /// Number of messages sent.
    sent: u64,
    pub log_operations: u64,
}

impl Simulation {
    /// Creates a cluster without faults, in which versions may be mixed.
    pub fn mixed(seed: u64, trace: bool) -> Simulation {
        let mut random = Rng::with_seed(seed);
        let mixed = random.u8(0..5) < 2;
        let mut processes = cluster::random(&mut random, mixed);
        for process in &mut processes {
            process.is_predecessor = mixed && random.bool();
        }
        cluster::share_libraries(&mut processes);
        if !mixed {
            authentication::configure(&mut processes, &mut adversary::stream(&random));
        }
        let mut sim = Simulation {
            mixed,
            has_old_masters: mixed,
            ..Simulation::with(processes, random, trace)
        };
        sim.checker.protocol.agreed &= !mixed;
        sim
    }

    /// Creates a cluster without C++ modules.
    pub fn new(seed: u64, trace: bool) -> Simulation {
        let mut random = Rng::with_seed(seed);
        let mut processes = cluster::random(&mut random, false);
        authentication::configure(&mut processes, &mut adversary::stream(&random));
        Simulation::with(processes, random, trace)
    }

    /// Creates a cluster without C++ modules and without leases.
    pub fn without_leases(seed: u64, trace: bool) -> Simulation {
        let mut random = Rng::with_seed(seed);
        let processes = cluster::random(&mut random, true);
        Simulation {
            has_old_masters: true,
            ..Simulation::with(processes, random, trace)
        }
    }

    /// Starts these processes, without faults.
    pub fn with(processes: Vec<Process>, mut random: Rng, trace: bool) -> Simulation {
        let masters = processes
            .iter()
            .filter(|process| process.is_master())
            .count();
        let adversary = Adversary::new(&random, authentication::has_keys(&processes));
        let mut sim = Simulation {
            now: Time::default(),
            leader: Some(random.usize(0..masters)),
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            processes,
            mixed: false,
            has_old_masters: false,
            network: Network::new(),
            log: ReplicatedLog::new(),
            host_failures: 0,
            engine_failures: 0,
            max_latency: Duration::from_millis(20),
            checker: Checker::default(),
            adversary,
            unconfirmed: BTreeSet::new(),
            first_violation: None,
            requests: 0,
            answers: BTreeMap::new(),
            trace: trace.then(Vec::new),
            sent: 0,
            log_operations: 0,
        };
        sim.checker.protocol.agreed = cluster::has_one_file(&sim.processes);
        sim.checker.protocol.end_faults();
        for process in 0..sim.processes.len() {
            sim.start(process);
        }
        sim.schedule_forgeries();
        sim.schedule_operator();
        sim
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// Returns the end of the trace.
    pub fn trace(&self) -> String {
        const LINES: usize = 400;
        let lines = self.trace.as_deref().unwrap_or_default();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Adds a line to the trace, if there is one.
    pub fn trace_line(&mut self, line: impl FnOnce(&Simulation) -> String) {
        if let Some(mut trace) = self.trace.take() {
            let line: String = line(self).chars().take(300).collect();
            trace.push(format!("{} {line}", self.now));
            self.trace = Some(trace);
        }
    }

    pub fn incarnation(&self, process: usize) -> Incarnation {
        Incarnation {
            process,
            start: self.processes[process].start,
        }
    }

    fn is_running(&self, incarnation: Incarnation) -> bool {
        self.incarnation(incarnation.process) == incarnation
            && self.processes[incarnation.process].machine.is_some()
    }

    fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((time, self.sequence), event);
    }

    fn after(&mut self, longest: Duration, event: Event) {
        let time = self.now + longest.mul_f64(self.random.f64());
        self.at(time, event);
    }

    /// Schedules an operation on the log (0) or its answer (1), after earlier ones.
    fn in_order(&mut self, incarnation: Incarnation, which: usize, event: Event) {
        // Now and then, something hangs for a while.
        let hangs = if self.log.failures > 0 && self.random.u8(0..10) == 0 {
            10.0
        } else {
            1.0
        };
        let time = self.now + self.max_latency.mul_f64(self.random.f64() * hangs);
        let last = &mut self.processes[incarnation.process].log_order[which];
        *last = time.max(*last);
        let time = *last;
        self.at(time, event);
    }

    // What happens to processes.

    pub fn start(&mut self, process: usize) {
        if self.processes[process].machine.is_some() || self.processes[process].removed {
            return;
        }
        self.trace_line(|sim| format!("{} starts", sim.processes[process].upid));
        self.processes[process].start(&mut self.random);
        self.detect(process);
    }

    pub fn crash(&mut self, process: usize) {
        self.trace_line(|sim| format!("{} crashes", sim.processes[process].upid));
        for id in self.processes[process].requests.keys() {
            self.checker.operators.forget(*id);
        }
        if self.leader == Some(process) {
            self.checker.protocol.on_leader_changed();
        }
        self.checker.protocol.ended(&self.processes[process]);
        self.checker.forgeries.ended(&self.processes[process]);
        self.checker.sessions.ended(&self.processes[process].upid);
        self.processes[process].crash();
        let upid = self.processes[process].upid.clone();
        for other in 0..self.processes.len() {
            self.break_link(other, &upid);
        }
    }

    /// Changes the version of a process, and ends it.
    pub fn change_version(&mut self, process: usize) {
        let old = !self.processes[process].is_predecessor;
        self.trace_line(|sim| {
            let to = if old { "a predecessor" } else { "ours" };
            format!("{} becomes {to}", sim.processes[process].upid)
        });
        // An agent in a master's process comes from the same library.
        let address = self.processes[process].upid.address;
        for other in 0..self.processes.len() {
            if self.processes[other].upid.address == address {
                self.crash(other);
                self.processes[other].is_predecessor = old;
                if other != process {
                    self.restart_later(other, Duration::from_millis(100));
                }
            }
        }
        self.checker.protocol.agreed = false;
    }

    pub fn restart_later(&mut self, process: usize, longest: Duration) {
        self.after(longest, Event::Restart(process));
    }

    /// Cuts off two processes from each other, temporarily.
    pub fn cut(&mut self, a: usize, b: usize, longest: Duration) {
        self.trace_line(|sim| {
            format!(
                "{} and {} are cut off",
                sim.processes[a].upid, sim.processes[b].upid
            )
        });
        self.network.cut.push((a.min(b), a.max(b)));
        self.after(longest, Event::Reconnect(a.min(b), a.max(b)));
    }

    /// Breaks the connection from `process` to `peer`, if there is one.
    pub fn break_link(&mut self, process: usize, peer: &Upid) {
        if self.processes[process].links.remove(peer) {
            let incarnation = self.incarnation(process);
            self.after(
                self.network.conditions.delay * 4,
                Event::Input(incarnation, Input::Exited(peer.clone())),
            );
        }
    }

    /// Elects a process, or none.
    pub fn elect(&mut self, leader: Option<usize>) {
        self.leader = leader;
        self.checker.protocol.on_leader_changed();
        self.trace_line(|sim| match leader {
            Some(leader) => format!("{} is elected", sim.processes[leader].upid),
            None => "nobody is elected".into(),
        });
        for process in 0..self.processes.len() {
            self.detect(process);
        }
    }

    fn detect(&mut self, process: usize) {
        if self.processes[process].machine.is_some() {
            let incarnation = self.incarnation(process);
            self.after(self.max_latency, Event::DetectLeader(incarnation));
        }
    }

    /// Sets the containers on an agent's host.
    pub fn set_containers(
        &mut self,
        process: usize,
        mesos: BTreeSet<String>,
        engine: BTreeSet<String>,
    ) {
        self.trace_line(|sim| {
            format!(
                "{}: containers use {mesos:?} {engine:?}",
                sim.processes[process].upid
            )
        });
        let it = &mut self.processes[process];
        it.host.containers = mesos;
        it.host.engine_containers = engine;
        if it.machine.is_some() && it.executor.on_containers_changed() {
            let incarnation = self.incarnation(process);
            self.after(self.max_latency, Event::HostDone(incarnation));
        }
    }

    // Time.

    /// Runs for this duration.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        while self.step(end)? {}
        self.now = end;
        Ok(())
    }

    /// Runs until the cluster has converged.
    pub fn run_until_converged(&mut self, deadline: Time) -> Result<(), String> {
        loop {
            self.run_for(Duration::from_millis(200))?;
            let trace = self.trace.take();
            let converged = Checker::converged(self);
            self.trace = trace;
            if let Some(violation) = self.first_violation.take() {
                return Err(violation);
            }
            match converged {
                Ok(()) => return Ok(()),
                Err(why) if self.now >= deadline => return Err(format!("at {}: {why}", self.now)),
                Err(_) => {}
            }
        }
    }

    /// Runs in a converged cluster, which must remain so, without operations on the log and with
    /// no messages but periodic registrations. The adversary stops before.
    pub fn run_silently(&mut self, duration: Duration) -> Result<(), String> {
        self.adversary.stop();
        // What is under way (acknowledgements) may end. And an agent may be registered with what
        // it wanted in a former incarnation, by a message that came late, until it registers anew, which
        // takes 75 s at most.
        self.run_for(Duration::from_secs(80))?;
        let (sent, operations) = (self.sent, self.log_operations);
        let registers = self.checker.protocol.registers.clone();
        self.run_for(duration)?;
        Checker::converged(self).map_err(|why| format!("it did not stay so: {why}"))?;
        self.checker
            .protocol
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

    /// Handles the next event, if it is due before `end`.
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
        if let Err(what) = self.checker.protocol.deadlines.check(self.now) {
            self.first_violation.get_or_insert_with(|| what.clone());
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
                self.handle_event(event)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
