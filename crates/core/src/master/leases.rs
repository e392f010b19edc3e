//! Leases: when the allocation of a silent agent may be reclaimed.
//!
//! A lease begins anew with each contact and lasts for `agent_lease`. After that the agent's
//! allocation may be given to others, if they would get nothing otherwise or if the operator
//! requests it. The release and the new allocation are in the same write of the log.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::answers::PendingAnswers;
use super::ledger::Ledger;
use super::sessions::Sessions;
use super::writer::Writer;
use crate::Time;
use crate::util::line::list_first;

/// Largest number of agents that an answer about them names.
pub const MAX_NAMED: usize = 100;

/// The leases of all agents at one moment.
pub struct Leases<'a> {
    /// `agent_lease`; without it no lease ends.
    pub duration: Option<Duration>,
    /// The present time.
    pub now: Time,
    /// The contacts of the agents.
    pub sessions: &'a Sessions,
    /// The answers that wait for the next write.
    pub answers: &'a PendingAnswers,
    /// The writer, with the answers that wait for the write under way.
    pub writer: &'a Writer,
}

/// The reason for which an agent's lease has not ended.
#[derive(Debug, PartialEq, Eq)]
enum Active {
    /// The link to the agent is up.
    Connected,
    /// A registration of the agent waits for an answer.
    Registering,
    /// The latest contact was this long ago.
    Contact(Duration),
}

impl Leases<'_> {
    /// Returns the agents whose leases have ended, the longest silent ones first.
    pub fn ended(&self, agents: impl Iterator<Item = Ipv4Addr>) -> Vec<Ipv4Addr> {
        let Some(duration) = self.duration else {
            return Vec::new();
        };
        let mut ended: Vec<_> = agents
            .filter(|ip| self.active(*ip, duration).is_none())
            .map(|ip| (self.sessions.last_contact(ip), ip))
            .collect();
        ended.sort_unstable();
        ended.into_iter().map(|(_, ip)| ip).collect()
    }

    /// Returns whether the lease of an agent has ended.
    pub fn has_ended(&self, ip: Ipv4Addr) -> bool {
        self.ends_in(ip) == Some(Duration::ZERO)
    }

    /// Returns the time until the lease of an agent ends; zero: it has ended; `None`: it does not
    /// end, because there is no `agent_lease`, or while the agent is there.
    pub fn ends_in(&self, ip: Ipv4Addr) -> Option<Duration> {
        let duration = self.duration?;
        match self.active(ip, duration) {
            Some(Active::Connected | Active::Registering) => None,
            Some(Active::Contact(silence)) => Some(duration.saturating_sub(silence)),
            None => Some(Duration::ZERO),
        }
    }

    /// Returns why the lease of an agent has not ended, or `None` if it has.
    fn active(&self, ip: Ipv4Addr, duration: Duration) -> Option<Active> {
        let silence = self.now.since(self.sessions.last_contact(ip));
        if self.sessions.is_connected(ip) {
            Some(Active::Connected)
        } else if self.answers.registrations.contains_key(&ip) || self.writer.has_registration(ip) {
            Some(Active::Registering)
        } else {
            (silence < duration).then_some(Active::Contact(silence))
        }
    }

    /// Selects the agents to reclaim from: the named ones that have allocations, or all whose
    /// leases have ended.
    ///
    /// # Errors
    /// A sentence for the operator, if no lease ends or if one of the named agents' leases has
    /// not ended.
    pub fn select(
        &self,
        ledger: &Ledger,
        named: Option<&BTreeSet<Ipv4Addr>>,
    ) -> Result<Vec<Ipv4Addr>, String> {
        let Some(duration) = self.duration else {
            return Err(
                "Nothing was reclaimed: leases end only with agent_lease in the master's \
                 configuration. /overlay-master/agents/delete takes the subnets of agents that \
                 are gone for good."
                    .to_owned(),
            );
        };
        let Some(named) = named else {
            return Ok(self.ended(ledger.agents()));
        };
        let agents: Vec<_> = named
            .iter()
            .copied()
            .filter(|ip| ledger.allocation(*ip).is_some())
            .collect();
        let active: Vec<_> = agents
            .iter()
            .filter_map(|ip| {
                Some(match self.active(*ip, duration)? {
                    Active::Connected => format!("{ip} (connected)"),
                    Active::Registering => format!("{ip} (registering)"),
                    Active::Contact(ago) => {
                        format!("{ip} (last contact {} s ago)", ago.as_secs())
                    }
                })
            })
            .collect();
        if active.is_empty() {
            return Ok(agents);
        }
        Err(format!(
            "Nothing was reclaimed. Leases ({} s) that have not ended: {}.",
            duration.as_secs_f64(),
            list_first(&active, MAX_NAMED)
        ))
    }
}
