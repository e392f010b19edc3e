//! Watches of processes under attack: memory, open files, sockets, and times of answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use testbed::http::Client;
use testbed::node::Node;

use crate::load::measure::{median, usage};

/// Time between two samples of a process, and between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(50);

/// Resources that a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Anonymous memory (RssAnon), bytes.
    pub memory: u64,
    /// Number of open files, which include sockets.
    pub files: usize,
}

/// Reads what process `pid` holds.
pub fn held(pid: u32) -> Result<Held> {
    let memory = usage(pid)?.memory;
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .with_context(|| format!("open files of process {pid}"))?
        .count();
    Ok(Held { memory, files })
}

/// Returns the number of IPv4 TCP sockets of process `pid`, by the name of their state.
pub fn sockets(pid: u32) -> Result<BTreeMap<&'static str, usize>> {
    let mut own = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // Files may be closed meanwhile.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        own.extend(inode.map(str::to_owned));
    }
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(format!("/proc/{pid}/net/tcp"))?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(state), Some(inode)) = (fields.nth(3), fields.nth(5)) else {
            continue;
        };
        if own.contains(inode) {
            *counts.entry(state_name(state)).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Returns the name of a state in /proc/net/tcp (`include/net/tcp_states.h`).
fn state_name(state: &str) -> &'static str {
    match state {
        "01" => "established",
        "02" => "syn-sent",
        "08" => "close-wait",
        "0A" => "listen",
        _ => "other",
    }
}

/// Results of a watch.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Resources at the start.
    pub before: Held,
    /// Highest values.
    pub most: Held,
    /// Sockets when most files were open.
    pub sockets: BTreeMap<&'static str, usize>,
    /// Times of all requests, in the order of their starts; also of those that failed.
    pub answers: Vec<Duration>,
    /// Number of requests without an answer, or with one of status 500 or above.
    pub failed: usize,
    /// Longest time without an answer to any request.
    pub silence: Duration,
    /// Time from start to end of the watch.
    pub time: Duration,
}

impl Watched {
    /// Returns the growth of the memory, bytes.
    pub fn more_memory(&self) -> u64 {
        self.most.memory.saturating_sub(self.before.memory)
    }

    /// Returns the number of additional open files.
    pub fn more_files(&self) -> usize {
        self.most.files.saturating_sub(self.before.files)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.1} s: memory {:.0} MiB (+{:.0}), open files {} (+{}), {} answers, {} failed, median {:.0?}, \
             longest silence {:.0?}, TCP sockets at most",
            self.time.as_secs_f64(),
            mib(self.most.memory),
            mib(self.more_memory()),
            self.most.files,
            self.more_files(),
            self.answers.len(),
            self.failed,
            median(self.answers.clone()),
            self.silence,
        )?;
        let counts = self.sockets.iter();
        let counts: Vec<_> = counts
            .map(|(state, count)| format!(" {count} {state}"))
            .collect();
        f.write_str(&counts.join(","))
    }
}

/// A watch of a running Mesos process: two threads, of which one samples the process and one sends
/// GET requests.
#[derive(Debug)]
pub struct Watch {
    name: String,
    start: Instant,
    stop: Arc<AtomicBool>,
    watched: Arc<Mutex<Watched>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Starts a watch of a node, which is asked for `path`, for example `/overlay-master/health`.
    pub fn start(node: &Node, path: &'static str) -> Result<Watch> {
        let pid = node.pid().context("watching a node that is not running")?;
        let before = held(pid)?;
        let watched = Arc::new(Mutex::new(Watched {
            most: before.clone(),
            sockets: sockets(pid)?,
            before,
            ..Watched::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (client, mut answered) = (node.client(), Instant::now());
        let threads = vec![
            repeat(&stop, &watched, move |watched| sample(pid, watched)),
            repeat(&stop, &watched, move |watched| {
                ask(&client, path, &mut answered, watched);
            }),
        ];
        Ok(Watch {
            name: node.name().to_owned(),
            start: Instant::now(),
            stop,
            watched,
            threads,
        })
    }

    /// Ends the watch. Prints a line about `what` happened and what was measured, and returns it.
    pub fn stop(mut self, what: &str) -> Result<Watched> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a watch panicked"))?;
        }
        let mut watched = self.watched.lock().unwrap().clone();
        watched.time = self.start.elapsed();
        println!("{what}: {} {watched}", self.name);
        Ok(watched)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Starts a thread that calls `work` until `stop` is set.
fn repeat(
    stop: &Arc<AtomicBool>,
    watched: &Arc<Mutex<Watched>>,
    mut work: impl FnMut(&Mutex<Watched>) + Send + 'static,
) -> JoinHandle<()> {
    let (stop, watched) = (stop.clone(), watched.clone());
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            work(&watched);
            // This sets the rate; it does not wait for a condition.
            thread::sleep(PAUSE);
        }
    })
}

fn sample(pid: u32, watched: &Mutex<Watched>) {
    // The process may have ended; the test notices by itself.
    let Ok(now) = held(pid) else { return };
    let mut watched = watched.lock().unwrap();
    watched.most.memory = watched.most.memory.max(now.memory);
    if now.files > watched.most.files {
        watched.most.files = now.files;
        watched.sockets = sockets(pid).unwrap_or_default();
    }
}

/// Sends a request. `answered` is the time of the last answer.
fn ask(client: &Client, path: &str, answered: &mut Instant, watched: &Mutex<Watched>) {
    let start = Instant::now();
    let good = client.get(path).is_ok_and(|reply| reply.status < 500);
    let mut watched = watched.lock().unwrap();
    watched.answers.push(start.elapsed());
    watched.failed += usize::from(!good);
    watched.silence = watched.silence.max(answered.elapsed());
    if good {
        *answered = Instant::now();
    }
}
