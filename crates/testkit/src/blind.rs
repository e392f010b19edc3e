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

/// Timeout of connecting and of each write: a receiver that takes nothing ends a flood.
const PATIENCE: Duration = Duration::from_secs(10);
/// Number of bytes that are written at once in a flood without a rate.
const BATCH: usize = 256 << 10;

/// Returns a message of `from` to the process `to`, as it is on the wire.
pub fn message<M: Named>(from: &str, to: &str, message: &M) -> Vec<u8> {
    encode(from, to, M::NAME, &message.encode_to_vec())
}

/// Encodes a message with the older of libprocess's two headers for the sender, which it does not
/// answer.
pub fn encode(from: &str, to: &str, name: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut message = format!(
        "POST /{to}/{name} HTTP/1.1\r\nUser-Agent: libprocess/{from}\r\nConnection: Keep-Alive\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    message.extend_from_slice(body);
    message
}

/// A connection to a libprocess, over which messages of any sender are sent. When it is closed,
/// libprocess drops the messages that it has not delivered yet.
#[derive(Debug)]
pub struct Sender {
    from: Option<Netns>,
    to: Upid,
    stream: TcpStream,
}

impl Sender {
    /// Connects to the libprocess of `to` from a network namespace, for example that of a
    /// container; `None`: from this process's own.
    pub fn connect(from: Option<&Netns>, to: &Upid) -> Result<Sender> {
        Ok(Sender {
            from: from.cloned(),
            to: to.clone(),
            stream: connect(from, to)?,
        })
    }

    /// Returns the address that the receiver sees, unless it is translated on the way.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends a message whose sender is said to be `from`.
    pub fn send<M: Named>(&mut self, from: &str, body: &M) -> Result<()> {
        self.write(&message(from, &self.to.id, body))
    }

    /// Sends a message of any type, with any body.
    pub fn send_raw(&mut self, from: &str, name: &str, body: &[u8]) -> Result<()> {
        self.write(&encode(from, &self.to.id, name, body))
    }

    /// Sends bytes, for example several messages at once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .write_all(bytes)
            .with_context(|| format!("sending to {}", self.to))
    }

    /// Sends bytes over a new connection.
    fn write_again(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream = connect(self.from.as_ref(), &self.to)?;
        self.write(bytes)
    }
}

fn connect(from: Option<&Netns>, to: &Upid) -> Result<TcpStream> {
    let stream = netns::connect(from, to.address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Outcome of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Number of messages.
    pub messages: u64,
    /// Time from the first to the last.
    pub time: Duration,
}

/// A thread that sends many messages, over a new connection whenever one breaks. It ends after the
/// last message, after its limit of time, or when the flood is dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Sent, Box<dyn Send>)>>,
    /// Keeps the connection open.
    connection: Option<Box<dyn Send>>,
}

impl Flood {
    /// Sends `count` messages, of which `make` returns the bytes by their number, as fast as the
    /// receiver takes them.
    pub fn fast(
        mut sender: Sender,
        count: u64,
        limit: Duration,
        mut make: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Flood {
        Flood::start(limit, move |sent, _| {
            if sent == count {
                return None;
            }
            let (mut batch, mut size) = (Vec::new(), 0);
            while batch.len() < BATCH && sent + size < count {
                batch.extend(make(sent + size));
                size += 1;
            }
            let written = sender.write(&batch).or_else(|_| sender.write_again(&batch));
            Some(if written.is_ok() { size } else { 0 })
        })
    }

    /// Sends `rate` messages in each second.
    pub fn steady(
        mut sender: Sender,
        rate: u32,
        limit: Duration,
        mut make: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Flood {
        let mut turn = 0;
        Flood::start(limit, move |_, elapsed| {
            let bytes = make(turn.into());
            let written = sender.write(&bytes).or_else(|_| sender.write_again(&bytes));
            turn += 1;
            // This sets the rate; it does not wait for a condition.
            thread::sleep((Duration::from_secs(1) * turn / rate).saturating_sub(elapsed));
            Some(written.is_ok().into())
        })
    }

    /// Calls `turn` with the number of messages so far and the elapsed time. It returns how many
    /// more it has sent; `None`: all are sent.
    fn start(
        limit: Duration,
        mut turn: impl FnMut(u64, Duration) -> Option<u64> + Send + 'static,
    ) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let send = move || -> (Sent, Box<dyn Send>) {
            let (start, mut messages) = (Instant::now(), 0);
            while start.elapsed() < limit && !stopped.load(Ordering::Relaxed) {
                match turn(messages, start.elapsed()) {
                    Some(more) => messages += more,
                    None => break,
                }
            }
            let time = start.elapsed();
            (Sent { messages, time }, Box::new(turn))
        };
        Flood {
            stop,
            thread: Some(thread::spawn(send)),
            connection: None,
        }
    }

    /// Returns true if the flood has ended.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all is sent. The connection stays open until the flood is dropped.
    pub fn finish(&mut self) -> Result<Sent> {
        let thread = self.thread.take().context("a flood ends once")?;
        let (sent, connection) = thread.join().map_err(|_| anyhow!("a flood panicked"))?;
        self.connection = Some(connection);
        Ok(sent)
    }

    /// Ends the flood now. The connection stays open until the flood is dropped.
    pub fn stop(&mut self) -> Result<Sent> {
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
        let mut flood = Flood::fast(sender, 10_000, PATIENCE, acknowledgement);
        let (mut stream, _) = listener.accept().unwrap();
        let reader = thread::spawn(move || {
            let mut received = String::new();
            stream.read_to_string(&mut received).map(|_| received)
        });
        assert_eq!(flood.finish().unwrap().messages, 10_000);
        drop(flood);
        let received = reader.join().unwrap().unwrap();
        assert_eq!(received.matches("POST /overlay-agent/").count(), 10_000);
        assert!(received.contains("libprocess/overlay-master@10.0.0.1:9999\r\n"));
    }

    #[test]
    fn a_steady_flood_keeps_its_rate_and_its_limit() {
        let (_listener, sender) = listen();
        let mut flood = Flood::steady(sender, 100, Duration::from_millis(300), acknowledgement);
        let sent = flood.finish().unwrap();
        assert!((1..=31).contains(&sent.messages), "{sent:?}");
    }
}
