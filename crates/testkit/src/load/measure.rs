//! Resources of a process, and times of requests.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use testbed::http::Client;

/// Resources that a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all threads.
    pub cpu: Duration,
    /// Anonymous memory (RssAnon), bytes.
    pub memory: u64,
    /// Bytes written to disk.
    pub written: u64,
}

/// Reads the resources of process `pid`.
pub fn usage(pid: u32) -> Result<Usage> {
    let clock =
        clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).context("the master's CPU clock")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Ok(Usage {
        cpu: Duration::from(clock_gettime(clock)?),
        memory: number(&status, "RssAnon:").context("RssAnon")? * 1024,
        written: number(&io, "write_bytes:").unwrap_or_default(),
    })
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Sends a GET request. Returns the time until the answer is complete, and its length in bytes.
pub fn get(client: &Client, path: &str) -> Result<(Duration, usize)> {
    let start = Instant::now();
    let reply = client.get(path)?;
    ensure!(
        reply.status == 200,
        "{path}: {} {}",
        reply.status,
        reply.text().trim()
    );
    Ok((start.elapsed(), reply.body.len()))
}

/// A thread that sends requests to an endpoint repeatedly.
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Duration)>>,
}

impl Probe {
    /// Starts the thread. `pause` is the time between an answer and the next request.
    pub fn start(client: Client, path: &'static str, pause: Duration) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let start = Instant::now();
                if let Ok((time, _)) = get(&client, path) {
                    samples.push((start, time));
                }
                // This sets the rate of requests; it does not wait for a condition.
                thread::sleep(pause);
            }
            samples
        });
        Probe { stop, thread }
    }

    /// Ends the thread. Returns the start time and duration of each request.
    pub fn stop(self) -> Result<Vec<(Instant, Duration)>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the probe panicked"))
    }
}

/// Returns the median; zero if there are no values.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
