//! Follower of the leading master: keeps the zones like the cluster.
//!
//! Threads: one reads the master's events, one owns the table and publishes changes, one looks for
//! the masters and the overlays' ranges, some resolve host names of agents, and one writes the
//! snapshot.

mod masters;
mod names;
mod options;
mod status;
mod stream;
mod table;
mod writer;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use overlay_dns::cluster::Wanted;
use overlay_dns::events::Item;
use overlay_dns::publisher::{self, Now, Publisher};
use overlay_dns::server::authority::Authority;
use overlay_dns::server::lookup::Task as Found;
use overlay_dns::snapshot::{self, Snapshot};

use super::facts::Source;
use super::watchdog;
use crate::connection::{ConnectionOptions, Http};
use crate::output::Failure;

pub use options::Options;
pub use status::Status;

/// Messages that wait for the table. A sender waits if there are more.
const WAITING: usize = 1024;

/// Settings of the follower.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses of the masters, or where they are found.
    pub connection: ConnectionOptions,
    /// Zones.
    pub zones: publisher::Settings,
    /// File for the last known records; `None`: they are not kept over restarts.
    pub snapshot: Option<PathBuf>,
}

/// Message to the thread that owns the table.
#[derive(Debug)]
pub enum Message {
    /// Question for tasks, with the place for the answer.
    Find(Wanted, SyncSender<Vec<Found>>),
    /// Part of an event.
    Item(Item),
    /// The stream ended; the time at which it was heard.
    Lost(SystemTime),
    /// Addresses of all masters.
    Masters(Vec<IpAddr>),
    /// Address of the leading master.
    Leader(IpAddr),
    /// Ranges of the overlays.
    Overlays(Vec<IpNet>),
    /// Address of an agent's host name.
    Resolved(String, Option<IpAddr>),
    /// The program ends.
    End,
}

/// Running follower. Dropping it writes the snapshot.
#[derive(Debug)]
pub struct Follower {
    status: Arc<Status>,
    table: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts the threads.
    ///
    /// # Errors
    /// The options for the connection are wrong, or a thread cannot be started.
    pub fn start(settings: Settings, authority: Arc<Authority>) -> Result<Follower, Failure> {
        let http = Http::new(&settings.connection)?;
        let status = Arc::new(Status::default());
        let clock = Clock::start();
        let kept = settings.snapshot.as_deref();
        let kept = kept.and_then(|path| load(path, &settings.zones, &status));
        let publisher = Publisher::new(settings.zones.clone(), kept, authority, clock.now());
        let (table, messages) = mpsc::sync_channel(WAITING);
        let (wake, woken) = mpsc::sync_channel(1);
        let names = names::start(&table)?;
        let writer = settings.snapshot.as_deref();
        let writer = writer
            .map(|path| writer::start(path, Arc::clone(&status)))
            .transpose()?;
        let owner = table::Table::new(publisher, clock, names, writer, Arc::clone(&status));
        let thread = spawn("dns-table", move || owner.run(&messages))?;
        let connection = settings.connection.clone();
        let (to_table, shared, client) = (table.clone(), Arc::clone(&status), http.clone());
        spawn("dns-masters", move || {
            masters::run(&connection, &client, &shared, &to_table, &woken);
        })?;
        let connection = settings.connection;
        let (to_table, shared) = (table.clone(), Arc::clone(&status));
        spawn("dns-events", move || {
            stream::run(&connection, &http, &shared, &to_table, &wake);
        })?;
        Ok(Follower {
            status,
            table,
            thread: Some(thread),
        })
    }

    /// Returns what metrics and lookups are made of.
    pub fn source(&self) -> Source {
        Source {
            status: Arc::clone(&self.status),
            table: self.table.clone(),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // If the table's thread is gone, there is nothing to write.
        if self.table.send(Message::End).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Reads the snapshot. One that cannot be used is put aside.
fn load(path: &Path, zones: &publisher::Settings, status: &Status) -> Option<Snapshot> {
    match snapshot::load(path, &Publisher::rules(zones)) {
        Ok(Some(kept)) => {
            log::info!("the last known names are in {}", path.display());
            Some(kept)
        }
        Ok(None) => None,
        Err(error) => {
            log::error!("{error}");
            status.change(|shown| shown.snapshot_error = Some(error.to_string()));
            let mut aside = path.as_os_str().to_owned();
            aside.push(".damaged");
            if std::fs::rename(path, &aside).is_ok() {
                log::warn!("it is kept as {}", Path::new(&aside).display());
            }
            None
        }
    }
}

/// Clock for the table.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn start() -> Clock {
        Clock(Instant::now())
    }

    fn now(self) -> Now {
        Now {
            clock: self.0.elapsed(),
            calendar: SystemTime::now(),
        }
    }

    /// Returns the time until a moment.
    fn until(self, moment: Duration) -> Duration {
        moment.saturating_sub(self.0.elapsed())
    }
}

fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    let thread = thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(watchdog::guard(name, run));
    started.map_err(|error| Failure(format!("cannot start a thread: {error}")))
}
