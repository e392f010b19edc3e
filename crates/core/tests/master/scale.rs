//! The work of a master in large clusters, counted in writes, messages and bytes. The statements
//! of docs/scaling.md are checked for up to 50,000 agents. Times are simulated.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeersReceivedMessage, PeersVersion,
    RegisterAgentMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Machine, StoreOutcome, Time, Upid};
use prost::Message;
use testkit::sessions::WithSessions;

/// Assumed number of registrations in a second.
const PER_SECOND: u32 = 3_000;
/// Assumed time of a write, besides its bytes.
const WRITE: Duration = Duration::from_millis(10);
/// Assumed time of a write for each byte.
const WRITE_BYTE: Duration = Duration::from_nanos(10);

/// Size of a peer in a packed list, in bytes.
const PEER: f64 = 12.0;

const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;

/// The work since the latest look at it.
#[derive(Debug, Default)]
struct Work {
    /// Number of writes.
    writes: u32,
    /// Size of all states that were written, in bytes.
    written: usize,
    /// The latest state that was written.
    state: Bytes,
    /// Number of messages to agents, of any type.
    messages: u32,
    /// Number of answers to registrations.
    answers: u32,
    /// Number of messages with all peers.
    snapshots: u32,
    /// Number of messages with changes of peers.
    deltas: u32,
    /// Size of the messages with peers, in bytes.
    peers_sent: usize,
    /// Simulated time.
    time: Duration,
}

/// A master, and agents that answer without delay.
struct Cluster {
    master: WithSessions<Master>,
    now: Time,
    /// End and number of the write under way.
    writing: Option<(Time, u64)>,
    /// Time of a write, besides its bytes.
    write: Duration,
    /// Messages of agents that the master has not got yet.
    inbox: VecDeque<(Upid, &'static str, Vec<u8>)>,
    /// Version of the peers of each agent.
    versions: Vec<PeersVersion>,
    work: Work,
    /// Start of the work.
    began: Time,
    /// The latest message with peers, with its version and base. Thousands of agents get the
    /// same message, which is decoded once.
    read: Option<(Bytes, PeersVersion, Option<u64>)>,
}

impl Cluster {
    /// Returns a master that begins to lead with this state in the log.
    fn new(state: Bytes, versions: Vec<PeersVersion>) -> Cluster {
        let me: Upid = "overlay-master@10.255.0.1:5050".parse().unwrap();
        let leader = Upid::new("master", me.address);
        let seed = 1 + versions.len() as u64;
        let mut cluster = Cluster {
            master: WithSessions::new(
                Master::new(
                    parse("master.json", CONFIG).unwrap().config,
                    me.clone(),
                    seed,
                ),
                me,
            ),
            now: Time::default(),
            writing: None,
            write: WRITE,
            inbox: VecDeque::new(),
            versions,
            work: Work::default(),
            began: Time::default(),
            read: None,
        };
        cluster.input(Input::Leader(Some(leader)));
        cluster.input(Input::Fetched(Ok(state)));
        cluster
    }

    fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        while let Some(effect) = self.master.poll_effect() {
            match effect {
                Effect::Io(Io::Store { number, state }) => {
                    let took = self.write + WRITE_BYTE * u32::try_from(state.len()).unwrap();
                    self.writing = Some((self.now + took, number));
                    self.work.writes += 1;
                    self.work.written += state.len();
                    self.work.state = state;
                }
                Effect::Io(Io::Send { to, name, body, .. }) => self.sent(to, name, body),
                _ => {}
            }
        }
    }

    fn sent(&mut self, to: Upid, name: &str, body: Bytes) {
        self.work.messages += 1;
        match name {
            UpdateAgentOverlaysMessage::NAME => {
                self.work.answers += 1;
                self.inbox
                    .push_back((to, AgentRegisteredMessage::NAME, Vec::new()));
            }
            UpdatePeersMessage::NAME => {
                self.work.peers_sent += body.len();
                let at = |bytes: &Bytes| (bytes.as_ptr(), bytes.len());
                if self
                    .read
                    .as_ref()
                    .is_none_or(|(read, ..)| at(read) != at(&body))
                {
                    let UpdatePeersMessage { version, base, .. } =
                        UpdatePeersMessage::decode(body.clone()).unwrap();
                    self.read = Some((body, version, base));
                }
                let Some((_, version, base)) = self.read.clone() else {
                    unreachable!()
                };
                self.work.snapshots += u32::from(base.is_none());
                self.work.deltas += u32::from(base.is_some());
                self.versions[number(&to)] = version;
                let received = PeersReceivedMessage {
                    version,
                    ..Default::default()
                };
                self.inbox
                    .push_back((to, PeersReceivedMessage::NAME, received.encode_to_vec()));
            }
            _ => {}
        }
    }

    fn register(&mut self, agent: usize) {
        if agent >= self.versions.len() {
            self.versions.push(PeersVersion::default());
        }
        let network_config = AgentNetworkConfig {
            overlay_mtu: Some(1420),
            ..Default::default()
        };
        let message = RegisterAgentMessage {
            network_config,
            peers: Some(self.versions[agent]),
            unpacks_peers: Some(true),
            ..Default::default()
        };
        let [_, b, c, d] = (agent as u32).to_be_bytes();
        let from = format!("overlay-agent@10.{b}.{c}.{d}:5051")
            .parse()
            .unwrap();
        self.inbox
            .push_back((from, RegisterAgentMessage::NAME, message.encode_to_vec()));
    }

    fn value(&self, name: &str) -> f64 {
        self.master
            .metrics()
            .into_iter()
            .find(|metric| metric.name == name)
            .unwrap()
            .value
    }

    /// Lets agents register one after the other, and returns the work until all is done.
    fn register_all(&mut self, agents: std::ops::Range<usize>) -> Work {
        self.work = Work::default();
        self.began = self.now;
        let mut agents = agents.enumerate().peekable();
        let arrival = |began: Time, index: usize| {
            began + Duration::from_secs(1) * (index as u32) / PER_SECOND
        };
        loop {
            while let Some((from, name, body)) = self.inbox.pop_front() {
                self.input(Input::Message {
                    from,
                    name: name.to_owned(),
                    body: body.into(),
                });
            }
            let arrives = agents.peek().map(|(index, _)| arrival(self.began, *index));
            let written = self.writing.map(|(at, _)| at);
            // Resends are not of interest, because agents answer.
            let due = self.master.poll_timeout();
            let Some(next) = [arrives, written, due].into_iter().flatten().min() else {
                break;
            };
            if arrives.is_none() && written.is_none() && next > self.now + Duration::from_secs(4) {
                break;
            }
            self.now = self.now.max(next);
            if arrives == Some(next) {
                let (_, agent) = agents.next().unwrap();
                self.register(agent);
            } else if written == Some(next) {
                let (_, number) = self.writing.take().unwrap();
                self.input(Input::Stored {
                    number,
                    outcome: StoreOutcome::Stored,
                });
            } else {
                self.input(Input::Timeout);
            }
            self.work.time = self.now.since(self.began);
        }
        std::mem::take(&mut self.work)
    }
}

fn number(agent: &Upid) -> usize {
    match agent.address.ip() {
        std::net::IpAddr::V4(ip) => (u32::from(ip) & 0x00ff_ffff) as usize,
        std::net::IpAddr::V6(_) => unreachable!(),
    }
}

/// Registers agents, one more, and all of them with the next leader.
fn check(agents: usize) {
    let n = agents as f64;
    let mut cluster = Cluster::new(Bytes::new(), Vec::new());
    let start = cluster.register_all(0..agents);
    eprintln!("{agents} agents start: {start:?}");
    check_start(&start, n);
    let connected = cluster.value("overlay/master/agents_connected");
    assert_eq!(connected as usize, agents);
    assert_eq!(cluster.value("overlay/master/peers_behind") as usize, 0);

    // One more: one write, one snapshot, and one short message to each other agent.
    let more = cluster.register_all(agents..agents + 1);
    eprintln!("one more: {} messages, {:?}", more.messages, more.time);
    assert_eq!(
        (more.writes, more.snapshots, more.deltas as usize),
        (1, 1, agents)
    );
    assert_at_most(more.peers_sent as f64, n * (PEER + 250.0), "bytes of peers");

    // The next leader: no agent needs a snapshot, and nothing has to be written.
    let mut next = Cluster::new(more.state.clone(), cluster.versions);
    let again = next.register_all(0..agents + 1);
    eprintln!(
        "all again: {} messages, {} bytes",
        again.messages, again.peers_sent
    );
    assert_eq!(
        (again.writes, again.snapshots, again.answers as usize),
        (0, 0, agents + 1)
    );
    assert_at_most(again.peers_sent as f64, 150.0 * (n + 1.0), "bytes of peers");
}

/// Asserts the work for `n` agents that register with a new cluster.
fn check_start(start: &Work, n: f64) {
    assert_eq!(f64::from(start.answers), n);
    // The log: writing takes a third of the time at most, and each write has the whole state.
    let per_agent = start.state.len() as f64 / n;
    assert!(
        (150.0..250.0).contains(&per_agent),
        "{per_agent} bytes of state per agent"
    );
    let seconds = start.time.as_secs_f64().max(1.0);
    assert_at_most(f64::from(start.writes), 100.0 * seconds, "writes");
    assert_at_most(start.written as f64, 50e6 * seconds, "bytes written");
    // Peers: each agent needs all others, and little more than that is sent.
    let all_of_all = n * n * PEER;
    assert_at_most(start.peers_sent as f64, 1.3 * all_of_all, "bytes of peers");
    assert_at_most(f64::from(start.messages), 30.0 * n, "messages");
}

#[track_caller]
fn assert_at_most(value: f64, limit: f64, unit: &str) {
    assert!(value <= limit, "{value} {unit}, and at most {limit}");
}

#[test]
fn a_thousand_agents() {
    check(1_000);
}

#[test]
fn ten_thousand_agents() {
    check(10_000);
}

/// Takes half a minute.
#[test]
fn fifty_thousand_agents() {
    check(50_000);
}

/// Snapshots that are sent while registrations wait for a slow log are out of date at once, and
/// another message has to follow.
#[test]
fn snapshots_wait_for_registrations_that_wait_for_the_log() {
    let agents = 2_000;
    let mut cluster = Cluster::new(Bytes::new(), Vec::new());
    cluster.write = Duration::from_millis(150);
    let start = cluster.register_all(0..agents);
    assert_eq!(
        (start.answers, start.snapshots),
        (2_000, 2_000),
        "in {} writes",
        start.writes
    );
    // The first hundreds of agents get a short snapshot at once, and a delta later.
    assert!(start.deltas < 2_000, "{} more messages", start.deltas);
}
