//! Messages of agents.

use super::pending::Registration;
use super::{Master, Phase, admission, sessions};
use crate::Upid;
use crate::proto::internal::{
    AgentRegisteredMessage, PeersReceivedMessage, RegisterAgentMessage, RegistrationRefusedMessage,
};
use crate::protocol::messages::Named;
use crate::util::line::one_line;

/// Longest name of an unknown message that is logged, in characters.
const MAX_NAME: usize = 100;

impl Master {
    pub(super) fn handle_message(&mut self, from: Upid, name: &str, body: &[u8]) {
        if let Some(ip) = sessions::agent_address(&from).filter(|ip| self.is_known(*ip)) {
            self.sessions.record_contact(ip, self.out.now());
        }
        match name {
            RegisterAgentMessage::NAME => {
                self.out.counters.registers.received += 1;
                if let Some(message) = self.decode(&from, body) {
                    self.handle_registration(from, message);
                }
            }
            AgentRegisteredMessage::NAME => {
                self.out.counters.reports.received += 1;
                if let Some(message) = self.decode(&from, body) {
                    self.handle_report(&from, message);
                }
            }
            PeersReceivedMessage::NAME => {
                if let Some(message) = self.decode(&from, body) {
                    self.handle_peers_received(&from, &message);
                }
            }
            _ => {
                let name = one_line(name, MAX_NAME);
                self.out.warn("unknown message", || {
                    format!("{from} sent a message of the unknown type \"{name}\"; dropped")
                });
            }
        }
    }

    fn decode<M: Named>(&mut self, from: &Upid, body: &[u8]) -> Option<M> {
        let message = self.try_decode(from, body);
        if message.is_none() {
            self.out.counters.dropped(M::NAME, 1);
        }
        message
    }

    fn try_decode<M: Named>(&mut self, from: &Upid, body: &[u8]) -> Option<M> {
        // Each of these messages has a required field, so an empty one is malformed. Only the
        // report of an agent without overlays is empty.
        if body.is_empty() && M::NAME != AgentRegisteredMessage::NAME {
            self.out.warn("malformed", || {
                format!("{from} sent an empty {}; dropped", M::NAME)
            });
            return None;
        }
        M::decode(body)
            .inspect_err(|error| {
                self.out.warn("malformed", || {
                    format!("{from} sent a malformed {}; dropped: {error}", M::NAME)
                });
            })
            .ok()
    }

    fn handle_registration(&mut self, from: Upid, message: RegisterAgentMessage) {
        let ip = match admission::check_sender(&from, &self.me) {
            Ok(ip) => ip,
            Err(reason) => return self.drop_registration(&from, &reason),
        };
        if !self.config.agent_addresses.admit(ip) {
            self.refuse_address(&from);
            return;
        }
        self.register(Registration { ip, from, message });
    }

    /// Refuses the registration of an agent outside `agent_addresses`.
    fn refuse_address(&mut self, from: &Upid) {
        let reason = "the address is not within agent_addresses of the master's configuration";
        self.out.counters.registers.dropped += 1;
        self.out.warn("outside", || {
            format!("The registration of {from} is refused: {reason}")
        });
        if !matches!(self.phase, Phase::Standby) {
            let reason = reason.to_owned();
            self.out.send(
                from,
                &RegistrationRefusedMessage {
                    reason,
                    session: None,
                },
            );
        }
    }

    /// Serves a registration, or keeps it until the log is read.
    pub(super) fn register(&mut self, registration: Registration) {
        if let Some(reason) = self.why_taken(registration.ip) {
            return self.drop_registration(&registration.from, &reason);
        }
        if let Some((leadership, mut parts)) = self.leadership() {
            leadership.register(&mut parts, registration);
            return;
        }
        match &self.phase {
            Phase::Broken(sentence) => {
                self.out.counters.registers.dropped += 1;
                self.out.warn("broken", || {
                    format!(
                        "The registration of {} is dropped: {sentence}",
                        registration.from
                    )
                });
            }
            _ => self.pending.add(&mut self.out, registration),
        }
    }

    fn handle_report(&mut self, from: &Upid, message: AgentRegisteredMessage) {
        if let Some((leadership, mut parts)) = self.leadership() {
            leadership.handle_report(&mut parts, from, message);
        } else {
            self.out.counters.reports.dropped += 1;
            self.out.warn("not serving", || {
                format!("{from} reports its overlays while this master does not serve; dropped")
            });
        }
    }

    fn handle_peers_received(&mut self, from: &Upid, message: &PeersReceivedMessage) {
        let Some((leadership, parts)) = self.leadership() else {
            return;
        };
        let is_receiver = parts.sessions.find(from).is_some_and(|(ip, _)| {
            leadership
                .peers()
                .handle_received(parts.out, ip, message.version)
        });
        if !is_receiver {
            parts.out.warn("no receiver", || {
                format!("{from} acknowledges peers that it was not sent; dropped")
            });
        }
    }

    pub(super) fn handle_exited(&mut self, pid: &Upid) {
        let Some((ip, session)) = self.sessions.find(pid) else {
            return;
        };
        let was_connected = session.is_connected;
        session.disconnect(self.out.now());
        if was_connected {
            self.sessions.record_contact(ip, self.out.now());
        }
        if let Some((leadership, _)) = self.leadership() {
            leadership.peers().unsubscribe(ip);
        }
    }
}
