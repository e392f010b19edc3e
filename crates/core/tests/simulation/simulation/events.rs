//! Events of a simulation, and what they do.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::{Input, StoreOutcome, Upid};

use super::Simulation;
use crate::adversary::{Forgery, Origin, Public};
use crate::cluster::{Incarnation, Process};
use crate::host::{EngineFailure, Failure};

/// A libprocess message on its way.
pub struct Message {
    pub to: Upid,
    pub from: Upid,
    pub name: &'static str,
    pub body: Bytes,
}

/// Future event.
pub enum Event {
    Message(Message),
    /// An input of a process.
    Input(Incarnation, Input),
    /// A process detects the leader of that time.
    DetectLeader(Incarnation),
    /// A read of the log takes place.
    Fetch {
        incarnation: Incarnation,
        reopen: bool,
    },
    /// A write of the log, with its number, takes place.
    Store(Incarnation, u64, Bytes),
    /// A reconciliation of the host ends.
    HostDone(Incarnation),
    /// A reconciliation of the container engine ends, or a repeated one of this generation.
    EngineDone(Incarnation, u64),
    /// A process that crashed starts again.
    Restart(usize),
    /// The adversary sends a burst of messages.
    Forge,
    /// An operator looks after agents that went back to an earlier release.
    Operate,
    /// Two processes that were cut off from each other are connected again.
    Reconnect(usize, usize),
}

impl Event {
    /// Returns the process that must still be running for the event to happen.
    fn receiver(&self) -> Option<Incarnation> {
        match self {
            Event::Input(incarnation, _)
            | Event::DetectLeader(incarnation)
            | Event::Fetch { incarnation, .. }
            | Event::Store(incarnation, ..)
            | Event::HostDone(incarnation)
            | Event::EngineDone(incarnation, _) => Some(*incarnation),
            Event::Message(_)
            | Event::Forge
            | Event::Operate
            | Event::Restart(_)
            | Event::Reconnect(..) => None,
        }
    }
}

impl Simulation {
    pub(super) fn handle_event(&mut self, event: Event) -> Result<(), String> {
        if event.receiver().is_some_and(|it| !self.is_running(it)) {
            return self.handle_late_event(event);
        }
        match event {
            Event::Message(message) => self.deliver(message),
            Event::Forge => self.forge(),
            Event::Operate => self.operate(),
            Event::Input(incarnation, input) => {
                self.update_known_log(incarnation.process, &input);
                self.input(incarnation.process, input)
            }
            Event::DetectLeader(incarnation) => self.detect_leader(incarnation.process),
            Event::Fetch {
                incarnation,
                reopen,
            } => self.fetch(incarnation, reopen),
            Event::Store(incarnation, number, state) => self.store(incarnation, number, state),
            Event::HostDone(incarnation) => self.finish_host(incarnation),
            Event::EngineDone(incarnation, generation) => {
                self.finish_engine(incarnation, generation)
            }
            Event::Restart(process) => {
                self.start(process);
                Ok(())
            }
            Event::Reconnect(a, b) => {
                self.network.cut.retain(|cut| *cut != (a, b));
                Ok(())
            }
        }
    }

    /// Handles an event of a process that crashed. Its write may arrive all the same.
    fn handle_late_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Store(incarnation, number, state) if self.random.bool() => {
                self.store(incarnation, number, state)
            }
            _ => Ok(()),
        }
    }

    fn deliver(&mut self, message: Message) -> Result<(), String> {
        let Message {
            to,
            from,
            name,
            body,
        } = message;
        let at = self.processes.iter().position(|process| process.upid == to);
        let Some(process) = at.filter(|at| self.processes[*at].machine.is_some()) else {
            return Ok(());
        };
        let receiver = self.incarnation(process);
        // An agent does not look at messages of others than its leader.
        let it = &self.processes[process];
        let is_looked_at = it.is_master() || it.leader.as_ref() == Some(&from);
        let is_repeated = is_looked_at && self.adversary.is_repeated(receiver, &from, name, &body);
        let name = name.into();
        let input = Input::Message { from, name, body };
        match is_repeated {
            true => self.forged_input(process, Origin::Forged, input),
            false => self.input(process, input),
        }
    }

    /// Schedules the adversary's next burst, unless it has stopped.
    pub(super) fn schedule_forgeries(&mut self) {
        if let Some(pause) = self.adversary.pause() {
            self.at(self.now + pause, Event::Forge);
        }
    }

    /// Delivers a burst of forged messages.
    fn forge(&mut self) -> Result<(), String> {
        if !self.adversary.is_active() {
            return Ok(());
        }
        let value = self.log.value().clone();
        let public = Public {
            log: self.checker.read(&value)?,
            processes: &self.processes,
            leader: self.leader,
            has_old_masters: self.has_old_masters,
            is_faulty: !self.checker.protocol.is_faultless(),
        };
        for forgery in self.adversary.burst(&public) {
            let Forgery {
                to,
                from,
                name,
                body,
                origin,
            } = forgery;
            let it = &self.processes[to];
            let is_looked_at = it.is_master() || it.leader.as_ref() == Some(&from);
            if origin == Origin::Late && is_looked_at {
                let receiver = self.incarnation(to);
                self.adversary.is_repeated(receiver, &from, name, &body);
            }
            let name = name.into();
            self.forged_input(to, origin, Input::Message { from, name, body })?;
        }
        self.schedule_forgeries();
        Ok(())
    }

    /// Schedules the operator's next look at the cluster.
    pub(super) fn schedule_operator(&mut self) {
        self.at(self.now + Duration::from_secs(1), Event::Operate);
    }

    /// Does what going back to an earlier release requires; docs/security.md has these steps.
    fn operate(&mut self) -> Result<(), String> {
        self.schedule_operator();
        match self.leader {
            Some(leader) if self.processes[leader].is_predecessor => {
                self.restart_agents_that_met(leader);
                Ok(())
            }
            Some(leader) => self.unconfirm_older_agents(leader),
            None => Ok(()),
        }
    }

    /// Takes back the confirmation of agents that went back: of those in the log, and once at each
    /// leader, which may have sessions with them.
    fn unconfirm_older_agents(&mut self, leader: usize) -> Result<(), String> {
        let value = self.log.value().clone();
        let stored = self.checker.read(&value)?;
        let is_older = |it: &Process| it.is_predecessor && !it.is_master() && it.start > 0;
        let older = (0..self.processes.len()).filter(|it| is_older(&self.processes[*it]));
        let master = self.incarnation(leader);
        let pending: Vec<usize> = older
            .filter(|it| {
                let pair = (master, self.incarnation(*it));
                stored.confirmed.contains(&self.processes[*it].ip())
                    || !self.unconfirmed.contains(&pair)
            })
            .collect();
        let ips: Vec<String> = pending.iter().map(|it| self.processes[*it].ip()).collect();
        if !ips.is_empty() && self.unconfirm(leader, &ips)? {
            let pairs = pending.iter().map(|it| (master, self.incarnation(*it)));
            let pairs: Vec<_> = pairs.collect();
            self.unconfirmed.extend(pairs);
        }
        Ok(())
    }

    /// Restarts agents that knew a master before it went back to an earlier release: another step
    /// of going back.
    fn restart_agents_that_met(&mut self, master: usize) {
        let address = self.processes[master].upid.address;
        for process in 0..self.processes.len() {
            if self.processes[process].met.contains(&address) {
                self.crash(process);
                self.start(process);
            }
        }
    }

    fn detect_leader(&mut self, process: usize) -> Result<(), String> {
        let leader = self.leader;
        let leader = leader.map(|leader| self.processes[leader].upid.clone());
        let it = &mut self.processes[process];
        it.leader.clone_from(&leader);
        if !it.leads() {
            it.stored = None;
        }
        let before = self.own_overlays(process)?;
        let leader = leader.map(|leader| Upid::new("master", leader.address));
        self.input(process, Input::Leader(leader))?;
        if self.own_overlays(process)? != before {
            return self.violation(process, "a change of leader changed its overlays");
        }
        Ok(())
    }

    fn fetch(&mut self, incarnation: Incarnation, reopen: bool) -> Result<(), String> {
        let process = &mut self.processes[incarnation.process];
        process.is_torn &= !reopen;
        if process.is_torn {
            return self.violation(incarnation.process, "reads on behind a write that failed");
        }
        let fetched = self.log.fetch(incarnation, &mut self.random);
        if let Ok(value) = &fetched {
            let process = &mut self.processes[incarnation.process];
            process.stored = Some(value.clone());
            process.write_failed = false;
        }
        self.check_log()?;
        let answer = Event::Input(incarnation, Input::Fetched(fetched));
        self.in_order(incarnation, 1, answer);
        Ok(())
    }

    fn store(&mut self, incarnation: Incarnation, number: u64, state: Bytes) -> Result<(), String> {
        let outcome = self.log.store(incarnation, state.clone(), &mut self.random);
        if self.is_running(incarnation) {
            let process = &mut self.processes[incarnation.process];
            // A C++ master does not survive a failed write.
            if process.is_predecessor && outcome != StoreOutcome::Stored {
                self.crash(incarnation.process);
                self.restart_later(incarnation.process, Duration::from_secs(5));
                return self.check_log();
            }
            match outcome {
                StoreOutcome::Stored => process.stored = Some(state),
                _ => process.write_failed = true,
            }
            process.is_torn |= matches!(outcome, StoreOutcome::Failed(_));
        }
        self.check_log()?;
        if self.log.unanswered && matches!(outcome, StoreOutcome::Failed(_)) {
            return Ok(());
        }
        let answer = Event::Input(incarnation, Input::Stored { number, outcome });
        self.in_order(incarnation, 1, answer);
        Ok(())
    }

    fn finish_host(&mut self, incarnation: Incarnation) -> Result<(), String> {
        let fails = self.random.u8(0..100) < self.host_failures;
        let failure = fails.then(|| match self.random.bool() {
            true => Failure::Host,
            false => Failure::Overlay(self.random.usize(0..5)),
        });
        let process = &mut self.processes[incarnation.process];
        let (report, another) = process.executor.finish(&mut process.host, failure);
        if another {
            self.after(self.max_latency, Event::HostDone(incarnation));
        }
        self.input(incarnation.process, Input::HostDone(report))
    }

    /// Ends a reconciliation of the container engine. Unless the engine is away, the worker
    /// repeats it later.
    fn finish_engine(&mut self, incarnation: Incarnation, generation: u64) -> Result<(), String> {
        let failure =
            (self.random.u8(0..100) < self.engine_failures).then(|| match self.random.bool() {
                true => EngineFailure::Away,
                false => EngineFailure::Network(self.random.usize(0..5)),
            });
        let process = &mut self.processes[incarnation.process];
        if process.engine.generation() != Some(generation) || process.engine.stuck {
            return Ok(());
        }
        let Some(report) = process.engine.finish(&mut process.host, failure) else {
            return Ok(());
        };
        if !process.engine.stuck {
            self.after(
                Duration::from_secs(20),
                Event::EngineDone(incarnation, generation),
            );
        }
        self.input(incarnation.process, Input::EngineDone(report))
    }

    /// Checks the log, which may have changed.
    fn check_log(&mut self) -> Result<(), String> {
        let value = self.log.value().clone();
        self.checker.log(self.now, &value, &self.processes)
    }

    /// Updates what a master knows of the log.
    fn update_known_log(&mut self, process: usize, input: &Input) {
        let process = &mut self.processes[process];
        match input {
            // The answer to an attempt before the one that the master works with.
            Input::Fetched(Ok(value)) if process.stored.as_ref() != Some(value) => return,
            Input::Fetched(Err(_)) if process.storing.is_some() => return,
            Input::Fetched(_) => {}
            Input::Stored { .. } => {
                process.storing = None;
                if std::mem::take(&mut process.write_failed) {
                    process.stored = None;
                }
            }
            _ => return,
        }
        process.known.clone_from(&process.stored);
    }
}
