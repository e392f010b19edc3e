//! Messages from outside that are larger, or of another form, than any agent or master sends:
//! they are dropped or cut, at little cost, and nobody is contacted because of them.

use std::net::TcpListener;

use anyhow::ensure;
use overlay_core::proto::internal::{AgentRegisteredMessage, RegisterAgentMessage};
use overlay_core::protocol::messages::Named;
use testbed::node::Node;
use testbed::wait;

use crate::common::{LIMIT, assert_alive, loopback, start};

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
