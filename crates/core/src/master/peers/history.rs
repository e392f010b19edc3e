//! Versioned list of peers, and its snapshots and deltas for agents.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::master::record::EncodedAgent;
use crate::proto::internal::{PeersVersion, UpdatePeersMessage};
use crate::protocol::peer_list_codec::pack;

/// Number of departures that are remembered. Agents that are further behind get a snapshot.
const MAX_TOMBSTONES: usize = 10_000;

/// Size above which a message is long, in bytes.
const LONG_MESSAGE: usize = 64 << 10;

/// Size above which peers are packed for agents that unpack them, in bytes. A message that
/// fits into one packet is not sent sooner if it is shorter.
const PACK_ABOVE: usize = 1024;

/// The form in which an agent takes long lists of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListForm {
    /// Unpacked.
    Plain,
    /// Packed, see [`crate::protocol::peer_list_codec`].
    Packed,
}

/// List version of an earlier leader's epoch whose contents equal a version of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PreviousEpochVersion {
    /// The epoch; not 0.
    pub epoch: u64,
    /// The version.
    pub version: u64,
    /// The digest of the list of peers at that version.
    pub digest: u64,
}

impl From<PreviousEpochVersion> for PeersVersion {
    fn from(version: PreviousEpochVersion) -> PeersVersion {
        PeersVersion {
            epoch: Some(version.epoch),
            version: Some(version.version),
            digest: Some(version.digest),
        }
    }
}

/// Cache key of a message that updates an agent to the latest version. Agents with the same
/// key get the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey {
    /// The version that the agent has; `None` if it needs a snapshot.
    base: Option<u64>,
    /// The version of an earlier epoch that the agent has instead of `base`, with equal contents.
    equivalent: Option<PreviousEpochVersion>,
    form: ListForm,
}

/// An encoded [`UpdatePeersMessage`].
#[derive(Clone, Debug)]
pub struct EncodedMessage {
    /// The serialized message.
    pub bytes: Bytes,
    /// The message has more than 64 KiB, before it was packed.
    pub is_long: bool,
}

/// The peers of the agents, with the history of one epoch.
#[derive(Debug)]
pub struct PeerHistory {
    /// Number of the epoch; not 0.
    epoch: u64,
    /// Number of the latest change. The peers at the beginning of the epoch are version 1.
    version: u64,
    /// The agents with allocations, and the departed ones that are in `tombstones`.
    peers: BTreeMap<Ipv4Addr, PeerRecord>,
    /// Agents by the version of their latest change.
    changes: BTreeMap<u64, Ipv4Addr>,
    /// The versions of `changes` that are departures.
    tombstones: BTreeSet<u64>,
    /// Lowest version that a delta can build on: later departures are all remembered.
    oldest_base: u64,
    /// The digest of the peers, see [`PeersVersion::digest`].
    digest: u64,
    /// Cache of encoded messages for the present version.
    encoded: BTreeMap<MessageKey, EncodedMessage>,
}

/// The latest state of a peer.
#[derive(Debug)]
struct PeerRecord {
    /// The agent; `None` if it departed.
    agent: Option<Arc<EncodedAgent>>,
    /// The version that brought this state.
    version: u64,
}

impl PeerRecord {
    /// Returns the encoded `peers` field of a message, or `None` if the agent departed.
    fn encoded(&self) -> Option<&[u8]> {
        self.agent.as_ref()?.peer.as_deref()
    }
}

/// Returns the hash of a peer. The digest of a list is the sum of these hashes. The hash may
/// differ between releases; agents then get a list that they have already.
fn digest(peer: Option<&[u8]>) -> u64 {
    let Some(peer) = peer else { return 0 };
    let mut hasher = DefaultHasher::new();
    hasher.write(peer);
    hasher.finish()
}

impl PeerHistory {
    /// Begins an epoch with these agents. `epoch` is not 0.
    pub fn new<'a>(
        epoch: u64,
        agents: impl Iterator<Item = (Ipv4Addr, &'a Arc<EncodedAgent>)>,
    ) -> PeerHistory {
        let version = 1;
        let record = |agent: &Arc<EncodedAgent>| PeerRecord {
            agent: Some(agent.clone()),
            version,
        };
        let peers: BTreeMap<_, _> = agents
            .filter(|(_, agent)| agent.peer.is_some())
            .map(|(ip, agent)| (ip, record(agent)))
            .collect();
        let digests = peers.values().map(|record| digest(record.encoded()));
        PeerHistory {
            epoch,
            version,
            digest: digests.fold(0, u64::wrapping_add),
            peers,
            changes: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            oldest_base: version,
            encoded: BTreeMap::new(),
        }
    }

    /// Returns the number of the epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the number of the latest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Records the present state of an agent; `None` if it has no allocation any more. Returns
    /// whether that is a change for its peers, which then is a new version.
    pub fn update(&mut self, ip: Ipv4Addr, agent: Option<&Arc<EncodedAgent>>) -> bool {
        let agent = agent.filter(|agent| agent.peer.is_some());
        let peer = agent.and_then(|agent| agent.peer.as_deref());
        let known = self.peers.get_mut(&ip);
        if known.as_ref().and_then(|known| known.encoded()) == peer {
            // Peers do not see the difference, if there is any. The new value is shared with
            // the ledger, while the old one would take memory of its own.
            if let Some(known) = known {
                known.agent = agent.cloned();
            }
            return false;
        }
        self.digest = self.digest.wrapping_add(digest(peer));
        self.encoded.clear();
        if let Some(known) = known {
            self.digest = self.digest.wrapping_sub(digest(known.encoded()));
            self.changes.remove(&known.version);
            self.tombstones.remove(&known.version);
        }
        self.version += 1;
        self.changes.insert(self.version, ip);
        self.peers.insert(
            ip,
            PeerRecord {
                agent: agent.cloned(),
                version: self.version,
            },
        );
        if peer.is_none() {
            self.tombstones.insert(self.version);
            self.forget_old_tombstones();
        }
        true
    }

    fn forget_old_tombstones(&mut self) {
        while self.tombstones.len() > MAX_TOMBSTONES {
            let Some(version) = self.tombstones.pop_first() else {
                break;
            };
            if let Some(ip) = self.changes.remove(&version) {
                self.peers.remove(&ip);
            }
            self.oldest_base = version;
        }
    }

    /// Returns the number of a version that an agent reports, or `None` if it is not a version
    /// of this epoch.
    pub fn own_version(&self, reported: PeersVersion) -> Option<u64> {
        let is_own = reported.epoch() == self.epoch && reported.version() <= self.version;
        is_own.then_some(reported.version())
    }

    /// Returns a version of another epoch that an agent reports, or `None` if its contents
    /// differ from the latest version of this epoch.
    pub fn equivalent_of_latest(&self, reported: PeersVersion) -> Option<PreviousEpochVersion> {
        let digest = reported.digest.filter(|digest| *digest == self.digest)?;
        (reported.epoch() != 0).then(|| PreviousEpochVersion {
            epoch: reported.epoch(),
            version: reported.version(),
            digest,
        })
    }

    /// Returns the key of the message for an agent that has version `base`, or the
    /// equal version `equivalent` of another epoch.
    pub fn message_key(
        &self,
        base: Option<u64>,
        equivalent: Option<PreviousEpochVersion>,
        form: ListForm,
    ) -> MessageKey {
        let base = base.filter(|base| *base >= self.oldest_base);
        MessageKey {
            base,
            equivalent: equivalent.filter(|_| base.is_some()),
            form,
        }
    }

    /// Returns the message with this key. It is encoded once until the next change.
    pub fn message(&mut self, key: MessageKey) -> EncodedMessage {
        if let Some(message) = self.encoded.get(&key) {
            return message.clone();
        }
        let message = self.encode(key);
        self.encoded.insert(key, message.clone());
        message
    }

    /// Frees the memory of the encoded messages.
    pub fn drop_encoded(&mut self) {
        self.encoded.clear();
    }

    fn encode(&self, key: MessageKey) -> EncodedMessage {
        let version = PeersVersion {
            epoch: Some(self.epoch),
            version: Some(self.version),
            digest: Some(self.digest),
        };
        let (mut peers, removed) = match key.base {
            None => {
                let peers = self.peers.values().filter_map(PeerRecord::encoded);
                (peers.collect(), Vec::new())
            }
            Some(base) => self.changes_since(base),
        };
        let mut message = UpdatePeersMessage {
            version,
            base: key.base,
            since: key.equivalent.map(PeersVersion::from),
            removed,
            ..UpdatePeersMessage::default()
        };
        let length: usize = peers.iter().map(|peer| peer.len()).sum();
        if key.form == ListForm::Packed && length > PACK_ABOVE {
            message.packed = Some(pack(peers.drain(..)));
        }
        let mut bytes = message.encode_to_vec();
        let is_long = bytes.len() + length > LONG_MESSAGE;
        // The order of fields has no meaning in protobuf, and the peers are encoded already.
        bytes.reserve_exact(peers.iter().map(|peer| peer.len()).sum());
        for peer in peers {
            bytes.extend_from_slice(peer);
        }
        EncodedMessage {
            bytes: bytes.into(),
            is_long,
        }
    }

    /// Returns the encoded peers that changed after version `base`, and the addresses of those
    /// that departed.
    fn changes_since(&self, base: u64) -> (Vec<&[u8]>, Vec<String>) {
        let (mut peers, mut removed) = (Vec::new(), Vec::new());
        for ip in self.changes.range(base + 1..).map(|(_, ip)| ip) {
            match self.peers.get(ip).and_then(PeerRecord::encoded) {
                Some(peer) => peers.push(peer),
                None => removed.push(ip.to_string()),
            }
        }
        (peers, removed)
    }
}

#[cfg(test)]
mod tests;
