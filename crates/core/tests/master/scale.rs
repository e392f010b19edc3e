//! Large clusters start: how much work that is, counted, and not how long it takes here. What
//! docs/scaling.md says of it is checked up to 50,000 agents.

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

/// What is assumed of the world: so many agents register in a second, …
const PER_SECOND: u32 = 3_000;
/// … a write takes this long, and this much longer for each byte.
const WRITE: Duration = Duration::from_millis(10);
const WRITE_BYTE: Duration = Duration::from_nanos(10);

/// Bytes of one peer in a packed list.
const PEER: f64 = 12.0;

const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;

/// What was done since this was asked for last.
#[derive(Debug, Default)]
struct Work {
    writes: u32,
    written: usize,
    /// The latest state.
    state: Bytes,
    /// Messages to agents, of any kind.
    messages: u32,
    answers: u32,
    /// Messages about peers: those with the whole list, and the others.
    lists: u32,
    deltas: u32,
    /// Their bytes.
    peers_sent: usize,
    time: Duration,
}

/// A master, and agents that answer at once.
struct Cluster {
    master: Master,
    now: Time,
    writing: Option<(Time, u64)>,
    /// How long a write takes besides its bytes.
    write: Duration,
    inbox: VecDeque<(Upid, &'static str, Vec<u8>)>,
    /// Where each agent is in the history of peers.
    versions: Vec<PeersVersion>,
    work: Work,
    began: Time,
    /// Version and base of the message about peers that was read last: thousands get the same.
    read: Option<(Bytes, PeersVersion, Option<u64>)>,
}

impl Cluster {
    /// A master that begins to lead with this in its log.
    fn new(state: Bytes, versions: Vec<PeersVersion>) -> Cluster {
        let me: Upid = "overlay-master@10.255.0.1:5050".parse().unwrap();
        let leader = Upid::new("master", me.address);
        let seed = 1 + versions.len() as u64;
        let mut cluster = Cluster {
            master: Master::new(parse("master.json", CONFIG).unwrap().config, me, seed),
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
                Effect::Io(Io::Send { to, name, body }) => self.sent(to, name, body),
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
                self.work.lists += u32::from(base.is_none());
                self.work.deltas += u32::from(base.is_some());
                self.versions[number(&to)] = version;
                let received = PeersReceivedMessage { version };
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

    /// Lets these agents register one after the other, and goes on until nothing is left to do.
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
            // What is to be sent again if it is not answered is of no interest: it is.
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

/// Registers so many agents, one more, and all of them with the next leader.
fn check(agents: usize) {
    let n = agents as f64;
    let mut cluster = Cluster::new(Bytes::new(), Vec::new());
    let start = cluster.register_all(0..agents);
    eprintln!("{agents} agents start: {start:?}");
    assert_eq!(start.answers as usize, agents);
    // The log: a third of the time at most is spent in writing, and each write has all of it.
    let per_agent = start.state.len() as f64 / n;
    assert!(
        (150.0..250.0).contains(&per_agent),
        "{per_agent} bytes of state per agent"
    );
    let seconds = start.time.as_secs_f64();
    assert!(
        f64::from(start.writes) <= 100.0 * seconds.max(1.0),
        "{} writes",
        start.writes
    );
    assert!(
        start.written as f64 <= 50e6 * seconds.max(1.0),
        "{} bytes written",
        start.written
    );
    // Peers: everybody has to be told of everybody, and little more than that is sent.
    let all_of_all = n * n * PEER;
    assert!(
        (start.peers_sent as f64) <= 1.3 * all_of_all,
        "{} bytes of peers",
        start.peers_sent
    );
    assert!(
        f64::from(start.messages) <= 30.0 * n,
        "{} messages",
        start.messages
    );

    assert_eq!(
        cluster.value("overlay/master/agents_connected") as usize,
        agents
    );
    assert_eq!(cluster.value("overlay/master/peers_behind") as usize, 0);

    // One more: one write, one list, one short message to everybody else.
    let more = cluster.register_all(agents..agents + 1);
    eprintln!("one more: {} messages, {:?}", more.messages, more.time);
    assert_eq!(
        (more.writes, more.lists, more.deltas as usize),
        (1, 1, agents)
    );
    assert!(
        (more.peers_sent as f64) <= n * (PEER + 250.0),
        "{} bytes of peers",
        more.peers_sent
    );

    // The next leader: nobody needs a list, and nothing is to be written.
    let mut next = Cluster::new(more.state.clone(), cluster.versions);
    let again = next.register_all(0..agents + 1);
    eprintln!(
        "all again: {} messages, {} bytes",
        again.messages, again.peers_sent
    );
    assert_eq!(
        (again.writes, again.lists, again.answers as usize),
        (0, 0, agents + 1)
    );
    assert!(
        again.peers_sent as f64 <= 150.0 * (n + 1.0),
        "{} bytes of peers",
        again.peers_sent
    );
}

#[test]
fn a_thousand_agents() {
    check(1_000);
}

#[test]
fn ten_thousand_agents() {
    check(10_000);
}

/// It takes half a minute.
#[test]
fn fifty_thousand_agents() {
    check(50_000);
}

/// A list that is sent while registrations wait for a slow log is out of date at once, and
/// another message has to follow.
#[test]
fn lists_wait_for_registrations_that_wait_for_the_log() {
    let agents = 2_000;
    let mut cluster = Cluster::new(Bytes::new(), Vec::new());
    cluster.write = Duration::from_millis(150);
    let start = cluster.register_all(0..agents);
    assert_eq!(
        (start.answers, start.lists),
        (2_000, 2_000),
        "in {} writes",
        start.writes
    );
    // The first hundreds have a short list at once, and are told of the rest.
    assert!(start.deltas < 2_000, "{} more messages", start.deltas);
}
