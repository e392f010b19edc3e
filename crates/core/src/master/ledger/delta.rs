//! Changes on their way from the ledger to the log.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;

use super::Ledger;
use crate::master::networks::Networks;
use crate::master::record::EncodedAgent;
use crate::master::state_codec::encode_state;

/// Changes of one write.
#[derive(Debug)]
pub struct Delta {
    /// The changed agents; `None` for those that have no allocation any more.
    agents: BTreeMap<Ipv4Addr, Option<Arc<EncodedAgent>>>,
    /// The networks, if they changed.
    pub(super) networks: Option<Arc<Networks>>,
}

impl Delta {
    /// Returns the changed agents; `None` for those that have no allocation any more.
    pub fn agents(&self) -> impl Iterator<Item = (Ipv4Addr, Option<&Arc<EncodedAgent>>)> {
        self.agents.iter().map(|(ip, agent)| (*ip, agent.as_ref()))
    }

    /// Returns whether the answer to an agent depends on the write. The networks are part of
    /// every answer.
    pub fn concerns(&self, ip: Ipv4Addr) -> bool {
        self.networks.is_some() || self.agents.contains_key(&ip)
    }
}

impl Ledger {
    /// Returns whether there are changes since the latest delta.
    pub fn has_uncommitted(&self) -> bool {
        self.uncommitted.networks || !self.uncommitted.agents.is_empty()
    }

    /// Returns whether the answer to an agent depends on the next delta. The networks are part
    /// of every answer.
    pub fn has_uncommitted_of(&self, ip: Ipv4Addr) -> bool {
        self.uncommitted.networks || self.uncommitted.agents.contains(&ip)
    }

    /// Takes the changes since the latest delta, and encodes the whole state.
    pub fn take_delta(&mut self) -> (Delta, Bytes) {
        let agents = std::mem::take(&mut self.uncommitted.agents);
        let networks = std::mem::take(&mut self.uncommitted.networks);
        self.encoded.update(&self.records, &agents);
        debug_assert!(
            self.encoded.matches(&self.records),
            "a changed record is not among the uncommitted ones"
        );
        let state = encode_state(
            &self.networks.network.to_wire(),
            self.encoded.pieces(),
            self.encoded.size(),
            self.networks.to_wire().as_ref(),
            self.reclaimed.agent_infos(),
        );
        let encoded = |ip| self.records.get(&ip).map(|record| record.encoded.clone());
        let delta = Delta {
            agents: agents.into_iter().map(|ip| (ip, encoded(ip))).collect(),
            networks: networks.then(|| self.networks.clone()),
        };
        (delta, state)
    }

    /// Adds a delta that was written to the committed state.
    pub fn commit(&mut self, delta: Delta) {
        if let Some(networks) = delta.networks {
            self.committed.networks = networks;
        }
        for (ip, agent) in delta.agents {
            match agent {
                Some(agent) => _ = self.committed.agents.insert(ip, agent),
                None => _ = self.committed.agents.remove(&ip),
            }
        }
    }
}
