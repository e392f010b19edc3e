//! Numbered datagrams between tasks, to count what gets lost on the way.
//!
//! A sender gives every datagram its stream's id and the next number, one each
//! millisecond. Nobody sends a lost one again, so the receiver knows at the end
//! which did not come, and how long there was nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

use crate::task::Remote;
use crate::wait;

/// Time from one datagram to the next.
const INTERVAL: Duration = Duration::from_millis(1);
/// For a receiver that the scheduler forgets for a while: what waits for it must not
/// be lost, since that would be no loss of the network's.
const BUFFER: usize = 8 << 20;

/// All streams that a task sends and receives.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    outgoing: Vec<Outgoing>,
    incoming: BTreeMap<u64, Incoming>,
}

struct Outgoing {
    to: SocketAddr,
    stop: Arc<AtomicBool>,
    /// Gives the stream's id, the datagrams sent, and how often the kernel refused one.
    sender: JoinHandle<(u64, u64, u64)>,
}

#[derive(Default)]
struct Incoming {
    datagrams: u64,
    /// The number that the next one has if none is missing.
    next: u64,
    missing: BTreeSet<u64>,
    /// Those that were missing first.
    late: u64,
    last: Option<Instant>,
    longest_gap: Duration,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives at the address where the task listens, for ever.
    pub(crate) fn receive_at(&self, address: SocketAddr) -> Result<()> {
        let socket =
            UdpSocket::bind(address).with_context(|| format!("listening on {address} (UDP)"))?;
        // Beyond the limit of ordinary users if we may.
        let size = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        size.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER))?;
        let streams = self.clone();
        thread::spawn(move || {
            let mut datagram = [0; 16];
            loop {
                if let Ok(16) = socket.recv(&mut datagram) {
                    let [id, number] =
                        [0, 8].map(|at| u64::from_be_bytes(array(&datagram[at..at + 8])));
                    streams
                        .lock()
                        .incoming
                        .entry(id)
                        .or_default()
                        .note(number, Instant::now());
                }
            }
        });
        Ok(())
    }

    /// Starts to send to the task at the address.
    pub(crate) fn send(&self, to: SocketAddr) -> Result<()> {
        let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).context("making a socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let id = fastrand::u64(..);
            let (mut number, mut errors) = (0_u64, 0);
            while !stopped.load(Ordering::Relaxed) {
                let datagram = [id.to_be_bytes(), number.to_be_bytes()].concat();
                errors += u64::from(socket.send_to(&datagram, to).is_err());
                number += 1;
                thread::sleep(INTERVAL);
            }
            (id, number, errors)
        });
        self.lock().outgoing.push(Outgoing { to, stop, sender });
        Ok(())
    }

    /// Ends all that it sends, and says how much that was.
    pub(crate) fn stop(&self) -> Value {
        let outgoing = std::mem::take(&mut self.lock().outgoing);
        outgoing
            .iter()
            .for_each(|stream| stream.stop.store(true, Ordering::Relaxed));
        let sent = outgoing.into_iter().map(|stream| {
            let (id, sent, errors) = stream.sender.join().unwrap_or_default();
            json!({ "id": id, "to": stream.to.to_string(), "sent": sent, "errors": errors })
        });
        json!({ "streams": sent.collect::<Vec<_>>() })
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Value {
        let state = self.lock();
        let streams = state.incoming.iter().map(|(id, stream)| {
            json!({
                "id": id,
                "datagrams": stream.datagrams,
                "missing": stream.missing.len(),
                "late": stream.late,
                "longest_gap_us": u64::try_from(stream.longest_gap.as_micros()).unwrap_or(u64::MAX),
            })
        });
        json!({ "streams": streams.collect::<Vec<_>>() })
    }
}

fn array(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().unwrap_or_default()
}

impl Incoming {
    fn note(&mut self, number: u64, now: Instant) {
        self.longest_gap = self
            .longest_gap
            .max(now - self.last.replace(now).unwrap_or(now));
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.late += 1;
        } else {
            return; // a second time: the network may do that
        }
        self.datagrams += 1;
    }
}

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// From whom to whom.
    pub way: String,
    /// Datagrams sent.
    pub sent: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Those that did, after a later one.
    pub late: u64,
    /// Longest time in which none arrived.
    pub longest_gap: Duration,
}

/// Streams under way between tasks, from each to the next and from the last to the first.
#[derive(Debug)]
pub struct Traffic {
    tasks: Vec<Remote>,
}

impl Traffic {
    /// Starts them, and waits until something came everywhere.
    pub fn start(tasks: &[Remote], limit: Duration) -> Result<Traffic> {
        let next = tasks.iter().cycle().skip(1);
        for (task, next) in tasks.iter().zip(next) {
            task.send(next.address())?;
        }
        let traffic = Traffic {
            tasks: tasks.to_vec(),
        };
        traffic.flow(100, limit)?;
        Ok(traffic)
    }

    /// Waits until every task got so many datagrams more.
    pub fn flow(&self, datagrams: u64, limit: Duration) -> Result<()> {
        let count = || -> Result<Vec<u64>> {
            let sum =
                |task: &Remote| Ok(task.received()?.iter().map(|stream| stream.datagrams).sum());
            self.tasks.iter().map(sum).collect()
        };
        let before = count()?;
        wait::until(
            &format!("{datagrams} datagrams more at each task"),
            limit,
            || {
                let enough = count()?
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now - before >= datagrams);
                Ok(enough.then_some(()))
            },
        )
    }

    /// Ends them, gives the last datagrams time to arrive, and says what was lost.
    pub fn finish(self) -> Result<Vec<Outcome>> {
        let sent = self
            .tasks
            .iter()
            .map(Remote::stop)
            .collect::<Result<Vec<_>>>()?;
        let next = self.tasks.iter().cycle().skip(1);
        let mut outcomes = Vec::new();
        for ((task, next), sent) in self.tasks.iter().zip(next).zip(sent) {
            for sent in sent {
                let way = format!("{} to {}", task.address().ip(), sent.to);
                outcomes.push(outcome(way, next, &sent)?);
            }
        }
        Ok(outcomes)
    }
}

/// How long the last datagram may be under way.
const PATIENCE: Duration = Duration::from_secs(1);

fn outcome(way: String, receiver: &Remote, sent: &Sent) -> Result<Outcome> {
    let start = Instant::now();
    loop {
        let received = receiver
            .received()?
            .into_iter()
            .find(|stream| stream.id == sent.id);
        let received = received.unwrap_or_default();
        let lost = sent.sent.saturating_sub(received.datagrams);
        if lost == 0 || start.elapsed() > PATIENCE {
            let Received {
                late, longest_gap, ..
            } = received;
            return Ok(Outcome {
                way,
                sent: sent.sent,
                lost,
                late,
                longest_gap,
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a task says of a stream that it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Random.
    pub id: u64,
    /// Where to.
    pub to: String,
    /// Datagrams.
    pub sent: u64,
    /// Those among them that the kernel refused to send.
    pub errors: u64,
}

/// What a task says of a stream that it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The sender's.
    pub id: u64,
    /// Datagrams, each counted once.
    pub datagrams: u64,
    /// Numbers left out so far.
    pub missing: u64,
    /// Datagrams that came after a later one.
    pub late: u64,
    /// Longest time in which none came.
    pub longest_gap: Duration,
}

impl Remote {
    /// Lets it send a stream to another task.
    pub fn send(&self, to: SocketAddr) -> Result<()> {
        self.ask(&format!("send {to}")).map(drop)
    }

    /// Ends the streams that it sends.
    pub fn stop(&self) -> Result<Vec<Sent>> {
        streams(&self.ask("stop")?, |stream, number| {
            let to = stream["to"].as_str().unwrap_or_default().to_owned();
            Ok(Sent {
                id: number("id")?,
                to,
                sent: number("sent")?,
                errors: number("errors")?,
            })
        })
    }

    /// The streams that it gets or got.
    pub fn received(&self) -> Result<Vec<Received>> {
        streams(&self.ask("received")?, |_, number| {
            Ok(Received {
                id: number("id")?,
                datagrams: number("datagrams")?,
                missing: number("missing")?,
                late: number("late")?,
                longest_gap: Duration::from_micros(number("longest_gap_us")?),
            })
        })
    }
}

fn streams<T>(
    answer: &Value,
    read: impl Fn(&Value, &dyn Fn(&str) -> Result<u64>) -> Result<T>,
) -> Result<Vec<T>> {
    let streams = answer["streams"]
        .as_array()
        .context("no streams in the answer")?;
    let read = |stream: &Value| {
        read(stream, &|key| {
            stream[key]
                .as_u64()
                .with_context(|| format!("no {key} in the answer"))
        })
    };
    streams.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_lost_late_and_repeated() {
        let mut stream = Incoming::default();
        let start = Instant::now();
        for (after, number) in [(0, 0), (1, 1), (2, 4), (9, 2), (10, 4), (11, 5)] {
            stream.note(number, start + Duration::from_millis(after));
        }
        assert_eq!((stream.datagrams, stream.late), (5, 1));
        assert_eq!(stream.missing, BTreeSet::from([3]));
        assert_eq!(stream.longest_gap, Duration::from_millis(7));
    }
}
