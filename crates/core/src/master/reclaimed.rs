//! What agents held whose leases ended, so that one that comes back gets what is
//! still free of it, and is told of the rest.
//!
//! Nothing here is anybody's: what is free is the allocator's word alone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;

use super::record::put;
use crate::allocation::allocator::Allocation;

/// Field number in the stored `State`.
const STATE_FORMER: u32 = 101;

/// How many agents are remembered, those whose leases ended last. All of it is written
/// with each write of the log.
const LIMIT: usize = 1000;

/// All of them.
#[derive(Debug, Default)]
pub struct ReclaimedAllocations {
    agents: BTreeMap<Ipv4Addr, FormerAgent>,
    /// In the order in which their leases ended.
    order: BTreeMap<u64, Ipv4Addr>,
    next: u64,
}

#[derive(Debug)]
struct FormerAgent {
    order: u64,
    allocation: Allocation,
    /// What the log has of it: an encoded `AgentInfo`.
    stored: Bytes,
}

impl ReclaimedAllocations {
    /// An agent's lease ended; it held this, which the log has as `stored`. The one that is
    /// remembered for longest may be forgotten for it.
    pub fn add(&mut self, ip: Ipv4Addr, allocation: Allocation, stored: Bytes) {
        self.remove(ip);
        self.agents.insert(
            ip,
            FormerAgent {
                order: self.next,
                allocation,
                stored,
            },
        );
        self.order.insert(self.next, ip);
        self.next += 1;
        while self.agents.len() > LIMIT {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.agents.remove(&oldest);
        }
    }

    /// What this agent held.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Allocation> {
        self.agents.get(&ip).map(|agent| &agent.allocation)
    }

    /// Forgets an agent; what it held.
    pub fn remove(&mut self, ip: Ipv4Addr) -> Option<Allocation> {
        let agent = self.agents.remove(&ip)?;
        self.order.remove(&agent.order);
        Some(agent.allocation)
    }

    /// Puts all of them into an encoded `State`.
    pub fn encode(&self, state: &mut Vec<u8>) {
        for agent in self.order.values().filter_map(|ip| self.agents.get(ip)) {
            put(STATE_FORMER, &agent.stored, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;
    use prost::Message;

    fn ip(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + n)
    }

    fn add(former: &mut ReclaimedAllocations, n: u32) {
        let info = proto::AgentInfo {
            ip: ip(n).to_string(),
            ..Default::default()
        };
        former.add(ip(n), Allocation::default(), info.encode_to_vec().into());
    }

    fn stored(former: &ReclaimedAllocations) -> Vec<String> {
        let mut state = Vec::new();
        former.encode(&mut state);
        let state = proto::State::decode(state.as_slice()).unwrap();
        state.former.into_iter().map(|agent| agent.ip).collect()
    }

    #[test]
    fn the_longest_gone_are_forgotten_first() {
        let mut former = ReclaimedAllocations::default();
        (0..1000).for_each(|n| add(&mut former, 999 - n));
        assert_eq!(stored(&former)[..2], ["10.0.3.231", "10.0.3.230"]);
        // Gone once more, so not the oldest any longer.
        add(&mut former, 999);
        add(&mut former, 5000);
        assert_eq!(stored(&former).len(), 1000);
        assert!(former.get(ip(998)).is_none() && former.get(ip(997)).is_some());
        assert_eq!(stored(&former)[998..], ["10.0.3.231", "10.0.19.136"]);
        assert!(former.remove(ip(5000)).is_some() && former.remove(ip(5000)).is_none());
        assert_eq!(stored(&former).len(), 999);
        assert_eq!(former.agents.len(), former.order.len());
    }
}
