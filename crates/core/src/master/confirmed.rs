//! The agents' processes that have confirmed a registration, and the authentication of messages
//! from and to them.
//!
//! They are independent of leadership: a session lasts as long as both processes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;

use super::address::agent_address;
use super::challenges::Unconfirmed;
use crate::config::authentication::{AuthMode, Authentication};
use crate::proto::internal::{RegistrationChallengeMessage, Session as Field};
use crate::protocol::messages::Named;
use crate::protocol::session::replay::ReplayWindow;
use crate::protocol::session::secrets::{Issue, Nonce, Token, TokenIssuer, equal};
use crate::protocol::session::{BodyDigest, Envelope, seal, verify};
use crate::{Effect, Io, Seed, Time, Upid};

/// Time without a message of an agent after which the connection to it may be dead. A settled
/// agent registers every 75 s at least.
pub const SILENCE: Duration = Duration::from_secs(80);

/// Time in which an agent has to return the token of a challenge. Agents return it at once.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// The processes that have confirmed, by the agent's address, and what is needed to recognise
/// them.
#[derive(Debug)]
pub struct ConfirmedAgents {
    me: Upid,
    authentication: Authentication,
    tokens: TokenIssuer,
    agents: BTreeMap<Ipv4Addr, ConfirmedAgent>,
    /// The latest processes that have confirmed while another one at the same address was there.
    /// They are not served.
    others: BTreeMap<Ipv4Addr, ConfirmedAgent>,
    /// The latest body that was authenticated, which often goes to many agents.
    digested: Option<(Bytes, BodyDigest)>,
}

/// A process that has confirmed.
#[derive(Debug)]
struct ConfirmedAgent {
    pid: Upid,
    nonce: Nonce,
    token: Token,
    /// Number of the token.
    issue: Issue,
    /// Id of the key that its messages are authenticated with.
    key: Option<String>,
    /// Number of messages sent in the session.
    sent: u64,
    received: ReplayWindow,
    /// Time of its latest message.
    seen: Time,
    /// True if the connection to it broke since.
    is_gone: bool,
    /// True if its latest registration says that it holds an address or a subnet.
    holds: bool,
}

/// The way in which the sender of a message is authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SenderProof {
    /// Not at all: anybody may have sent the message.
    #[default]
    None,
    /// It has the secret that was sent to the agent's address.
    Token,
    /// It has that secret, and a code by the key with this id.
    Key(String),
}

impl std::fmt::Display for SenderProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SenderProof::None => f.write_str("none"),
            SenderProof::Token => f.write_str("confirmed"),
            SenderProof::Key(id) => write!(f, "key {id}"),
        }
    }
}

/// A received message, as far as its authentication is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Sender that the message names.
    pub from: &'a Upid,
    /// Name of the message's type.
    pub name: &'a str,
    /// Serialized message.
    pub body: &'a [u8],
    /// Field `session` of the message.
    pub session: Option<&'a Field>,
}

/// Result of the examination of a registration.
#[derive(Debug)]
pub enum Examined {
    /// The agent's process has confirmed.
    Confirmed(SenderProof),
    /// The agent needs a challenge, since it has no valid token.
    Unconfirmed(Unconfirmed),
    /// The agent's process has confirmed, while this other one is there at the same address.
    Second(Upid),
    /// The agent is of an earlier release and takes no challenge.
    Legacy,
}

/// Returns the sentence about the second of two agents at one address.
pub fn second_agent(second: &Upid, first: &Upid) -> String {
    format!(
        "{second} has the same address as {first}, which is registered and there: both would hold the same subnets, \
         so the second one gets none; run one agent on each host, or give each the --ip of a host (network \
         namespace) of its own."
    )
}

impl ConfirmedAgents {
    /// Creates an empty map for the master `me`.
    pub fn new(me: Upid, authentication: Authentication, seed: &Seed) -> ConfirmedAgents {
        ConfirmedAgents {
            me,
            authentication,
            tokens: TokenIssuer::new(seed),
            agents: BTreeMap::new(),
            others: BTreeMap::new(),
            digested: None,
        }
    }

    /// Returns the process of this master.
    pub fn me(&self) -> &Upid {
        &self.me
    }

    /// Returns the issuer of tokens and other secrets of this master.
    pub fn tokens(&self) -> &TokenIssuer {
        &self.tokens
    }

    /// Returns the settings.
    pub fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Returns whether this very process has confirmed.
    pub fn contains(&self, pid: &Upid) -> bool {
        let agent = agent_address(pid).and_then(|ip| self.agents.get(&ip));
        agent.is_some_and(|agent| agent.pid == *pid)
    }

    /// Returns when the process that has confirmed at this address sent its latest message.
    pub fn last_seen(&self, ip: Ipv4Addr) -> Option<Time> {
        self.agents.get(&ip).map(|agent| agent.seen)
    }

    /// Forgets the process at this address: it may be one of an earlier release from now on.
    pub fn forget(&mut self, ip: Ipv4Addr) {
        self.agents.remove(&ip);
    }

    /// Notes that the connection to a process broke.
    pub fn handle_exited(&mut self, pid: &Upid) {
        let Some(ip) = agent_address(pid) else { return };
        if let Some(agent) = self.agents.get_mut(&ip).filter(|agent| agent.pid == *pid) {
            agent.is_gone = true;
        }
        if self.others.get(&ip).is_some_and(|other| other.pid == *pid) {
            self.others.remove(&ip);
        }
    }

    /// Returns the agents at addresses that belong to other agents, each with the other one: both
    /// are there.
    pub fn second_agents(&self, now: Time) -> impl Iterator<Item = (&Upid, &Upid)> {
        self.others.iter().filter_map(move |(ip, second)| {
            let first = self.agents.get(ip).filter(|first| first.is_there(now))?;
            let is_second = second.is_there(now) && first.pid != second.pid;
            is_second.then_some((&second.pid, &first.pid))
        })
    }

    /// Examines a registration, and begins the session of a process that has confirmed. `holds`: it
    /// says that its agent holds an address or a subnet. Of two agents at one address, the one that
    /// does is served: the other one may have been the first to find a new leader.
    ///
    /// # Errors
    /// Why the message is not believed. The text continues a sentence about the message.
    pub fn examine_registration(
        &mut self,
        now: Time,
        ip: Ipv4Addr,
        received: &Received<'_>,
        nonce: Option<&[u8]>,
        holds: bool,
    ) -> Result<Examined, String> {
        let Some(nonce) = nonce else {
            self.authenticate(received, None, None)?;
            return Ok(Examined::Legacy);
        };
        let nonce = Nonce::read(nonce).ok_or("its nonce has a wrong length")?;
        let secret = received
            .session
            .and_then(|session| session.secret.as_deref());
        let token = secret.and_then(Token::read);
        let key = self.authenticate(received, Some(&nonce), token.as_ref())?;
        let issue = token.and_then(|token| self.tokens.check(&token, received.from, &nonce));
        let unconfirmed = Examined::Unconfirmed(Unconfirmed {
            nonce,
            sequence: received.session.map_or(0, Field::sequence),
        });
        let (Some(token), Some(issue)) = (token, issue) else {
            return Ok(unconfirmed);
        };
        let first = self.first_agent(now, ip, received.from, holds);
        let processes = match first {
            None => &mut self.agents,
            Some(_) => &mut self.others,
        };
        match processes.get_mut(&ip) {
            Some(agent) if agent.issue == issue => {
                agent.register(received, key.as_deref(), now, holds)?
            }
            // A later token was issued to a later process or session.
            Some(agent) if agent.issue > issue => return Ok(unconfirmed),
            _ => {
                let new = ConfirmedAgent {
                    pid: received.from.clone(),
                    nonce,
                    token,
                    issue,
                    key: key.clone(),
                    sent: 0,
                    received: ReplayWindow::default(),
                    seen: now,
                    is_gone: false,
                    holds,
                };
                let Some(mut agent) = self.begin(now, ip, new) else {
                    return Ok(unconfirmed);
                };
                agent.register(received, key.as_deref(), now, holds)?;
                match first {
                    None => self.agents.insert(ip, agent),
                    Some(_) => self.others.insert(ip, agent),
                };
            }
        }
        Ok(match first {
            None => Examined::Confirmed(proof(key)),
            Some(first) => Examined::Second(first),
        })
    }

    /// Returns the pid of the other agent at this address that is served, if there is one. `holds`:
    /// the agent `pid` says that it holds an address or a subnet.
    fn first_agent(&self, now: Time, ip: Ipv4Addr, pid: &Upid, holds: bool) -> Option<Upid> {
        let first = self.agents.get(&ip)?;
        let is_other = first.pid != *pid && first.is_there(now);
        (is_other && (first.holds || !holds)).then(|| first.pid.clone())
    }

    /// Returns the agent whose session begins: the second one of two at its address, which may be
    /// the only one from now on, or else `new`. `None`: the token of `new` has expired.
    fn begin(&mut self, now: Time, ip: Ipv4Addr, new: ConfirmedAgent) -> Option<ConfirmedAgent> {
        let second = self.others.remove(&ip);
        if let Some(second) = second.filter(|second| second.issue == new.issue) {
            return Some(second);
        }
        (now.since(new.issue.time()) <= TOKEN_LIFETIME).then_some(new)
    }

    /// Examines a message of an agent that has registered.
    ///
    /// # Errors
    /// Why the message is not believed. The text continues a sentence about the message.
    pub fn examine(
        &mut self,
        now: Time,
        ip: Ipv4Addr,
        received: &Received<'_>,
    ) -> Result<SenderProof, String> {
        let Some(agent) = self.agents.get(&ip) else {
            self.authenticate(received, None, None)?;
            return Ok(SenderProof::None);
        };
        let secret = received
            .session
            .and_then(|session| session.secret.as_deref());
        let is_from_session = agent.pid == *received.from
            && secret.is_some_and(|secret| equal(secret, agent.token.as_bytes()));
        if !is_from_session {
            return Err(format!(
                "it has not the token of the session with {}, which has confirmed its \
                 registration",
                agent.pid
            ));
        }
        let (nonce, token) = (agent.nonce, agent.token);
        let key = self.authenticate(received, Some(&nonce), Some(&token))?;
        let Some(agent) = self.agents.get_mut(&ip) else {
            return Ok(SenderProof::None);
        };
        agent.check_key(key.as_deref())?;
        agent.check_sequence(received, key.is_some())?;
        agent.see(now);
        Ok(proof(key))
    }

    /// Returns the id of the key that a message is authenticated with, if it is.
    fn authenticate(
        &self,
        received: &Received<'_>,
        nonce: Option<&Nonce>,
        token: Option<&Token>,
    ) -> Result<Option<String>, String> {
        let Some(keys) = self.authentication.active_keys() else {
            return Ok(None);
        };
        let envelope = Envelope {
            sender: received.from,
            receiver: &self.me,
            name: received.name,
            nonce,
            token,
        };
        match verify(&envelope, keys, received.body, received.session) {
            Ok(key) => Ok(Some(key.id.clone())),
            Err(reason) if self.authentication.mode == AuthMode::Require => Err(reason.to_owned()),
            Err(_) => Ok(None),
        }
    }

    /// Returns the effect that sends a challenge, the answer to the registration `answers`.
    pub fn challenge(&mut self, now: Time, to: &Upid, nonce: &Nonce, answers: u64) -> Effect {
        let token = self.tokens.issue(now, to, nonce);
        let message = RegistrationChallengeMessage {
            token: Bytes::copy_from_slice(token.as_bytes()),
            answers,
            session: None,
        };
        let body = Bytes::from(prost::Message::encode_to_vec(&message));
        let envelope = Envelope {
            sender: &self.me,
            receiver: to,
            name: RegistrationChallengeMessage::NAME,
            nonce: Some(nonce),
            token: None,
        };
        let keys = self.authentication.active_keys();
        let signature = keys.map(|keys| (keys, BodyDigest::of(&body)));
        let session = seal(&envelope, Some(nonce.as_bytes()), 1, signature);
        Effect::Io(Io::Send {
            to: to.clone(),
            name: RegistrationChallengeMessage::NAME,
            body,
            session,
        })
    }

    /// Adds the session to a message that is about to be sent, if its receiver has one.
    pub fn seal(&mut self, effect: &mut Effect) {
        let Effect::Io(Io::Send {
            to,
            name,
            body,
            session,
        }) = effect
        else {
            return;
        };
        let Some(ip) = agent_address(to) else { return };
        let processes = [self.agents.get_mut(&ip), self.others.get_mut(&ip)];
        let mut processes = processes.into_iter().flatten();
        let Some(agent) = processes.find(|agent| agent.pid == *to && session.is_empty()) else {
            return;
        };
        agent.sent += 1;
        let envelope = Envelope {
            sender: &self.me,
            receiver: to,
            name,
            nonce: Some(&agent.nonce),
            token: Some(&agent.token),
        };
        let keys = self.authentication.active_keys();
        let signature = keys.map(|keys| (keys, digest(&mut self.digested, body)));
        *session = seal(
            &envelope,
            Some(agent.nonce.as_bytes()),
            agent.sent,
            signature,
        );
    }
}

/// Returns the digest of a body, from `latest` if that is the same one.
fn digest(latest: &mut Option<(Bytes, BodyDigest)>, body: &Bytes) -> BodyDigest {
    // The body is kept alive, so its address belongs to nothing else.
    let is_same = |known: &Bytes| (known.as_ptr(), known.len()) == (body.as_ptr(), body.len());
    match latest {
        Some((known, digest)) if is_same(known) => *digest,
        _ => {
            let digest = BodyDigest::of(body);
            *latest = Some((body.clone(), digest));
            digest
        }
    }
}

fn proof(key: Option<String>) -> SenderProof {
    key.map_or(SenderProof::Token, SenderProof::Key)
}

impl ConfirmedAgent {
    /// Records a message of the process.
    fn see(&mut self, now: Time) {
        self.seen = now;
        self.is_gone = false;
    }

    /// Returns whether the process is there, as far as is known.
    fn is_there(&self, now: Time) -> bool {
        !self.is_gone && now.since(self.seen) < SILENCE
    }

    /// Takes a registration of the session. `key`: name of the key that authenticates it.
    ///
    /// # Errors
    /// The message is a repetition, or lacks a code. The text continues a sentence about it.
    fn register(
        &mut self,
        received: &Received<'_>,
        key: Option<&str>,
        now: Time,
        holds: bool,
    ) -> Result<(), String> {
        self.check_sequence(received, key.is_some())?;
        self.check_key(key)?;
        self.see(now);
        self.holds = holds;
        Ok(())
    }

    /// Refuses a message without a code if the session began with one.
    fn check_key(&mut self, key: Option<&str>) -> Result<(), String> {
        match (&self.key, key) {
            (Some(_), None) => Err(
                "it has no valid message authentication code, unlike the registration before"
                    .to_owned(),
            ),
            (_, key) => {
                self.key = key.map(str::to_owned);
                Ok(())
            }
        }
    }

    /// Refuses a message with a code that arrives again.
    fn check_sequence(
        &mut self,
        received: &Received<'_>,
        is_authenticated: bool,
    ) -> Result<(), String> {
        let sequence = received.session.map_or(0, Field::sequence);
        if is_authenticated && !self.received.accept(sequence) {
            return Err(format!(
                "its sequence number {sequence} was used before: it is a repetition"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
