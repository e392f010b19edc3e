//! Blind senders: they send libprocess messages with any sender, and see no answers.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use overlay_core::Upid;
use overlay_core::protocol::messages::Named;
use testbed::netns::{self, Netns};

use crate::load::wire::encode;

/// Timeout of connecting and of each write: a receiver that takes nothing ends a flood.
const PATIENCE: Duration = Duration::from_secs(10);
/// Number of bytes that are written at once in a flood without a rate.
const BATCH: usize = 256 << 10;

/// Returns a message of `from` to the process `to`, as it is on the wire. libprocess sends no
/// answer to it.
pub fn message<M: Named>(from: &str, to: &str, message: &M) -> Vec<u8> {
    encode(from, to, M::NAME, &message.encode_to_vec())
}

/// A connection to a libprocess, over which messages of any sender are sent.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    to: String,
}

impl Sender {
    /// Connects to the libprocess of `to` from a network namespace, for example that of a
    /// container; `None`: from this process's own.
    pub fn connect(from: Option<&Netns>, to: &Upid) -> Result<Sender> {
        let stream = netns::connect(from, to.address, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let to = to.id.clone();
        Ok(Sender { stream, to })
    }

    /// Returns the address that the receiver sees, unless it is translated on the way.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends a message whose sender is said to be `from`.
    pub fn send<M: Named>(&mut self, from: &str, body: &M) -> Result<()> {
        self.write(&message(from, &self.to, body))
    }

    /// Sends a message of any type, with any body.
    pub fn send_raw(&mut self, from: &str, name: &str, body: &[u8]) -> Result<()> {
        self.write(&encode(from, &self.to, name, body))
    }

    /// Sends bytes, for example several messages at once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .write_all(bytes)
            .with_context(|| format!("sending to {}", self.to))
    }
}

/// Outcome of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Number of messages.
    pub messages: u64,
    /// Time from the first to the last.
    pub time: Duration,
}

/// A thread that sends many messages. It ends after the last message, with the connection, after
/// its limit of time, or when the flood is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

impl Flood {
    /// Sends `count` messages, of which `make` returns the bytes by their number, as fast as the
    /// receiver takes them.
    pub fn fast(
        sender: Sender,
        count: u64,
        limit: Duration,
        make: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Flood {
        Flood::start(sender, count, None, limit, make)
    }

    /// Sends `rate` messages in each second.
    pub fn steady(
        sender: Sender,
        rate: u32,
        limit: Duration,
        make: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Flood {
        Flood::start(sender, u64::MAX, Some(rate), limit, make)
    }

    fn start(
        mut sender: Sender,
        count: u64,
        rate: Option<u32>,
        limit: Duration,
        mut make: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let start = Instant::now();
            let mut messages = 0;
            while messages < count && start.elapsed() < limit && !stopped.load(Ordering::Relaxed) {
                let (mut batch, mut size) = (Vec::new(), 0);
                let enough = rate.map_or(BATCH, |_| 1);
                while batch.len() < enough && messages + size < count {
                    batch.extend(make(messages + size));
                    size += 1;
                }
                if sender.write(&batch).is_err() {
                    break;
                }
                messages += size;
                // This sets the rate; it does not wait for a condition.
                if let Some(rate) = rate {
                    let next = Duration::from_secs(1) * u32::try_from(messages).unwrap() / rate;
                    thread::sleep(next.saturating_sub(start.elapsed()));
                }
            }
            let time = start.elapsed();
            Sent { messages, time }
        });
        Flood {
            stop,
            thread: Some(thread),
        }
    }

    /// Returns true if the flood has ended.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all is sent.
    pub fn finish(mut self) -> Result<Sent> {
        let thread = self.thread.take().context("a flood ends once")?;
        thread.join().map_err(|_| anyhow!("a flood panicked"))
    }

    /// Ends the flood now.
    pub fn stop(self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use overlay_core::proto::internal::AgentRegisteredAcknowledgement;

    use super::*;

    fn listen() -> (TcpListener, Sender) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Upid::new("overlay-agent", listener.local_addr().unwrap());
        let sender = Sender::connect(None, &to).unwrap();
        (listener, sender)
    }

    fn acknowledgement(number: u64) -> Vec<u8> {
        let from = format!("overlay-master@10.0.0.1:{number}");
        message(
            &from,
            "overlay-agent",
            &AgentRegisteredAcknowledgement::default(),
        )
    }

    #[test]
    fn a_flood_has_as_many_messages_as_are_asked_for() {
        let (listener, sender) = listen();
        let flood = Flood::fast(sender, 10_000, PATIENCE, acknowledgement);
        let mut received = String::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_string(&mut received).unwrap();
        assert_eq!(flood.finish().unwrap().messages, 10_000);
        assert_eq!(received.matches("POST /overlay-agent/").count(), 10_000);
        assert!(received.contains("Libprocess-From: overlay-master@10.0.0.1:9999\r\n"));
    }

    #[test]
    fn a_steady_flood_keeps_its_rate_and_its_limit() {
        let (_listener, sender) = listen();
        let flood = Flood::steady(sender, 100, Duration::from_millis(300), acknowledgement);
        let sent = flood.finish().unwrap();
        assert!((1..=31).contains(&sent.messages), "{sent:?}");
    }
}
