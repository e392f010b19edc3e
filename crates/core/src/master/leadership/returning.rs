//! Agents that hold addresses and subnets of which the log has no record: it was lost, or is new, or
//! the agent was deleted.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Leadership, MasterParts};
use crate::allocation::allocator::Allocation;
use crate::master::held::held;
use crate::master::notices;
use crate::master::pending::Registration;
use crate::{Level, Time};

/// Time for which agents that hold nothing wait in a term that began with an empty log, if others
/// hold something. Agents register within seconds after a change of leader.
const PRECEDENCE: Duration = Duration::from_secs(3);

/// Precedence of agents that hold something.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReturningAgents {
    /// End of the precedence; `None`: the log was not empty.
    until: Option<Time>,
    /// An agent that holds something has registered.
    exist: bool,
}

impl ReturningAgents {
    /// Returns the precedence in a term that begins now with a log without agents.
    pub fn of_empty_log(now: Time) -> ReturningAgents {
        ReturningAgents {
            until: Some(now + PRECEDENCE),
            exist: false,
        }
    }

    /// Returns whether a registration has to wait for those of agents that hold something. `holds`
    /// says whether its agent does.
    fn delays(&mut self, now: Time, holds: bool) -> bool {
        self.exist |= holds;
        !holds && self.exist && self.until.is_some_and(|until| now < until)
    }
}

impl Leadership {
    /// Returns what an agent holds that its record lacks.
    ///
    /// # Errors
    /// Why the registration has to wait. The text continues a sentence.
    pub(super) fn held_by(
        &mut self,
        parts: &mut MasterParts<'_>,
        registration: &Registration,
    ) -> Result<Allocation, String> {
        let ip = registration.ip;
        let held = held(
            &registration.message,
            &registration.proof,
            &self.ledger.networks().network,
        );
        let present = self.ledger.allocation(ip);
        let now = parts.out.now();
        if present.is_none() && self.returning.delays(now, !held.is_empty()) {
            return Err(format!(
                "the replicated log is empty, and agents that hold subnets register first; this one is served in {} s \
                 at most",
                PRECEDENCE.as_secs()
            ));
        }
        let held = match present {
            Some(present) => held.lacking_in(present),
            None => held,
        };
        self.make_room_for(parts, ip, &held);
        Ok(held)
    }

    /// Frees the allocations of provisional agents that take what a confirmed agent holds: nobody
    /// knows whether there is such an agent.
    fn make_room_for(&mut self, parts: &mut MasterParts<'_>, ip: Ipv4Addr, held: &Allocation) {
        if held.is_empty() {
            return;
        }
        let shares = |other: &Ipv4Addr| {
            let allocation = self.ledger.allocation(*other);
            allocation.is_some_and(|allocation| allocation.shares_with(held))
        };
        let in_the_way: Vec<Ipv4Addr> = self.ledger.provisional().filter(shares).collect();
        for other in in_the_way.into_iter().filter(|other| *other != ip) {
            self.end_provisional(parts, other, &format!("agent {ip} holds it"));
        }
    }

    /// Tells agent and operator what became of ranges that the agent held without a record.
    pub(super) fn tell_held(&self, parts: &mut MasterParts<'_>, ip: Ipv4Addr, held: &Allocation) {
        // An agent whose lease ended gets another notice.
        if held.is_empty() || self.ledger.has_reclaimed(ip) {
            return;
        }
        let Some(now) = self.ledger.allocation(ip) else {
            return;
        };
        let kept = held.without(&held.without(now));
        if !kept.is_empty() {
            let line = format!("The log had no record that agent {ip} holds {kept}: it keeps that");
            parts.out.log(Level::Info, line);
        }
        if let Some(notice) = notices::not_given_back(&self.ledger, ip, held) {
            let line = format!("Agent {ip} gets this notice: {notice}");
            parts.out.log(Level::Warning, line);
            let at = parts.out.now();
            parts.sessions.set_last_error(ip, at, &notice);
            parts.sessions.set_notices(ip, vec![notice]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_nothing_waits_for_who_does_and_for_nobody_else() {
        let start = Time::default();
        let later = start + PRECEDENCE;
        let mut fresh = ReturningAgents::of_empty_log(start);
        assert!(
            !fresh.delays(start, false),
            "a new cluster waits for nothing"
        );
        assert!(!fresh.delays(start, true));
        assert!(fresh.delays(start, false));
        assert!(!fresh.delays(later, false));
        let mut known = ReturningAgents::default();
        assert!(!known.delays(start, true) && !known.delays(start, false));
    }
}
