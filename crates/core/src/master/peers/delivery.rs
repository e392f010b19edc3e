//! Delivery of peer updates: schedule, flow control and retransmission.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::history::{EncodedMessage, ListForm, PeerHistory, PreviousEpochVersion};
use crate::master::counters::Outbox;
use crate::proto::internal::{PeersVersion, UpdatePeersMessage};
use crate::protocol::messages::Named;
use crate::{Effect, Io, Time, Upid};

/// Time for which changes are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(50);

/// Delay before the first retransmission of an unconfirmed message.
const RESEND_FIRST: Duration = Duration::from_secs(2);

/// Longest delay between two retransmissions. The delay doubles up to this limit.
const RESEND_LIMIT: Duration = Duration::from_secs(60);

/// Shortest time between two messages to an agent that reports gaps.
const RESYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Size of the messages that are retransmitted at a time, in bytes. The others follow after
/// [`GATHER`].
const RESEND_BURST: usize = 32 << 20;

/// Size of the long messages that are in flight at a time, in bytes. After a change of leaders
/// every agent may need a snapshot, and the memory of the Mesos master holds all messages that
/// are not sent yet.
const WINDOW: usize = 32 << 20;

/// Longest time for which long messages wait for registrations. Ten thousand agents register
/// in less.
const MAX_HOLD: Duration = Duration::from_secs(10);

/// Pause per short message after a batch. libprocess takes about 20 µs per message, so delivery
/// takes less than half of its time.
const PAUSE_PER_MESSAGE: Duration = Duration::from_micros(50);

/// Number of unconfirmed versions that are remembered for an agent.
const MAX_OUTSTANDING: usize = 32;

/// An agent's request for peer updates.
#[derive(Debug)]
pub struct Subscription {
    /// The process that gets the messages.
    pub pid: Arc<Upid>,
    /// The version that the agent reports to have.
    pub version: PeersVersion,
    /// The form in which it takes long lists.
    pub form: ListForm,
}

/// The subscribed agents, and the schedule of their messages.
#[derive(Debug, Default)]
pub struct PeerDelivery {
    receivers: BTreeMap<Ipv4Addr, Receiver>,
    /// Time of the next short messages; `None` if nothing has changed.
    flush_at: Option<Time>,
    /// End of the pause after the latest short messages.
    pause_until: Time,
    /// The receivers of long messages that are not sent yet.
    queue: BTreeSet<Ipv4Addr>,
    /// Postponement of the queued messages; `None` if they may be sent.
    registration_hold: Option<Hold>,
    /// Size of the long messages in flight, in bytes.
    in_flight: usize,
    resends: BTreeSet<Resend>,
}

/// A time for which long messages wait for registrations.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hold {
    since: Time,
    until: Time,
}

/// A message that is sent again unless it is confirmed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Resend {
    at: Time,
    ip: Ipv4Addr,
}

/// A subscribed agent.
#[derive(Debug)]
struct Receiver {
    pid: Arc<Upid>,
    form: ListForm,
    /// The confirmed version of this epoch; `None` if there is none.
    confirmed: Option<u64>,
    /// The version of another epoch that the agent reported, if its contents equal those of
    /// `confirmed`. The agent does not know this epoch yet.
    equivalent: Option<PreviousEpochVersion>,
    /// The versions that were sent since, oldest first.
    outstanding: Vec<u64>,
    /// Size of the long messages in flight to this agent, in bytes.
    in_flight: usize,
    last_sent: Option<Time>,
    resend_at: Option<Time>,
    resend_delay: Duration,
}

/// The meaning of a version that an agent reports.
enum Acknowledgement {
    /// The agent has got a message, or has the latest version anyway.
    Confirms,
    /// The agent has confirmed this version before, and no message is on its way.
    Repeats,
    /// A message was lost, or could not be applied.
    ReportsGap,
}

impl Receiver {
    /// Returns the version that the agent has if no message is lost.
    fn expected(&self) -> Option<u64> {
        self.outstanding.last().copied().or(self.confirmed)
    }

    /// Returns whether the agent needs a message even if none is lost. An
    /// agent with an equal list of another epoch needs one to learn of this epoch.
    fn is_behind(&self, latest: u64) -> bool {
        let is_unaware = self.equivalent.is_some() && self.outstanding.is_empty();
        self.expected() != Some(latest) || is_unaware
    }

    /// Returns the message that updates the agent to the latest version.
    fn message(&self, history: &mut PeerHistory) -> EncodedMessage {
        // Messages that were sent may be lost. An agent compares `equivalent` with the version
        // that it had before, so a message with `equivalent` builds on that version.
        let base = match self.equivalent {
            Some(_) => self.confirmed,
            None => self.expected(),
        };
        let key = history.message_key(base, self.equivalent, self.form);
        history.message(key)
    }

    /// Handles a version that the agent reports; `None`: a version of another epoch.
    fn acknowledge(&mut self, version: Option<u64>, latest: u64) -> Acknowledgement {
        let sent = |sent: &u64| Some(*sent) == version;
        if let Some(index) = self.outstanding.iter().position(sent) {
            // Earlier messages are contained in this one.
            self.outstanding.drain(..=index);
            if self.outstanding.is_empty() {
                // Frees the memory, which counts with many thousands of agents.
                self.outstanding = Vec::new();
            }
        } else if version == Some(latest) {
            self.outstanding.clear();
        } else if version.is_some() && version == self.confirmed && self.outstanding.is_empty() {
            return Acknowledgement::Repeats;
        } else {
            self.outstanding.clear();
            self.set_confirmed(version);
            return Acknowledgement::ReportsGap;
        }
        self.set_confirmed(version);
        Acknowledgement::Confirms
    }

    fn set_confirmed(&mut self, version: Option<u64>) {
        self.confirmed = version;
        self.equivalent = None;
        self.resend_delay = RESEND_FIRST;
    }
}

impl PeerDelivery {
    /// Schedules the messages about a change.
    pub fn schedule(&mut self, now: Time) {
        self.flush_at
            .get_or_insert((now + GATHER).max(self.pause_until));
    }

    /// Subscribes an agent, or subscribes it anew.
    pub fn subscribe(
        &mut self,
        now: Time,
        history: &PeerHistory,
        ip: Ipv4Addr,
        subscription: Subscription,
    ) {
        self.unsubscribe(ip);
        let Subscription { pid, version, form } = subscription;
        let own = history.own_version(version);
        let equivalent = match own {
            Some(_) => None,
            None => history.equivalent_of_latest(version),
        };
        let receiver = Receiver {
            pid,
            form,
            confirmed: own.or(equivalent.map(|_| history.version())),
            equivalent,
            outstanding: Vec::new(),
            in_flight: 0,
            last_sent: None,
            resend_at: None,
            resend_delay: RESEND_FIRST,
        };
        if receiver.confirmed.is_none() {
            self.registration_hold.get_or_insert(Hold {
                since: now,
                until: now,
            });
            self.extend_hold(now);
        }
        if receiver.is_behind(history.version()) {
            self.schedule(now);
        }
        self.receivers.insert(ip, receiver);
    }

    /// Ends the subscription of an agent.
    pub fn unsubscribe(&mut self, ip: Ipv4Addr) {
        self.clear_in_flight(ip);
        self.queue.remove(&ip);
        self.set_resend(ip, None);
        self.receivers.remove(&ip);
    }

    /// Extends the wait of queued long messages, because agents are about to subscribe. The
    /// present list would be out of date at once, and its delivery would delay the
    /// registrations.
    pub fn extend_hold(&mut self, now: Time) {
        if let Some(hold) = &mut self.registration_hold {
            hold.until = (now + GATHER).min(hold.since + MAX_HOLD);
        }
    }

    /// Returns the number of subscribed agents that have not confirmed the latest version.
    pub fn count_behind(&self, latest: u64) -> usize {
        self.receivers
            .values()
            .filter(|receiver| receiver.confirmed != Some(latest))
            .count()
    }

    /// Handles the version that an agent reports. Returns `false` if the agent is not
    /// subscribed.
    pub fn handle_received(
        &mut self,
        out: &mut Outbox,
        history: &mut PeerHistory,
        ip: Ipv4Addr,
        reported: PeersVersion,
    ) -> bool {
        self.clear_in_flight(ip);
        let version = history.own_version(reported);
        let acknowledgement = self
            .receivers
            .get_mut(&ip)
            .map(|receiver| receiver.acknowledge(version, history.version()));
        match acknowledgement {
            Some(Acknowledgement::Confirms) => self.postpone_resend(out.now(), ip),
            Some(Acknowledgement::ReportsGap) => self.resync(out, history, ip),
            Some(Acknowledgement::Repeats) | None => {}
        }
        self.send_queued(out, history);
        acknowledgement.is_some()
    }

    /// Restarts the retransmission timer of an agent, or stops it if no message is outstanding.
    fn postpone_resend(&mut self, now: Time, ip: Ipv4Addr) {
        let waits = self
            .receivers
            .get(&ip)
            .is_some_and(|receiver| !receiver.outstanding.is_empty());
        self.set_resend(ip, waits.then(|| now + RESEND_FIRST));
    }

    /// Sends an agent the messages that it lacks, unless it got one just now.
    fn resync(&mut self, out: &mut Outbox, history: &mut PeerHistory, ip: Ipv4Addr) {
        let last_sent = self
            .receivers
            .get(&ip)
            .and_then(|receiver| receiver.last_sent);
        let earliest = last_sent.map_or(out.now(), |last| last + RESYNC_INTERVAL);
        self.set_resend(ip, Some(earliest.max(out.now())));
        self.resend_due(out, history);
    }

    fn set_resend(&mut self, ip: Ipv4Addr, at: Option<Time>) {
        let Some(receiver) = self.receivers.get_mut(&ip) else {
            return;
        };
        if let Some(at) = std::mem::replace(&mut receiver.resend_at, at) {
            self.resends.remove(&Resend { at, ip });
        }
        self.resends.extend(at.map(|at| Resend { at, ip }));
    }

    /// Removes the long messages to an agent from the window: they have arrived, or are lost.
    fn clear_in_flight(&mut self, ip: Ipv4Addr) {
        if let Some(receiver) = self.receivers.get_mut(&ip) {
            self.in_flight -= std::mem::take(&mut receiver.in_flight);
        }
    }

    /// Returns when [`tick`](Self::tick) has to be called.
    pub fn due(&self) -> Option<Time> {
        let resend = self.resends.first().map(|resend| resend.at);
        let hold_end = self.registration_hold.map(|hold| hold.until);
        [self.flush_at, resend, hold_end]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sends the messages that are due.
    pub fn tick(&mut self, out: &mut Outbox, history: &mut PeerHistory) {
        if self.flush_at.is_some_and(|at| at <= out.now()) {
            self.flush(out, history);
        }
        self.resend_due(out, history);
        self.registration_hold = self.registration_hold.filter(|hold| hold.until > out.now());
        self.send_queued(out, history);
    }

    /// Sends the short messages, and queues the long ones.
    fn flush(&mut self, out: &mut Outbox, history: &mut PeerHistory) {
        self.flush_at = None;
        let latest = history.version();
        let behind: Vec<_> = self
            .receivers
            .iter()
            .filter(|(ip, receiver)| receiver.is_behind(latest) && !self.queue.contains(ip))
            .map(|(ip, receiver)| (*ip, receiver.message(history).is_long))
            .collect();
        let mut messages = 0;
        for (ip, is_long) in behind {
            if is_long {
                self.queue.insert(ip);
            } else {
                self.send(out, history, ip);
                messages += 1;
            }
        }
        self.pause_until = out.now() + PAUSE_PER_MESSAGE * messages;
    }

    /// Sends queued long messages for as long as the window has room.
    fn send_queued(&mut self, out: &mut Outbox, history: &mut PeerHistory) {
        while self.registration_hold.is_none() && self.in_flight < WINDOW {
            let Some(ip) = self.queue.pop_first() else {
                break;
            };
            let size = self.send(out, history, ip);
            if let Some(receiver) = self.receivers.get_mut(&ip) {
                receiver.in_flight += size;
                self.in_flight += size;
            }
        }
        if self.queue.is_empty() {
            history.drop_encoded();
        }
    }

    /// Retransmits the unconfirmed messages that are due.
    fn resend_due(&mut self, out: &mut Outbox, history: &mut PeerHistory) {
        let mut sent = 0;
        while let Some(&Resend { at, ip }) = self.resends.first() {
            if at > out.now() {
                break;
            }
            self.set_resend(ip, None);
            if sent > RESEND_BURST {
                self.set_resend(ip, Some(out.now() + GATHER));
                continue;
            }
            self.clear_in_flight(ip);
            let Some(receiver) = self.receivers.get_mut(&ip) else {
                continue;
            };
            receiver.outstanding.clear();
            receiver.resend_delay = (receiver.resend_delay * 2).min(RESEND_LIMIT);
            self.queue.remove(&ip);
            sent += self.send(out, history, ip);
        }
    }

    /// Sends an agent the message that updates it to the latest version. Returns the size of the
    /// message, in bytes.
    fn send(&mut self, out: &mut Outbox, history: &mut PeerHistory, ip: Ipv4Addr) -> usize {
        let Some(receiver) = self.receivers.get_mut(&ip) else {
            return 0;
        };
        let body = receiver.message(history).bytes;
        let size = body.len();
        out.push(Effect::Io(Io::Send {
            to: Upid::clone(&receiver.pid),
            name: UpdatePeersMessage::NAME,
            body,
            session: Bytes::new(),
        }));
        receiver.outstanding.push(history.version());
        if receiver.outstanding.len() > MAX_OUTSTANDING {
            receiver.outstanding.remove(0);
        }
        receiver.last_sent = Some(out.now());
        let at = out.now() + receiver.resend_delay;
        self.set_resend(ip, Some(at));
        size
    }
}

#[cfg(test)]
mod tests;
