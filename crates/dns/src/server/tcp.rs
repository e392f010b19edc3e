//! TCP: connections with several questions, and zone transfers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::answer::{Client, Transport};
use super::engine::{Engine, Next};
use super::metrics::{Counters, add};
use super::places::Places;
use super::transfer;

/// Time that one message may take to come or to go.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// Time that a zone transfer may take where nothing is configured. A zone of 500 MB needs 1.7 MB a
/// second.
pub const TRANSFER_TIME: Duration = Duration::from_secs(300);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Pause after an error of the kernel, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one address at once.
    pub per_client: usize,
    /// Time that a connection stays open without questions.
    pub idle: Duration,
    /// Time that a zone transfer may take.
    pub transfer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            per_client: 100,
            idle: Duration::from_secs(10),
            transfer: TRANSFER_TIME,
        }
    }
}

/// Connections that are open.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    places: Arc<Places<IpAddr>>,
}

impl Connections {
    /// Makes an empty set.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            places: Arc::new(Places::new(limits.connections, limits.per_client)),
        }
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.places.taken()
    }
}

/// Opens a socket that accepts connections.
pub fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier process may still be closing.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections until the task is cancelled.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    connections: Arc<Connections>,
    counters: Arc<Counters>,
) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::debug!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let client = address.ip().to_canonical();
        // Who may not ask costs a connection as short as possible.
        let is_known = engine.transfer.contains(client)
            || !engine.keys.is_empty()
            || engine.may_ask(&engine.authority.zones(), client);
        if !is_known {
            continue;
        }
        let Some(place) = connections.places.enter(client) else {
            add(&counters.refused_connections, 1);
            continue;
        };
        let connection = Connection {
            stream,
            engine: Arc::clone(&engine),
            counters: Arc::clone(&counters),
            client: Client {
                address: client,
                transport: Transport::Tcp(connections.limits.idle),
            },
            limits: connections.limits,
        };
        tokio::spawn(async move {
            let _place = place;
            // The client has closed it, or is too slow.
            let _ = connection.run().await;
        });
    }
}

/// A connection of a client.
struct Connection {
    stream: TcpStream,
    engine: Arc<Engine>,
    counters: Arc<Counters>,
    client: Client,
    limits: Limits,
}

impl Connection {
    async fn run(mut self) -> std::io::Result<()> {
        self.stream.set_nodelay(true)?;
        let mut request = Vec::new();
        let mut out = Vec::new();
        loop {
            let length = timeout(self.limits.idle, self.stream.read_u16()).await??;
            request.resize(usize::from(length), 0);
            timeout(MESSAGE_TIME, self.stream.read_exact(&mut request)).await??;
            add(&self.counters.tcp, 1);
            let begin = Instant::now();
            match self.answer(&request, &mut out) {
                Next::Send => self.send(&out).await?,
                // Not a request: the client speaks something else.
                Next::Nothing => return Ok(()),
                Next::Forward => self.forward(&request).await?,
                Next::Transfer => {
                    timeout(self.limits.transfer, self.transfer(&request)).await??;
                }
            }
            self.counters.answer_time.observe(begin.elapsed(), 1);
        }
    }

    fn answer(&self, request: &[u8], out: &mut Vec<u8>) -> Next {
        let zones = self.engine.authority.zones();
        self.engine
            .answer(&zones, request, self.client, &self.counters, out)
    }

    async fn send(&mut self, message: &[u8]) -> std::io::Result<()> {
        // The length and the message in one packet (RFC 7766, section 8).
        let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
        let mut bytes = Vec::with_capacity(2 + message.len());
        bytes.extend(length.to_be_bytes());
        bytes.extend(message);
        timeout(MESSAGE_TIME, self.stream.write_all(&bytes)).await?
    }

    async fn forward(&mut self, request: &[u8]) -> std::io::Result<()> {
        let engine = Arc::clone(&self.engine);
        let forwarder = engine.forwarder.as_ref();
        let place = forwarder.and_then(|forwarder| forwarder.wait(self.client.address));
        let Some(_place) = place else {
            let mut out = Vec::new();
            engine.answer_busy(request, self.client, &self.counters, &mut out);
            return self.send(&out).await;
        };
        let answer = engine.forward(request, self.client, &self.counters).await;
        match answer {
            Some(answer) => self.send(&answer).await,
            None => Ok(()),
        }
    }

    /// Sends a zone. Its messages are made on another thread, a few at a time.
    async fn transfer(&mut self, request: &[u8]) -> std::io::Result<()> {
        let engine = Arc::clone(&self.engine);
        let counters = Arc::clone(&self.counters);
        let (client, request) = (self.client, request.to_vec());
        let (messages, mut received) = tokio::sync::mpsc::channel(transfer::QUEUE);
        let make = move || {
            let send = &mut |message| messages.blocking_send(message).is_ok();
            transfer::run(&engine, client, &request, &counters, send);
        };
        let task = tokio::task::spawn_blocking(make);
        while let Some(message) = received.recv().await {
            self.send(&message).await?;
        }
        task.await.map_err(std::io::Error::other)
    }
}
