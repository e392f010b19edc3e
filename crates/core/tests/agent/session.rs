//! The master's side of the session in a transcript.

use bytes::Bytes;
use overlay_core::Upid;
use overlay_core::proto::internal::{
    AgentRegisteredMessage, PeersReceivedMessage, RegisterAgentMessage,
    RegistrationChallengeMessage, Session as Field,
};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::session::keys::Keys;
use overlay_core::protocol::session::secrets::{Nonce, Token};
use overlay_core::protocol::session::{BodyDigest, Envelope, join, seal, verify};
use prost::Message;

/// How the master's messages are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Style {
    /// With the nonce of the agent and the key of the master.
    #[default]
    Sealed,
    /// Not at all, as by a master of an earlier release and by senders who know nothing.
    Legacy,
    /// With another nonce.
    Forged,
    /// With the nonce and no key.
    Unsigned,
    /// With the nonce and this key.
    Key(char),
}

/// What the master knows of the session.
pub struct Master {
    pub me: Upid,
    /// The key `A` to `Z` that it has.
    pub key: Option<char>,
    pub style: Style,
    nonces: Vec<Bytes>,
    /// The token that the agent uses.
    token: Option<Token>,
    tokens: u8,
    /// Sequence number of the latest message with this token.
    sequence: u64,
    /// Sequence number of the agent's latest registration.
    registration: u64,
    /// Whether the sessions of the agent's messages are shown.
    pub is_shown: bool,
}

impl Master {
    pub fn new() -> Master {
        Master {
            me: "overlay-master@10.0.0.1:5050".parse().unwrap(),
            key: None,
            style: Style::default(),
            nonces: Vec::new(),
            token: None,
            tokens: 0,
            sequence: 0,
            registration: 0,
            is_shown: false,
        }
    }

    fn nonce(&self) -> Option<Nonce> {
        Nonce::read(self.nonces.last()?)
    }

    /// Returns a challenge with a new token. `answers` is the number of a registration, by default
    /// the latest one.
    pub fn challenge(&mut self, answers: Option<&str>) -> RegistrationChallengeMessage {
        self.tokens += 1;
        RegistrationChallengeMessage {
            token: vec![self.tokens; 24].into(),
            answers: answers.map_or(self.registration, |answers| answers.parse().unwrap()),
            session: None,
        }
    }

    /// Returns a message to the agent with its session.
    pub fn seal(&mut self, to: &Upid, name: &str, body: &Bytes) -> Bytes {
        let (Some(nonce), true) = (self.nonce(), self.style != Style::Legacy) else {
            return body.clone();
        };
        self.sequence += 1;
        let is_challenge = name == RegistrationChallengeMessage::NAME;
        let envelope = Envelope {
            sender: &self.me,
            receiver: to,
            name,
            nonce: Some(&nonce),
            token: self.token.as_ref().filter(|_| !is_challenge),
        };
        let key = match self.style {
            Style::Key(key) => Some(key),
            Style::Unsigned => None,
            _ => self.key,
        };
        let keys = key.map(keys);
        let signature = keys.as_ref().map(|keys| (keys, BodyDigest::of(body)));
        let secret = match self.style {
            Style::Forged => &[0; 16],
            _ => nonce.as_bytes(),
        };
        join(
            body,
            &seal(&envelope, Some(secret), self.sequence, signature),
        )
    }

    /// Reads the session of a message of the agent. Returns its description, if that is part of
    /// the transcript.
    pub fn read(&mut self, from: &Upid, to: &Upid, name: &str, message: &Bytes) -> String {
        let field = match name {
            RegisterAgentMessage::NAME => {
                let message = RegisterAgentMessage::decode(&message[..]).unwrap();
                let nonce = message.nonce.unwrap();
                if self.nonces.last() != Some(&nonce) {
                    assert!(!self.nonces.contains(&nonce), "a nonce returned");
                    self.nonces.push(nonce);
                }
                self.registration = message.session.as_ref().unwrap().sequence();
                message.session
            }
            AgentRegisteredMessage::NAME => {
                AgentRegisteredMessage::decode(&message[..])
                    .unwrap()
                    .session
            }
            _ => PeersReceivedMessage::decode(&message[..]).unwrap().session,
        };
        let field = field.unwrap();
        let token = field.secret.as_deref().and_then(Token::read);
        if self.token != token {
            (self.token, self.sequence) = (token, 0);
        }
        if self.is_shown {
            self.describe(from, to, name, message, &field)
        } else {
            String::new()
        }
    }

    fn describe(
        &self,
        from: &Upid,
        to: &Upid,
        name: &str,
        message: &Bytes,
        field: &Field,
    ) -> String {
        let token = match &field.secret {
            Some(token) => format!("token {}", token[0]),
            None => "no token".to_owned(),
        };
        let nonce = self.nonce();
        let envelope = Envelope {
            sender: from,
            receiver: to,
            name,
            nonce: nonce.as_ref(),
            token: self.token.as_ref(),
        };
        let key = ('A'..='Z')
            .find(|key| verify(&envelope, &keys(*key), message, Some(field)).is_ok())
            .map(|key| format!(", key {key}"));
        assert_eq!(key.is_some(), field.mac.is_some(), "a wrong code");
        let (nonce, key) = (self.nonces.len(), key.unwrap_or_default());
        format!(" [nonce {nonce}, {token}, #{}{key}]", field.sequence())
    }
}

/// Returns the key `A` to `Z`.
pub fn keys(letter: char) -> Keys {
    let bytes: String = (0..32)
        .map(|n| format!("{:02x}", n ^ letter as u8))
        .collect();
    Keys::read(&bytes).unwrap()
}
