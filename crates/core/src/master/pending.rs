//! Registrations that arrived before the master can serve them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::confirmed::SenderProof;
use super::counters::Outbox;
use super::held::claims_anything;
use crate::proto::internal::RegisterAgentMessage;
use crate::util::line::one_line;
use crate::{Time, Upid};

/// Time for which a standby master keeps registrations, because it may be elected soon. Agents
/// register again sooner.
const KEEP: Duration = Duration::from_secs(15);

/// Number of registrations that are kept; the largest clusters have fewer agents.
const LIMIT: usize = 65_536;

/// Longest release of an agent that is kept, in characters.
const MAX_RELEASE: usize = 32;

/// A registration and its sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// The agent's address.
    pub ip: Ipv4Addr,
    /// The agent's pid.
    pub from: Upid,
    /// The message.
    pub message: RegisterAgentMessage,
    /// The authentication of its sender.
    pub proof: SenderProof,
}

impl Registration {
    /// Creates a registration with what is heeded of a message. The rest could take tens of
    /// kilobytes for each address that somebody makes up.
    pub fn new(
        ip: Ipv4Addr,
        from: Upid,
        mut message: RegisterAgentMessage,
        proof: SenderProof,
    ) -> Registration {
        (message.nonce, message.session) = (None, None);
        let release = message.release.as_deref();
        message.release = release.map(|release| one_line(release, MAX_RELEASE).into_owned());
        if proof == SenderProof::None {
            (message.vtep_ip, message.vtep_ip6) = (None, None);
            message.holds = Vec::new();
        }
        Registration {
            ip,
            from,
            message,
            proof,
        }
    }

    /// Returns whether the agent says that it holds an address or a subnet, and can be believed to
    /// be at its address.
    pub fn claims_anything(&self) -> bool {
        self.proof != SenderProof::None && claims_anything(&self.message)
    }
}

/// The latest registration of each agent.
#[derive(Debug, Default)]
pub struct PendingRegistrations {
    registrations: BTreeMap<Ipv4Addr, Pending>,
    /// No registration arrived before this time; `None` if there are none.
    oldest: Option<Time>,
}

#[derive(Debug)]
struct Pending {
    since: Time,
    registration: Registration,
}

impl PendingRegistrations {
    /// Adds a registration. It replaces an earlier one of the same agent.
    pub fn add(&mut self, out: &mut Outbox, registration: Registration) {
        let is_known = self.registrations.contains_key(&registration.ip);
        if self.registrations.len() >= LIMIT && !is_known {
            out.counters.registers.dropped += 1;
            out.warn("registrations wait", || {
                format!(
                    "{LIMIT} registrations wait already; that of {} is dropped",
                    registration.from
                )
            });
            return;
        }
        let since = out.now();
        self.oldest.get_or_insert(since);
        let pending = Pending {
            since,
            registration,
        };
        self.registrations.insert(pending.registration.ip, pending);
    }

    /// Takes all registrations, in the order of the agents' addresses.
    pub fn take(&mut self) -> impl Iterator<Item = Registration> + use<> {
        std::mem::take(self)
            .registrations
            .into_values()
            .map(|pending| pending.registration)
    }

    /// Returns when the first registration expires, or an earlier time.
    pub fn due(&self) -> Option<Time> {
        self.oldest.map(|oldest| oldest + KEEP)
    }

    /// Drops the expired registrations; `reason` says why they could not be served.
    pub fn expire(&mut self, out: &mut Outbox, reason: &str) {
        let now = out.now();
        let (mut count, mut example) = (0, None);
        self.registrations.retain(|_, pending| {
            let keep = now < pending.since + KEEP;
            if !keep {
                count += 1;
                example.get_or_insert_with(|| pending.registration.from.clone());
            }
            keep
        });
        self.oldest = self
            .registrations
            .values()
            .map(|pending| pending.since)
            .min();
        out.counters.registers.dropped += count;
        if let Some(example) = example {
            out.warn("registrations expired", || {
                format!(
                    "Dropped registrations that waited for {} s: {count}, among them that of {example}. {reason}",
                    KEEP.as_secs()
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(pending: &mut PendingRegistrations, out: &mut Outbox, number: usize, port: u16) {
        let ip = Ipv4Addr::from(number as u32);
        let from = Upid::new("overlay-agent", (ip, port).into());
        let message = RegisterAgentMessage::default();
        pending.add(out, Registration::new(ip, from, message, SenderProof::None));
    }

    #[test]
    fn a_full_list_takes_the_newer_one_of_an_agent_that_waits_and_no_other() {
        let (mut pending, mut out) = (PendingRegistrations::default(), Outbox::default());
        (0..LIMIT).for_each(|number| add(&mut pending, &mut out, number, 1));
        assert_eq!(out.counters.registers.dropped, 0);
        add(&mut pending, &mut out, LIMIT, 1);
        assert_eq!(out.counters.registers.dropped, 1);
        add(&mut pending, &mut out, 7, 2);
        assert_eq!(out.counters.registers.dropped, 1);
        let all: Vec<_> = pending.take().collect();
        assert_eq!((all.len(), all[7].from.address.port()), (LIMIT, 2));
    }
}
