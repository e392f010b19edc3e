//! Agents that hold addresses and subnets of which the log has no record: it was lost, or is new.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Leadership, MasterParts};
use crate::allocation::allocator::Allocation;
use crate::master::confirmed::SenderProof;
use crate::master::held::held;
use crate::master::notices;
use crate::master::pending::Registration;
use crate::{Level, Time};

/// Time for which agents that hold nothing wait in a term that began with an empty log, if others
/// hold something. Agents register within seconds after a change of leader.
const PRECEDENCE: Duration = Duration::from_secs(5);

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
    fn delays(&mut self, now: Time, proof: &SenderProof, holds: bool) -> bool {
        self.exist |= holds;
        // Anybody may have sent a registration without a proof, also in a new cluster.
        let gives_way = self.exist || *proof == SenderProof::None;
        !holds && gives_way && self.until.is_some_and(|until| now < until)
    }
}

impl Leadership {
    /// Returns what an agent holds that its record lacks.
    ///
    /// # Errors
    /// Why the registration has to wait. The text continues a sentence.
    pub(super) fn held_by(
        &mut self,
        parts: &MasterParts<'_>,
        registration: &Registration,
    ) -> Result<Allocation, String> {
        let (ip, proof) = (registration.ip, &registration.proof);
        let held = held(registration, &self.ledger.networks().network);
        let present = self.ledger.allocation(ip);
        let now = parts.out.now();
        if present.is_none() && self.returning.delays(now, proof, !held.is_empty()) {
            return Err(format!(
                "the replicated log is empty, and agents that hold subnets register first; this one is served in {} s \
                 at most",
                PRECEDENCE.as_secs()
            ));
        }
        Ok(match present {
            Some(present) => held.lacking_in(present),
            None => held,
        })
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
            let line =
                format!("The log had no record of agent {ip}, which holds {kept}: it keeps that");
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
        let (proven, unproven) = (&SenderProof::Token, &SenderProof::None);
        let mut fresh = ReturningAgents::of_empty_log(start);
        assert!(
            !fresh.delays(start, proven, false),
            "a new cluster waits for nothing"
        );
        assert!(fresh.delays(start, unproven, false));
        assert!(!fresh.delays(start, proven, true));
        assert!(fresh.delays(start, proven, false));
        assert!(!fresh.delays(later, proven, false));
        assert!(!fresh.delays(later, unproven, false));
        let mut known = ReturningAgents::default();
        assert!(!known.delays(start, proven, true) && !known.delays(start, unproven, false));
    }
}
