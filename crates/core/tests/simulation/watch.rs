//! What agents and masters are told, and by when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, PeersReceivedMessage,
    RegisterAgentMessage, RegistrationRefusedMessage, UpdateAgentOverlaysMessage,
    UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Input, StoreOutcome, Time};
use prost::Message;

use crate::check::Stored;
use crate::cluster::Process;
use crate::deadlines::{
    ACKNOWLEDGE, ANSWER, Deadlines, Duty, RECONNECT, REFRESH, RETRY, SPREAD, TELL,
};
use crate::lists::Lists;

/// Conversations between masters and agents.
#[derive(Default)]
pub struct Watch {
    /// The lists of peers that were told.
    lists: Lists,
    /// All masters have the same file and none is a predecessor: peers are what the log says.
    pub agreed: bool,
    /// What has to happen by when.
    pub deadlines: Deadlines,
    /// Nothing goes wrong, so masters have deadlines as well.
    fair: bool,
    /// The agents whose latest registration asked for peers.
    wants_peers: BTreeSet<String>,
    /// The agents that the present leader tells of their peers.
    receivers: BTreeSet<String>,
    /// Masters, and the agents whose registrations they took and have not answered.
    registering: BTreeSet<(String, String)>,
    /// The agents that a master answered since they registered last.
    answered: BTreeSet<String>,
    /// How often agents registered.
    pub registers: BTreeMap<String, u64>,
}

impl Watch {
    /// Whether an agent waits for this master's answer.
    pub fn waits(&self, master: &Process, ip: &str) -> bool {
        self.registering.contains(&(master.ip(), ip.to_owned()))
    }

    /// An agent is deleted at this master: its registration need not be answered.
    pub fn deleted(&mut self, master: &Process, ip: &str) {
        self.registering.remove(&(master.ip(), ip.to_owned()));
        self.deadlines.done(&Duty::Answer(ip.to_owned()));
    }

    /// A master gives this agent a list of overlays of these networks.
    pub fn listed(&mut self, master: &Process, ip: &str, revision: Option<u64>) {
        let is_served = revision.is_some() && master.leads() && master.connected.contains(ip);
        match is_served && self.wants_peers.contains(ip) {
            true => _ = self.receivers.insert(ip.to_owned()),
            false => self.is_told_no_more(ip),
        }
    }

    /// An agent dropped a list: it was no answer.
    pub fn list_dropped(&mut self, agent: &Process) {
        self.answered.remove(&agent.ip());
    }

    /// Agents that are registered register every 45 to 75 seconds. `before` is how often
    /// they had registered.
    pub fn refreshed(
        &self,
        processes: &[Process],
        before: &BTreeMap<String, u64>,
        duration: Duration,
    ) -> Result<(), String> {
        for it in processes
            .iter()
            .filter(|it| !it.is_master() && !it.removed && !it.old)
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

    /// This happens to a master.
    pub fn master_input(&mut self, now: Time, process: &Process, input: &Input) {
        match input {
            Input::Fetched(_) => self.answers_nobody(process),
            Input::Stored { outcome, .. } if *outcome != StoreOutcome::Stored => {
                self.answers_nobody(process)
            }
            Input::Leader(_) if !process.leads() => self.answers_nobody(process),
            Input::Exited(pid) => self.is_told_no_more(&pid.address.ip().to_string()),
            Input::Message { from, name, body } => {
                let ip = from.address.ip().to_string();
                let serves = process.leads() && process.known.is_some() && !process.old;
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
                        if serves && self.fair {
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

    /// This happens to an agent.
    pub fn agent_input(&mut self, now: Time, process: &Process, input: &Input) {
        let register = Duty::Register(process.ip());
        match input {
            _ if process.old => {}
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
            Input::Message { from, name, .. } if process.leader.as_ref() == Some(from) => {
                if name == UpdateAgentOverlaysMessage::NAME {
                    self.answered.insert(process.ip());
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

    /// An agent sends something to its master.
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

    /// A master sends an agent something.
    pub fn master_sends(&mut self, process: &Process, ip: &str, name: &str) {
        if [
            UpdateAgentOverlaysMessage::NAME,
            RegistrationRefusedMessage::NAME,
        ]
        .contains(&name)
            && process.leads()
        {
            self.registering.remove(&(process.ip(), ip.to_owned()));
            self.deadlines.done(&Duty::Answer(ip.to_owned()));
        }
    }

    /// Nothing goes wrong from now on, or everything may.
    pub fn weather(&mut self, fair: bool) {
        self.fair = fair;
        self.deadlines.forget_master();
    }

    /// Another process leads, or none, or the one that does was started anew.
    pub fn leaderless(&mut self) {
        self.deadlines.forget_master();
        self.receivers.clear();
    }

    /// An agent cannot be told of its peers, or is none any more.
    pub fn is_told_no_more(&mut self, ip: &str) {
        self.receivers.remove(ip);
        self.deadlines.done(&Duty::Tell(ip.to_owned()));
        self.deadlines.done(&Duty::Acknowledge(ip.to_owned()));
    }

    /// What a master took to answer is out of its memory, or may be.
    fn answers_nobody(&mut self, master: &Process) {
        self.registering.retain(|(ip, _)| *ip != master.ip());
    }

    /// A process ended.
    pub fn ended(&mut self, process: &Process) {
        let ip = &process.ip();
        if process.is_master() {
            return self.answers_nobody(process);
        }
        self.deadlines.forget(ip);
        self.answered.remove(ip);
        self.receivers.remove(ip);
    }

    /// A message about peers leads an agent to what the log has.
    /// `known`: what its master knows of the log; `None`: nothing.
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
        if self.fair && self.receivers.contains(&ip) {
            self.deadlines
                .at_most(Duty::Acknowledge(ip), now + ACKNOWLEDGE);
        }
        Ok(())
    }

    /// Peers have changed in the log: whoever is told of them has to be told.
    pub fn peers_changed(&mut self, now: Time) {
        for ip in self.receivers.iter().filter(|_| self.fair) {
            self.deadlines.at_most(Duty::Tell(ip.clone()), now + TELL);
        }
    }
}
