//! Encoded agents of the stored state, cached in pieces.
//!
//! Every write contains the whole state, and most writes change a single agent. Gathering ten
//! thousand encoded agents from scattered memory takes longer than the log takes to write the
//! difference. So neighbouring agents are kept joined in a piece.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::record::AgentRecord;
use super::state_codec::put_agent;

/// Number of agents in a new piece. A change of one agent joins this many again, and each write
/// copies all pieces.
const PIECE: usize = 64;

/// Encoded agents in the order of their addresses, as in the stored state.
#[derive(Debug)]
pub struct EncodedAgents {
    /// Pieces by their first address. A piece covers the addresses before the next piece. The
    /// first piece begins at 0.0.0.0.
    pieces: BTreeMap<Ipv4Addr, Box<[u8]>>,
}

impl EncodedAgents {
    /// Joins the agents of `records`.
    pub fn new(records: &BTreeMap<Ipv4Addr, AgentRecord>) -> EncodedAgents {
        let mut encoded = EncodedAgents {
            pieces: BTreeMap::new(),
        };
        encoded.join(records, Ipv4Addr::UNSPECIFIED, None);
        encoded
    }

    /// Updates the pieces of agents that are new, changed or gone in `records`.
    pub fn update(
        &mut self,
        records: &BTreeMap<Ipv4Addr, AgentRecord>,
        changed: &BTreeSet<Ipv4Addr>,
    ) {
        let mut next = changed.first().copied();
        while let Some(ip) = next {
            let first = self
                .pieces
                .range(..=ip)
                .next_back()
                .map_or(Ipv4Addr::UNSPECIFIED, |(first, _)| *first);
            let end = self.pieces.range(first..).nth(1).map(|(end, _)| *end);
            self.pieces.remove(&first);
            self.join(records, first, end);
            next = end.and_then(|end| changed.range(end..).next().copied());
        }
    }

    /// Makes pieces of the records from `first` (inclusive) to `end` (exclusive).
    fn join(
        &mut self,
        records: &BTreeMap<Ipv4Addr, AgentRecord>,
        first: Ipv4Addr,
        end: Option<Ipv4Addr>,
    ) {
        let of_piece = records
            .range(first..)
            .take_while(|(ip, _)| end.is_none_or(|end| **ip < end));
        let (mut start, mut agents, mut bytes) = (first, 0, Vec::new());
        // Only pieces of more than twice the size are split.
        let limit = if of_piece.clone().nth(2 * PIECE).is_some() {
            PIECE
        } else {
            2 * PIECE
        };
        for (ip, record) in of_piece {
            if agents == limit {
                self.pieces.insert(start, std::mem::take(&mut bytes).into());
                (start, agents) = (*ip, 0);
            }
            put_agent(&record.encoded.agent_info, &mut bytes);
            agents += 1;
        }
        // An empty piece is left out, and the piece before it covers its range. The first piece
        // always exists.
        if agents > 0 || start == Ipv4Addr::UNSPECIFIED {
            self.pieces.insert(start, bytes.into());
        }
    }

    /// Returns the pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.values().map(Box::as_ref)
    }

    /// Returns the size of all pieces in bytes.
    pub fn size(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// Returns whether the pieces match `records`.
    pub fn matches(&self, records: &BTreeMap<Ipv4Addr, AgentRecord>) -> bool {
        let mut bytes = Vec::new();
        records
            .values()
            .for_each(|record| put_agent(&record.encoded.agent_info, &mut bytes));
        self.pieces().flatten().eq(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::allocation::allocator::{Allocation, AllocationRequest};
    use crate::master::bridges::AllocatedBridges;
    use crate::master::record::{EncodedAgent, RecordContent};
    use crate::master::trust::Trust;
    use crate::proto::AgentInfo;
    use crate::proto::internal::AgentNetworkConfig;

    fn record(ip: Ipv4Addr, attempts: u32) -> AgentRecord {
        let info = AgentInfo {
            ip: ip.to_string(),
            configuration_attempts: Some(attempts),
            ..Default::default()
        };
        let encoded = EncodedAgent::renew(None, &info, std::iter::empty());
        let content = RecordContent {
            allocation: Allocation::default(),
            bridges: AllocatedBridges::default(),
            requested: AllocationRequest::from_network_config(&AgentNetworkConfig::default()),
            trust: Trust::Legacy,
            inactive: Vec::new(),
        };
        AgentRecord { content, encoded }
    }

    fn check_pieces(encoded: &EncodedAgents, records: &BTreeMap<Ipv4Addr, AgentRecord>) {
        assert!(encoded.matches(records));
        for (index, (first, piece)) in encoded.pieces.iter().enumerate() {
            let end = encoded.pieces.keys().nth(index + 1);
            let agents = records
                .range(*first..)
                .take_while(|(ip, _)| end.is_none_or(|end| *ip < end));
            let mut bytes = Vec::new();
            agents
                .clone()
                .for_each(|(_, record)| put_agent(&record.encoded.agent_info, &mut bytes));
            assert_eq!(**piece, bytes);
            assert!(agents.count() <= 2 * PIECE, "pieces stay small");
        }
        assert_eq!(encoded.pieces.keys().next(), Some(&Ipv4Addr::UNSPECIFIED));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Sets or removes agents of a range in each step.
        #[test]
        fn updated_pieces_equal_new_ones(
            at_first in 0..500_u32,
            steps in proptest::collection::vec((0..1000_u32, 1..400_u32, 1..50_u32, any::<bool>()), 0..20),
        ) {
            let ip = |n: u32| Ipv4Addr::from(0x0a00_0000 + n);
            let mut records: BTreeMap<_, _> = (0..at_first).map(|n| (ip(2 * n), record(ip(2 * n), 0))).collect();
            let mut encoded = EncodedAgents::new(&records);
            check_pieces(&encoded, &records);
            for (number, (first, count, step, there)) in steps.into_iter().enumerate() {
                let changed: BTreeSet<_> = (0..count).map(|n| ip(first + n * step)).collect();
                for ip in &changed {
                    match there {
                        true => _ = records.insert(*ip, record(*ip, number as u32 + 1)),
                        false => _ = records.remove(ip),
                    }
                }
                encoded.update(&records, &changed);
                check_pieces(&encoded, &records);
            }
        }
    }

    #[test]
    fn a_missing_update_is_detected() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let mut records = BTreeMap::from([(ip, record(ip, 0))]);
        let encoded = EncodedAgents::new(&records);
        records.insert(ip, record(ip, 1));
        assert!(!encoded.matches(&records));
    }
}
