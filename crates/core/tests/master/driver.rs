//! A master whose inputs come from a test.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto::internal::{
    AgentNetworkConfig, PeersVersion, RegisterAgentMessage, UpdatePeersMessage,
};
use overlay_core::protocol::http::RequestHeaders;
use overlay_core::protocol::messages::Named;
use overlay_core::{
    Effect, Input, Io, Machine, Request, RequestId, Response, StoreOutcome, Time, Upid,
};
use prost::Message;
use serde_json::Value;
use testkit::sessions::WithSessions;

pub const FIRST: &str = "overlay-agent@10.0.0.1:5051";
pub const SECOND: &str = "overlay-agent@10.0.0.2:5051";
pub const THIRD: &str = "overlay-agent@10.0.0.3:5051";

/// Ranges that three agents exhaust in part: 6 VTEP addresses, 2 subnets of `dcos`.
const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/29", "vtep_mac_oui": "70:B3:D5:00:00:00",
    "overlays": [{"name": "dcos", "subnet": "9.0.0.0/30", "prefix": 31},
                 {"name": "more", "subnet": "10.1.0.0/16", "prefix": 24},
                 {"name": "six", "subnet6": "fd01:b::/64", "prefix6": 80, "enabled": false}]}}"#;

/// A master, whose reads, writes and requests the test answers.
pub struct Driver {
    /// The master.
    pub master: WithSessions<Master>,
    /// The present time.
    pub now: Time,
    /// Number of the write under way.
    pub writing: Option<u64>,
    /// The latest state that was written.
    pub log: Bytes,
    /// Answers to requests that were not taken yet.
    responses: Vec<Response>,
    /// The version of the peers that were sent last.
    pub peers: Option<PeersVersion>,
}

impl Driver {
    /// Returns a standby.
    pub fn new() -> Driver {
        Driver::with_config(CONFIG)
    }

    /// Returns a standby with this configuration.
    pub fn with_config(config: &str) -> Driver {
        let me: Upid = "overlay-master@10.255.0.1:5050".parse().unwrap();
        let config = parse("master.json", config).unwrap().config;
        let master = WithSessions::new(Master::new(config, me.clone(), 1), me);
        Driver {
            master,
            now: Time::default(),
            writing: None,
            log: Bytes::new(),
            responses: Vec::new(),
            peers: None,
        }
    }

    /// Returns a leader with an empty log.
    pub fn leading() -> Driver {
        let mut driver = Driver::new();
        driver.lead(Bytes::new());
        driver
    }

    /// Makes the master the leader, with this state in the log.
    pub fn lead(&mut self, log: Bytes) {
        self.input(Input::Leader(Some(
            "master@10.255.0.1:5050".parse().unwrap(),
        )));
        self.input(Input::Fetched(Ok(log)));
    }

    /// Delivers an input.
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
                Effect::Io(Io::Respond { response, .. }) => self.responses.push(response),
                _ => {}
            }
        }
    }

    /// Delivers a message of an agent.
    pub fn message<M: Named>(&mut self, from: &str, message: &M) {
        let body = message.encode_to_vec().into();
        self.input(Input::Message {
            from: from.parse().unwrap(),
            name: M::NAME.to_owned(),
            body,
        });
    }

    /// Delivers a registration of an agent that takes no lists of peers.
    pub fn register(&mut self, agent: &str) {
        self.register_as(agent, None);
    }

    /// Delivers a registration of an agent that takes no lists of peers and is of this release.
    pub fn register_as(&mut self, agent: &str, release: Option<&str>) {
        let network_config = AgentNetworkConfig {
            overlay_mtu: Some(1420),
            ..Default::default()
        };
        self.message(
            agent,
            &RegisterAgentMessage {
                network_config,
                release: release.map(str::to_owned),
                ..Default::default()
            },
        );
    }

    /// Lets time pass, without a timeout for the master.
    pub fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// Ends the write under way.
    pub fn stored(&mut self, outcome: StoreOutcome) {
        let number = self.writing.take().expect("no write is under way");
        self.input(Input::Stored { number, outcome });
    }

    /// Returns the answer to a GET request.
    pub fn get(&mut self, path: &str, query: &[(&str, &str)]) -> Response {
        self.request("GET", path, query);
        self.responses.pop().expect("no answer")
    }

    /// Returns the answer to a GET request of a client that has this version of the answer.
    pub fn get_unless(&mut self, path: &str, version: &str) -> Response {
        let headers = RequestHeaders {
            if_none_match: Some(version.to_owned()),
            ..RequestHeaders::default()
        };
        self.input(Input::Request(Request {
            headers,
            ..request("GET", path, &[], Bytes::new())
        }));
        self.responses.pop().expect("no answer")
    }

    /// Returns the answer to a POST request.
    pub fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Response {
        self.request_with_body("POST", path, &[], body.into());
        self.responses.pop().expect("no answer")
    }

    /// Makes a request without a body.
    pub fn request(&mut self, method: &str, path: &str, query: &[(&str, &str)]) {
        self.request_with_body(method, path, query, Bytes::new());
    }

    fn request_with_body(&mut self, method: &str, path: &str, query: &[(&str, &str)], body: Bytes) {
        self.input(Input::Request(request(method, path, query, body)));
    }

    /// Returns the state endpoint's JSON.
    pub fn state(&mut self) -> Value {
        serde_json::from_slice(&self.get("/overlay-master/state", &[]).body).unwrap()
    }
}

fn request(method: &str, path: &str, query: &[(&str, &str)], body: Bytes) -> Request {
    Request {
        id: RequestId(1),
        method: method.to_owned(),
        path: path.to_owned(),
        query: query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        accept: None,
        headers: RequestHeaders::default(),
        body,
    }
}
