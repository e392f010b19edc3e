//! Invalid input from the network: Mesos continues, no state is lost, and the log is not flooded.

use std::io::{Read, Write};

use overlay_core::protocol::messages::NAMES;
use testbed::cluster::Cluster;
use testbed::netns;
use testbed::node::Node;

use crate::common::{LIMIT, all_ok, assert_alive, loopback, start, state, wait_state};

/// Returns reproducible random bytes.
fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// Sends random bytes as every message type, from an unknown sender and with the pid of the real
/// one.
fn send_garbage(cluster: &Cluster, node: &Node, process: &str) {
    let master = format!("overlay-master@{}", cluster.master.address());
    let agent = format!("overlay-agent@{}", cluster.agents[0].address());
    let client = node.client();
    for (seed, name) in NAMES
        .iter()
        .chain(&["no.such.Message", "mesos.internal.PingSlaveMessage"])
        .enumerate()
    {
        for from in ["stranger@127.0.0.1:9", &master, &agent] {
            for length in [0, 1, 17, 4000] {
                let reply = client
                    .message(process, name, from, &garbage(seed as u64, length))
                    .unwrap();
                assert_eq!(reply.status, 202, "libprocess takes it");
            }
        }
    }
}

#[test]
fn garbage_messages_do_no_harm() {
    let Some(setup) = loopback("garbage_messages_do_no_harm", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    send_garbage(&cluster, &cluster.master, "overlay-master");
    send_garbage(&cluster, &cluster.agents[0], "overlay-agent");
    assert_alive(&mut cluster);
    assert_eq!(
        wait_state(&mut cluster, "the state of before", |state| all_ok(
            state, 1
        )),
        before
    );
    // Each reason is logged once per second, so hundreds of messages cause a few lines.
    for node in [&cluster.master, &cluster.agents[0]] {
        let log = node.log();
        let warnings = log.lines().filter(|line| line.starts_with('W')).count();
        assert!(
            (1..60).contains(&warnings),
            "{warnings} warnings of {}:\n{log}",
            node.name()
        );
        assert!(
            log.contains("stranger@127.0.0.1:9"),
            "the sender is not named:\n{log}"
        );
    }
}

#[test]
fn garbage_requests_do_no_harm() {
    let Some(setup) = loopback("garbage_requests_do_no_harm", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = state(&cluster.master).unwrap();
    for (node, process) in [
        (&cluster.master, "overlay-master"),
        (&cluster.agents[0], "overlay-agent"),
    ] {
        let client = node.client();
        for (seed, path) in [
            "",
            "/",
            "/state",
            "/agents/delete",
            "/overlay",
            "/%00",
            "/..%2f..",
            "/état",
        ]
        .iter()
        .enumerate()
        {
            let path = format!("/{process}{}", path.replace('é', "%C3%A9"));
            for method in ["GET", "POST", "DELETE", "PATCH"] {
                let reply = client.request(method, &path, &[], &garbage(seed as u64, 3000));
                // Mesos itself may close such a connection; an answer must not blame the server.
                if let Ok(reply) = reply {
                    assert!(
                        reply.status < 500,
                        "{method} {path}: {} {}",
                        reply.status,
                        reply.text()
                    );
                }
            }
        }
        let deep = format!(
            "{{\"agents\":{}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let reply = client
            .request(
                "POST",
                "/overlay-master/agents/delete",
                &[],
                deep.as_bytes(),
            )
            .unwrap();
        assert!((400..500).contains(&reply.status), "{}", reply.status);
        raw_garbage(node);
    }
    assert_alive(&mut cluster);
    assert_eq!(
        wait_state(&mut cluster, "the state of before", |state| all_ok(
            state, 1
        )),
        before
    );
}

/// Sends bytes that are not HTTP, and an incomplete request.
fn raw_garbage(node: &Node) {
    let cut =
        b"POST /overlay-master/agents/delete HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"agents\""
            .to_vec();
    for bytes in [garbage(1, 2000), cut] {
        let netns = node.host().map(|host| host.netns());
        let mut stream = netns::connect(netns, node.address(), LIMIT).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read(&mut [0; 1000]); // an answer, the end or a reset: all the same
    }
}
