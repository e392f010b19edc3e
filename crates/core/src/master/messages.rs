//! Messages of agents.

use std::net::Ipv4Addr;

use super::address::agent_address;
use super::challenges::{Admission, Unconfirmed};
use super::confirmed::{Examined, Received, SILENCE, SenderProof, second_agent};
use super::held::claims_anything;
use super::pending::Registration;
use super::{Master, Phase, admission};
use crate::config::authentication::Confirmation;
use crate::proto::internal::{
    AgentRegisteredMessage, PeersReceivedMessage, RegisterAgentMessage, RegistrationRefusedMessage,
};
use crate::protocol::limits;
use crate::protocol::messages::Named;
use crate::util::line::one_line;
use crate::{Effect, Io, Upid};

/// Longest name of an unknown message that is logged, in characters.
const MAX_NAME: usize = 100;

impl Master {
    pub(super) fn handle_message(&mut self, from: Upid, name: &str, body: &[u8]) {
        match name {
            RegisterAgentMessage::NAME => {
                self.out.counters.registers.received += 1;
                if let Some(message) = self.decode(&from, body) {
                    self.handle_registration(from, message, body);
                }
            }
            AgentRegisteredMessage::NAME => {
                self.out.counters.reports.received += 1;
                if let Some((message, proof)) = self.receive(&from, body) {
                    self.handle_report(&from, message, &proof);
                }
            }
            PeersReceivedMessage::NAME => {
                if let Some((message, proof)) = self.receive(&from, body) {
                    self.handle_peers_received(&from, &message, &proof);
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

    /// Decodes a message of an agent that has registered, and examines its sender.
    fn receive<M: Named>(&mut self, from: &Upid, body: &[u8]) -> Option<(M, SenderProof)> {
        let message: M = self.decode(from, body)?;
        let ip = agent_address(from)?;
        let received = Received {
            from,
            name: M::NAME,
            body,
            session: message.session(),
        };
        let examined = self.confirmed.examine(self.out.now(), ip, &received);
        let believed = examined.and_then(|proof| match proof {
            SenderProof::None => self.check_legacy(ip).map(|()| proof),
            _ => Ok(proof),
        });
        match believed {
            Ok(proof) => {
                self.note_sender(ip, from, &proof);
                Some((message, proof))
            }
            Err(reason) => {
                self.drop_forged::<M>(from, &reason);
                None
            }
        }
    }

    /// Checks whether a message outside of a session can be from the agent at `ip`.
    ///
    /// # Errors
    /// Why it cannot. The text continues a sentence about the message.
    fn check_legacy(&self, ip: Ipv4Addr) -> Result<(), String> {
        match self.confirmed.authentication().confirmation {
            Confirmation::Optional => Ok(()),
            Confirmation::Always => Err("it is not part of a session, which agent_confirmation \
                                         \"always\" of the master's configuration demands"
                .to_owned()),
            // A process that is there has not gone back to an earlier release.
            Confirmation::Once if self.is_present(ip) => Err(format!(
                "it is not part of the session with agent {ip}, which has confirmed its registration"
            )),
            Confirmation::Once => Ok(()),
        }
    }

    /// Returns whether the process that has confirmed at this address is there, as far as is
    /// known.
    fn is_present(&self, ip: Ipv4Addr) -> bool {
        let Some(seen) = self.confirmed.last_seen(ip) else {
            return false;
        };
        match self.sessions.get(ip) {
            Some(session) => session.is_connected,
            None => self.out.now().since(seen) < SILENCE,
        }
    }

    /// Drops a message that its sender does not prove to be from.
    fn drop_forged<M: Named>(&mut self, from: &Upid, reason: &str) {
        self.out.counters.dropped(M::NAME, 1);
        self.out.warn("forged", || {
            format!("Dropped {} from {from}: {reason}", M::NAME)
        });
    }

    /// Records a contact with an agent whose message is believed, and warns if it is not
    /// authenticated while keys are being distributed.
    fn note_sender(&mut self, ip: Ipv4Addr, from: &Upid, proof: &SenderProof) {
        let is_on_trial = *proof == SenderProof::None
            && self
                .leadership()
                .is_some_and(|(leadership, parts)| leadership.is_on_trial(&parts, ip));
        if self.is_known(ip) && !is_on_trial {
            self.sessions.record_contact(ip, self.out.now());
        }
        let has_keys = self.confirmed.authentication().active_keys().is_some();
        if has_keys && !matches!(proof, SenderProof::Key(_)) {
            self.out.warn("unauthenticated", || {
                format!(
                    "Messages of {from} have no valid message authentication code; auth_mode \
                     \"require\" would drop them"
                )
            });
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
        limits::decode::<M>(body)
            .inspect_err(|error| {
                self.out.warn("malformed", || {
                    format!("{from} sent a malformed {}; dropped: {error}", M::NAME)
                });
            })
            .ok()
    }

    fn handle_registration(&mut self, from: Upid, message: RegisterAgentMessage, body: &[u8]) {
        let ip = match admission::check_sender(&from, &self.me) {
            Ok(ip) => ip,
            Err(reason) => return self.drop_registration(&from, &reason),
        };
        if !self.config.agent_addresses.admit(ip) {
            // Without an answer: whoever sends it names any address.
            let reason = "its address is not within agent_addresses of the master's configuration";
            return self.drop_registration(&from, reason);
        }
        if let Some(reason) = self.why_taken(ip) {
            return self.drop_registration(&from, &reason);
        }
        self.warn_of_own_address(ip);
        let received = Received {
            from: &from,
            name: RegisterAgentMessage::NAME,
            body,
            session: message.session(),
        };
        let now = self.out.now();
        let nonce = message.nonce.as_deref();
        let holds = claims_anything(&message);
        match self
            .confirmed
            .examine_registration(now, ip, &received, nonce, holds)
        {
            Err(reason) => self.drop_forged::<RegisterAgentMessage>(&from, &reason),
            Ok(Examined::Unconfirmed(registration)) => self.admit(ip, from, registration),
            Ok(Examined::Confirmed(proof)) => {
                self.challenges.finish(&from);
                self.accept_registration(ip, from, message, proof);
            }
            Ok(Examined::Second(first)) => {
                self.challenges.finish(&from);
                self.refuse_second(&from, &first);
            }
            Ok(Examined::Legacy) => match self.check_legacy(ip) {
                Ok(()) => {
                    // If the process at this address is still there, it gets another challenge.
                    self.confirmed.forget(ip);
                    self.warn_of_two_agents(ip, &from);
                    self.accept_registration(ip, from, message, SenderProof::None);
                }
                Err(reason) => self.drop_forged::<RegisterAgentMessage>(&from, &reason),
            },
        }
    }

    /// Warns if an agent of an earlier release registers with the address of another process that
    /// is connected. It may have started again, so it is served.
    fn warn_of_two_agents(&mut self, ip: Ipv4Addr, from: &Upid) {
        let session = self.sessions.get(ip);
        let other = session.filter(|session| session.is_connected && *session.pid != *from);
        if let Some(pid) = other.map(|session| session.pid.clone()) {
            self.out.warn("second agent", || {
                format!(
                    "{from} registers with the address of {pid}, which is connected: if both are agents, they hold \
                     the same subnets; run one agent on each host"
                )
            });
        }
    }

    /// Refuses the second of two agents at one address: they would share subnets, VTEP and bridges.
    fn refuse_second(&mut self, second: &Upid, first: &Upid) {
        self.out.counters.registers.dropped += 1;
        let reason = second_agent(second, first);
        self.out.warn("second agent", || {
            format!("Refused a registration. {reason}")
        });
        let refusal = RegistrationRefusedMessage {
            reason,
            session: None,
        };
        self.out.send(second, &refusal);
    }

    fn accept_registration(
        &mut self,
        ip: Ipv4Addr,
        from: Upid,
        message: RegisterAgentMessage,
        proof: SenderProof,
    ) {
        self.note_sender(ip, &from, &proof);
        self.register(Registration::new(ip, from, message, proof));
    }

    // Challenges.

    /// Sends a challenge to a process that has not confirmed, or keeps its registration until
    /// there is room for one more.
    fn admit(&mut self, ip: Ipv4Addr, pid: Upid, registration: Unconfirmed) {
        if self.confirmed.contains(&pid) {
            return self.challenge(&pid, registration);
        }
        let is_known = self.is_known(ip);
        let may_send = !matches!(self.phase, Phase::Standby);
        let now = self.out.now();
        match self
            .challenges
            .admit(now, &pid, is_known, may_send, registration)
        {
            Admission::Challenge => self.challenge(&pid, registration),
            Admission::Wait => {}
            Admission::Drop => {
                let reason = "too many registrations are not confirmed";
                self.drop_forged::<RegisterAgentMessage>(&pid, reason);
            }
        }
    }

    fn challenge(&mut self, pid: &Upid, registration: Unconfirmed) {
        let now = self.out.now();
        let Unconfirmed { nonce, sequence } = registration;
        let is_connected = self
            .sessions
            .find(pid)
            .is_some_and(|(_, session)| session.is_connected);
        let is_silent = |contact| now.since(contact) > SILENCE;
        let is_dead = agent_address(pid)
            .is_some_and(|ip| is_connected && is_silent(self.sessions.last_contact(ip)));
        if !is_connected || is_dead {
            self.out.push(Effect::Io(Io::Link {
                to: pid.clone(),
                reconnect: is_dead,
            }));
        }
        let challenge = self.confirmed.challenge(now, pid, &nonce, sequence);
        self.out.push(challenge);
    }

    /// Sends the challenges that had to wait, and ends those that expired.
    pub(super) fn send_challenges(&mut self) {
        let now = self.out.now();
        let (count, example) = self.challenges.expire(now);
        self.out.counters.registers.dropped += count;
        if let Some(example) = example {
            self.out.warn("challenges expired", || {
                format!(
                    "Dropped registrations that waited for their confirmation: {count}, among them \
                     that of {example}"
                )
            });
        }
        if matches!(self.phase, Phase::Standby) {
            return;
        }
        while let Some((pid, registration)) = self.challenges.next(now, &mut self.random) {
            self.challenge(&pid, registration);
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

    fn handle_report(&mut self, from: &Upid, message: AgentRegisteredMessage, proof: &SenderProof) {
        if let Some((leadership, mut parts)) = self.leadership() {
            leadership.handle_report(&mut parts, from, message, proof);
        } else {
            self.out.counters.reports.dropped += 1;
            self.out.warn("not serving", || {
                format!("{from} reports its overlays while this master does not serve; dropped")
            });
        }
    }

    fn handle_peers_received(
        &mut self,
        from: &Upid,
        message: &PeersReceivedMessage,
        proof: &SenderProof,
    ) {
        let Some((leadership, mut parts)) = self.leadership() else {
            return;
        };
        let is_receiver = parts.sessions.find(from).is_some_and(|(ip, _)| {
            leadership
                .peers()
                .handle_received(parts.out, ip, message.version)
        });
        let ip = agent_address(from).filter(|_| is_receiver && *proof == SenderProof::None);
        if let Some(ip) = ip {
            leadership.handle_legacy_position(&mut parts, ip, &message.version);
        }
        if !is_receiver {
            parts.out.warn("no receiver", || {
                format!("{from} acknowledges peers that it was not sent; dropped")
            });
        }
    }

    pub(super) fn handle_exited(&mut self, pid: &Upid) {
        self.challenges.finish(pid);
        self.confirmed.handle_exited(pid);
        let Some((ip, session)) = self.sessions.find(pid) else {
            return;
        };
        let was_connected = session.is_connected && !session.is_unproven;
        session.disconnect(self.out.now());
        if was_connected {
            self.sessions.record_contact(ip, self.out.now());
        }
        if let Some((leadership, _)) = self.leadership() {
            leadership.peers().unsubscribe(ip);
        }
    }
}
