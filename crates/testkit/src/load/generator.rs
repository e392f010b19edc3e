//! Thousands of simulated agents on one thread, with epoll and little work per message.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, bind, connect, listen,
    setsockopt, socket, sockopt,
};
use overlay_core::proto::internal::{PeersVersion, RegisterAgentMessage};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::session::keys::Keys;
use overlay_core::{AGENT_ID, MASTER_ID, Upid};

use super::agents::{Agent, History, receive};
use super::wire::{Message, Reader, encode, pid};
use crate::sessions::AgentSession;

/// Port of the simulated agents; real agents beside them use 5051.
const PORT: u16 = 5052;
/// Address of the first agent; the others follow.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 240, 0, 1);
/// Backlog of the listener: the kernel's default limit, as in Mesos.
const QUEUE: i32 = 4096;
/// Time after which an unregistered agent registers again, since messages can be lost.
const RETRY: Duration = Duration::from_secs(5);
/// Limit of connections that are opened at a time; fewer than the backlog of a listener.
const CONNECTING: usize = 256;
/// Number of open files besides the agents' connections.
const OTHER_FILES: u64 = 1500;
/// Token of the listener in epoll; those of connections begin at 0.
const LISTENER: u64 = u64::MAX;

/// Returns the address of agent number `index`.
pub fn address(index: usize) -> SocketAddrV4 {
    let index = u32::try_from(index).expect("fewer than 2^20 agents");
    SocketAddrV4::new(Ipv4Addr::from(u32::from(FIRST) + index), PORT)
}

fn index(ip: Ipv4Addr) -> Option<usize> {
    u32::from(ip)
        .checked_sub(u32::from(FIRST))
        .map(|index| index as usize)
}

/// Raises the limit of open files for this process and the master that it starts: each agent has
/// a connection to the master and one from it, and both ends are on this machine. Returns the
/// number of agents that must send over connections of others, because the limit is too low.
///
/// # Errors
/// The limit is too low even if agents share connections.
pub fn allow_files(agents: usize) -> Result<usize> {
    let needed = 2 * agents as u64 + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= needed || setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).is_ok() {
        return Ok(0);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let lacking = usize::try_from(needed - hard)?;
    ensure!(
        lacking < agents,
        "{agents} agents need {needed} open files here and in the master, or at least half of that, and {hard} \
         are allowed; as root: ulimit -n {needed}, with fs.nr_open at least as high"
    );
    Ok(lacking)
}

/// A connection and its state.
struct Connection {
    stream: TcpStream,
    agent: usize,
    /// True if the agent opened the connection.
    outgoing: bool,
    /// True until the connection is open; `unsent` is sent then.
    connecting: bool,
    reader: Reader,
    /// Bytes to write as soon as the socket is writable.
    unsent: Vec<u8>,
}

/// Simulated agents of one master. Their sockets are in the network namespace of the thread that
/// made the generator.
pub struct Generator {
    epoll: Epoll,
    listener: TcpListener,
    master: SocketAddrV4,
    /// Number of agents (the first ones) that send over the connections of others.
    without_connection: usize,
    agents: Vec<Agent>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections of the agents to the master.
    outgoing: Vec<Option<usize>>,
    /// Agents that wait to connect.
    queue: VecDeque<usize>,
    connecting: usize,
    /// Agents that register, and the start time, oldest first.
    asked: VecDeque<(Instant, usize)>,
    retries: usize,
    scratch: Vec<u8>,
    history: History,
    received: u64,
    registered: usize,
    first_answer: Option<Instant>,
    /// Keys that authenticate the agents' messages.
    keys: Option<Keys>,
}

impl Generator {
    /// Makes a generator without agents for the master at this address. The first
    /// `without_connection` agents open no connection to the master, but send over those of others,
    /// since libprocess identifies senders by the message, not by the connection.
    pub fn new(master: SocketAddrV4, without_connection: usize) -> Result<Generator> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let listener =
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listening as agents")?;
        listener.set_nonblocking(true)?;
        // A master links to thousands of agents at once. The kernel retries connections that do not
        // fit into the backlog after a second.
        listen(&listener, Backlog::new(QUEUE)?)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Generator {
            epoll,
            listener,
            master,
            without_connection,
            agents: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            outgoing: Vec::new(),
            queue: VecDeque::new(),
            connecting: 0,
            asked: VecDeque::new(),
            retries: 0,
            scratch: vec![0; 256 << 10],
            history: History::default(),
            received: 0,
            registered: 0,
            first_answer: None,
            keys: None,
        })
    }

    /// Authenticates the messages of agents that start from now on.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    /// Adds `count` agents, which register at once.
    pub fn join(&mut self, count: usize) {
        let first = self.agents.len();
        self.agents.resize_with(first + count, Agent::default);
        self.outgoing.resize(first + count, None);
        self.start(first..first + count);
    }

    /// Makes agents connect to the master at this address from now on.
    pub fn follow(&mut self, master: SocketAddrV4) {
        self.master = master;
    }

    /// Makes all agents that have not left register at once, as with a new master.
    pub fn join_again(&mut self) {
        self.registered = 0;
        // A new master starts a history of its own.
        self.history.end_epoch();
        self.start(0..self.agents.len());
    }

    fn start(&mut self, agents: impl Iterator<Item = usize>) {
        self.first_answer = None;
        self.asked.clear();
        for agent in agents
            .filter(|index| !self.agents[*index].left)
            .collect::<Vec<_>>()
        {
            let session = self.session(agent);
            self.agents[agent].start(session);
            self.queue.push_back(agent);
        }
    }

    /// Returns a new session of an agent with the present master.
    fn session(&self, agent: usize) -> AgentSession {
        let me = Upid::new(AGENT_ID, address(agent).into());
        let master = Upid::new(MASTER_ID, self.master.into());
        AgentSession::new(me, master, agent as u64, self.keys.clone())
    }

    /// Removes an agent, whose connections break.
    pub fn leave(&mut self, agent: usize) {
        let connections = self.connections.iter().enumerate();
        let its =
            connections.filter(|(_, open)| open.as_ref().is_some_and(|open| open.agent == agent));
        for number in its.map(|(number, _)| number).collect::<Vec<_>>() {
            self.close(number);
        }
        self.agents[agent].left = true;
        self.registered -= usize::from(self.agents[agent].registered.is_some());
    }

    /// Returns all agents.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Returns the number of bytes that the master sent.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the number of registrations that were repeated after a timeout.
    pub fn retries(&self) -> usize {
        self.retries
    }

    /// Returns the time of the first answer since the last [`join`](Generator::join) or
    /// [`join_again`](Generator::join_again).
    pub fn first_answer(&self) -> Option<Instant> {
        self.first_answer
    }

    /// Returns true if all agents are registered.
    pub fn all_registered(&self) -> bool {
        self.queue.is_empty() && self.registered == self.present().count()
    }

    /// Returns true if every agent has the complete list of peers.
    pub fn all_know_all(&self) -> bool {
        let needed = self
            .history
            .version_with(self.present().map(|(index, _)| *address(index).ip()));
        needed.is_some_and(|needed| self.all_have(needed))
    }

    /// Returns true if no list of peers contains this agent.
    pub fn all_know_left(&self, agent: usize) -> bool {
        self.history
            .version_without(*address(agent).ip())
            .is_some_and(|needed| self.all_have(needed))
    }

    /// Returns true if every agent has this version of the list of peers or a later one.
    pub fn all_have(&self, needed: PeersVersion) -> bool {
        let has = |agent: &Agent| {
            let version = agent.version;
            version.epoch() == needed.epoch() && version.version() >= needed.version()
        };
        self.present().all(|(_, agent)| has(agent))
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Agent)> {
        self.agents
            .iter()
            .enumerate()
            .filter(|(_, agent)| !agent.left)
    }

    /// Runs the agents until a condition holds. Returns the time it took.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Generator) -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        let mut looked = None;
        loop {
            // The check can cost as much as a few messages.
            let now = Instant::now();
            if looked.is_none_or(|looked| now.duration_since(looked) >= Duration::from_millis(1)) {
                if done(self) {
                    return Ok(start.elapsed());
                }
                looked = Some(Instant::now());
            }
            if start.elapsed() > limit {
                let state = format!(
                    "{} of {} agents are registered, {} wait, {} connections",
                    self.registered,
                    self.agents.len(),
                    self.queue.len() + self.connecting,
                    self.connections()
                );
                bail!("waited {limit:?} for {what}: {state}");
            }
            self.turn()?;
        }
    }

    fn turn(&mut self) -> Result<()> {
        while self.connecting < CONNECTING {
            let Some(agent) = self.queue.pop_front() else {
                break;
            };
            let body = self.agents[agent].registration();
            self.send(agent, RegisterAgentMessage::NAME, &body)?;
            self.asked.push_back((Instant::now(), agent));
        }
        self.retry()?;
        let mut events = [EpollEvent::empty(); 512];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(1u8)) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            if event.data() == LISTENER {
                self.accept()?;
                continue;
            }
            let number = usize::try_from(event.data())?;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.writable(number)?;
            }
            if event
                .events()
                .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
            {
                self.readable(number)?;
            }
        }
        Ok(())
    }

    /// Repeats registrations after a timeout.
    fn retry(&mut self) -> Result<()> {
        while let Some((_, agent)) = self.asked.pop_front_if(|(at, _)| at.elapsed() >= RETRY) {
            let Agent {
                registered: None,
                left: false,
                ..
            } = &self.agents[agent]
            else {
                continue;
            };
            self.retries += 1;
            let body = self.agents[agent].registration();
            self.send(agent, RegisterAgentMessage::NAME, &body)?;
            self.asked.push_back((Instant::now(), agent));
        }
        Ok(())
    }

    /// Opens the connection of an agent to the master and sends a message.
    fn connect(&mut self, agent: usize, bytes: Vec<u8>) -> Result<()> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(*address(agent).ip(), 0)),
        )?;
        match connect(socket.as_raw_fd(), &SockaddrIn::from(self.master)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let number = self.add(TcpStream::from(socket), agent, Some(bytes))?;
        self.outgoing[agent] = Some(number);
        self.connecting += 1;
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting the master's connection"),
            };
            let SocketAddr::V4(local) = stream.local_addr()? else {
                bail!("a connection by IPv6")
            };
            let agent = index(*local.ip()).filter(|index| *index < self.agents.len());
            let agent =
                agent.with_context(|| format!("a connection to {local}, which is no agent"))?;
            stream.set_nonblocking(true)?;
            self.add(stream, agent, None)?;
        }
    }

    /// Adds a connection; `unsent` is sent when it is open.
    fn add(&mut self, stream: TcpStream, agent: usize, unsent: Option<Vec<u8>>) -> Result<usize> {
        let number = self.free.pop().unwrap_or(self.connections.len());
        let outgoing = unsent.is_some();
        let wait = if outgoing {
            EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        };
        self.epoll
            .add(&stream, EpollEvent::new(wait, number as u64))?;
        let (reader, unsent) = (Reader::default(), unsent.unwrap_or_default());
        let connection = Some(Connection {
            stream,
            agent,
            outgoing,
            connecting: outgoing,
            reader,
            unsent,
        });
        if number == self.connections.len() {
            self.connections.push(connection);
        } else {
            self.connections[number] = connection;
        }
        Ok(number)
    }

    fn close(&mut self, number: usize) {
        let Some(connection) = self.connections[number].take() else {
            return;
        };
        self.connecting -= usize::from(connection.connecting);
        if connection.outgoing && self.outgoing[connection.agent] == Some(number) {
            self.outgoing[connection.agent] = None;
        }
        self.free.push(number);
    }

    fn writable(&mut self, number: usize) -> Result<()> {
        let Some(connection) = &mut self.connections[number] else {
            return Ok(());
        };
        if std::mem::take(&mut connection.connecting) {
            self.connecting -= 1;
            if connection.stream.take_error()?.is_some() {
                // The master has exited; unsent messages are lost.
                self.close(number);
                return Ok(());
            }
        }
        let unsent = std::mem::take(&mut connection.unsent);
        self.epoll.modify(
            &connection.stream,
            &mut EpollEvent::new(EpollFlags::EPOLLIN, number as u64),
        )?;
        self.write(number, unsent)
    }

    fn send(&mut self, agent: usize, name: &str, body: &[u8]) -> Result<()> {
        let body = self.agents[agent].seal(name, body);
        let bytes = encode(&pid(address(agent)), MASTER_ID, name, &body);
        let carrier = self.carrier(agent);
        match self.outgoing[carrier] {
            Some(number) => self.write(number, bytes),
            None => {
                let connected = self.connect(carrier, bytes);
                connected.with_context(|| format!("connecting from {}", address(carrier)))
            }
        }
    }

    /// Returns the agent whose connection an agent uses. Agents that leave carry no others.
    fn carrier(&self, agent: usize) -> usize {
        match self.without_connection {
            without if agent < without => without + agent % (self.agents.len() - without),
            _ => agent,
        }
    }

    fn write(&mut self, number: usize, bytes: Vec<u8>) -> Result<()> {
        let Some(connection) = &mut self.connections[number] else {
            return Ok(());
        };
        if !connection.unsent.is_empty() {
            connection.unsent.extend_from_slice(&bytes);
            return Ok(());
        }
        match connection.stream.write(&bytes) {
            Ok(written) if written == bytes.len() => return Ok(()),
            Ok(written) => connection.unsent = bytes[written..].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => connection.unsent = bytes,
            // Reading returns the error.
            Err(_) => return Ok(()),
        }
        let mut wait = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, number as u64);
        Ok(self.epoll.modify(&connection.stream, &mut wait)?)
    }

    fn readable(&mut self, number: usize) -> Result<()> {
        let Some(connection) = &mut self.connections[number] else {
            return Ok(());
        };
        let mut messages: Vec<Message> = Vec::new();
        let skippable = connection.reader.skippable();
        let read = if skippable > 0 {
            skip(&connection.stream, skippable)
        } else {
            connection.stream.read(&mut self.scratch)
        };
        let count = match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The connection broke.
            Ok(0) | Err(_) => {
                self.close(number);
                return Ok(());
            }
            Ok(count) => count,
        };
        if connection.outgoing {
            // libprocess answers with 202 (Accepted).
            return Ok(());
        }
        self.received += count as u64;
        let agent = connection.agent;
        if skippable > 0 {
            messages.extend(connection.reader.skipped(count));
        } else {
            let history = &self.history;
            let wanted = |_: &str, prefix: &[u8]| !history.knows(prefix);
            let read = connection
                .reader
                .read(&self.scratch[..count], wanted, |message| {
                    messages.push(message)
                });
            read.map_err(|error| anyhow::anyhow!("the master sent {} {error}", address(agent)))?;
        }
        messages
            .iter()
            .try_for_each(|message| self.take(agent, message))
    }

    fn take(&mut self, index: usize, message: &Message) -> Result<()> {
        let agent = &mut self.agents[index];
        let (answered, registered) = (agent.answered, agent.registered);
        let answer = receive(agent, &mut self.history, message)?;
        if answered.is_none() && agent.answered.is_some() {
            self.first_answer = self.first_answer.or(agent.answered);
        }
        self.registered += usize::from(registered.is_none() && agent.registered.is_some());
        match answer {
            Some((name, body)) => self.send(index, name, &body),
            None => Ok(()),
        }
    }
}

/// Discards bytes of a socket without copying them.
fn skip(stream: &TcpStream, count: usize) -> std::io::Result<usize> {
    // nix requires a buffer, but with MSG_TRUNC the kernel does not write to one.
    // SAFETY: recv(2) with MSG_TRUNC on TCP accepts a NULL buffer, see tcp(7).
    let read = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            std::ptr::null_mut(),
            count,
            MsgFlags::MSG_TRUNC.bits(),
        )
    };
    usize::try_from(read).map_err(|_| std::io::Error::last_os_error())
}
