//! Agents' ends of sessions, for tests that write agents' messages by hand.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use overlay_core::metrics::Metric;
use overlay_core::proto::internal::{RegisterAgentMessage, RegistrationChallengeMessage};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::session::keys::Keys;
use overlay_core::protocol::session::secrets::{Nonce, NonceSource, Token};
use overlay_core::protocol::session::{BodyDigest, Envelope, join, seal};
use overlay_core::{Effect, Input, Io, Machine, Seed, Time, Upid};
use prost::Message;

/// Field `nonce` of a registration.
const NONCE: u32 = 102;

/// An agent's end of a session with a master.
#[derive(Clone, Debug)]
pub struct AgentSession {
    me: Upid,
    master: Upid,
    nonce: Nonce,
    token: Option<Token>,
    sequence: u64,
    keys: Option<Keys>,
}

impl AgentSession {
    /// Begins a session of `me` with a master. `number` determines the nonce.
    pub fn new(me: Upid, master: Upid, number: u64, keys: Option<Keys>) -> AgentSession {
        AgentSession {
            me,
            master,
            nonce: NonceSource::new(&Seed::from(number)).draw(),
            token: None,
            sequence: 0,
            keys,
        }
    }

    /// Returns the nonce.
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Returns a message as the agent sends it: with its session, and a registration with the
    /// nonce. `body` has neither.
    pub fn seal(&mut self, name: &str, body: &[u8]) -> Bytes {
        let mut body = body.to_vec();
        if name == RegisterAgentMessage::NAME {
            prost::encoding::bytes::encode(NONCE, &self.nonce.as_bytes().to_vec(), &mut body);
        }
        let body = Bytes::from(body);
        self.sequence += 1;
        let envelope = Envelope {
            sender: &self.me,
            receiver: &self.master,
            name,
            nonce: Some(&self.nonce),
            token: self.token.as_ref(),
        };
        let secret = self.token.as_ref().map(Token::as_bytes);
        let signature = self.keys.as_ref().map(|keys| (keys, BodyDigest::of(&body)));
        let session = seal(&envelope, secret, self.sequence, signature);
        join(&body, &session)
    }

    /// Takes the token of a challenge.
    pub fn take_token(&mut self, challenge: &[u8]) {
        let challenge = RegistrationChallengeMessage::decode(challenge);
        self.token = challenge.ok().and_then(|it| Token::read(&it.token));
    }
}

/// A master whose agents answer challenges by themselves: their messages go in as they are
/// without sessions, and challenges with the links for them do not come out.
#[derive(Debug)]
pub struct WithSessions<M> {
    /// The master.
    pub master: M,
    me: Upid,
    now: Time,
    agents: BTreeMap<Upid, AgentSession>,
    /// Latest registrations, without sessions.
    registrations: BTreeMap<Upid, Bytes>,
    effects: VecDeque<Effect>,
}

impl<M: Machine> WithSessions<M> {
    /// Wraps the master `me`.
    pub fn new(master: M, me: Upid) -> WithSessions<M> {
        WithSessions {
            master,
            me,
            now: Time::default(),
            agents: BTreeMap::new(),
            registrations: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    /// Begins new sessions: all agents' processes have started again.
    pub fn forget_sessions(&mut self) {
        self.agents.clear();
    }

    fn seal(&mut self, from: &Upid, name: &str, body: &[u8]) -> Bytes {
        let number = self.agents.len() as u64 + 1;
        let agent = self
            .agents
            .entry(from.clone())
            .or_insert_with(|| AgentSession::new(from.clone(), self.me.clone(), number, None));
        agent.seal(name, body)
    }

    /// Returns the receiver of a challenge, and the challenge, if it is for the session of this
    /// agent.
    fn challenged(&self, effect: &Effect) -> Option<(Upid, Bytes)> {
        let Effect::Io(Io::Send {
            to,
            name: RegistrationChallengeMessage::NAME,
            body,
            session,
        }) = effect
        else {
            return None;
        };
        let challenge = join(body, session);
        let decoded = RegistrationChallengeMessage::decode(challenge.clone()).ok()?;
        let secret = decoded.session?.secret?;
        let agent = self.agents.get(to)?;
        (agent.nonce.as_bytes() == &secret[..]).then(|| (to.clone(), challenge))
    }

    /// Takes the effects of the master, and answers challenges.
    fn settle(&mut self) {
        while let Some(effect) = self.master.poll_effect() {
            let Some((to, challenge)) = self.challenged(&effect) else {
                self.effects.push_back(effect);
                continue;
            };
            let is_link = matches!(
                self.effects.back(),
                Some(Effect::Io(Io::Link { to: linked, .. })) if *linked == to
            );
            if is_link {
                self.effects.pop_back();
            }
            if let Some(agent) = self.agents.get_mut(&to) {
                agent.take_token(&challenge);
            }
            if let Some(registration) = self.registrations.get(&to).cloned() {
                let body = self.seal(&to, RegisterAgentMessage::NAME, &registration);
                let input = Input::Message {
                    from: to,
                    name: RegisterAgentMessage::NAME.to_owned(),
                    body,
                };
                self.master.handle(self.now, input);
            }
        }
    }
}

impl<M: Machine> Machine for WithSessions<M> {
    fn handle(&mut self, now: Time, input: Input) {
        self.now = now;
        let input = match input {
            Input::Message { from, name, body } => {
                if name == RegisterAgentMessage::NAME {
                    self.registrations.insert(from.clone(), body.clone());
                }
                let body = self.seal(&from, &name, &body);
                Input::Message { from, name, body }
            }
            input => input,
        };
        self.master.handle(now, input);
        self.settle();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.settle();
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.master.poll_timeout()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.master.metrics()
    }
}
