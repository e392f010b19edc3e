//! The peers of the agents: which ones there are, and their delivery to every agent.
//!
//! Each change of the data that agents need of each other is a new version of the list. A
//! subscribed agent gets one snapshot, and then deltas from the version that it has. Messages
//! may be lost, so agents confirm their version, and the master retransmits missing changes.
//! Versions count within an epoch, which is one term of a leading master. An agent whose list
//! of another epoch has the same digest needs no snapshot.
//!
//! In a large cluster lists are long, and many agents need them. Registrations go first, few
//! long messages are in flight at a time, and many short ones are followed by a pause. See
//! docs/scaling.md.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::counters::Outbox;
use super::record::EncodedAgent;
use crate::Time;
use crate::proto::internal::PeersVersion;

mod delivery;
mod history;
#[cfg(test)]
mod samples;

pub use delivery::Subscription;
pub use history::ListForm;

use delivery::PeerDelivery;
use history::PeerHistory;

/// The peers with their history, and the agents that get them.
#[derive(Debug)]
pub struct Peers {
    history: PeerHistory,
    delivery: PeerDelivery,
}

impl Peers {
    /// Begins an epoch with these agents. `epoch` is not 0.
    pub fn new<'a>(
        epoch: u64,
        agents: impl Iterator<Item = (Ipv4Addr, &'a Arc<EncodedAgent>)>,
    ) -> Peers {
        Peers {
            history: PeerHistory::new(epoch, agents),
            delivery: PeerDelivery::default(),
        }
    }

    /// Updates an agent from the committed state; `None`: it has no allocation any more.
    pub fn update(&mut self, now: Time, ip: Ipv4Addr, agent: Option<&Arc<EncodedAgent>>) {
        if self.history.update(ip, agent) {
            self.delivery.schedule(now);
        }
    }

    /// Subscribes an agent that has registered, or subscribes it anew.
    pub fn subscribe(&mut self, now: Time, ip: Ipv4Addr, subscription: Subscription) {
        self.delivery
            .subscribe(now, &self.history, ip, subscription);
    }

    /// Ends the subscription of an agent that cannot be reached any more.
    pub fn unsubscribe(&mut self, ip: Ipv4Addr) {
        self.delivery.unsubscribe(ip);
    }

    /// Postpones long lists, because agents are about to subscribe.
    pub fn expect_subscriptions(&mut self, now: Time) {
        self.delivery.extend_hold(now);
    }

    /// Handles the version that an agent reports. Returns `false` if the agent is not
    /// subscribed.
    pub fn handle_received(
        &mut self,
        out: &mut Outbox,
        ip: Ipv4Addr,
        reported: PeersVersion,
    ) -> bool {
        self.delivery
            .handle_received(out, &mut self.history, ip, reported)
    }

    /// Returns the epoch, which only agents know that were sent a list.
    pub fn epoch(&self) -> u64 {
        self.history.epoch()
    }

    /// Returns the number of subscribed agents that have not confirmed the latest version.
    pub fn count_behind(&self) -> usize {
        self.delivery.count_behind(self.history.version())
    }

    /// Returns when [`tick`](Self::tick) has to be called.
    pub fn due(&self) -> Option<Time> {
        self.delivery.due()
    }

    /// Sends the messages that are due.
    pub fn tick(&mut self, out: &mut Outbox) {
        self.delivery.tick(out, &mut self.history);
    }
}
