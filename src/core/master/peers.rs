//! Tells every agent who its peers are.
//!
//! The leading master numbers the changes of what peers need to know: the version.
//! An agent gets the whole list once, then the changes since what it has. Messages
//! may get lost, so agents answer with the version they have; what is missing is
//! sent again. Versions count within an epoch, which begins with a master's lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::out::Out;
use super::record::Entry;
use crate::core::message::Named;
use crate::core::{Effect, Time, Upid};
use crate::wire::internal::{Peer, PeersVersion, UpdatePeersMessage};

/// Changes are gathered for this long before they are sent.
pub const GATHER: Duration = Duration::from_millis(50);
/// A message that was not answered is sent again after this time, …
const RESEND_FIRST: Duration = Duration::from_secs(2);
/// … and then in growing steps up to this.
const RESEND_LIMIT: Duration = Duration::from_secs(60);
/// A gap is filled at once, but not more often than this for one agent.
const GAP_INTERVAL: Duration = Duration::from_millis(100);
/// How many departures are remembered. Agents that are further behind get the
/// whole list.
const TOMBSTONES: usize = 10_000;
/// How much is sent in one go, in bytes; the rest follows after [`GATHER`]. At a
/// change of leaders every agent gets the whole list, and the machine's memory must
/// not have to hold all of them at once.
const BURST: usize = 32 << 20;
/// How many unanswered messages of one agent are told apart.
const OUTSTANDING: usize = 32;

/// The peers, their history, and who is told of it.
#[derive(Debug)]
pub struct Peers {
    epoch: u64,
    version: u64,
    /// Every agent that is or was there.
    peers: BTreeMap<Ipv4Addr, Known>,
    /// The latest change of each agent by version.
    changes: BTreeMap<u64, Ipv4Addr>,
    /// Those of the changes that are departures.
    tombstones: BTreeSet<u64>,
    /// Departures up to this version are forgotten.
    forgotten: u64,
    receivers: BTreeMap<Ipv4Addr, Receiver>,
    flush_at: Option<Time>,
    /// When unanswered messages are sent again.
    resends: BTreeSet<(Time, Ipv4Addr)>,
}

#[derive(Debug)]
struct Known {
    /// `None`: it left, and agents may not know yet.
    peer: Option<Peer>,
    /// The version that brought this.
    version: u64,
}

#[derive(Debug)]
struct Receiver {
    pid: Upid,
    /// What it has for sure; `None`: nothing of this epoch.
    acked: Option<u64>,
    /// Versions that it should have by now, oldest first.
    outstanding: Vec<u64>,
    last_sent: Option<Time>,
    resend_at: Option<Time>,
    resend_delay: Duration,
}

impl Receiver {
    /// What it has if nothing got lost.
    fn position(&self) -> Option<u64> {
        self.outstanding.last().copied().or(self.acked)
    }
}

/// Messages that were encoded already, by the version that they build on.
type Encoded = BTreeMap<Option<u64>, Bytes>;

impl Peers {
    /// The beginning of an epoch. `epoch` is not 0.
    pub fn new<'a>(epoch: u64, entries: impl Iterator<Item = (Ipv4Addr, &'a Entry)>) -> Peers {
        let known = |entry: &Entry| entry.peer.clone().map(|peer| Known { peer: Some(peer), version: 1 });
        let peers = entries.filter_map(|(ip, entry)| Some((ip, known(entry)?))).collect();
        Peers {
            epoch,
            version: 1,
            peers,
            changes: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            // There is no version before the first, so nobody can build on it.
            forgotten: 1,
            receivers: BTreeMap::new(),
            flush_at: None,
            resends: BTreeSet::new(),
        }
    }

    /// What is stored of an agent changed; `None`: it was deleted.
    pub fn changed(&mut self, now: Time, ip: Ipv4Addr, entry: Option<&Arc<Entry>>) {
        let peer = entry.and_then(|entry| entry.peer.as_ref());
        let known = self.peers.get(&ip);
        if known.and_then(|known| known.peer.as_ref()) == peer {
            return;
        }
        if let Some(known) = known {
            self.changes.remove(&known.version);
            self.tombstones.remove(&known.version);
        }
        self.version += 1;
        self.changes.insert(self.version, ip);
        self.peers.insert(ip, Known { peer: peer.cloned(), version: self.version });
        if peer.is_none() {
            self.tombstones.insert(self.version);
            self.forget_old_tombstones();
        }
        self.schedule_flush(now);
    }

    fn forget_old_tombstones(&mut self) {
        while self.tombstones.len() > TOMBSTONES {
            let Some(version) = self.tombstones.pop_first() else { break };
            if let Some(ip) = self.changes.remove(&version) {
                self.peers.remove(&ip);
            }
            self.forgotten = version;
        }
    }

    fn schedule_flush(&mut self, now: Time) {
        self.flush_at.get_or_insert(now + GATHER);
    }

    /// An agent is registered and wants to be told. `has` is what it says it has.
    pub fn join(&mut self, now: Time, ip: Ipv4Addr, pid: &Upid, has: PeersVersion) {
        self.leave(ip);
        let receiver = Receiver {
            pid: pid.clone(),
            acked: self.version_of(has),
            outstanding: Vec::new(),
            last_sent: None,
            resend_at: None,
            resend_delay: RESEND_FIRST,
        };
        if receiver.acked != Some(self.version) {
            self.schedule_flush(now);
        }
        self.receivers.insert(ip, receiver);
    }

    /// How many of those who are told have not said that they have the newest.
    pub fn behind(&self) -> usize {
        self.receivers.values().filter(|receiver| receiver.acked != Some(self.version)).count()
    }

    /// An agent cannot be reached any more.
    pub fn leave(&mut self, ip: Ipv4Addr) {
        if let Some(at) = self.receivers.remove(&ip).and_then(|receiver| receiver.resend_at) {
            self.resends.remove(&(at, ip));
        }
    }

    /// The version that is said, if it is one of ours.
    fn version_of(&self, said: PeersVersion) -> Option<u64> {
        let ours = said.epoch() == self.epoch && said.version() <= self.version;
        ours.then_some(said.version())
    }

    /// An agent says what it has. `false`: this agent is not told of peers.
    pub fn received(&mut self, out: &mut Out, ip: Ipv4Addr, said: PeersVersion) -> bool {
        let version = self.version_of(said);
        let current = Some(self.version);
        let Some(receiver) = self.receivers.get_mut(&ip) else { return false };
        if let Some(index) = receiver.outstanding.iter().position(|sent| Some(*sent) == version) {
            // Those before it are in it.
            receiver.outstanding.drain(..=index);
        } else if version == current {
            receiver.outstanding.clear();
        } else if version.is_some() && version == receiver.acked && receiver.outstanding.is_empty() {
            return true;
        } else {
            self.fill_gap(out, ip, version);
            return true;
        }
        receiver.acked = version;
        receiver.resend_delay = RESEND_FIRST;
        let at = (!receiver.outstanding.is_empty()).then(|| out.now() + RESEND_FIRST);
        self.set_resend(ip, at);
        true
    }

    /// Something got lost: the agent has `version` only.
    fn fill_gap(&mut self, out: &mut Out, ip: Ipv4Addr, version: Option<u64>) {
        let Some(receiver) = self.receivers.get_mut(&ip) else { return };
        receiver.acked = version;
        receiver.outstanding.clear();
        receiver.resend_delay = RESEND_FIRST;
        let soonest = receiver.last_sent.map_or(out.now(), |last| last + GAP_INTERVAL);
        self.set_resend(ip, Some(soonest.max(out.now())));
        self.resend_due(out);
    }

    fn set_resend(&mut self, ip: Ipv4Addr, at: Option<Time>) {
        let Some(receiver) = self.receivers.get_mut(&ip) else { return };
        if let Some(before) = std::mem::replace(&mut receiver.resend_at, at) {
            self.resends.remove(&(before, ip));
        }
        self.resends.extend(at.map(|at| (at, ip)));
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn due(&self) -> Option<Time> {
        let resend = self.resends.first().map(|(at, _)| *at);
        [self.flush_at, resend].into_iter().flatten().min()
    }

    /// Sends what is due.
    pub fn tick(&mut self, out: &mut Out) {
        if self.flush_at.is_some_and(|at| at <= out.now()) {
            self.flush(out);
        }
        self.resend_due(out);
    }

    fn flush(&mut self, out: &mut Out) {
        self.flush_at = None;
        let version = self.version;
        let behind: Vec<_> = self
            .receivers
            .iter()
            .filter(|(_, receiver)| receiver.position() != Some(version))
            .map(|(ip, receiver)| (*ip, receiver.position()))
            .collect();
        let (mut encoded, mut sent) = (Encoded::new(), 0);
        for (ip, base) in behind {
            if sent > BURST {
                self.schedule_flush(out.now());
                break;
            }
            sent += self.send(out, ip, base, &mut encoded);
        }
    }

    fn resend_due(&mut self, out: &mut Out) {
        let (mut encoded, mut sent) = (Encoded::new(), 0);
        while let Some(&(at, ip)) = self.resends.first() {
            if at > out.now() {
                break;
            }
            self.set_resend(ip, None);
            if sent > BURST {
                self.set_resend(ip, Some(out.now() + GATHER));
                continue;
            }
            let Some(receiver) = self.receivers.get_mut(&ip) else { continue };
            receiver.outstanding.clear();
            receiver.resend_delay = (receiver.resend_delay * 2).min(RESEND_LIMIT);
            let base = receiver.acked;
            sent += self.send(out, ip, base, &mut encoded);
        }
    }

    /// Sends one agent what leads from `base` to the present; says how many bytes.
    fn send(&mut self, out: &mut Out, ip: Ipv4Addr, base: Option<u64>, encoded: &mut Encoded) -> usize {
        let body = encoded.entry(base).or_insert_with(|| self.message(base)).clone();
        let Some(receiver) = self.receivers.get_mut(&ip) else { return 0 };
        let size = body.len();
        out.push(Effect::Send { to: receiver.pid.clone(), name: UpdatePeersMessage::NAME, body });
        receiver.outstanding.push(self.version);
        if receiver.outstanding.len() > OUTSTANDING {
            receiver.outstanding.remove(0);
        }
        receiver.last_sent = Some(out.now());
        let at = out.now() + receiver.resend_delay;
        self.set_resend(ip, Some(at));
        size
    }

    /// The message that leads from `base` to the present: a delta if possible.
    fn message(&self, base: Option<u64>) -> Bytes {
        let version = PeersVersion { epoch: Some(self.epoch), version: Some(self.version) };
        let base = base.filter(|base| *base >= self.forgotten);
        let mut message = UpdatePeersMessage { version, base, peers: Vec::new(), removed: Vec::new() };
        match base {
            None => message.peers = self.peers.values().filter_map(|known| known.peer.clone()).collect(),
            Some(base) => {
                for ip in self.changes.range(base + 1..).map(|(_, ip)| ip) {
                    match self.peers.get(ip).and_then(|known| known.peer.clone()) {
                        Some(peer) => message.peers.push(peer),
                        None => message.removed.push(ip.to_string()),
                    }
                }
            }
        }
        message.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn entry(number: u32) -> Arc<Entry> {
        let vxlan = wire::VxLanInfo { vtep_mac: number.to_string(), ..Default::default() };
        let overlay = wire::AgentOverlayInfo {
            backend: wire::BackendInfo { vxlan: Some(vxlan) },
            ..Default::default()
        };
        let ip = Ipv4Addr::from(number).to_string();
        Arc::new(Entry::new(wire::AgentInfo { ip, ..Default::default() }, &[overlay]))
    }

    fn peers() -> Peers {
        Peers::new(7, std::iter::empty())
    }

    fn come(peers: &mut Peers, number: u32) {
        peers.changed(Time::default(), number.into(), Some(&entry(number)));
    }

    fn go(peers: &mut Peers, number: u32) {
        peers.changed(Time::default(), number.into(), None);
    }

    fn since(peers: &Peers, version: u64) -> UpdatePeersMessage {
        UpdatePeersMessage::decode(peers.message(Some(version))).unwrap()
    }

    #[test]
    fn a_delta_has_the_last_word_on_each_agent() {
        let mut peers = peers();
        come(&mut peers, 1);
        come(&mut peers, 2);
        let base = peers.version;
        go(&mut peers, 1);
        come(&mut peers, 3);
        go(&mut peers, 3);
        come(&mut peers, 1);
        let delta = since(&peers, base);
        assert_eq!(delta.base, Some(base));
        assert_eq!(delta.peers.iter().map(|peer| peer.ip.as_str()).collect::<Vec<_>>(), ["0.0.0.1"]);
        assert_eq!(delta.removed, ["0.0.0.3"]);
    }

    #[test]
    fn what_is_the_same_is_no_change() {
        let mut peers = peers();
        come(&mut peers, 1);
        let version = peers.version;
        come(&mut peers, 1);
        go(&mut peers, 2);
        assert_eq!(peers.version, version);
    }

    #[test]
    fn departures_are_forgotten_in_the_end() {
        let mut peers = peers();
        for number in 0..TOMBSTONES as u32 + 2 {
            come(&mut peers, number);
        }
        come(&mut peers, u32::MAX);
        let base = peers.version;
        for number in 0..TOMBSTONES as u32 {
            go(&mut peers, number);
        }
        assert_eq!(since(&peers, base).removed.len(), TOMBSTONES);
        go(&mut peers, TOMBSTONES as u32);
        go(&mut peers, TOMBSTONES as u32 + 1);
        let all = since(&peers, base);
        assert_eq!((all.base, all.peers.len(), all.removed.len()), (None, 1, 0), "the whole list");
        assert_eq!(since(&peers, base + 2).removed.len(), TOMBSTONES, "who is less far behind");
        assert_eq!((peers.peers.len(), peers.changes.len()), (TOMBSTONES + 1, TOMBSTONES + 1));
    }
}
