//! Messages from outside that are larger, or of another form, than any agent or master sends:
//! they are dropped or cut, at little cost, and nobody is contacted because of them.

use std::io;
use std::net::TcpListener;
use std::thread;

use anyhow::ensure;
use overlay_core::proto::AgentOverlayInfo;
use overlay_core::proto::internal::{
    AgentRegisteredMessage, PeersReceivedMessage, PeersVersion, RegisterAgentMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::peer_list_codec::{PEERS, pack};
use prost::Message;
use prost::encoding;
use serde_json::json;
use testbed::node::Node;
use testbed::wait;
use testkit::watch::Watch;

use crate::common::{LIMIT, all_ok, assert_alive, loopback, start, wait_state};

/// Most memory that a message may cost a process, in bytes. libprocess itself takes several
/// times the size of a message, and keeps it.
const MAX_MEMORY: u64 = 400 << 20;

/// Sends a message to a process of a node, from any sender. libprocess accepts it.
fn send<M: Named>(node: &Node, process: &str, from: &str, message: &M) {
    let body = message.encode_to_vec();
    let reply = node.client().message(process, M::NAME, from, &body);
    assert_eq!(reply.unwrap().status, 202, "libprocess takes it");
}

/// Waits until the log of a node has a line with this text.
#[track_caller]
fn wait_line(node: &Node, text: &str) {
    wait::until(text, LIMIT, || {
        let log = node.log();
        ensure!(log.contains(text), "the log is\n{log}");
        Ok(Some(()))
    })
    .unwrap();
}

/// libprocess answers `id@ip:port` with `POST /id/…` to that address, and so could be made to
/// send a request to any server, such as a container engine.
#[test]
fn no_request_is_sent_in_the_name_of_an_odd_sender() {
    let Some(setup) = loopback("no_request_is_sent_in_the_name_of_an_odd_sender", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let engine = TcpListener::bind("127.0.0.1:0").unwrap();
    engine.set_nonblocking(true).unwrap();
    let address = engine.local_addr().unwrap();
    let senders = [
        "v1.40/containers/create?name=x&a=",
        "a?b=",
        "a%2fb",
        "a#b",
        "a b",
    ];
    for id in senders {
        let from = format!("{id}@{address}");
        send(
            &cluster.master,
            "overlay-master",
            &from,
            &RegisterAgentMessage {
                unpacks_peers: Some(true),
                ..RegisterAgentMessage::default()
            },
        );
        let report = AgentRegisteredMessage::default();
        send(&cluster.master, "overlay-master", &from, &report);
        send(&cluster.agents[0], "overlay-agent", &from, &report);
    }
    // The lines are written instead of anything that would open a connection.
    for node in [&cluster.master, &cluster.agents[0]] {
        wait_line(
            node,
            "dropped input from \"v1.40/containers/create?name=x&a=@",
        );
    }
    assert_alive(&mut cluster);
    let connection = engine.accept();
    assert!(connection.is_err(), "{connection:?} is made to the engine");
}

/// Returns a number of empty fields, which take two or three bytes each.
fn empty_fields(field: u32, count: usize) -> Vec<u8> {
    let mut one = Vec::new();
    encoding::bytes::encode(field, &Vec::new(), &mut one);
    one.repeat(count)
}

/// Waits until an agent has dropped this number of messages of a type.
#[track_caller]
fn wait_dropped(agent: &Node, name: &str, count: u32) {
    let (_, name) = name.rsplit_once('.').unwrap();
    let metric =
        format!("mesos_overlay_agent_messages_dropped_total{{message=\"{name}\"}} {count}\n");
    wait::until("the message to be dropped", LIMIT, || {
        let metrics = agent.client().get("/overlay-agent/metrics")?.text();
        ensure!(metrics.contains(&metric), "the metrics are\n{metrics}");
        Ok(Some(()))
    })
    .unwrap();
}

/// Accepts connections and reads what comes.
fn swallow(listener: TcpListener) {
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
        }
    });
}

/// Messages that cost gigabytes of memory if they were decoded as they are. The master is one
/// of an earlier release, whose messages are not part of a session.
#[test]
fn bombs_cost_an_agent_little() {
    let Some(setup) = loopback("bombs_cost_an_agent_little", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    swallow(listener);
    let agent = &mut cluster.agents[0];
    // The other backend needs no peers. Nothing is configured before overlays are assigned.
    let change = json!({ "master": address, "backend": "internal" });
    agent
        .configure(|config| {
            for (key, value) in change.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
        })
        .unwrap();
    agent.restart().unwrap();
    let leader = format!("overlay-master@{address}");
    agent
        .wait_log(&format!("Registering with {leader}"), LIMIT)
        .unwrap();
    let peers = empty_fields(PEERS, 10_000);
    let bomb = UpdatePeersMessage {
        packed: Some(pack((0..2_200).map(|_| peers.as_slice()))),
        ..UpdatePeersMessage::default()
    };
    let (peers, overlays) = (UpdatePeersMessage::NAME, UpdateAgentOverlaysMessage::NAME);
    for (what, name, body, dropped) in [
        ("22 million peers, packed", peers, bomb.encode_to_vec(), 1),
        (
            "10 million peers",
            peers,
            empty_fields(PEERS, 10_000_000),
            2,
        ),
        (
            "a million overlays",
            overlays,
            empty_fields(1, 1_000_000),
            1,
        ),
    ] {
        println!("{what}: {} bytes", body.len());
        let watch = Watch::start(agent, "/overlay-agent/overlay").unwrap();
        let sent = agent
            .client()
            .message("overlay-agent", name, &leader, &body);
        assert_eq!(sent.unwrap().status, 202);
        wait_dropped(agent, name, dropped);
        let watched = watch.stop(what).unwrap();
        assert!(watched.more_memory() < MAX_MEMORY, "{what}: {watched}");
        assert_eq!(watched.failed, 0, "{what}: {watched}");
    }
    let reason = "its packed peers cannot be decoded: it has more than 100000 elements";
    let log = agent.log();
    assert!(log.contains(reason), "{log}");
    assert_alive(&mut cluster);
}

/// Reports as no agent sends them, in the name of one.
#[test]
fn reports_cost_a_master_little() {
    let Some(setup) = loopback("reports_cost_a_master_little", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let agent = format!("overlay-agent@{}", cluster.agents[0].address());
    let report = |overlays: usize, host_errors: usize, length: usize| AgentRegisteredMessage {
        overlays: vec![AgentOverlayInfo::default(); overlays],
        host_errors: vec!["x".repeat(length); host_errors],
        ..AgentRegisteredMessage::default()
    };
    let watch = Watch::start(&cluster.master, "/overlay-master/state").unwrap();
    for report in [
        report(0, 1, 40 << 20),
        report(1_000_000, 0, 0),
        report(0, 50_000, 200),
    ] {
        send(&cluster.master, "overlay-master", &agent, &report);
    }
    // The largest numbers there are.
    let version = PeersVersion {
        epoch: Some(u64::MAX),
        version: Some(u64::MAX),
        digest: Some(u64::MAX),
    };
    let register = RegisterAgentMessage {
        peers: Some(version),
        ..RegisterAgentMessage::default()
    };
    send(&cluster.master, "overlay-master", &agent, &register);
    let received = PeersReceivedMessage {
        version,
        ..PeersReceivedMessage::default()
    };
    send(&cluster.master, "overlay-master", &agent, &received);
    let last = AgentRegisteredMessage {
        revision: Some(u64::MAX),
        ..AgentRegisteredMessage::default()
    };
    send(&cluster.master, "overlay-master", &agent, &last);
    let state = wait_state(&mut cluster, "the agent to be as before", |state| {
        all_ok(state, 1)
    });
    let watched = watch
        .stop("reports of 40 MB and of a million states")
        .unwrap();
    assert!(watched.more_memory() < MAX_MEMORY, "{watched}");
    assert_eq!(watched.failed, 0, "{watched}");
    let size = state.to_string().len();
    println!("the state has {size} bytes");
    assert!(size < 20_000, "{state}");
    assert_alive(&mut cluster);
}
