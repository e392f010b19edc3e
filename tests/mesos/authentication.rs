//! Authentication of the modules' endpoints by Mesos.

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::thread::JoinHandle;
use std::time::Instant;

use mesos_overlay::runtime::Role;
use overlay_core::protocol::routes::Access;
use serde_json::json;
use testbed::cluster::{Cluster, ClusterConfig};
use testbed::node::Node;
use testbed::{netns, wait};

use crate::common::{LIMIT, loopback};

/// Credentials `operator:secret` for HTTP's basic authentication.
const CREDENTIALS: &str = "Basic b3BlcmF0b3I6c2VjcmV0";

/// Returns the status of a request, with or without credentials.
fn status(node: &Node, method: &str, path: &str, known: bool) -> u16 {
    let headers: &[_] = if known {
        &[("Authorization", CREDENTIALS)]
    } else {
        &[]
    };
    let body: &[u8] = if method == "POST" {
        br#"{"agents":["10.99.99.99"]}"#
    } else {
        b""
    };
    node.client()
        .request(method, path, headers, body)
        .unwrap()
        .status
}

/// Prepares a cluster in which Mesos authenticates all requests.
fn authenticating(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::prepare(setup).unwrap();
    let credentials = json!({"credentials": [{"principal": "operator", "secret": "secret"}]});
    let master = std::iter::once((&mut cluster.master, "MESOS_CREDENTIALS"));
    for (node, flag) in master.chain(
        cluster
            .agents
            .iter_mut()
            .map(|agent| (agent, "MESOS_HTTP_CREDENTIALS")),
    ) {
        let file = node.dir().join("credentials.json");
        fs::write(&file, credentials.to_string()).unwrap();
        node.set(flag, file.display());
        node.set("MESOS_AUTHENTICATE_HTTP_READWRITE", "true");
        node.set("MESOS_AUTHENTICATE_HTTP_READONLY", "true");
    }
    cluster
}

/// Waits until both modules answer, and Mesos has installed its authenticators.
fn wait_serving(cluster: &mut Cluster, authenticates: bool) {
    if authenticates {
        wait::until("Mesos to authenticate", LIMIT, || {
            cluster.check()?;
            let nodes = std::iter::once(&cluster.master).chain(&cluster.agents);
            let is_protected = |node: &Node| Ok(node.client().get("/state")?.status == 401);
            let protected: anyhow::Result<Vec<bool>> = nodes.map(is_protected).collect();
            Ok(protected?.into_iter().all(|yes| yes).then_some(()))
        })
        .unwrap();
    }
    wait::until("the master to serve", LIMIT, || {
        cluster.check()?;
        Ok((cluster
            .master
            .client()
            .get("/overlay-master/health")?
            .status
            == 200)
            .then_some(()))
    })
    .unwrap();
    wait::until("the modules to see that Mesos has started", LIMIT, || {
        cluster.check()?;
        let changed = cluster
            .master
            .client()
            .post(DELETE, &json!({"agents": []}))?;
        let read = cluster.agents[0].client().get("/overlay-agent/overlay")?;
        Ok((changed.status != 503 && read.status != 503).then_some(()))
    })
    .unwrap();
}

const DELETE: &str = "/overlay-master/agents/delete";

/// Asserts the statuses of writing and of reading endpoints.
fn check(cluster: &Cluster, writes: u16, reads: u16) {
    let (master, agent) = (&cluster.master, &cluster.agents[0]);
    assert_eq!(status(master, "POST", DELETE, false), writes);
    assert_eq!(status(master, "POST", DELETE, true), 200);
    // Other spellings of the path and other methods are authenticated too.
    for path in [
        format!("{DELETE}/"),
        format!("/{DELETE}"),
        format!("{DELETE}/x"),
        DELETE.replace("/d", "%2Fd"),
    ] {
        let status = status(master, "POST", &path, false);
        assert!(status == 404 || status == writes, "{path}: {status}");
    }
    // One path has one realm, so what changes overlays protects the list, too.
    for (method, path) in [
        ("GET", "/overlay-master/overlays"),
        ("POST", "/overlay-master/overlays"),
        ("PUT", "/overlay-master/overlays/dcos"),
        ("DELETE", "/overlay-master/overlays/no-such-one"),
        ("DELETE", "/overlay-master/overlays/dcos/x"),
    ] {
        let (unknown, known) = (
            status(master, method, path, false),
            status(master, method, path, true),
        );
        assert_eq!(unknown == 401, writes == 401, "{method} {path}: {unknown}");
        assert!([200, 400, 404].contains(&known), "{method} {path}: {known}");
    }
    for (role, node) in [(Role::Master, master), (Role::Agent, agent)] {
        for endpoint in role.endpoints() {
            let path = format!("/{}{}", role.id(), endpoint.path);
            let protected = match endpoint.access {
                Access::Writers => writes == 401,
                Access::Readers => reads == 401,
                Access::Anyone => false,
            };
            assert_eq!(
                status(node, "GET", &path, false) == 401,
                protected,
                "{path}"
            );
            assert!(
                [200, 405].contains(&status(node, "GET", &path, true)),
                "{path}"
            );
        }
    }
}

#[test]
fn authenticate_http_chooses_what_mesos_protects() {
    let Some(setup) = loopback("authenticate_http_chooses_what_mesos_protects", 1) else {
        return;
    };
    let mut cluster = authenticating(&setup);
    cluster.start_all().unwrap();
    wait_serving(&mut cluster, true);
    check(&cluster, 401, 200);
    for (mode, writes, reads) in [("all", 401, 401), ("none", 200, 200), ("writes", 401, 200)] {
        for node in std::iter::once(&mut cluster.master).chain(&mut cluster.agents) {
            node.configure(|config| config["authenticate_http"] = mode.into())
                .unwrap();
            node.restart().unwrap();
        }
        wait_serving(&mut cluster, true);
        check(&cluster, writes, reads);
    }
}

#[test]
fn without_an_authenticator_everything_is_open() {
    let Some(setup) = loopback("without_an_authenticator_everything_is_open", 1) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    for node in std::iter::once(&cluster.master).chain(&cluster.agents) {
        node.configure(|config| config["authenticate_http"] = "all".into())
            .unwrap();
    }
    cluster.start_all().unwrap();
    wait_serving(&mut cluster, false);
    check(&cluster, 200, 200);
}

/// Sends requests without credentials until many were refused. Returns the other answers.
fn knock(node: &Node, method: &str, path: &str) -> JoinHandle<Vec<String>> {
    let (client, method, path) = (node.client(), method.to_owned(), path.to_owned());
    thread::spawn(move || {
        let deadline = Instant::now() + LIMIT;
        let (mut refused, mut answers) = (0, Vec::new());
        while refused < 20 && Instant::now() < deadline {
            // Until the port is open there is no answer.
            match client.request(&method, &path, &[], b"") {
                Ok(reply) if reply.status == 401 => refused += 1,
                Ok(reply) => answers.push(format!("{} {}", reply.status, reply.text())),
                Err(_) => {}
            }
        }
        assert_eq!(refused, 20, "{path} was never protected: {answers:?}");
        answers
    })
}

/// Mesos loads modules before it installs its authenticators, and libprocess lets every request
/// through until then.
#[test]
fn nothing_is_open_while_mesos_starts() {
    let Some(setup) = loopback("nothing_is_open_while_mesos_starts", 1) else {
        return;
    };
    let mut cluster = authenticating(&setup);
    for node in std::iter::once(&cluster.master).chain(&cluster.agents) {
        node.configure(|config| config["authenticate_http"] = "all".into())
            .unwrap();
    }
    let mut early = 0;
    for round in 0..10 {
        let (master, agent) = (&cluster.master, &cluster.agents[0]);
        let knocks = [
            knock(master, "POST", DELETE),
            knock(master, "GET", "/overlay-master/state"),
            knock(agent, "GET", "/overlay-agent/overlay"),
        ];
        if round == 0 {
            cluster.start_all().unwrap();
        } else {
            cluster.master.restart().unwrap();
            cluster.agents[0].restart().unwrap();
        }
        for answer in knocks.into_iter().flat_map(|knock| knock.join().unwrap()) {
            assert!(
                answer.starts_with("503 Mesos is starting") || answer.starts_with("404"),
                "{answer}"
            );
            early += usize::from(answer.starts_with("503"));
        }
    }
    println!("{early} requests came before the authenticators");
    assert!(early > 0, "the test came too late");
}

/// Sends HEAD without credentials until many requests were refused. Returns the other answers, as
/// they came.
fn knock_with_head(node: &Node, path: &str) -> JoinHandle<Vec<String>> {
    let (client, path) = (node.client(), path.to_owned());
    thread::spawn(move || {
        let server = client.server().parse().unwrap();
        let deadline = Instant::now() + LIMIT;
        let (mut refused, mut answers) = (0, Vec::new());
        while refused < 20 && Instant::now() < deadline {
            // Until the port is open there is no answer.
            let Ok(mut stream) = netns::connect(client.netns(), server, LIMIT) else {
                continue;
            };
            let request = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let mut answer = String::new();
            let asked = stream.write_all(request.as_bytes());
            if asked.is_err() || stream.read_to_string(&mut answer).is_err() {
                continue;
            }
            if answer.starts_with("HTTP/1.1 401") {
                refused += 1;
            } else {
                answers.push(answer);
            }
        }
        answers
    })
}

#[test]
fn answers_to_head_have_no_body_while_mesos_starts() {
    let test = "answers_to_head_have_no_body_while_mesos_starts";
    let Some(setup) = loopback(test, 0) else {
        return;
    };
    let mut cluster = authenticating(&setup);
    cluster
        .master
        .configure(|config| config["authenticate_http"] = "all".into())
        .unwrap();
    let mut early = 0;
    for _ in 0..20 {
        let knock = knock_with_head(&cluster.master, "/overlay-master/state");
        cluster.master.start().unwrap();
        for answer in knock.join().unwrap() {
            if answer.starts_with("HTTP/1.1 503") {
                assert!(answer.ends_with("\r\n\r\n"), "{answer}");
                assert!(answer.contains("Content-Length: "), "{answer}");
                early += 1;
            }
        }
        cluster.master.kill().unwrap();
        if early > 0 {
            return;
        }
    }
    panic!("the test came too late");
}
