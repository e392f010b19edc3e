//! Tells every agent who its peers are.
//!
//! The leading master numbers the changes of what peers need to know: the version.
//! An agent gets the whole list once, then the changes since what it has. Messages
//! may get lost, so agents answer with the version they have; what is missing is
//! sent again. Versions count within an epoch, which begins with a master's lead. An
//! agent that comes with another lead's list that says the same (its digest) needs no
//! other one.
//!
//! In a large cluster lists are long and there are many to be told. So registrations
//! go first, few long messages are on their way at a time, and after many short ones
//! there is a pause (docs/scaling.md).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::counters::Outbox;
use super::record::EncodedAgent;
use crate::proto::internal::{PeersVersion, UpdatePeersMessage};
use crate::protocol::messages::Named;
use crate::protocol::peer_list_codec::pack;
use crate::{Effect, Io, Time, Upid};

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
/// How much is sent again in one go, in bytes; the rest follows after [`GATHER`].
const BURST: usize = 32 << 20;
/// A longer message, in bytes, is a long one.
const LONG: usize = 64 << 10;
/// A longer message, in bytes, is packed for those who take that. (What fits into one
/// packet is not sent sooner if it is shorter.)
const PACK: usize = 1024;
/// How much of long messages is on its way at a time, in bytes. (At a change of leaders
/// every agent may need the whole list, and the memory of Mesos holds what is not sent yet.)
const WINDOW: usize = 32 << 20;
/// Long messages wait until nobody has needed one for [`GATHER`], but not longer than this:
/// those who need one have just come, and ten thousand of them come in less.
const HOLD: Duration = Duration::from_secs(10);
/// The pause after each message, which takes libprocess some 20 µs to send: telling
/// peers takes less than half of its time.
const PAUSE: Duration = Duration::from_micros(50);
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
    /// Of all peers; see [`PeersVersion::digest`].
    digest: u64,
    receivers: BTreeMap<Ipv4Addr, Receiver>,
    flush_at: Option<Time>,
    /// Not before: much was sent.
    rest_until: Time,
    /// Those of the receivers that need a long message.
    waiting: BTreeSet<Ipv4Addr>,
    /// Since when long messages wait for registrations, and until when.
    hold: Option<(Time, Time)>,
    /// How much of long messages is on its way, in bytes.
    in_flight: usize,
    encoded: Encoded,
    /// When unanswered messages are sent again.
    resends: BTreeSet<(Time, Ipv4Addr)>,
}

#[derive(Debug)]
struct Known {
    /// `None`: it left, and agents may not know yet.
    entry: Option<Arc<EncodedAgent>>,
    /// The version that brought this.
    version: u64,
}

impl Known {
    /// As it stands in the message.
    fn peer(&self) -> Option<&[u8]> {
        self.entry.as_ref()?.peer.as_deref()
    }
}

/// How an agent takes long lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As they are.
    Plain,
    /// Packed: see [`crate::protocol::peer_list_codec`].
    Packed,
}

#[derive(Debug)]
struct Receiver {
    pid: Arc<Upid>,
    form: Form,
    /// What it has for sure; `None`: nothing of this epoch.
    acked: Option<u64>,
    /// It has `acked` by having this of another epoch.
    since: Option<PeersVersion>,
    /// Versions that it should have by now, oldest first.
    outstanding: Vec<u64>,
    /// How much of long messages is on its way to it, in bytes.
    in_flight: usize,
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

/// Messages to the present version that were encoded already, by what they build on, and
/// their form.
type Encoded = BTreeMap<(Option<u64>, Option<(u64, u64)>, Form), Body>;

/// An encoded message.
#[derive(Clone, Debug)]
struct Body {
    bytes: Bytes,
    /// It is a long one, packed or not.
    is_long: bool,
}

/// A peer's part of the digest, which is the sum of them. (It may differ from one
/// release to the next: then agents get a list that they have.)
fn digest(peer: Option<&[u8]>) -> u64 {
    let Some(peer) = peer else { return 0 };
    let mut hasher = DefaultHasher::new();
    hasher.write(peer);
    hasher.finish()
}

impl Peers {
    /// The beginning of an epoch. `epoch` is not 0.
    pub fn new<'a>(
        epoch: u64,
        entries: impl Iterator<Item = (Ipv4Addr, &'a Arc<EncodedAgent>)>,
    ) -> Peers {
        let known = |entry: &Arc<EncodedAgent>| Known {
            entry: Some(entry.clone()),
            version: 1,
        };
        let entries = entries.filter(|(_, entry)| entry.peer.is_some());
        let peers: BTreeMap<_, _> = entries.map(|(ip, entry)| (ip, known(entry))).collect();
        let digests = peers.values().map(|known: &Known| digest(known.peer()));
        Peers {
            epoch,
            version: 1,
            digest: digests.fold(0, u64::wrapping_add),
            peers,
            changes: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            // There is no version before the first, so nobody can build on it.
            forgotten: 1,
            receivers: BTreeMap::new(),
            flush_at: None,
            rest_until: Time::default(),
            waiting: BTreeSet::new(),
            hold: None,
            in_flight: 0,
            encoded: Encoded::new(),
            resends: BTreeSet::new(),
        }
    }

    /// What is stored of an agent changed; `None`: it was deleted.
    pub fn changed(&mut self, now: Time, ip: Ipv4Addr, entry: Option<&Arc<EncodedAgent>>) {
        let entry = entry.filter(|entry| entry.peer.is_some());
        let peer = entry.and_then(|entry| entry.peer.as_deref());
        let known = self.peers.get_mut(&ip);
        if known.as_ref().and_then(|known| known.peer()) == peer {
            // It may differ in what peers are not told.
            if let Some(known) = known {
                known.entry = entry.cloned();
            }
            return;
        }
        self.digest = self.digest.wrapping_add(digest(peer));
        self.encoded.clear();
        if let Some(known) = known {
            self.digest = self.digest.wrapping_sub(digest(known.peer()));
            self.changes.remove(&known.version);
            self.tombstones.remove(&known.version);
        }
        self.version += 1;
        self.changes.insert(self.version, ip);
        self.peers.insert(
            ip,
            Known {
                entry: entry.cloned(),
                version: self.version,
            },
        );
        if peer.is_none() {
            self.tombstones.insert(self.version);
            self.forget_old_tombstones();
        }
        self.schedule_flush(now);
    }

    fn forget_old_tombstones(&mut self) {
        while self.tombstones.len() > TOMBSTONES {
            let Some(version) = self.tombstones.pop_first() else {
                break;
            };
            if let Some(ip) = self.changes.remove(&version) {
                self.peers.remove(&ip);
            }
            self.forgotten = version;
        }
    }

    fn schedule_flush(&mut self, now: Time) {
        self.flush_at
            .get_or_insert((now + GATHER).max(self.rest_until));
    }

    /// An agent is registered and wants to be told. `has` is what it says it has.
    pub fn join(&mut self, now: Time, ip: Ipv4Addr, pid: Arc<Upid>, has: PeersVersion, form: Form) {
        self.leave(ip);
        let ours = self.version_of(has);
        let same = has.epoch() != 0 && has.digest.is_some_and(|said| said == self.digest);
        let since = (ours.is_none() && same).then_some(has);
        let receiver = Receiver {
            pid,
            form,
            acked: ours.or(since.map(|_| self.version)),
            since,
            outstanding: Vec::new(),
            in_flight: 0,
            last_sent: None,
            resend_at: None,
            resend_delay: RESEND_FIRST,
        };
        if receiver.acked.is_none() {
            self.hold.get_or_insert((now, now));
            self.more_are_coming(now);
        }
        if receiver.acked != Some(self.version) || since.is_some() {
            self.schedule_flush(now);
        }
        self.receivers.insert(ip, receiver);
    }

    /// Agents are about to join. Lists of now would be out of date at once, and sending them
    /// would hold up the registrations: they wait a little longer.
    pub fn more_are_coming(&mut self, now: Time) {
        self.hold = self
            .hold
            .map(|(first, _)| (first, (now + GATHER).min(first + HOLD)));
    }

    /// How many of those who are told have not said that they have the newest.
    pub fn behind(&self) -> usize {
        self.receivers
            .values()
            .filter(|receiver| receiver.acked != Some(self.version))
            .count()
    }

    /// An agent cannot be reached any more.
    pub fn leave(&mut self, ip: Ipv4Addr) {
        self.arrived(ip);
        self.waiting.remove(&ip);
        if let Some(at) = self
            .receivers
            .remove(&ip)
            .and_then(|receiver| receiver.resend_at)
        {
            self.resends.remove(&(at, ip));
        }
    }

    /// What was on its way to this agent is there, or will not be any more.
    fn arrived(&mut self, ip: Ipv4Addr) {
        if let Some(receiver) = self.receivers.get_mut(&ip) {
            self.in_flight -= std::mem::take(&mut receiver.in_flight);
        }
    }

    /// The version that is said, if it is one of ours.
    fn version_of(&self, said: PeersVersion) -> Option<u64> {
        let ours = said.epoch() == self.epoch && said.version() <= self.version;
        ours.then_some(said.version())
    }

    /// An agent says what it has. `false`: this agent is not told of peers.
    pub fn received(&mut self, out: &mut Outbox, ip: Ipv4Addr, said: PeersVersion) -> bool {
        self.arrived(ip);
        let known = self.receivers.contains_key(&ip);
        if known {
            self.take_position(out, ip, said);
        }
        self.feed(out);
        known
    }

    fn take_position(&mut self, out: &mut Outbox, ip: Ipv4Addr, said: PeersVersion) {
        let version = self.version_of(said);
        let current = Some(self.version);
        let Some(receiver) = self.receivers.get_mut(&ip) else {
            return;
        };
        if let Some(index) = receiver
            .outstanding
            .iter()
            .position(|sent| Some(*sent) == version)
        {
            // Those before it are in it.
            receiver.outstanding.drain(..=index);
            if receiver.outstanding.is_empty() {
                receiver.outstanding = Vec::new();
            }
        } else if version == current {
            receiver.outstanding.clear();
        } else if version.is_some() && version == receiver.acked && receiver.outstanding.is_empty()
        {
            return;
        } else {
            self.fill_gap(out, ip, version);
            return;
        }
        receiver.acked = version;
        receiver.since = None;
        receiver.resend_delay = RESEND_FIRST;
        let at = (!receiver.outstanding.is_empty()).then(|| out.now() + RESEND_FIRST);
        self.set_resend(ip, at);
    }

    /// Something got lost: the agent has `version` only.
    fn fill_gap(&mut self, out: &mut Outbox, ip: Ipv4Addr, version: Option<u64>) {
        let Some(receiver) = self.receivers.get_mut(&ip) else {
            return;
        };
        receiver.acked = version;
        receiver.since = None;
        receiver.outstanding.clear();
        receiver.resend_delay = RESEND_FIRST;
        let soonest = receiver
            .last_sent
            .map_or(out.now(), |last| last + GAP_INTERVAL);
        self.set_resend(ip, Some(soonest.max(out.now())));
        self.resend_due(out);
    }

    fn set_resend(&mut self, ip: Ipv4Addr, at: Option<Time>) {
        let Some(receiver) = self.receivers.get_mut(&ip) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut receiver.resend_at, at) {
            self.resends.remove(&(before, ip));
        }
        self.resends.extend(at.map(|at| (at, ip)));
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn due(&self) -> Option<Time> {
        let resend = self.resends.first().map(|(at, _)| *at);
        let hold = self.hold.map(|(_, until)| until);
        [self.flush_at, resend, hold].into_iter().flatten().min()
    }

    /// Sends what is due.
    pub fn tick(&mut self, out: &mut Outbox) {
        if self.flush_at.is_some_and(|at| at <= out.now()) {
            self.flush(out);
        }
        self.resend_due(out);
        if self.hold.is_some_and(|(_, until)| until <= out.now()) {
            self.hold = None;
        }
        self.feed(out);
    }

    /// Sends the short messages; who needs a long one has to wait.
    fn flush(&mut self, out: &mut Outbox) {
        self.flush_at = None;
        let version = Some(self.version);
        let behind = |receiver: &Receiver| {
            receiver.position() != version
                || (receiver.since.is_some() && receiver.outstanding.is_empty())
        };
        let behind = self
            .receivers
            .iter()
            .filter(|(ip, receiver)| behind(receiver) && !self.waiting.contains(ip));
        let mut messages = 0;
        for ip in behind.map(|(ip, _)| *ip).collect::<Vec<_>>() {
            if self.body(ip).is_none_or(|body| body.is_long) {
                self.waiting.insert(ip);
            } else {
                self.send(out, ip);
                messages += 1;
            }
        }
        self.rest_until = out.now() + PAUSE * messages;
    }

    /// Sends long messages, unless enough of them is on its way.
    fn feed(&mut self, out: &mut Outbox) {
        while self.hold.is_none() && self.in_flight < WINDOW {
            let Some(ip) = self.waiting.pop_first() else {
                break;
            };
            let size = self.send(out, ip);
            let Some(receiver) = self.receivers.get_mut(&ip) else {
                continue;
            };
            receiver.in_flight += size;
            self.in_flight += size;
        }
        if self.waiting.is_empty() {
            self.encoded.clear();
        }
    }

    fn resend_due(&mut self, out: &mut Outbox) {
        let mut sent = 0;
        while let Some(&(at, ip)) = self.resends.first() {
            if at > out.now() {
                break;
            }
            self.set_resend(ip, None);
            if sent > BURST {
                self.set_resend(ip, Some(out.now() + GATHER));
                continue;
            }
            self.arrived(ip);
            let Some(receiver) = self.receivers.get_mut(&ip) else {
                continue;
            };
            receiver.outstanding.clear();
            receiver.resend_delay = (receiver.resend_delay * 2).min(RESEND_LIMIT);
            self.waiting.remove(&ip);
            sent += self.send(out, ip);
        }
    }

    /// Sends one agent what leads it to the present; says how many bytes.
    fn send(&mut self, out: &mut Outbox, ip: Ipv4Addr) -> usize {
        let Some(Body { bytes: body, .. }) = self.body(ip) else {
            return 0;
        };
        let Some(receiver) = self.receivers.get_mut(&ip) else {
            return 0;
        };
        let size = body.len();
        out.push(Effect::Io(Io::Send {
            to: Upid::clone(&receiver.pid),
            name: UpdatePeersMessage::NAME,
            body,
        }));
        receiver.outstanding.push(self.version);
        if receiver.outstanding.len() > OUTSTANDING {
            receiver.outstanding.remove(0);
        }
        receiver.last_sent = Some(out.now());
        let at = out.now() + receiver.resend_delay;
        self.set_resend(ip, Some(at));
        size
    }

    /// The message that leads this agent to the present. Many get the same one.
    fn body(&mut self, ip: Ipv4Addr) -> Option<Body> {
        let receiver = self.receivers.get(&ip)?;
        // What was sent since it came may be lost, and `since` says nothing of that: a
        // message that goes by it builds on what the agent came with.
        let since = receiver.since;
        let base = if since.is_some() {
            receiver.acked
        } else {
            receiver.position()
        };
        let key = (
            base,
            since.map(|since| (since.epoch(), since.version())),
            receiver.form,
        );
        if let Some(body) = self.encoded.get(&key) {
            return Some(body.clone());
        }
        let body = self.message(base, since, receiver.form);
        self.encoded.insert(key, body.clone());
        Some(body)
    }

    /// The message that leads from `base` to the present: a delta if possible.
    fn message(&self, base: Option<u64>, since: Option<PeersVersion>, form: Form) -> Body {
        let version = PeersVersion {
            epoch: Some(self.epoch),
            version: Some(self.version),
            digest: Some(self.digest),
        };
        let base = base.filter(|base| *base >= self.forgotten);
        let since = since.filter(|_| base.is_some());
        let mut message = UpdatePeersMessage {
            version,
            base,
            since,
            ..UpdatePeersMessage::default()
        };
        let mut peers: Vec<&[u8]> = Vec::new();
        match base {
            None => peers.extend(self.peers.values().filter_map(Known::peer)),
            Some(base) => {
                for ip in self.changes.range(base + 1..).map(|(_, ip)| ip) {
                    match self.peers.get(ip).and_then(Known::peer) {
                        Some(peer) => peers.push(peer),
                        None => message.removed.push(ip.to_string()),
                    }
                }
            }
        }
        let length: usize = peers.iter().map(|peer| peer.len()).sum();
        if form == Form::Packed && length > PACK {
            message.packed = Some(pack(peers.drain(..)));
        }
        // The order of fields means nothing; the peers are encoded already.
        let mut body = message.encode_to_vec();
        let is_long = body.len() + length > LONG;
        body.reserve_exact(peers.iter().map(|peer| peer.len()).sum());
        peers
            .into_iter()
            .for_each(|peer| body.extend_from_slice(peer));
        Body {
            bytes: body.into(),
            is_long,
        }
    }
}

#[cfg(test)]
mod tests;
