//! Checks of what a message of the adversary causes.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::proto::internal::{
    RegisterAgentMessage, RegistrationChallengeMessage, RegistrationRefusedMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Upid};

use crate::adversary::Origin;
use crate::authentication;
use crate::checker::Stored;
use crate::cluster::Process;

/// Largest number of provisional allocations, which agents of earlier releases get until they
/// show that they receive answers.
const PROVISIONAL: usize = 64;

/// Largest number of links of a master to processes that do not exist: those with challenges,
/// and those with provisional allocations.
const LINKS: usize = 256 + PROVISIONAL;

/// Checks of what the adversary causes.
#[derive(Default)]
pub struct ForgeryChecker {
    /// Sender and name of the forged message that is being handled.
    message: Option<(Upid, String)>,
    /// Addresses of agents that have registered with a master.
    registered: BTreeSet<String>,
    /// Agents whose confirmation operators have taken back.
    pub taken_back: BTreeSet<String>,
    /// Links to processes that do not exist, by master.
    links: BTreeMap<Upid, BTreeSet<Upid>>,
}

impl ForgeryChecker {
    /// Records a message of the adversary.
    pub fn begin(&mut self, origin: Origin, message: &Input) {
        self.message = match message {
            Input::Message { from, name, .. } if origin == Origin::Forged => {
                Some((from.clone(), name.clone()))
            }
            _ => None,
        };
    }

    /// Records an input that is not forged.
    pub fn input(&mut self, process: &Process, input: &Input) {
        self.message = None;
        match input {
            Input::Message { from, name, .. }
                if process.is_master() && name == RegisterAgentMessage::NAME =>
            {
                self.registered.insert(from.address.ip().to_string());
            }
            Input::Exited(pid) => {
                let links = self.links.get_mut(&process.upid);
                links.map(|links| links.remove(pid));
            }
            _ => {}
        }
    }

    /// Checks an effect: a forged message changes nothing. `log` is the value of the log.
    pub fn effect(
        &self,
        process: &Process,
        log: Option<&Stored>,
        effect: &Effect,
    ) -> Result<(), String> {
        let Some((from, name)) = &self.message else {
            return Ok(());
        };
        let is_harmless = match effect {
            Effect::Log(..) => true,
            _ if process.is_master() => {
                let ip = from.address.ip().to_string();
                // Until a write ends, the master may know that the agent is deleted.
                let is_confirmed = log.is_some_and(|log| log.confirmed.contains(&ip))
                    && process.storing.is_none()
                    && !self.taken_back.contains(&ip);
                let is_strict = authentication::is_strict(process);
                is_harmless_to_master(is_confirmed, is_strict, from, name, effect)
            }
            _ => is_harmless_to_agent(name, effect),
        };
        match is_harmless {
            true => Ok(()),
            false => Err(format!(
                "obeys {name:?}, which is forged in the name of {from}: {effect:?}"
            )),
        }
    }

    /// Returns whether the present input is a message of the adversary.
    pub fn is_forged(&self) -> bool {
        self.message.is_some()
    }

    /// Returns whether a master is linked to a process that does not exist.
    pub fn is_nobody(&self, master: &Process, pid: &Upid) -> bool {
        let links = self.links.get(&master.upid);
        links.is_some_and(|links| links.contains(pid))
    }

    /// Records a link of a master to a process that does not exist.
    pub fn link(&mut self, master: &Upid, to: &Upid) -> Result<(), String> {
        let links = self.links.entry(master.clone()).or_default();
        links.insert(to.clone());
        match links.len() {
            0..=LINKS => Ok(()),
            many => Err(format!("has {many} links to processes that do not exist")),
        }
    }

    /// Forgets the links of a process that ended.
    pub fn ended(&mut self, process: &Process) {
        self.links.remove(&process.upid);
    }

    /// Checks that the log has only agents that registered, and few others provisionally.
    pub fn log(&self, stored: &Stored) -> Result<(), String> {
        let mut others = stored
            .agents
            .keys()
            .filter(|ip| !stored.provisional.contains(*ip));
        if let Some(ip) = others.find(|ip| !self.registered.contains(*ip)) {
            return Err(format!("stores {ip}, which never registered"));
        }
        match stored.provisional.len() {
            0..=PROVISIONAL => Ok(()),
            many => Err(format!("stores {many} provisional agents")),
        }
    }
}

/// Returns whether a master may do this because of a forged message: nothing but answer a
/// registration, where it is sent to. An agent of an earlier release, of which nothing is known,
/// is served provisionally; see [`ForgeryChecker::log`]. One that has confirmed and is not there may
/// have gone back to an earlier release, so it is sent what it has.
fn is_harmless_to_master(
    is_confirmed: bool,
    is_strict: bool,
    from: &Upid,
    name: &str,
    effect: &Effect,
) -> bool {
    let is_protected = is_strict || is_confirmed;
    let is_registration = name == RegisterAgentMessage::NAME;
    match effect {
        Effect::Io(Io::Send { to, .. }) if to != from => false,
        Effect::Io(Io::Send { name, .. }) => {
            let is_challenge = *name == RegistrationChallengeMessage::NAME;
            let is_list =
                [UpdateAgentOverlaysMessage::NAME, UpdatePeersMessage::NAME].contains(name);
            is_registration && is_challenge || !is_strict && is_list || !is_protected
        }
        Effect::Io(Io::Link { to, .. }) => is_registration && to == from,
        Effect::Io(Io::Store { .. }) => is_registration && !is_protected,
        _ => false,
    }
}

/// Returns whether an agent may do this because of a forged message: register again if it seems
/// that the master forgot it, which says nothing new.
fn is_harmless_to_agent(name: &str, effect: &Effect) -> bool {
    let is_refusal = name == RegistrationRefusedMessage::NAME;
    match effect {
        Effect::Io(Io::Send { name, .. }) => is_refusal && *name == RegisterAgentMessage::NAME,
        Effect::Io(Io::Link { .. }) => is_refusal,
        _ => false,
    }
}
