//! The agent's session with the leading overlay master, and which messages are the master's.
//!
//! The sender of a message proves nothing. A message with the nonce that the agent sent to the
//! leader is the leader's. Masters of earlier releases know no nonce: a message without one is
//! held for a while, and taken only if no message with the nonce arrives meanwhile. A master that
//! has sent the nonce once must go on.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::config::authentication::{AuthMode, Authentication, Confirmation};
use crate::proto::internal::{RegistrationChallengeMessage, Session as Field};
use crate::protocol::messages::Named;
use crate::protocol::session::replay::ReplayWindow;
use crate::protocol::session::secrets::{Nonce, NonceSource, Seed, Token, equal};
use crate::protocol::session::{BodyDigest, Envelope, seal, verify};
use crate::{Time, Upid};

/// Time for which messages without a session are held.
const HOLD: Duration = Duration::from_secs(2);

/// Time for which they are held if another master has confirmed: the cluster is being upgraded, or
/// was.
const LONG_HOLD: Duration = Duration::from_secs(10);

/// Bounds of the held messages: number, and bytes of their bodies.
const MAX_HELD: usize = 16;
const MAX_HELD_BYTES: usize = 8 << 20;

/// Number of masters that are remembered. A cluster has fewer.
const MAX_MASTERS: usize = 64;

/// Least time between two early registrations.
const EARLY: Duration = Duration::from_secs(5);

/// Confirmation by the leading master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trust {
    /// No message of the master has arrived.
    #[default]
    Unconfirmed,
    /// The master knows the nonce.
    Confirmed,
    /// The master is of an earlier release and knows no nonce.
    Legacy,
}

/// Treatment of a message in the leading master's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The message is the master's.
    Believe,
    /// The message is taken although it has no valid code, for this reason.
    Doubt(&'static str),
    /// The message is the master's if that is of an earlier release.
    Hold,
    /// The message is not known to be the master's, for this reason.
    Drop(&'static str),
}

/// Time of the registration that answers a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Register at once.
    Now,
    /// Register when the timer expires: the challenge answers a registration that answered
    /// another one.
    Later,
}

/// A received message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a> {
    pub name: &'static str,
    /// The whole message.
    pub body: &'a Bytes,
    /// Field `session` of the message.
    pub field: Option<&'a Field>,
}

/// A message that waits for its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub name: &'static str,
    pub body: Bytes,
}

/// The latest registration.
#[derive(Clone, Copy, Debug)]
struct Latest {
    sequence: u64,
    /// The registration answered a challenge.
    answers_challenge: bool,
    /// A challenge has answered it.
    is_challenged: bool,
}

/// The session with the leading master. It begins with a new leader, and outlives connections.
#[derive(Debug)]
pub(super) struct Session {
    me: Upid,
    nonces: NonceSource,
    /// Masters that have confirmed, the latest last.
    confirmed: VecDeque<Upid>,
    /// Time of the latest early registration, or of the next one.
    early: Option<Time>,
    master: Option<Upid>,
    nonce: Nonce,
    token: Option<Token>,
    /// Sequence number of the latest message sent.
    sent: u64,
    /// Sequence numbers of the messages that were authenticated.
    received: ReplayWindow,
    latest: Option<Latest>,
    /// The next registration answers a challenge.
    is_challenged: bool,
    /// Id of the key that authenticated the master.
    key: Option<String>,
    trust: Trust,
    /// Confirmation of the master that was logged last.
    told: Trust,
    held: Vec<Held>,
    /// Time at which the held messages are taken; `None`: none is held.
    release: Option<Time>,
    /// A message could not be held.
    is_overfull: bool,
}

impl Session {
    pub fn new(me: Upid, seed: &Seed) -> Session {
        let mut nonces = NonceSource::new(seed);
        Session {
            me,
            nonce: nonces.draw(),
            nonces,
            confirmed: VecDeque::new(),
            early: None,
            master: None,
            token: None,
            sent: 0,
            received: ReplayWindow::default(),
            latest: None,
            is_challenged: false,
            key: None,
            trust: Trust::Unconfirmed,
            told: Trust::Unconfirmed,
            held: Vec::new(),
            release: None,
            is_overfull: false,
        }
    }

    /// Begins a session with this leader, also if it led before: what arrived in between was
    /// dropped unread, and must not be taken when it arrives again. Returns the messages that were
    /// held and are dropped.
    pub fn set_master(&mut self, master: &Upid) -> Vec<Held> {
        let held = self.on_connection_broken();
        self.master = Some(master.clone());
        self.nonce = self.nonces.draw();
        self.token = None;
        self.sent = 0;
        self.received = ReplayWindow::default();
        self.latest = None;
        self.is_challenged = false;
        self.trust = Trust::Unconfirmed;
        self.told = Trust::Unconfirmed;
        held
    }

    /// Handles the end of the connection: another process may run at the master's address, which
    /// can be of another release only if the master has not confirmed. Returns the messages that
    /// were held and are dropped.
    pub fn on_connection_broken(&mut self) -> Vec<Held> {
        self.key = None;
        if self.trust == Trust::Legacy {
            self.trust = Trust::Unconfirmed;
        }
        self.take_held()
    }

    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Returns the id of the key that authenticated the master.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the secret that registrations tell the master.
    pub fn nonce(&self) -> Bytes {
        Bytes::copy_from_slice(self.nonce.as_bytes())
    }

    /// Returns the field `session` of the next message to the master.
    pub fn seal(
        &mut self,
        authentication: &Authentication,
        name: &str,
        body: &Bytes,
    ) -> Option<Bytes> {
        let envelope = Envelope {
            sender: &self.me,
            receiver: self.master.as_ref()?,
            name,
            nonce: Some(&self.nonce),
            token: self.token.as_ref(),
        };
        self.sent += 1;
        let secret = self.token.as_ref().map(Token::as_bytes);
        let keys = authentication.active_keys();
        let signature = keys.map(|keys| (keys, BodyDigest::of(body)));
        Some(seal(&envelope, secret, self.sent, signature))
    }

    /// Records that the message sealed last was a registration.
    pub fn on_register_sent(&mut self) {
        self.latest = Some(Latest {
            sequence: self.sent,
            answers_challenge: std::mem::take(&mut self.is_challenged),
            is_challenged: false,
        });
    }

    /// Takes the token of a challenge that is the master's.
    ///
    /// # Errors
    /// Why the token is not taken.
    pub fn take_challenge(
        &mut self,
        challenge: &RegistrationChallengeMessage,
    ) -> Result<Answer, &'static str> {
        let token = Token::read(&challenge.token).ok_or("its token has not 24 bytes")?;
        let latest = self.latest.as_mut();
        let latest = latest
            .filter(|latest| latest.sequence == challenge.answers && !latest.is_challenged)
            .ok_or("it answers another registration than the latest one")?;
        latest.is_challenged = true;
        self.token = Some(token);
        // The master's numbers start again with its token.
        self.received = ReplayWindow::default();
        if latest.answers_challenge {
            return Ok(Answer::Later);
        }
        self.is_challenged = true;
        Ok(Answer::Now)
    }

    /// Decides about a message of the leading master's pid.
    pub fn judge(&mut self, authentication: &Authentication, message: &Received<'_>) -> Verdict {
        let secret = message.field.and_then(|field| field.secret.as_ref());
        match secret {
            Some(secret) if equal(secret, self.nonce.as_bytes()) => {
                self.judge_own(authentication, message)
            }
            Some(_) => Verdict::Drop("it has the secret of another session"),
            None => self.judge_other(authentication, message),
        }
    }

    /// Decides about a message with the nonce.
    fn judge_own(&mut self, authentication: &Authentication, message: &Received<'_>) -> Verdict {
        let is_lenient = authentication.mode == AuthMode::Warn && self.key.is_none();
        let verdict = match self.authenticate(authentication, message) {
            Ok(()) => Verdict::Believe,
            Err(why) if is_lenient => Verdict::Doubt(why),
            Err(why) => return Verdict::Drop(why),
        };
        self.trust = Trust::Confirmed;
        self.remember_master();
        verdict
    }

    /// Checks the code of a message with the nonce, and that it did not arrive before.
    fn authenticate(
        &mut self,
        authentication: &Authentication,
        message: &Received<'_>,
    ) -> Result<(), &'static str> {
        let Some(keys) = authentication.active_keys() else {
            return match authentication.mode {
                AuthMode::Require => Err("there is no key to authenticate it with"),
                AuthMode::Off | AuthMode::Warn => Ok(()),
            };
        };
        let is_challenge = message.name == RegistrationChallengeMessage::NAME;
        let envelope = Envelope {
            sender: self.master.as_ref().ok_or("no master leads")?,
            receiver: &self.me,
            name: message.name,
            nonce: Some(&self.nonce),
            token: self.token.as_ref().filter(|_| !is_challenge),
        };
        let key = verify(&envelope, keys, message.body, message.field)?;
        // A challenge has no number of the session that it offers; it counts once anyway.
        let number = message.field.map_or(0, Field::sequence);
        if !is_challenge && !self.received.accept(number) {
            return Err("it arrived before");
        }
        if self.key.as_ref() != Some(&key.id) {
            self.key = Some(key.id.clone());
        }
        Ok(())
    }

    /// Decides about a message without a secret.
    fn judge_other(&self, authentication: &Authentication, message: &Received<'_>) -> Verdict {
        if message.name == RegistrationChallengeMessage::NAME {
            return Verdict::Drop("it is without the secret of the session");
        }
        if authentication.mode == AuthMode::Require {
            return Verdict::Drop(
                "it is not authenticated, which auth_mode \"require\" demands; give the master \
                 an auth_key_file",
            );
        }
        if authentication.confirmation == Confirmation::Always {
            return Verdict::Drop(
                "it is without the secret of the session, which master_confirmation \"always\" \
                 demands; upgrade the master, or write \"once\"",
            );
        }
        if self.has_confirmed() {
            return Verdict::Drop(
                "it is without the secret of the session, and this master has confirmed one; if \
                 the master went back to an earlier release, restart the Mesos agent",
            );
        }
        match self.trust {
            Trust::Legacy if authentication.mode == AuthMode::Warn => {
                Verdict::Doubt("it is not authenticated")
            }
            Trust::Legacy => Verdict::Believe,
            Trust::Unconfirmed | Trust::Confirmed => Verdict::Hold,
        }
    }

    /// Returns whether the master has confirmed in this process, be it in an earlier session.
    fn has_confirmed(&self) -> bool {
        self.trust == Trust::Confirmed || self.master.iter().any(|m| self.confirmed.contains(m))
    }

    /// Remembers that the master has confirmed.
    fn remember_master(&mut self) {
        let Some(master) = &self.master else { return };
        if self.confirmed.back() == Some(master) {
            return;
        }
        self.confirmed.retain(|known| known != master);
        self.confirmed.push_back(master.clone());
        if self.confirmed.len() > MAX_MASTERS {
            self.confirmed.pop_front();
        }
    }

    /// Holds a message. Returns `false` if there are too many.
    pub fn hold(&mut self, now: Time, message: Held) -> bool {
        if self.release.is_none() {
            let hold = if self.confirmed.is_empty() {
                HOLD
            } else {
                LONG_HOLD
            };
            self.release = Some(now + hold);
        }
        let bytes: usize = self.held.iter().map(|held| held.body.len()).sum();
        if self.held.len() >= MAX_HELD || bytes + message.body.len() > MAX_HELD_BYTES {
            self.is_overfull = true;
            return false;
        }
        self.held.push(message);
        true
    }

    /// Returns when the held messages are taken.
    pub fn release_at(&self) -> Option<Time> {
        self.release
    }

    /// Returns the held messages: they are the master's, which is of an earlier release. The
    /// flag tells that more had arrived.
    pub fn release(&mut self) -> (Vec<Held>, bool) {
        self.trust = Trust::Legacy;
        let is_overfull = self.is_overfull;
        (self.take_held(), is_overfull)
    }

    /// Returns the held messages, which are not held any more.
    pub fn take_held(&mut self) -> Vec<Held> {
        self.release = None;
        self.is_overfull = false;
        std::mem::take(&mut self.held)
    }

    /// Returns when the agent may register early, because of a message that anybody can have
    /// sent.
    pub fn early_registration(&mut self, now: Time) -> Time {
        let at = match self.early {
            // One is planned already.
            Some(next) if next > now => next,
            Some(last) => now.max(last + EARLY),
            None => now,
        };
        self.early = Some(at);
        at
    }

    /// Returns what is known of the master, if that has changed since the last call.
    pub fn news(&mut self) -> Option<Trust> {
        let is_news = self.trust != Trust::Unconfirmed && self.told != self.trust;
        is_news.then(|| {
            self.told = self.trust;
            self.trust
        })
    }
}

#[cfg(test)]
mod tests;
