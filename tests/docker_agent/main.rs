//! Tests of a whole agent (without Mesos) on a host whose container engine hangs, is absent or has
//! networks in use: everything else works, the state is reported, and the agent recovers by
//! itself.
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesos_overlay::runtime::{Action, Clock, LocalHost, Node, NodeOptions, Role};
use overlay_core::agent::Agent as Machine;
use overlay_core::config::{AgentConfig, AuthenticateHttp};
use overlay_core::proto::internal::{RegisterAgentMessage, Session, UpdateAgentOverlaysMessage};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::messages::Named;
use overlay_core::{Io, Request, RequestId, Upid};
use prost::Message;
use serde_json::Value;
use testkit::engine::{DockerHost, HungEngine};
use testkit::host::{Host, PATIENCE, eventually};

/// Option of a Docker network: MTU of the containers' interfaces.
const MTU: &str = "com.docker.network.driver.mtu";

/// `command_timeout`.
const TIMEOUT: Duration = Duration::from_secs(3);

/// An agent on a host. The test acts as its master.
struct Agent<'a> {
    host: &'a Host,
    node: Arc<Mutex<Node>>,
    requests: u64,
}

impl<'a> Agent<'a> {
    /// Returns an agent that has received its assignment of one overlay.
    fn new(host: &'a Host, socket: PathBuf) -> Agent<'a> {
        Agent::with_docker(host, socket, true)
    }

    /// Returns an agent with or without `docker_bridge`.
    fn with_docker(host: &'a Host, socket: PathBuf, docker_bridge: bool) -> Agent<'a> {
        let mut config = AgentConfig::new(host.cni.path());
        config.docker_socket = Some(socket);
        config.network.command_timeout = TIMEOUT;
        config.network.docker_bridge = docker_bridge;
        let options = NodeOptions {
            role: Role::Agent,
            factory: Box::new(move |context| {
                Box::new(Machine::new(
                    config.clone(),
                    context.me.clone(),
                    context.seed,
                ))
            }),
            detect: None,
            authenticate_http: AuthenticateHttp::default(),
            log: None,
            host: Box::new(LocalHost::new(Arc::new(|| {}))),
            clock: Clock::system(),
            seeds: mesos_overlay::runtime::Seeds::of(1),
        };
        let agent = Agent {
            host,
            node: Arc::new(Mutex::new(Node::new(options))),
            requests: 0,
        };
        let me: Upid = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        let master = Upid::new("overlay-master", me.address);
        agent.with(move |node| {
            node.start(me).unwrap();
            let message = UpdateAgentOverlaysMessage {
                overlays: vec![assignment()],
                session: Some(Session {
                    secret: Some(nonce(node)),
                    ..Session::default()
                }),
                ..Default::default()
            };
            let body = message.encode_to_vec().into();
            node.message(master, UpdateAgentOverlaysMessage::NAME.to_owned(), body)
                .unwrap();
        });
        agent
    }

    /// Calls the node in the host's network namespace, in which its threads must work.
    fn with<T: Send + 'static>(&self, call: impl FnOnce(&mut Node) -> T + Send + 'static) -> T {
        let node = self.node.clone();
        self.host.run(move || call(&mut node.lock().unwrap()))
    }

    /// Returns status and error of the overlay.
    fn status(&mut self) -> (String, String) {
        let json = self.view();
        let state = &json["overlays"][0]["state"];
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("error"))
    }

    /// Returns the answer of the endpoint `/overlay-agent/overlay`.
    fn view(&mut self) -> Value {
        self.requests += 1;
        let request = Request {
            id: RequestId(self.requests),
            method: "GET".into(),
            path: "/overlay-agent/overlay".into(),
            query: Default::default(),
            accept: None,
            headers: Default::default(),
            body: Default::default(),
        };
        let response = self.with(move |node| {
            node.tick().unwrap();
            drain(node);
            node.request(request, None).unwrap();
            drain(node).pop().expect("no answer")
        });
        serde_json::from_slice(&response).unwrap()
    }

    /// Waits until a list of sentences in the agent's view satisfies the predicate.
    fn wait_for(&mut self, list: &str, predicate: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.view();
            let values = view[list].as_array().into_iter().flatten();
            let sentences: Vec<String> = values
                .map(|value| value.as_str().unwrap().to_owned())
                .collect();
            if predicate(&sentences) {
                return;
            }
            assert!(Instant::now() < deadline, "{list} is {sentences:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a status and returns the error.
    fn wait(&mut self, status: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.status();
            if now.0 == status {
                return now.1;
            }
            assert!(
                Instant::now() < deadline,
                "the status is {now:?} instead of {status}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells if everything that Mesos containers need is configured.
    fn is_ready_for_mesos(&self) -> bool {
        self.host.cni.path().join("dcos.conf").exists()
            && self
                .host
                .field("ip -j link show", "ifname")
                .iter()
                .any(|name| name == "vtep1024")
    }
}

/// Discards all actions and returns the nonce of the registration.
fn nonce(node: &mut Node) -> Bytes {
    let mut nonce = None;
    loop {
        match node.poll().unwrap() {
            Action::Idle(_) => return nonce.expect("the agent registers with a nonce"),
            Action::Io(Io::Send { name, body, .. }) if name == RegisterAgentMessage::NAME => {
                nonce = RegisterAgentMessage::decode(body).unwrap().nonce;
            }
            _ => {}
        }
    }
}

/// Discards all actions and returns the bodies of the responses.
fn drain(node: &mut Node) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    loop {
        match node.poll().unwrap() {
            Action::Idle(_) => return answers,
            Action::Io(Io::Respond { response, .. }) => answers.push(response.body.to_vec()),
            _ => {}
        }
    }
}

/// Returns the agent's assignment.
fn assignment() -> AgentOverlayInfo {
    let bridge = |name: &str, ip: &str| {
        Some(BridgeInfo {
            name: name.into(),
            ip: Some(ip.into()),
            ip6: None,
        })
    };
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
fn hanging_engine_delays_nothing_else() {
    if !testbed::skip::require_docker("hanging_engine") {
        return;
    }
    let mut docker = DockerHost::stopped();
    let socket = docker.engine.socket();
    HungEngine::at(&socket);
    let mut agent = Agent::new(&docker.host, socket.clone());
    let begin = Instant::now();
    while !agent.is_ready_for_mesos() {
        let (status, error) = agent.status();
        assert_eq!(
            (status.as_str(), error.as_str()),
            ("STATUS_CONFIGURING", "")
        );
        assert!(
            begin.elapsed() < TIMEOUT,
            "the configuration for Mesos waits for the engine"
        );
    }
    let error = agent.wait("STATUS_FAILED");
    // One second more for a busy machine.
    assert!(
        begin.elapsed() < TIMEOUT + Duration::from_secs(1),
        "reported after {:?}",
        begin.elapsed()
    );
    assert!(
        error.ends_with("did not answer within 3000 ms when asked for its version"),
        "{error}"
    );
    assert!(agent.is_ready_for_mesos());

    // An engine that answers takes over the socket.
    std::fs::remove_file(&socket).unwrap();
    docker.engine.spawn().unwrap();
    agent.wait("STATUS_OK");
    assert_eq!(
        docker.network("dcos").unwrap()["IPAM"]["Config"][0]["Subnet"],
        "9.0.1.128/25"
    );
}

#[test]
fn agent_follows_the_start_and_stop_of_the_engine() {
    if !testbed::skip::require_docker("agent_follows_the_engine") {
        return;
    }
    let mut docker = DockerHost::stopped();
    let mut agent = Agent::new(&docker.host, docker.engine.socket());
    let error = agent.wait("STATUS_FAILED");
    assert!(
        error.ends_with("docker.sock: No such file or directory (os error 2)"),
        "{error}"
    );
    for _ in 0..2 {
        docker.engine.spawn().unwrap();
        agent.wait("STATUS_OK");
        docker.engine.stop().unwrap();
        agent.wait("STATUS_FAILED");
        assert!(agent.is_ready_for_mesos());
    }
}

/// `docker_bridge` is switched off while containers use the network.
#[test]
fn without_docker_bridge_the_network_is_removed() {
    if !testbed::skip::require_docker("without_docker_bridge") {
        return;
    }
    let mut docker = DockerHost::started();
    let socket = docker.engine.socket();
    Agent::new(&docker.host, socket.clone()).wait("STATUS_OK");
    docker.engine.container("web.1", "dcos", &[]).unwrap();

    let mut agent = Agent::with_docker(&docker.host, socket.clone(), false);
    agent.wait_for("host_errors", |sentences| {
        sentences == ["Docker network dcos is not wanted any more and is kept as long as containers use it: web.1"]
    });
    assert_eq!(
        agent.status(),
        ("STATUS_OK".to_owned(), String::new()),
        "a network in use must be no error"
    );
    let draining = "overlay dcos no longer uses bridge d-dcos, but 1 container on d-dcos still uses it: \
                    bridge, rules and routes stay until its end";
    agent.wait_for("draining", |sentences| sentences == [draining]);
    let is_accepted = || {
        docker
            .host
            .command("iptables -S MESOS-OVERLAY-TO")
            .contains("-o d-dcos ")
    };
    assert!(
        is_accepted(),
        "packets of the container are not accepted any more"
    );
    docker.engine.docker(&["rm", "--force", "web.1"]).unwrap();
    agent.wait_for("host_errors", <[String]>::is_empty);
    agent.wait_for("draining", <[String]>::is_empty);
    assert!(docker.id("dcos").is_none());
    eventually("packets are not accepted any more", || !is_accepted());

    // An engine that is started restores the networks of its store.
    drop(agent);
    Agent::new(&docker.host, socket.clone()).wait("STATUS_OK");
    docker.engine.stop().unwrap();
    let mut agent = Agent::with_docker(&docker.host, socket, false);
    agent.wait("STATUS_OK");
    agent.wait_for("host_errors", <[String]>::is_empty);
    docker.engine.spawn().unwrap();
    docker.engine.wait().unwrap();
    eventually("the network is removed", || docker.id("dcos").is_none());
}

/// The MTU of both containerizers fits the underlay, if `overlay_mtu` is not configured.
#[test]
fn the_mtu_fits_the_underlay() {
    if !testbed::skip::require_docker("the_mtu_fits_the_underlay") {
        return;
    }
    let docker = DockerHost::started();
    docker
        .host
        .ip("link add uplink mtu 1400 type veth peer name other");
    docker.host.ip("address add 10.0.0.2/24 dev uplink");
    docker.host.ip("link set other up");
    docker.host.ip("link set uplink up");
    let mtu = || {
        docker
            .network("dcos")
            .map(|dcos| dcos["Options"][MTU].as_str().unwrap().to_owned())
    };
    let cni = || std::fs::read_to_string(docker.host.cni.path().join("dcos.conf")).unwrap();
    let mut agent = Agent::new(&docker.host, docker.engine.socket());
    agent.wait("STATUS_OK");
    assert_eq!(mtu().unwrap(), "1350");
    assert!(cni().contains("\"mtu\":1350"));
    let first = docker.id("dcos");

    // Another agent finds no difference.
    drop(agent);
    let mut agent = Agent::new(&docker.host, docker.engine.socket());
    agent.wait("STATUS_OK");
    assert_eq!(docker.id("dcos"), first, "it was recreated");

    // A network in use is not changed.
    docker.engine.container("web.1", "dcos", &[]).unwrap();
    docker.host.ip("link set uplink mtu 1300");
    eventually("CNI has it", || cni().contains("\"mtu\":1250"));
    agent.wait_for("host_errors", |sentences| {
        sentences == [
            "Docker network dcos has MTU 1350 instead of 1250; it is recreated when no container uses it any more \
             (web.1)",
        ]
    });
    assert_eq!(docker.id("dcos"), first);
    docker.engine.docker(&["rm", "--force", "web.1"]).unwrap();
    eventually("Docker has it", || mtu().as_deref() == Some("1250"));
    agent.wait_for("host_errors", <[String]>::is_empty);
}
