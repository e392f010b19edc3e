//! Checks of what a message of the adversary causes.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::proto::internal::{RegisterAgentMessage, RegistrationChallengeMessage};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Upid};

use crate::adversary::Origin;
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

    /// Checks an effect: a forged message changes nothing.
    pub fn effect(&self, process: &Process, effect: &Effect) -> Result<(), String> {
        let Some((from, name)) = &self.message else {
            return Ok(());
        };
        let is_registration = process.is_master() && name == RegisterAgentMessage::NAME;
        let is_harmless = match effect {
            Effect::Log(..) => true,
            Effect::Io(Io::Send { to, name, .. }) if to == from => {
                is_registration
                    && (*name == RegistrationChallengeMessage::NAME || !self.is_ours(from))
            }
            Effect::Io(Io::Link { to, .. }) => is_registration && to == from,
            // A provisional allocation of an agent of an earlier release; see `log`.
            Effect::Io(Io::Store { .. }) => is_registration && !self.is_ours(from),
            _ => false,
        };
        match is_harmless {
            true => Ok(()),
            false => Err(format!(
                "obeys {name:?}, which is forged in the name of {from}: {effect:?}"
            )),
        }
    }

    /// Returns whether an agent at this address exists.
    fn is_ours(&self, pid: &Upid) -> bool {
        self.registered.contains(&pid.address.ip().to_string())
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
        let is_other = |ip: &&String| !self.registered.contains(*ip);
        let mut others = stored.agents.keys().filter(is_other);
        if let Some(ip) = others.clone().find(|ip| !stored.provisional.contains(*ip)) {
            return Err(format!("stores {ip}, which never registered"));
        }
        match others.by_ref().count() {
            0..=PROVISIONAL => Ok(()),
            many => Err(format!("stores {many} agents that never registered")),
        }
    }
}
