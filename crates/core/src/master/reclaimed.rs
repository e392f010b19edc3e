//! Allocations of agents whose leases ended, so that an agent that returns gets the parts of
//! its allocation that are still free, and is notified of the others.
//!
//! A reclaimed allocation belongs to nobody. Only the allocator knows which parts are free.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;

use super::bridges::AllocatedBridges;
use crate::allocation::allocator::Allocation;

/// Maximum number of remembered agents; the oldest are dropped. Each write of the log contains
/// all of them.
const LIMIT: usize = 1000;

/// The reclaimed allocations by agent.
#[derive(Debug, Default)]
pub struct ReclaimedAllocations {
    agents: BTreeMap<Ipv4Addr, Reclaimed>,
    /// The agents in the order in which their leases ended.
    order: BTreeMap<u64, Ipv4Addr>,
    next: u64,
}

#[derive(Debug)]
struct Reclaimed {
    order: u64,
    allocation: Allocation,
    bridges: AllocatedBridges,
    /// The agent as the log has it: an encoded `AgentInfo`.
    agent_info: Bytes,
}

impl ReclaimedAllocations {
    /// Adds the allocation of an agent whose lease ended. `agent_info` is its stored form.
    /// The oldest allocation is dropped if there are too many.
    pub fn add(
        &mut self,
        ip: Ipv4Addr,
        allocation: Allocation,
        bridges: AllocatedBridges,
        agent_info: Bytes,
    ) {
        self.remove(ip);
        self.agents.insert(
            ip,
            Reclaimed {
                order: self.next,
                allocation,
                bridges,
                agent_info,
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

    /// Returns the allocation that an agent had.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Allocation> {
        self.agents.get(&ip).map(|agent| &agent.allocation)
    }

    /// Returns the bridges that an agent had in the overlays of which it has been granted the same
    /// subnets again. Those of other subnets do not count: the overlay may be a new one.
    pub fn bridges(&self, ip: Ipv4Addr, granted: &Allocation) -> AllocatedBridges {
        let Some(agent) = self.agents.get(&ip) else {
            return AllocatedBridges::default();
        };
        let before = &agent.allocation.overlays;
        agent
            .bridges
            .only(|name| before.get(name) == granted.overlays.get(name))
    }

    /// Removes an agent and returns the allocation that it had.
    pub fn remove(&mut self, ip: Ipv4Addr) -> Option<Allocation> {
        let agent = self.agents.remove(&ip)?;
        self.order.remove(&agent.order);
        Some(agent.allocation)
    }

    /// Returns the stored forms in the order in which the leases ended.
    pub fn agent_infos(&self) -> impl Iterator<Item = &[u8]> {
        let agents = self.order.values().filter_map(|ip| self.agents.get(ip));
        agents.map(|agent| agent.agent_info.as_ref())
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

    fn add(reclaimed: &mut ReclaimedAllocations, n: u32) {
        let info = proto::AgentInfo {
            ip: ip(n).to_string(),
            ..Default::default()
        };
        let (allocation, bridges) = (Allocation::default(), AllocatedBridges::default());
        reclaimed.add(ip(n), allocation, bridges, info.encode_to_vec().into());
    }

    fn stored(reclaimed: &ReclaimedAllocations) -> Vec<String> {
        let infos = reclaimed.agent_infos();
        infos
            .map(|info| proto::AgentInfo::decode(info).unwrap().ip)
            .collect()
    }

    #[test]
    fn the_oldest_are_dropped_first() {
        let mut reclaimed = ReclaimedAllocations::default();
        (0..1000).for_each(|n| add(&mut reclaimed, 999 - n));
        assert_eq!(stored(&reclaimed)[..2], ["10.0.3.231", "10.0.3.230"]);
        // The lease of the agent ended once more, so the entry is not the oldest any longer.
        add(&mut reclaimed, 999);
        add(&mut reclaimed, 5000);
        assert_eq!(stored(&reclaimed).len(), 1000);
        assert!(reclaimed.get(ip(998)).is_none() && reclaimed.get(ip(997)).is_some());
        assert_eq!(stored(&reclaimed)[998..], ["10.0.3.231", "10.0.19.136"]);
        assert!(reclaimed.remove(ip(5000)).is_some() && reclaimed.remove(ip(5000)).is_none());
        assert_eq!(stored(&reclaimed).len(), 999);
        assert_eq!(reclaimed.agents.len(), reclaimed.order.len());
    }
}
