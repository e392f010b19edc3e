//! Facts that the follower knows, for metrics and lookups of the server.

use std::net::IpAddr;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use overlay_dns::cluster::Wanted;
use overlay_dns::server::lookup::{Facts, Gauges, Task};
use overlay_dns::zone::DomainName;

use super::follow::{Message, Status};

/// Time that the table may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Status of the follower, and its table.
#[derive(Clone, Debug)]
pub struct Source {
    /// Status.
    pub status: Arc<Status>,
    /// Table.
    pub table: SyncSender<Message>,
}

/// Facts that the follower knows, from its start on.
#[derive(Debug, Default)]
pub struct FollowerFacts(OnceLock<Source>);

impl FollowerFacts {
    /// Sets the follower. Only the first one counts.
    pub fn set(&self, source: Source) {
        let _ = self.0.set(source);
    }

    /// Asks the table for tasks. None: it is not there, or busy with a master's whole state.
    fn tasks(&self, wanted: Wanted) -> Vec<Task> {
        let Some(source) = self.0.get() else {
            return Vec::new();
        };
        let (reply, replies) = mpsc::sync_channel(1);
        if source.table.try_send(Message::Find(wanted, reply)).is_err() {
            return Vec::new();
        }
        replies.recv_timeout(LIMIT).unwrap_or_default()
    }
}

impl Facts for FollowerFacts {
    fn gauges(&self) -> Gauges {
        let Some(source) = self.0.get() else {
            return Gauges::default();
        };
        let shown = source.status.shown();
        Gauges {
            is_connected: shown.leader.is_some(),
            tasks: shown.counts.named,
            waiting: shown.counts.waiting,
            left_out: shown.counts.left_out,
            refused: shown.counts.refused,
            agents: shown.counts.agents,
            frameworks: shown.counts.frameworks,
            failures: source.status.failures(),
            events: source.status.events(),
            bytes: source.status.bytes(),
        }
    }

    fn tasks_of_name(&self, owner: &DomainName) -> Vec<Task> {
        self.tasks(Wanted::Name(owner.clone()))
    }

    fn tasks_of_address(&self, address: IpAddr) -> Vec<Task> {
        self.tasks(Wanted::Address(address))
    }
}
