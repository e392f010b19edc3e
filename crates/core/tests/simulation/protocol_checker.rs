//! Checks of messages between masters and agents, and of their deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, PeersReceivedMessage,
    RegisterAgentMessage, RegistrationChallengeMessage, RegistrationRefusedMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Input, StoreOutcome, Time};
use prost::Message;

use crate::checker::Stored;
use crate::cluster::Process;
use crate::deadlines::{
    ACKNOWLEDGE, ANSWER, Deadlines, Duty, HOLD, RECONNECT, REFRESH, RETRY, SPREAD, TELL,
};
use crate::peer_lists::Lists;
use crate::sessions::Standing;

/// State of the protocol between masters and agents.
#[derive(Default)]
pub struct ProtocolChecker {
    /// Lists of peers that were sent.
    lists: Lists,
    /// All masters have the same file and none is a C++ module, so that peers are those of the
    /// log.
    pub agreed: bool,
    /// Deadlines.
    pub deadlines: Deadlines,
    /// Faults are absent, so that masters have deadlines as well.
    faultless: bool,
    /// Agents whose latest registration requested peers.
    wants_peers: BTreeSet<String>,
    /// Agents that the present leader sends peers to.
    receivers: BTreeSet<String>,
    /// Unanswered registrations by master and agent.
    registering: BTreeSet<(String, String)>,
    /// Agents that have been answered since their last registration.
    answered: BTreeSet<String>,
    /// State of each agent before its latest list of overlays, in case it drops the list.
    before_list: BTreeMap<String, BeforeList>,
    /// Number of registrations by agent.
    pub registers: BTreeMap<String, u64>,
}

/// State of an agent before it received a list of overlays.
struct BeforeList {
    /// The agent had been answered since its last registration.
    is_answered: bool,
    /// Deadline of its next registration.
    register_at: Option<Time>,
}

impl ProtocolChecker {
    /// Returns whether an agent waits for this master's answer.
    pub fn waits(&self, master: &Process, ip: &str) -> bool {
        self.registering.contains(&(master.ip(), ip.to_owned()))
    }

    /// Records that an agent was deleted, so that its registration need not be answered.
    pub fn deleted(&mut self, master: &Process, ip: &str) {
        self.registering.remove(&(master.ip(), ip.to_owned()));
        self.deadlines.done(&Duty::Answer(ip.to_owned()));
    }

    /// Records a list of overlays of this revision to an agent.
    pub fn listed(&mut self, master: &Process, ip: &str, revision: Option<u64>) {
        let is_served = revision.is_some() && master.leads() && master.connected.contains(ip);
        match is_served && self.wants_peers.contains(ip) {
            true => _ = self.receivers.insert(ip.to_owned()),
            false => self.forget_receiver(ip),
        }
    }

    /// Records that an agent dropped the list that it just received, which thus was no answer.
    pub fn list_dropped(&mut self, agent: &Process) {
        let Some(before) = self.before_list.remove(&agent.ip()) else {
            return;
        };
        if !before.is_answered {
            self.answered.remove(&agent.ip());
        }
        let register = Duty::Register(agent.ip());
        match before.register_at {
            Some(at) => self.deadlines.set(register, at),
            None => self.deadlines.done(&register),
        }
    }

    /// Checks that registered agents registered every 45 to 75 seconds. `before` are the earlier
    /// numbers of registrations.
    pub fn refreshed(
        &self,
        processes: &[Process],
        before: &BTreeMap<String, u64>,
        duration: Duration,
    ) -> Result<(), String> {
        for it in processes
            .iter()
            .filter(|it| !it.is_master() && !it.removed && !it.is_predecessor)
        {
            let count =
                |registers: &BTreeMap<String, u64>| registers.get(&it.ip()).copied().unwrap_or(0);
            let times = count(&self.registers) - count(before);
            let usual = duration.as_secs() / 75..=duration.as_secs() / 45 + 1;
            if !usual.contains(&times) {
                return Err(format!(
                    "{} registered {times} times in {duration:?}",
                    it.upid
                ));
            }
        }
        Ok(())
    }

    /// Records an input of a master.
    pub fn master_input(&mut self, now: Time, process: &Process, input: &Input) {
        match input {
            Input::Fetched(_) => self.answers_nobody(process),
            Input::Stored { outcome, .. } if *outcome != StoreOutcome::Stored => {
                self.answers_nobody(process)
            }
            Input::Leader(_) if !process.leads() => self.answers_nobody(process),
            Input::Exited(pid) => self.forget_receiver(&pid.address.ip().to_string()),
            Input::Message { from, name, body } => {
                let ip = from.address.ip().to_string();
                let serves = process.leads() && process.known.is_some() && !process.is_predecessor;
                match name.as_str() {
                    RegisterAgentMessage::NAME => {
                        let message = RegisterAgentMessage::decode(body.clone()).unwrap();
                        self.wants_peers.remove(&ip);
                        if let Some(peers) = message.peers {
                            self.wants_peers.insert(ip.clone());
                            self.lists.says(ip.clone(), peers);
                        }
                        if serves {
                            self.registering.insert((process.ip(), ip.clone()));
                        }
                        if serves && self.faultless {
                            self.deadlines.at_most(Duty::Answer(ip), now + ANSWER);
                        }
                    }
                    PeersReceivedMessage::NAME => {
                        let message = PeersReceivedMessage::decode(body.clone()).unwrap();
                        if self.lists.is_newest(message.version) {
                            self.deadlines.done(&Duty::Acknowledge(ip.clone()));
                        }
                        self.lists.says(ip, message.version);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Records an input of an agent; a message has this standing.
    pub fn agent_input(&mut self, now: Time, process: &Process, input: &Input, standing: Standing) {
        let register = Duty::Register(process.ip());
        match input {
            _ if process.is_predecessor => {}
            Input::Leader(None) => self.deadlines.done(&register),
            Input::Leader(Some(_)) => {
                self.answered.remove(&process.ip());
                self.deadlines.set(register, now + SPREAD);
            }
            Input::Exited(pid) if process.leader.as_ref() == Some(pid) => {
                let longest = if self.answered.contains(&process.ip()) {
                    RECONNECT
                } else {
                    RETRY
                };
                self.deadlines.at_most(register, now + longest);
            }
            // A master of an earlier release, which an agent may not believe at once, or not at all.
            Input::Message { from, .. }
                if process.leader.as_ref() == Some(from) && standing == Standing::None =>
            {
                self.deadlines.set(register, now + HOLD + REFRESH);
            }
            Input::Message { from, name, .. }
                if process.leader.as_ref() == Some(from) && standing == Standing::Present =>
            {
                if name == UpdateAgentOverlaysMessage::NAME {
                    let before = BeforeList {
                        is_answered: !self.answered.insert(process.ip()),
                        register_at: self.deadlines.get(&register),
                    };
                    self.before_list.insert(process.ip(), before);
                }
                // An acknowledgement that comes late says nothing.
                let counts = [
                    UpdateAgentOverlaysMessage::NAME,
                    AgentRegisteredAcknowledgement::NAME,
                ];
                if counts.contains(&name.as_str()) && self.answered.contains(&process.ip()) {
                    self.deadlines.set(register, now + REFRESH);
                }
            }
            _ => {}
        }
    }

    /// Records a message of an agent to its master.
    pub fn agent_sends(&mut self, now: Time, process: &Process, name: &str) {
        let register = Duty::Register(process.ip());
        match name {
            RegisterAgentMessage::NAME => {
                *self.registers.entry(process.ip()).or_default() += 1;
                self.answered.remove(&process.ip());
                self.deadlines.set(register, now + RETRY);
            }
            AgentRegisteredMessage::NAME => self.deadlines.set(register, now + RETRY),
            _ => {}
        }
    }

    /// Records a message of a master to an agent.
    pub fn master_sends(&mut self, process: &Process, ip: &str, name: &str) {
        if [
            UpdateAgentOverlaysMessage::NAME,
            RegistrationChallengeMessage::NAME,
            RegistrationRefusedMessage::NAME,
        ]
        .contains(&name)
            && process.leads()
        {
            self.registering.remove(&(process.ip(), ip.to_owned()));
            self.deadlines.done(&Duty::Answer(ip.to_owned()));
        }
    }

    /// Expects faults from now on, so that masters have no deadlines.
    pub fn begin_faults(&mut self) {
        self.faultless = false;
        self.deadlines.forget_master();
    }

    /// Expects no faults from now on.
    pub fn end_faults(&mut self) {
        self.faultless = true;
        self.deadlines.forget_master();
    }

    /// Returns whether there are no faults at present.
    pub fn is_faultless(&self) -> bool {
        self.faultless
    }

    /// Handles a change of leader, or a restart of the leader.
    pub fn on_leader_changed(&mut self) {
        self.deadlines.forget_master();
        self.receivers.clear();
    }

    /// Expects no more messages about peers to an agent.
    pub fn forget_receiver(&mut self, ip: &str) {
        self.receivers.remove(ip);
        self.deadlines.done(&Duty::Tell(ip.to_owned()));
        self.deadlines.done(&Duty::Acknowledge(ip.to_owned()));
    }

    /// Expects no more answers of a master to earlier registrations.
    fn answers_nobody(&mut self, master: &Process) {
        self.registering.retain(|(ip, _)| *ip != master.ip());
    }

    /// Handles the end of a process.
    pub fn ended(&mut self, process: &Process) {
        let ip = &process.ip();
        if process.is_master() {
            return self.answers_nobody(process);
        }
        self.deadlines.forget(ip);
        self.answered.remove(ip);
        self.receivers.remove(ip);
    }

    /// Checks that a list of peers leads an agent to that of the log. `known` is what its master
    /// knows of the log.
    pub fn list(
        &mut self,
        now: Time,
        ip: String,
        message: &UpdatePeersMessage,
        known: Option<&Stored>,
    ) -> Result<(), String> {
        let list = self.lists.told(ip.clone(), message)?;
        let Some(known) = known else { return Ok(()) };
        if let Some(gone) = list.keys().find(|ip| !known.agents.contains_key(*ip)) {
            return Err(format!("tells {ip} of {gone}, which is not in the log"));
        }
        if self.agreed && *list != known.peers {
            return Err(format!(
                "tells {ip} of {list:?}, but {:?} is in the log",
                known.peers
            ));
        }
        self.deadlines.done(&Duty::Tell(ip.clone()));
        if self.faultless && self.receivers.contains(&ip) {
            self.deadlines
                .at_most(Duty::Acknowledge(ip), now + ACKNOWLEDGE);
        }
        Ok(())
    }

    /// Sets deadlines for messages to all receivers, because the peers in the log changed.
    pub fn peers_changed(&mut self, now: Time) {
        for ip in self.receivers.iter().filter(|_| self.faultless) {
            self.deadlines.at_most(Duty::Tell(ip.clone()), now + TELL);
        }
    }
}
