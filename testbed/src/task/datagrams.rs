//! Datagrams of numbered datagrams that a task sends and receives.
//!
//! Each datagram contains the id of its stream and a number; a sender sends one per millisecond.
//! Lost datagrams are not repeated, so the receiver can tell which ones are missing, and how
//! long none arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

/// Pause between two datagrams of a stream.
const INTERVAL: Duration = Duration::from_millis(1);
/// Receive buffer, bytes. If the scheduler does not run the receiver for a while, nothing may
/// be lost here that the network delivered.
const BUFFER: usize = 8 << 20;

/// All streams of a task.
#[derive(Clone, Default)]
pub(crate) struct Datagrams(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    outgoing: Vec<Outgoing>,
    incoming: BTreeMap<u64, Incoming>,
}

struct Outgoing {
    to: SocketAddr,
    stop: Arc<AtomicBool>,
    /// Thread that sends. Returns the stream's id, the number of datagrams, and the number of
    /// errors.
    sender: JoinHandle<(u64, u64, u64)>,
}

#[derive(Default)]
struct Incoming {
    datagrams: u64,
    /// Number of the next datagram if none is missing.
    next: u64,
    missing: BTreeSet<u64>,
    /// Datagrams that arrived after a later one.
    late: u64,
    last: Option<Instant>,
    longest_gap: Duration,
}

impl Datagrams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to receive at the address where the task listens.
    pub(crate) fn receive_at(&self, address: SocketAddr) -> Result<()> {
        let socket =
            UdpSocket::bind(address).with_context(|| format!("listening on {address} (UDP)"))?;
        // Root may exceed the limit of ordinary users.
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

    /// Starts a stream to the task at the address.
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

    /// Ends the streams that the task sends, and returns their numbers of datagrams.
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

    /// Returns the received streams so far.
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
            return; // duplicated by the network
        }
        self.datagrams += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lost_late_and_duplicate_datagrams() {
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
