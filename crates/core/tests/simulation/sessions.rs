//! Sessions, as far as checks need them: which messages are part of one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use overlay_core::Upid;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, RegisterAgentMessage, RegistrationChallengeMessage, Session,
};
use overlay_core::protocol::messages::Named;
use prost::Message;

/// Secrets of all present processes.
#[derive(Default)]
pub struct Sessions {
    /// Tokens by master.
    tokens: BTreeSet<(Upid, Bytes)>,
    /// Nonce of each agent's latest registration.
    nonces: BTreeMap<Upid, Bytes>,
}

/// What a message of a master means to the agent that receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The message is part of the agent's present session.
    Present,
    /// The message is part of a former session.
    Former,
    /// The message is of a master of an earlier release. The agent may hold or drop it.
    None,
}

/// Returns the session of any message. Processes of earlier releases send none.
fn session(body: &Bytes) -> Option<Session> {
    // A message of which that is the only field.
    AgentRegisteredAcknowledgement::decode(body.clone())
        .ok()?
        .session
}

impl Sessions {
    /// Records the token of a challenge, or the nonce of a registration.
    pub fn sends(&mut self, from: &Upid, name: &str, body: &Bytes) {
        if name == RegistrationChallengeMessage::NAME {
            let challenge = RegistrationChallengeMessage::decode(body.clone());
            let token = challenge.expect("a master encodes well").token;
            self.tokens.insert((from.clone(), token));
        } else if name == RegisterAgentMessage::NAME {
            let registration = RegisterAgentMessage::decode(body.clone());
            match registration.expect("an agent encodes well").nonce {
                Some(nonce) => self.nonces.insert(from.clone(), nonce),
                None => self.nonces.remove(from),
            };
        }
    }

    /// Forgets the secrets of a process that ended.
    pub fn ended(&mut self, process: &Upid) {
        self.tokens.retain(|(master, _)| master != process);
        self.nonces.remove(process);
    }

    /// Returns what a message means to an agent.
    pub fn standing(&self, agent: &Upid, body: &Bytes) -> Standing {
        match session(body).and_then(|session| session.secret) {
            None => Standing::None,
            secret if secret.as_ref() == self.nonces.get(agent) => Standing::Present,
            Some(_) => Standing::Former,
        }
    }

    /// Returns whether a message to a master prolongs the lease of its sender: it has a token of
    /// this master, or the sender is of an earlier release.
    pub fn is_contact(&self, master: &Upid, body: &Bytes) -> bool {
        match session(body) {
            None => true,
            Some(session) => session
                .secret
                .is_some_and(|secret| self.tokens.contains(&(master.clone(), secret))),
        }
    }
}
