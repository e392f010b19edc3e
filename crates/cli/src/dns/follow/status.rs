//! Status of the follower, for the health endpoint and metrics.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use overlay_dns::cluster::Counts;
use parking_lot::Mutex;

/// State of the follower.
#[derive(Debug, Default)]
pub struct Status {
    shown: Mutex<Shown>,
    /// Time of the last byte of a master, in milliseconds since 1970.
    heard: AtomicU64,
    bytes: AtomicU64,
    events: AtomicU64,
    failures: AtomicU64,
}

/// Status of the follower.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Master whose events arrive, `host:port`.
    pub leader: Option<String>,
    /// Address of this master for others, as far as it is known.
    pub leader_ip: Option<IpAddr>,
    /// Another one that leads by what ZooKeeper says, `host:port`.
    pub replaced_by: Option<String>,
    /// Reason why none does, a sentence.
    pub error: Option<String>,
    /// Numbers of entries of the table, at most a second old.
    pub counts: Counts,
    /// Time of the last snapshot that was written.
    pub snapshot: Option<SystemTime>,
    /// Reason why the snapshot could not be read or written.
    pub snapshot_error: Option<String>,
}

impl Status {
    /// Returns the present state.
    pub fn shown(&self) -> Shown {
        self.shown.lock().clone()
    }

    /// Changes the state.
    pub fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock());
    }

    /// Returns the time of the last byte of a master.
    pub fn heard(&self) -> SystemTime {
        let milliseconds = self.heard.load(Ordering::Relaxed);
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    /// Returns the number of bytes of events.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of parts of events: a whole state has one for each task, agent and
    /// framework.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Returns the number of failed attempts to follow a master, and of streams that ended.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Counts bytes that arrived now.
    pub fn hear(&self, bytes: usize) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let milliseconds = since.unwrap_or_default().as_millis();
        let milliseconds = u64::try_from(milliseconds).unwrap_or_default();
        self.heard.store(milliseconds, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a part of an event.
    pub fn count_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure, and says why no events arrive.
    pub fn fail(&self, error: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut shown = self.shown.lock();
        shown.leader = None;
        if shown.error.as_ref() != Some(&error) {
            log::warn!("{error}");
            shown.error = Some(error);
        }
    }
}
