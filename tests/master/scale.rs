//! A large cluster starts: writes are gathered, and peers are told in few messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesos_overlay::core::config::master::parse;
use mesos_overlay::core::master::Master;
use mesos_overlay::core::message::Named;
use mesos_overlay::core::{Effect, Input, Machine, StoreOutcome, Time, Upid};
use mesos_overlay::wire::internal::{
    AgentNetworkConfig, PeersReceivedMessage, PeersVersion, RegisterAgentMessage, UpdateAgentOverlaysMessage,
    UpdatePeersMessage,
};
use prost::Message;

const AGENTS: u32 = 3000;

/// How many agents register during one write: 20 ms of a cluster that starts within
/// half a minute.
const PER_WRITE: u32 = 20;

const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;

/// A master, and what it sent in all.
struct Cluster {
    master: Master,
    now: Time,
    writing: Option<u64>,
    writes: u32,
    answers: u32,
    updates: Vec<(Upid, Arc<UpdatePeersMessage>)>,
    /// Those of `updates` that were answered.
    acknowledged: usize,
    /// The latest body of an update, decoded: many agents get the same.
    decoded: Option<(Bytes, Arc<UpdatePeersMessage>)>,
}

impl Cluster {
    fn new() -> Cluster {
        let me: Upid = "overlay-master@10.255.0.1:5050".parse().unwrap();
        let leader = Upid::new("master", me.address);
        let mut cluster = Cluster {
            master: Master::new(parse("master.json", CONFIG).unwrap().config, me, 1),
            now: Time::default(),
            writing: None,
            writes: 0,
            answers: 0,
            updates: Vec::new(),
            acknowledged: 0,
            decoded: None,
        };
        cluster.input(Input::Leader(Some(leader)));
        cluster.input(Input::Fetched(Ok(Bytes::new())));
        cluster
    }

    fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        while let Some(effect) = self.master.poll_effect() {
            match effect {
                Effect::Store { number, .. } => {
                    self.writing = Some(number);
                    self.writes += 1;
                }
                Effect::Send { name: UpdateAgentOverlaysMessage::NAME, .. } => self.answers += 1,
                Effect::Send { to, name: UpdatePeersMessage::NAME, body } => {
                    let update = self.decode(body);
                    self.updates.push((to, update));
                }
                _ => {}
            }
        }
    }

    fn decode(&mut self, body: Bytes) -> Arc<UpdatePeersMessage> {
        if let Some((_, update)) = self.decoded.as_ref().filter(|(known, _)| *known == body) {
            return update.clone();
        }
        let update = Arc::new(UpdatePeersMessage::decode(body.clone()).unwrap());
        self.decoded = Some((body, update.clone()));
        update
    }

    fn message<M: Named>(&mut self, from: Upid, message: &M) {
        let body = message.encode_to_vec().into();
        self.input(Input::Message { from, name: M::NAME.to_owned(), body });
    }

    fn register(&mut self, agent: u32) {
        let network_config = AgentNetworkConfig { overlay_mtu: Some(1420), ..Default::default() };
        let message = RegisterAgentMessage { network_config, peers: Some(PeersVersion::default()) };
        let [_, _, c, d] = agent.to_be_bytes();
        self.message(format!("overlay-agent@10.0.{c}.{d}:5051").parse().unwrap(), &message);
    }

    fn stored(&mut self) {
        if let Some(number) = self.writing.take() {
            self.input(Input::Stored { number, outcome: StoreOutcome::Stored });
        }
    }

    /// Lets time go by; agents answer what they are told.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.input(Input::Timeout);
            while let Some((to, update)) = self.updates.get(self.acknowledged).cloned() {
                self.acknowledged += 1;
                self.message(to, &PeersReceivedMessage { version: update.version });
            }
        }
        self.now = end;
    }
}

fn value(master: &Master, name: &str) -> f64 {
    master.metrics().into_iter().find(|metric| metric.name == name).unwrap().value
}

#[test]
fn a_large_cluster_starts() {
    let mut cluster = Cluster::new();
    let began = Instant::now();
    for agent in 1..=AGENTS {
        cluster.register(agent);
        if agent % PER_WRITE == 0 {
            cluster.stored();
        }
    }
    cluster.stored();
    eprintln!("{AGENTS} registrations took {:?}", began.elapsed());
    assert_eq!(cluster.answers, AGENTS);
    assert!(cluster.writes <= AGENTS / PER_WRITE + 1, "{} writes", cluster.writes);

    // Everybody is told of everybody, once.
    let began = Instant::now();
    for _ in 0..40 {
        cluster.wait(Duration::from_millis(50));
        if cluster.updates.len() == AGENTS as usize {
            break;
        }
    }
    eprintln!("telling all of all took {:?}, and {} in the cluster", began.elapsed(), cluster.now);
    assert_eq!(cluster.updates.len(), AGENTS as usize);
    assert!(cluster.updates.iter().all(|(_, update)| update.peers.len() == AGENTS as usize));

    // Operators look at all that without waiting for it.
    let looks = 100;
    let began = Instant::now();
    for _ in 0..looks {
        std::hint::black_box(cluster.master.metrics());
    }
    eprintln!("a look at all numbers took {:?}", began.elapsed() / looks);
    assert_eq!(value(&cluster.master, "overlay/master/agents_connected"), f64::from(AGENTS));
    assert_eq!(value(&cluster.master, "overlay/master/peers_behind"), 0.0);

    // One more: everybody is told of that one only.
    cluster.updates.clear();
    cluster.acknowledged = 0;
    cluster.register(AGENTS + 1);
    cluster.stored();
    cluster.wait(Duration::from_millis(50));
    let (deltas, full): (Vec<_>, Vec<_>) =
        cluster.updates.iter().partition(|(_, update)| update.base.is_some());
    assert_eq!((deltas.len(), full.len()), (AGENTS as usize, 1));
    assert!(deltas.iter().all(|(_, update)| update.peers.len() == 1));
}
