//! A whole agent (all of it but Mesos) on a host whose container engine is not what
//! it should be: everything else works, everybody is told, and when the engine is
//! right again so is the agent, without being asked.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

mod support;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesos_overlay::core::agent::Agent as Machine;
use mesos_overlay::core::config::{AgentConfig, AuthenticateHttp};
use mesos_overlay::core::message::Named;
use mesos_overlay::core::{Request, RequestId, Upid};
use mesos_overlay::runtime::{Action, Clock, LocalHost, Node, NodeOptions, Role};
use mesos_overlay::wire::internal::UpdateAgentOverlaysMessage;
use mesos_overlay::wire::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use prost::Message;
use serde_json::Value;
use support::engine::{DockerHost, HungEngine};
use support::host::{Host, PATIENCE};

/// `command_timeout`.
const TIMEOUT: Duration = Duration::from_secs(3);

/// An agent on a host. The test is its master.
struct Agent<'a> {
    host: &'a Host,
    node: Arc<Mutex<Node>>,
    requests: u64,
}

impl<'a> Agent<'a> {
    /// An agent that was told its share of one overlay.
    fn new(host: &'a Host, socket: PathBuf) -> Agent<'a> {
        let mut config = AgentConfig::new(host.cni.path());
        config.docker_socket = Some(socket);
        config.network.command_timeout = TIMEOUT;
        let options = NodeOptions {
            role: Role::Agent,
            make: Box::new(move |me, seed| Box::new(Machine::new(config.clone(), me.clone(), seed))),
            detect: None,
            authenticate_http: AuthenticateHttp::default(),
            log: None,
            host: Box::new(LocalHost::new(Arc::new(|| {}))),
            clock: Clock::system(),
            seed: 1,
        };
        let agent = Agent { host, node: Arc::new(Mutex::new(Node::new(options))), requests: 0 };
        let me: Upid = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        let master = Upid::new("overlay-master", me.address);
        agent.with(move |node| {
            node.start(me).unwrap();
            drain(node);
            let share = UpdateAgentOverlaysMessage { overlays: vec![share()], ..Default::default() };
            let body = share.encode_to_vec().into();
            node.message(master, UpdateAgentOverlaysMessage::NAME.to_owned(), body).unwrap();
        });
        agent
    }

    /// Calls the node on the host: its threads are to work there.
    fn with<T: Send + 'static>(&self, call: impl FnOnce(&mut Node) -> T + Send + 'static) -> T {
        let node = self.node.clone();
        self.host.run(move || call(&mut node.lock().unwrap()))
    }

    /// How the overlay fares: its status, and the error.
    fn status(&mut self) -> (String, String) {
        self.requests += 1;
        let request = Request {
            id: RequestId(self.requests),
            method: "GET".into(),
            path: "/overlay-agent/overlay".into(),
            query: Default::default(),
            accept: None,
            body: Default::default(),
        };
        let response = self.with(move |node| {
            node.tick().unwrap();
            drain(node);
            node.request(request).unwrap();
            drain(node).pop().expect("no answer")
        });
        let json: Value = serde_json::from_slice(&response).unwrap();
        let state = &json["overlays"][0]["state"];
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("error"))
    }

    /// Waits for a status; gives the error that goes with it.
    fn wait(&mut self, status: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.status();
            if now.0 == status {
                return now.1;
            }
            assert!(Instant::now() < deadline, "it is {now:?} instead of {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What Mesos containers need.
    fn mesos_part_is_there(&self) -> bool {
        self.host.cni.path().join("dcos.conf").exists()
            && self.host.field("ip -j link show", "ifname").iter().any(|name| name == "vtep1024")
    }
}

/// Carries out nothing; gives the bodies of the answers to requests.
fn drain(node: &mut Node) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    loop {
        match node.poll().unwrap() {
            Action::Idle(_) => return answers,
            Action::Respond { response, .. } => answers.push(response.body.to_vec()),
            _ => {}
        }
    }
}

fn share() -> AgentOverlayInfo {
    let bridge =
        |name: &str, ip: &str| Some(BridgeInfo { name: name.into(), ip: Some(ip.into()), ip6: None });
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_ip: "44.128.0.1/20".into(),
        vtep_mac: "70:b3:d5:80:00:01".into(),
        ..VxLanInfo::default()
    };
    AgentOverlayInfo {
        info: OverlayInfo {
            name: "dcos".into(),
            subnet: Some("9.0.0.0/8".into()),
            prefix: Some(24),
            ..OverlayInfo::default()
        },
        subnet: Some("9.0.1.0/24".into()),
        mesos_bridge: bridge("m-dcos", "9.0.1.0/25"),
        docker_bridge: bridge("d-dcos", "9.0.1.128/25"),
        backend: BackendInfo { vxlan: Some(vxlan) },
        ..AgentOverlayInfo::default()
    }
}

#[test]
fn an_engine_that_hangs_holds_up_nothing() {
    if !testbed::skip::unless_docker("an_engine_that_hangs") {
        return;
    }
    let mut docker = DockerHost::new();
    let socket = docker.engine.socket();
    HungEngine::at(&socket);
    let mut agent = Agent::new(&docker.host, socket.clone());
    let begin = Instant::now();
    while !agent.mesos_part_is_there() {
        let (status, error) = agent.status();
        assert_eq!((status.as_str(), error.as_str()), ("STATUS_CONFIGURING", ""));
        assert!(begin.elapsed() < TIMEOUT, "Mesos's part waits for the engine");
    }
    let error = agent.wait("STATUS_FAILED");
    // Some of it for a machine that has something else to do.
    assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(1), "told after {:?}", begin.elapsed());
    assert!(error.ends_with("did not answer within 3000 ms when asked for its version"), "{error}");
    assert!(agent.mesos_part_is_there());

    // Another one, that answers, takes its place.
    std::fs::remove_file(&socket).unwrap();
    docker.engine.spawn().unwrap();
    agent.wait("STATUS_OK");
    assert_eq!(docker.network("dcos").unwrap()["IPAM"]["Config"][0]["Subnet"], "9.0.1.128/25");
}

#[test]
fn an_engine_that_comes_and_goes_is_followed() {
    if !testbed::skip::unless_docker("an_engine_that_comes_and_goes") {
        return;
    }
    let mut docker = DockerHost::new();
    let mut agent = Agent::new(&docker.host, docker.engine.socket());
    let error = agent.wait("STATUS_FAILED");
    assert!(error.ends_with("docker.sock: No such file or directory (os error 2)"), "{error}");
    for _ in 0..2 {
        docker.engine.spawn().unwrap();
        agent.wait("STATUS_OK");
        docker.engine.stop().unwrap();
        agent.wait("STATUS_FAILED");
        assert!(agent.mesos_part_is_there());
    }
}
