//! What a master says of itself in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeersReceivedMessage, PeersVersion,
    RegisterAgentMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{
    Effect, Input, Io, Machine, Request, RequestId, Response, StoreOutcome, Time, Upid,
};
use prost::Message;
use serde_json::{Value, json};
use testkit::prometheus;
use testkit::prometheus::Samples;

const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/29", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/30", "prefix": 31},
                 {"name": "more", "subnet": "10.1.0.0/16", "prefix": 24},
                 {"name": "six", "subnet6": "fd01:b::/64", "prefix6": 80, "enabled": false}]}}"#;

/// A master; writes are answered by the test.
pub struct Bench {
    pub master: Master,
    pub now: Time,
    /// The number of the write under way.
    pub writing: Option<u64>,
    /// What was written last.
    pub log: Bytes,
    answers: Vec<Response>,
    /// The version of the peers that were sent last.
    peers: Option<PeersVersion>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(CONFIG)
    }

    pub fn with(config: &str) -> Bench {
        let me: Upid = "overlay-master@10.255.0.1:5050".parse().unwrap();
        let master = Master::new(parse("master.json", config).unwrap().config, me, 1);
        Bench {
            master,
            now: Time::default(),
            writing: None,
            log: Bytes::new(),
            answers: Vec::new(),
            peers: None,
        }
    }

    fn leading() -> Bench {
        let mut bench = Bench::new();
        bench.lead(Bytes::new());
        bench
    }

    /// Becomes the leader, and finds this in the log.
    pub fn lead(&mut self, log: Bytes) {
        self.input(Input::Leader(Some(
            "master@10.255.0.1:5050".parse().unwrap(),
        )));
        self.input(Input::Fetched(Ok(log)));
    }

    pub fn input(&mut self, input: Input) {
        self.master.handle(self.now, input);
        while let Some(effect) = self.master.poll_effect() {
            match effect {
                Effect::Io(Io::Store { number, state }) => {
                    (self.writing, self.log) = (Some(number), state)
                }
                Effect::Io(Io::Send {
                    name: UpdatePeersMessage::NAME,
                    body,
                    ..
                }) => {
                    self.peers = Some(UpdatePeersMessage::decode(body).unwrap().version);
                }
                Effect::Io(Io::Respond { response, .. }) => self.answers.push(response),
                _ => {}
            }
        }
    }

    fn message<M: Named>(&mut self, from: &str, message: &M) {
        let body = message.encode_to_vec().into();
        self.input(Input::Message {
            from: from.parse().unwrap(),
            name: M::NAME.to_owned(),
            body,
        });
    }

    pub fn register(&mut self, agent: &str) {
        let network_config = AgentNetworkConfig {
            overlay_mtu: Some(1420),
            ..Default::default()
        };
        self.message(
            agent,
            &RegisterAgentMessage {
                network_config,
                ..Default::default()
            },
        );
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    pub fn stored(&mut self, outcome: StoreOutcome) {
        let number = self.writing.take().expect("nothing is being written");
        self.input(Input::Stored { number, outcome });
    }

    fn get(&mut self, path: &str, query: &[(&str, &str)]) -> Response {
        self.ask("GET", path, query);
        self.answers.pop().expect("no answer")
    }

    fn ask(&mut self, method: &str, path: &str, query: &[(&str, &str)]) {
        self.input(Input::Request(Request {
            id: RequestId(1),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            accept: None,
            body: Bytes::new(),
        }));
    }

    /// The samples for Prometheus, and those of Mesos's snapshot.
    fn metrics(&mut self) -> (Samples, BTreeMap<String, f64>) {
        let response = self.get("/overlay-master/metrics", &[]);
        assert_eq!(
            (response.status, response.content_type),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        let samples = prometheus::read(std::str::from_utf8(&response.body).unwrap());
        let metrics = self.master.metrics();
        let count = metrics.len();
        let snapshot: BTreeMap<_, _> = metrics
            .into_iter()
            .map(|m| (m.name.into_owned(), m.value))
            .collect();
        assert_eq!(snapshot.len(), count, "a name comes twice");
        (samples, snapshot)
    }

    fn state(&mut self) -> Value {
        serde_json::from_slice(&self.get("/overlay-master/state", &[]).body).unwrap()
    }
}

const FIRST: &str = "overlay-agent@10.0.0.1:5051";
const SECOND: &str = "overlay-agent@10.0.0.2:5051";
const THIRD: &str = "overlay-agent@10.0.0.3:5051";

#[test]
fn the_state_says_what_is_left() {
    let mut bench = Bench::leading();
    let room = |bench: &mut Bench| {
        let network = bench.state()["network"].clone();
        let overlay = |index: usize| network["overlays"][index]["agent_subnets"].clone();
        [overlay(0), overlay(1), overlay(2), network["vteps"].clone()]
    };
    let left = |used: u32, total: u32| json!({"free": total - used, "total": total, "used": used});
    let six = json!({"free6": 65_536, "total6": 65_536, "used6": 0});
    assert_eq!(
        room(&mut bench),
        [left(0, 2), left(0, 256), six.clone(), left(0, 6)]
    );
    for agent in [FIRST, SECOND, THIRD] {
        bench.register(agent);
    }
    bench.stored(StoreOutcome::Stored);
    bench.stored(StoreOutcome::Stored);
    assert_eq!(
        room(&mut bench),
        [left(2, 2), left(3, 256), six, left(3, 6)]
    );
}

#[test]
fn the_state_says_who_is_there_and_since_when() {
    let mut bench = Bench::leading();
    bench.register(FIRST);
    bench.stored(StoreOutcome::Stored);
    let shown = |bench: &mut Bench| {
        let agent = bench.state()["agents"][0].clone();
        (
            agent["connected"].clone(),
            agent["since_seconds"].clone(),
            agent["last_error"].clone(),
        )
    };
    bench.wait(5);
    assert_eq!(shown(&mut bench), (json!(true), json!(5), Value::Null));
    // A refresh changes nothing.
    bench.register(FIRST);
    assert_eq!(shown(&mut bench), (json!(true), json!(5), Value::Null));
    let report = AgentRegisteredMessage {
        host_errors: vec!["no vxlan".to_owned()],
        ..Default::default()
    };
    bench.message(FIRST, &report);
    bench.message(FIRST, &AgentRegisteredMessage::default());
    bench.wait(3);
    let error = |seconds: u64| json!({"error": "no vxlan", "seconds_ago": seconds});
    assert_eq!(
        shown(&mut bench),
        (json!(true), json!(8), error(3)),
        "right again, and the last one is kept"
    );
    bench.input(Input::Exited(FIRST.parse().unwrap()));
    bench.wait(2);
    assert_eq!(shown(&mut bench), (json!(false), json!(2), error(5)));
    bench.register(FIRST);
    assert_eq!(shown(&mut bench), (json!(true), json!(0), error(5)));
    // Another process does not know.
    let log = bench.log.clone();
    let mut bench = Bench::new();
    bench.lead(log);
    assert_eq!(shown(&mut bench), (json!(false), Value::Null, Value::Null));
}

#[test]
fn what_another_process_at_the_same_address_reported_is_not_shown() {
    let mut bench = Bench::leading();
    bench.register(FIRST);
    bench.stored(StoreOutcome::Stored);
    let shown = |bench: &mut Bench| bench.state()["agents"][0]["host_errors"].clone();
    let report = AgentRegisteredMessage {
        host_errors: vec!["no vxlan".to_owned()],
        ..Default::default()
    };
    bench.message(FIRST, &report);
    assert_eq!(shown(&mut bench), json!(["no vxlan"]));
    bench.register(FIRST);
    assert_eq!(
        shown(&mut bench),
        json!(["no vxlan"]),
        "the same one has not reported since"
    );
    bench.register("overlay-agent@10.0.0.1:6000");
    assert_eq!(shown(&mut bench).as_array().map_or(0, Vec::len), 0);
}

#[test]
fn what_an_agent_lacks_is_an_error_of_it() {
    let mut bench = Bench::leading();
    for agent in [FIRST, SECOND, THIRD] {
        bench.register(agent);
    }
    bench.stored(StoreOutcome::Stored);
    bench.stored(StoreOutcome::Stored);
    let errors = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| {
        let state = bench.state();
        let agent = state["agents"]
            .as_array()
            .unwrap()
            .iter()
            .find(|agent| agent["ip"] == ip)
            .unwrap();
        agent["last_error"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    assert_eq!((errors[0].as_str(), errors[1].as_str()), ("", ""));
    assert!(
        errors[2].starts_with("no /31 is left for overlay dcos in 9.0.0.0/30"),
        "{}",
        errors[2]
    );
}

#[test]
fn health_is_for_load_balancers() {
    let check = |bench: &mut Bench, status: &str, codes: [u16; 2]| {
        for (query, code) in [(&[][..], codes[0]), (&[("standby", "ok")][..], codes[1])] {
            let response = bench.get("/overlay-master/health", query);
            assert_eq!(
                (response.status, response.content_type),
                (code, "application/json"),
                "{status}"
            );
            let health: Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(health["status"], status);
            assert_eq!(health["reason"].is_null(), status == "serving", "{health}");
        }
    };
    let mut bench = Bench::new();
    check(&mut bench, "standby", [503, 200]);
    bench.input(Input::Leader(Some(
        "master@10.255.0.2:5050".parse().unwrap(),
    )));
    check(&mut bench, "standby", [503, 200]);
    let health = bench.get("/overlay-master/health", &[]);
    assert!(String::from_utf8_lossy(&health.body).contains(r#""leader":"10.255.0.2:5050""#));
    bench.input(Input::Leader(Some(
        "master@10.255.0.1:5050".parse().unwrap(),
    )));
    check(&mut bench, "recovering", [503, 503]);
    bench.input(Input::Fetched(Ok(Bytes::new())));
    check(&mut bench, "serving", [200, 200]);
    let mut bench = Bench::new();
    bench.lead(Bytes::from_static(b"\xff"));
    check(&mut bench, "broken", [503, 503]);
}

/// The two forms say the same.
#[track_caller]
fn both(bench: &mut Bench, expected: &[(&str, &str, f64)]) {
    let (samples, snapshot) = bench.metrics();
    for (name, in_mesos, value) in expected {
        assert_eq!(
            samples.get(&format!("mesos_overlay_master_{name}")),
            Some(value),
            "{name}: {samples:#?}"
        );
        assert_eq!(
            snapshot.get(&format!("overlay/master/{in_mesos}")),
            Some(value),
            "{in_mesos}: {snapshot:#?}"
        );
    }
}

#[test]
fn a_standby_has_no_numbers_of_the_cluster() {
    let mut bench = Bench::new();
    let (samples, snapshot) = bench.metrics();
    assert!(
        !samples
            .keys()
            .any(|name| name.contains("agents") || name.contains("subnets")),
        "{samples:#?}"
    );
    assert!(
        !snapshot
            .keys()
            .any(|name| name.contains("agents_re") || name.contains("overlays/")),
        "{snapshot:#?}"
    );
    both(
        &mut bench,
        &[
            ("serving", "serving", 0.0),
            ("recovering", "recovering", 0.0),
        ],
    );
}

#[test]
fn numbers_of_agents_and_what_is_left() {
    let mut bench = Bench::leading();
    for agent in [FIRST, SECOND, THIRD] {
        bench.register(agent);
    }
    bench.stored(StoreOutcome::Stored);
    bench.stored(StoreOutcome::Stored);
    bench.input(Input::Exited(FIRST.parse().unwrap()));
    both(
        &mut bench,
        &[
            ("serving", "serving", 1.0),
            ("agents_registered", "agents_registered", 3.0),
            ("agents_connected", "agents_connected", 2.0),
            ("vteps_free{family=\"ipv4\"}", "vteps_free", 3.0),
            ("vteps_used{family=\"ipv4\"}", "vteps_used", 3.0),
            ("vteps_capacity{family=\"ipv4\"}", "vteps_total", 6.0),
            (
                "subnets_free{overlay=\"dcos\",family=\"ipv4\"}",
                "overlays/dcos/subnets_free",
                0.0,
            ),
            (
                "subnets_used{overlay=\"more\",family=\"ipv4\"}",
                "overlays/more/subnets_used",
                3.0,
            ),
            (
                "subnets_capacity{overlay=\"six\",family=\"ipv6\"}",
                "overlays/six/subnets6_total",
                65_536.0,
            ),
            (
                "allocation_failures_total{of=\"subnet\",family=\"ipv4\"}",
                "subnet_allocation_failures",
                1.0,
            ),
            (
                "messages_received_total{message=\"RegisterAgentMessage\"}",
                "internal/register_agent_messages_received",
                3.0,
            ),
        ],
    );
    assert!(
        !bench
            .metrics()
            .0
            .contains_key("mesos_overlay_master_subnets_free{overlay=\"dcos\",family=\"ipv6\"}")
    );
}

#[test]
fn writes_are_counted_and_timed() {
    let mut bench = Bench::leading();
    bench.register(FIRST);
    let size = bench.log.len() as f64;
    bench.wait(2);
    bench.stored(StoreOutcome::Stored);
    bench.register(SECOND);
    bench.wait(1);
    bench.stored(StoreOutcome::Failed("no quorum".to_owned()));
    let (samples, snapshot) = bench.metrics();
    let write = |name: &str| samples[&format!("mesos_overlay_master_log_{name}")];
    assert_eq!(write("writes_total{outcome=\"stored\"}"), 1.0);
    assert_eq!(write("writes_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(write("writes_total{outcome=\"superseded\"}"), 0.0);
    assert_eq!(write("write_seconds_bucket{le=\"1\"}"), 1.0);
    assert_eq!(write("write_seconds_bucket{le=\"2.5\"}"), 2.0);
    assert_eq!(write("write_seconds_sum"), 3.0);
    assert!(
        write("state_bytes") > size,
        "the second state is larger than the first"
    );
    for (name, value) in [
        ("writes", 2.0),
        ("write_failures", 1.0),
        ("write_seconds_total", 3.0),
        ("write_seconds_last", 1.0),
        ("state_bytes", write("state_bytes")),
    ] {
        assert_eq!(
            snapshot[&format!("overlay/master/log/{name}")],
            value,
            "{name}"
        );
    }
}

#[test]
fn peers_that_are_behind_are_counted() {
    let mut bench = Bench::leading();
    let network_config = AgentNetworkConfig {
        overlay_mtu: Some(1420),
        ..Default::default()
    };
    let register = RegisterAgentMessage {
        network_config,
        peers: Some(PeersVersion::default()),
        ..Default::default()
    };
    bench.message(FIRST, &register);
    bench.stored(StoreOutcome::Stored);
    both(&mut bench, &[("peers_behind", "peers_behind", 1.0)]);
    bench.wait(1);
    bench.input(Input::Timeout);
    let version = bench.peers.expect("it was told of no peers");
    bench.message(FIRST, &PeersReceivedMessage { version });
    both(&mut bench, &[("peers_behind", "peers_behind", 0.0)]);
    // Another agent: the first one has to hear of it.
    bench.message(SECOND, &register);
    bench.stored(StoreOutcome::Stored);
    both(&mut bench, &[("peers_behind", "peers_behind", 2.0)]);
    bench.input(Input::Exited(SECOND.parse().unwrap()));
    both(&mut bench, &[("peers_behind", "peers_behind", 1.0)]);
}

#[test]
fn failures_are_counted_by_family() {
    let mut bench = Bench::with(
        r#"{"network": {"vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/126",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "dual", "subnet": "9.0.0.0/16", "prefix": 24,
        "subnet6": "fd01:b::/80", "prefix6": 80}, {"name": "four", "subnet": "10.0.0.0/16", "prefix": 24}]}}"#,
    );
    bench.lead(Bytes::new());
    // Two VTEPs and one subnet of IPv6, of IPv4 there is enough.
    for agent in [FIRST, SECOND, THIRD] {
        bench.register(agent);
    }
    both(
        &mut bench,
        &[
            (
                "allocation_failures_total{of=\"subnet\",family=\"ipv6\"}",
                "subnet6_allocation_failures",
                1.0,
            ),
            (
                "allocation_failures_total{of=\"subnet\",family=\"ipv4\"}",
                "subnet_allocation_failures",
                0.0,
            ),
            (
                "allocation_failures_total{of=\"vtep\",family=\"ipv6\"}",
                "ip6_allocation_failures",
                1.0,
            ),
            (
                "allocation_failures_total{of=\"vtep\",family=\"ipv4\"}",
                "ip_allocation_failures",
                0.0,
            ),
            ("vteps_free{family=\"ipv6\"}", "vteps6_free", 0.0),
            ("vteps_used{family=\"ipv6\"}", "vteps6_used", 2.0),
            ("vteps_used{family=\"ipv4\"}", "vteps_used", 2.0),
            (
                "subnets_used{overlay=\"dual\",family=\"ipv6\"}",
                "overlays/dual/subnets6_used",
                1.0,
            ),
            (
                "subnets_used{overlay=\"dual\",family=\"ipv4\"}",
                "overlays/dual/subnets_used",
                1.0,
            ),
        ],
    );
}

#[test]
fn the_vtep_of_one_that_let_go_of_everything_is_free() {
    let mut bench = Bench::with(
        r#"{"network": {"vtep_subnet": "44.128.0.0/29", "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "web", "subnet": "9.0.0.0/16", "prefix": 24}]}}"#,
    );
    bench.lead(Bytes::new());
    bench.register(FIRST);
    bench.stored(StoreOutcome::Stored);
    bench.ask("DELETE", "/overlay-master/overlays/web", &[]);
    bench.stored(StoreOutcome::Stored);
    let used = |count: f64| {
        [
            ("vteps_used{family=\"ipv4\"}", "vteps_used", count),
            ("vteps_used{family=\"ipv6\"}", "vteps6_used", count),
            ("agents_registered", "agents_registered", count),
        ]
    };
    both(&mut bench, &used(1.0));
    bench.register(FIRST);
    bench.message(
        FIRST,
        &AgentRegisteredMessage {
            revision: Some(1),
            ..Default::default()
        },
    );
    both(&mut bench, &used(0.0));
}
