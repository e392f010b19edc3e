//! Inputs of processes, and the effects that follow.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::proto::internal::UpdateAgentOverlaysMessage;
use overlay_core::protocol::http::PROTOBUF;
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::session::join;
use overlay_core::{Effect, Input, Io, Level, Upid};

use super::Simulation;
use super::events::{Event, Message};
use crate::adversary::{Origin, Seen};
use crate::cluster::Incarnation;

impl Simulation {
    /// Gives an input to a process, and carries out its effects.
    pub fn input(&mut self, process: usize, input: Input) -> Result<(), String> {
        self.trace_input(process, "<-", &input);
        self.checker
            .input(self.now, &mut self.processes[process], &input);
        self.handle(process, input)
    }

    /// Gives a message of the adversary to a process, and carries out the effects.
    pub(super) fn forged_input(
        &mut self,
        process: usize,
        origin: Origin,
        message: Input,
    ) -> Result<(), String> {
        if self.processes[process].machine.is_none() {
            return Ok(());
        }
        self.trace_input(process, "<~", &message);
        self.checker
            .forged_input(&mut self.processes[process], origin, &message);
        self.handle(process, message)
    }

    fn trace_input(&mut self, process: usize, arrow: &str, input: &Input) {
        self.trace_line(|sim| {
            let input = crate::trace::format_input(input);
            format!("{} {arrow} {input}", sim.processes[process].upid)
        });
    }

    fn handle(&mut self, process: usize, input: Input) -> Result<(), String> {
        let incarnation = self.incarnation(process);
        let now = self.now;
        let Some(machine) = &mut self.processes[process].machine else {
            return Ok(());
        };
        machine.handle(now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| machine.poll_effect()).collect();
        for effect in effects {
            self.trace_line(|sim| {
                format!(
                    "{} -> {}",
                    sim.processes[process].upid,
                    crate::trace::format_effect(&effect)
                )
            });
            if let Err(what) = self.checker.effect(now, &self.processes[process], &effect) {
                return self.violation(process, &what);
            }
            self.effect(incarnation, effect)?;
        }
        Ok(())
    }

    /// Records a violation.
    pub(super) fn violation(&mut self, process: usize, what: &str) -> Result<(), String> {
        let what = format!("at {}: {}: {what}", self.now, self.processes[process].upid);
        self.first_violation.get_or_insert(what.clone());
        Err(what)
    }

    /// Returns the overlays of an agent from its endpoint; `None` for a master.
    pub(super) fn own_overlays(&mut self, process: usize) -> Result<Option<Bytes>, String> {
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

    fn effect(&mut self, incarnation: Incarnation, effect: Effect) -> Result<(), String> {
        let process = incarnation.process;
        match effect {
            Effect::Io(Io::Send {
                to,
                name,
                body,
                session,
            }) => {
                if name == UpdateAgentOverlaysMessage::NAME {
                    self.note_list(process, &to, &body, &session);
                }
                self.send(process, &to, name, &join(&body, &session));
            }
            Effect::Io(Io::Link { to, .. }) => self.link(process, to)?,
            Effect::Io(Io::Respond { id, response }) => {
                self.processes[process].requests.remove(&id);
                self.answers.insert(id, response);
            }
            Effect::Fetch { reopen } => {
                self.log_operations += 1;
                self.in_order(
                    incarnation,
                    0,
                    Event::Fetch {
                        incarnation,
                        reopen,
                    },
                );
            }
            Effect::Io(Io::Store { number, state }) => {
                self.log_operations += 1;
                self.processes[process].storing = Some(self.now);
                self.in_order(incarnation, 0, Event::Store(incarnation, number, state));
            }
            Effect::ApplyHost {
                generation,
                desired,
            } => {
                if self.processes[process].executor.apply(generation, desired) {
                    self.after(self.max_latency, Event::HostDone(incarnation));
                }
            }
            Effect::ApplyEngine {
                generation,
                networks,
            } => {
                // An engine that hangs is waited for.
                let longest = match self.engine_failures {
                    0 => self.max_latency,
                    _ => networks.timeout,
                };
                self.processes[process].engine.apply(generation, networks);
                self.after(longest, Event::EngineDone(incarnation, generation));
            }
            Effect::Log(level, line) => debug_assert!(level >= Level::Info, "{line}"),
        }
        Ok(())
    }

    /// Records that a master sends a list of overlays, which tells whether it knows the agent.
    fn note_list(&mut self, process: usize, to: &Upid, body: &Bytes, session: &Bytes) {
        let ip = to.address.ip().to_string();
        let process = &mut self.processes[process];
        if body.is_empty() {
            // It was deleted, and is nobody to this master until it registers again.
            process.connected.remove(&ip);
        } else if !session.is_empty() && process.links.contains(to) && !process.ended.contains(to) {
            process.connected.insert(ip);
        }
    }

    fn send(&mut self, process: usize, to: &Upid, name: &'static str, body: &Bytes) {
        self.sent += 1;
        let from = self.processes[process].upid.clone();
        let peer = self
            .processes
            .iter()
            .position(|process| process.upid == *to);
        let Some(peer) = peer else {
            return self.adversary.receive(to, name, body);
        };
        let cut = self.network.is_cut(process, peer);
        let arrivals = match cut {
            true => Vec::new(),
            false => self.network.arrivals(self.now, &from, to, &mut self.random),
        };
        let receiver = self.incarnation(peer);
        self.adversary.see(|| Seen {
            from: from.clone(),
            to: to.clone(),
            name,
            body: body.clone(),
            receiver,
            is_lost: arrivals.is_empty(),
        });
        if arrivals.is_empty() {
            self.trace_line(|_| format!("lost: {name} from {from} to {to}"));
            // A message is lost with its connection, of which each end may or may
            // not hear.
            if self.random.bool() {
                self.break_link(process, to);
            }
            if self.random.bool() {
                self.break_link(peer, &from);
            }
        }
        for arrival in arrivals {
            let (to, from, body) = (to.clone(), from.clone(), body.clone());
            let message = Message {
                to,
                from,
                name,
                body,
            };
            self.at(arrival, Event::Message(message));
        }
    }

    fn link(&mut self, process: usize, to: Upid) -> Result<(), String> {
        let peer = self.processes.iter().position(|process| process.upid == to);
        let reached = peer.is_some_and(|peer| {
            self.processes[peer].machine.is_some() && !self.network.is_cut(process, peer)
        });
        // An agent with a session counts when it gets a list; see `note_list`. One that the log has as
        // confirmed, and that sends messages without a session, has to show that it receives answers.
        let is_old = peer.is_some_and(|peer| self.processes[peer].is_predecessor);
        let ip = to.address.ip().to_string();
        if is_old && self.processes[process].is_master() && !self.checker.is_confirmed(&ip) {
            self.processes[process].connected.insert(ip);
        }
        self.processes[process].links.insert(to.clone());
        self.processes[process].ended.remove(&to);
        if peer.is_none() {
            return self.link_nobody(process, to);
        }
        if !reached {
            self.break_link(process, &to);
        }
        Ok(())
    }

    /// Links a process to one that does not exist. The attempt fails at once where there is a
    /// host, and otherwise as late as TCP gives up.
    fn link_nobody(&mut self, process: usize, to: Upid) -> Result<(), String> {
        let upid = self.processes[process].upid.clone();
        if let Err(what) = self.checker.forgeries.link(&upid, &to) {
            return self.violation(process, &what);
        }
        let fails_at_once = to.address.port().is_multiple_of(2);
        let delay = if fails_at_once { 1 } else { 127_000 };
        let exited = Event::Input(self.incarnation(process), Input::Exited(to));
        self.at(self.now + Duration::from_millis(delay), exited);
        Ok(())
    }
}
