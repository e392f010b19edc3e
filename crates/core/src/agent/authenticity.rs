//! Messages to the master, and which of those in its name are its own.

use bytes::Bytes;

use super::Agent;
use super::session::{Answer, Held, Received, Trust, Verdict};
use crate::proto::internal::{RegistrationChallengeMessage, RegistrationRefusedMessage};
use crate::protocol::messages::Named;
use crate::{Level, Upid};

impl Agent {
    /// Sends a message to the leading master as part of the session.
    pub(super) fn send_to_master<M: Named>(&mut self, message: &M) {
        let Some(master) = self.registration.master() else {
            return;
        };
        let body = Bytes::from(message.encode_to_vec());
        let authentication = &self.config.authentication;
        if let Some(session) = self.session.seal(authentication, M::NAME, &body) {
            self.out.send_sealed(master, M::NAME, body, session);
        }
    }

    /// Returns whether to handle a message of the leading master's pid now. Otherwise it was
    /// dropped, or is held.
    pub(super) fn is_masters<M: Named>(&mut self, from: &Upid, message: &M, body: Bytes) -> bool {
        let received = Received {
            name: M::NAME,
            body: &body,
            field: message.session(),
        };
        let authentication = &self.config.authentication;
        match self.session.judge(authentication, &received) {
            Verdict::Believe => {}
            Verdict::Doubt(why) => self.out.warn("unauthenticated", || {
                let name = M::NAME;
                format!("Accepted {name} from {from} since auth_mode is \"warn\", but {why}")
            }),
            Verdict::Hold => {
                self.hold(from, M::NAME, body);
                return false;
            }
            Verdict::Drop(why) => {
                self.drop_unbelieved(from, M::NAME, why);
                return false;
            }
        }
        self.tell_trust(from);
        true
    }

    /// Logs whether the master confirms, once it is known, and drops what was held in its name
    /// if it does.
    fn tell_trust(&mut self, master: &Upid) {
        if self.session.trust() == Trust::Confirmed {
            let held = self.session.take_held();
            self.count_dropped(&held);
            if !held.is_empty() {
                let count = held.len();
                self.out.warn("held", || {
                    format!(
                        "Dropped {count} messages from {master} that had arrived without the \
                         secret of the session: it has confirmed the session"
                    )
                });
            }
        }
        let line = match self.session.news() {
            Some(Trust::Confirmed) => {
                let key = self.session.key();
                let key = key.map_or(String::new(), |id| format!(" with key {id}"));
                format!(
                    "The overlay master {master} has confirmed the session{key}; only messages \
                     of the session count from now on"
                )
            }
            Some(Trust::Legacy) => format!(
                "The overlay master {master} is of an earlier release: it does not confirm the \
                 session, and others can send messages in its name"
            ),
            Some(Trust::Unconfirmed) | None => return,
        };
        self.out.log(Level::Info, line);
    }

    fn drop_unbelieved(&mut self, from: &Upid, name: &'static str, why: &'static str) {
        self.out.counters.count_dropped(name);
        self.out
            .warn(why, || format!("Dropped {name} from {from}: {why}"));
        // The master may have lost this agent's session. Anybody can have sent the refusal, so
        // that it has no other effect.
        if name == RegistrationRefusedMessage::NAME && self.registration.can_be_early() {
            let now = self.out.now();
            let at = self.session.early_registration(now);
            if at <= now {
                self.register();
            } else {
                self.registration.hasten(at);
            }
        }
    }

    /// Holds a message until it is known whether the master confirms.
    fn hold(&mut self, from: &Upid, name: &'static str, body: Bytes) {
        if !self.session.hold(self.out.now(), Held { name, body }) {
            self.out.counters.count_dropped(name);
            self.out.warn("overfull", || {
                format!("Dropped {name} from {from}: too many messages wait for a confirmation")
            });
        }
    }

    /// Handles the held messages, since the master has not confirmed meanwhile.
    pub(super) fn take_held_messages(&mut self) {
        let Some(master) = self.registration.master().cloned() else {
            return;
        };
        let (held, is_overfull) = self.session.release();
        self.tell_trust(&master);
        for Held { name, body } in held {
            self.dispatch(&master, name, body);
        }
        if is_overfull {
            // The master sends again what could not be held.
            self.register();
        }
    }

    /// Registers again with the token of a challenge.
    pub(super) fn handle_challenge(&mut self, message: RegistrationChallengeMessage) {
        let answer = if self.registration.awaits_list {
            self.session.take_challenge(&message)
        } else {
            Err("no registration waits for an answer")
        };
        match answer {
            Ok(answer) => {
                self.registration.on_challenged();
                if answer == Answer::Now {
                    self.register();
                }
            }
            Err(why) => {
                let name = RegistrationChallengeMessage::NAME;
                self.out.counters.count_dropped(name);
                let master = self.registration.master();
                self.out.warn("challenge", || {
                    let master = master.map(Upid::to_string).unwrap_or_default();
                    format!("Dropped {name} from {master}: {why}")
                });
            }
        }
    }

    /// Counts messages that were held and are dropped.
    pub(super) fn count_dropped(&mut self, held: &[Held]) {
        for message in held {
            self.out.counters.count_dropped(message.name);
        }
    }

    /// Returns how the leading master is authenticated, for the endpoint.
    pub(super) fn master_authentication(&self) -> Option<String> {
        self.registration.master()?;
        Some(match (self.session.key(), self.session.trust()) {
            (Some(id), _) => format!("key {id}"),
            (None, Trust::Confirmed) => "confirmed".to_owned(),
            (None, Trust::Unconfirmed | Trust::Legacy) => "none".to_owned(),
        })
    }
}
