//! Where masters and agents share a key: senders that see every message, and the way there.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use overlay_core::proto::internal::{
    AgentRegisteredMessage, RegisterAgentMessage, Session, UpdateAgentOverlaysMessage,
};
use overlay_core::protocol::messages::Named;
use prost::Message;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::container::Container;
use testbed::monitor::Monitor;
use testbed::net::Host;
use testbed::node::Node;
use testbed::packet_loss::Traffic;
use testbed::wait;
use testkit::blind::Sender;
use testkit::tap::{Tap, Tapped};

use super::{Kernels, agent, attacked, containers, forged, host, master, sender, warns};
use crate::common::{LIMIT, all_ok, loopback, start, state, wait_reach, wait_settled, wait_state};

/// Keys for tests.
const KEYS: [&str; 2] = [
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
];

/// Writes a key file that only its owner can read.
fn key_file(dir: &Path, keys: &[&str]) -> PathBuf {
    use std::io::Write;
    let file = dir.join("keys");
    let _ = fs::remove_file(&file); // there is none at first
    let mut options = fs::OpenOptions::new();
    let mut open = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .unwrap();
    writeln!(open, "# Keys for tests\n{}", keys.join("\n")).unwrap();
    file
}

/// Configures the keys of a node, for its next start; no mode: the default one.
fn configure(node: &Node, keys: &[&str], mode: Option<&str>) {
    let file = key_file(node.dir(), keys);
    node.configure(|config| {
        config["auth_key_file"] = json!(file);
        match mode {
            Some(mode) => config["auth_mode"] = json!(mode),
            None => _ = config.as_object_mut().unwrap().remove("auth_mode"),
        }
    })
    .unwrap();
}

/// Waits until all agents are in order, and returns how each is authenticated.
#[track_caller]
fn wait_authenticated(cluster: &mut Cluster, expected: &[&str]) {
    let what = format!("agents that are authenticated by {expected:?}");
    wait_state(cluster, &what, |state| {
        let agents = state["agents"].as_array().into_iter().flatten();
        let found = agents.map(|agent| agent["authentication"].as_str().unwrap_or_default());
        let matches = found
            .zip(expected)
            .all(|(found, wanted)| found.starts_with(wanted));
        matches && all_ok(state, expected.len())
    });
}

/// Sends messages to their receivers once more, from another host. The connections are open as long
/// as the result exists.
fn replay(from: &Host, messages: &[Tapped]) -> Vec<Sender> {
    let send = |(id, port): (&str, u16)| {
        let mut senders: Vec<(std::net::SocketAddr, Sender)> = Vec::new();
        for message in messages.iter().filter(|message| message.to.port() == port) {
            let known = senders.iter().position(|(to, _)| *to == message.to);
            let at = known.unwrap_or_else(|| {
                let to = overlay_core::Upid::new(id, message.to);
                senders.push((
                    message.to,
                    Sender::connect(Some(from.netns()), &to).unwrap(),
                ));
                senders.len() - 1
            });
            // A receiver may close the connection.
            let _ = senders[at].1.write(&message.bytes);
        }
        senders.into_iter().map(|(_, sender)| sender)
    };
    let processes = [("overlay-master", 5050), ("overlay-agent", 5051)];
    processes.into_iter().flat_map(send).collect()
}

/// Sees all messages of an agent and sends them again: at once, and to a master and an agent that
/// were started again.
#[test]
fn a_tap_changes_nothing_where_there_is_a_key() {
    let Some(setup) = attacked("a_tap_changes_nothing_where_there_is_a_key", 2) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    configure(&cluster.master, &KEYS[..1], None);
    for agent in &cluster.agents {
        configure(agent, &KEYS[..1], None);
    }
    let tap = Tap::start(host(&cluster.agents[0])).unwrap();
    cluster.start_all().unwrap();
    wait_authenticated(&mut cluster, &["key ", "key "]);
    let containers = containers(&cluster, ["a", "b"]);
    wait_reach(&containers.each_ref().map(Container::client));
    // A list that the agent has had, and must not have again.
    let web = json!({"name": "web", "subnet": "11.128.0.0/16", "prefix": 24});
    let client = cluster.master.client();
    let path = "/overlay-master/overlays";
    assert_eq!(client.post(path, &web).unwrap().status, 201);
    wait_overlays(&mut cluster, 2);
    let json = [("Content-Type", "application/json")];
    let removed = client.request("DELETE", &format!("{path}/web"), &json, b"");
    assert_eq!(removed.unwrap().status, 200);
    wait_overlays(&mut cluster, 1);
    let tapped = tap.stop().unwrap();
    for name in [RegisterAgentMessage::NAME, UpdateAgentOverlaysMessage::NAME] {
        assert!(tapped.iter().any(|message| message.is(name)), "no {name}");
    }
    println!("replays: {} messages", tapped.len());

    let before = state(&cluster.master).unwrap();
    let kernels = Kernels::of(&cluster);
    let stranger = host(&cluster.agents[1]);
    let open = [replay(stranger, &tapped), replay(stranger, &tapped)];
    let forged = with_seen_secrets(&cluster, &tapped);
    wait_replays_noticed(&cluster);
    kernels.assert_unchanged(&cluster, "replays");
    assert_eq!(state(&cluster.master).unwrap(), before);
    drop((open, forged));

    cluster.master.restart().unwrap();
    cluster.agents[0].restart().unwrap();
    wait_listening(&cluster.master, "/overlay-master/health");
    wait_listening(&cluster.agents[0], "/overlay-agent/overlay");
    let _open = replay(host(&cluster.agents[1]), &tapped);
    wait_authenticated(&mut cluster, &["key ", "key "]);
    assert_eq!(state(&cluster.master).unwrap(), before);
    kernels.assert_unchanged(&cluster, "replays after a restart");
}

/// Sends an empty list to the first agent and a registration without subnets to the master, with the
/// secrets of their sessions. The connections are open as long as the result exists.
fn with_seen_secrets(cluster: &Cluster, tapped: &[Tapped]) -> [Sender; 2] {
    let (leader, victim) = (master(cluster), agent(&cluster.agents[0]));
    let last = |name: &str| {
        tapped
            .iter()
            .rfind(|message| message.is(name))
            .unwrap()
            .body()
    };
    let seen =
        UpdateAgentOverlaysMessage::decode(last(UpdateAgentOverlaysMessage::NAME).as_slice());
    let list = UpdateAgentOverlaysMessage {
        revision: Some(1 << 40),
        session: later(seen.unwrap().session),
        ..Default::default()
    };
    let seen = AgentRegisteredMessage::decode(last(AgentRegisteredMessage::NAME).as_slice());
    let mut registration = forged::without_subnets(0);
    registration.session = later(seen.unwrap().session);
    let mut senders = [&victim, &leader].map(|to| sender(&cluster.agents[1], to));
    senders[0].send(&leader.to_string(), &list).unwrap();
    senders[1].send(&victim.to_string(), &registration).unwrap();
    senders
}

/// Returns the session of a message that is sent later than the one it was seen in.
fn later(session: Option<Session>) -> Option<Session> {
    let session = session.expect("a session");
    assert!(
        session.secret.is_some() && session.mac.is_some(),
        "{session:?}"
    );
    Some(Session {
        sequence: session.sequence.map(|sequence| sequence + 1000),
        ..session
    })
}

/// Waits until agents have a number of overlays each.
#[track_caller]
fn wait_overlays(cluster: &mut Cluster, count: usize) {
    wait_state(cluster, "the overlays", |state| {
        let mut agents = state["agents"].as_array().into_iter().flatten();
        let has = |agent: &Value| agent["overlays"].as_array().map_or(0, Vec::len) == count;
        agents.all(has) && all_ok(state, 2)
    });
}

/// Waits until master and first agent have warned of messages of each other.
#[track_caller]
fn wait_replays_noticed(cluster: &Cluster) {
    let (master, agent) = (master(cluster), agent(&cluster.agents[0]));
    wait::until("the warnings", LIMIT, || {
        let warned = warns(&cluster.master, &agent) && warns(&cluster.agents[0], &master);
        Ok(warned.then_some(()))
    })
    .unwrap();
}

#[track_caller]
fn wait_listening(node: &Node, path: &str) {
    let client = node.client();
    wait::until("the port", LIMIT, || Ok(client.get(path).ok())).unwrap();
}

/// One node that is started again with other keys.
#[derive(Debug)]
struct Step {
    node: &'static str,
    keys: &'static [&'static str],
    mode: Option<&'static str>,
    /// How the agents are authenticated afterwards.
    authenticated: [&'static str; 2],
}

/// Returns the steps that introduce a key and replace it.
fn steps() -> [Step; 8] {
    const OLD: &[&str] = &[KEYS[0]];
    const OLD_NEW: &[&str] = &[KEYS[0], KEYS[1]];
    const NEW_OLD: &[&str] = &[KEYS[1], KEYS[0]];
    const NEW: &[&str] = &[KEYS[1]];
    let step = |node, keys, mode, authenticated| Step {
        node,
        keys,
        mode,
        authenticated,
    };
    let both = ["key ", "key "];
    [
        step("master", OLD, Some("warn"), ["confirmed", "confirmed"]),
        step("agent1", OLD, None, ["key ", "confirmed"]),
        step("agent2", OLD, None, both),
        step("master", OLD, None, both),
        step("master", OLD_NEW, None, both),
        step("agent1", NEW_OLD, None, both),
        step("agent2", NEW_OLD, None, both),
        step("master", NEW, None, both),
    ]
}

/// Introduces a key, host by host, and replaces it by another, while containers talk.
#[test]
fn a_cluster_gets_keys_host_by_host() {
    let Some(setup) = attacked("a_cluster_gets_keys_host_by_host", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_authenticated(&mut cluster, &["confirmed", "confirmed"]);
    let containers = containers(&cluster, ["a", "b"]);
    let tasks = containers.each_ref().map(Container::client);
    wait_reach(&tasks);
    let traffic = Traffic::start(&tasks, LIMIT).unwrap();
    cluster
        .agents
        .iter()
        .for_each(|agent| wait_settled(host(agent)));
    let monitors = cluster
        .agents
        .iter()
        .map(|agent| Monitor::new(host(agent)).unwrap());
    let monitors: Vec<_> = monitors.collect();

    let begin = std::time::Instant::now();
    for step in steps() {
        let node = match step.node {
            "master" => &mut cluster.master,
            "agent1" => &mut cluster.agents[0],
            _ => &mut cluster.agents[1],
        };
        configure(node, step.keys, step.mode);
        node.restart().unwrap();
        wait_authenticated(&mut cluster, &step.authenticated);
        traffic.flow(100, LIMIT).unwrap();
        println!("keys: {step:?} after {:.1?}", begin.elapsed());
        for (agent, monitor) in cluster.agents.iter().zip(&monitors) {
            let changes = monitor.changes().unwrap();
            assert!(
                changes.is_empty(),
                "{step:?}: {} {changes:#?}",
                agent.name()
            );
        }
    }
    for outcome in traffic.finish().unwrap() {
        assert!(outcome.sent > 800 && outcome.lost == 0, "{outcome:?}");
    }
}

/// Starts an agent with another key than the master's, one without a key, and one with the right
/// key.
#[test]
fn agents_without_the_masters_key_are_refused() {
    let Some(setup) = loopback("agents_without_the_masters_key_are_refused", 3) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    configure(&cluster.master, &KEYS[..1], None);
    configure(&cluster.agents[0], &KEYS[1..], None);
    configure(&cluster.agents[2], &KEYS[..1], None);
    cluster.start_all().unwrap();
    let right = cluster.agents[2].ip();
    wait_authenticated(&mut cluster, &["key "]);
    for (index, why) in [
        (0, "is of no key in auth_key_file"),
        (1, "the sender has no auth_key_file"),
    ] {
        let sender = agent(&cluster.agents[index]).to_string();
        wait::until("the WARNING", LIMIT, || {
            let log = cluster.master.log();
            let mut lines = log.lines();
            let found = lines
                .any(|line| line.starts_with('W') && line.contains(&sender) && line.contains(why));
            ensure!(found, "{why:?} of {sender} is not in\n{log}");
            Ok(Some(()))
        })
        .unwrap();
        let client = cluster.agents[index].client();
        let own = client
            .get("/overlay-agent/overlay")
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(own["registered"], false, "{own}");
    }
    let state = state(&cluster.master).unwrap();
    let agents = state["agents"].as_array().unwrap();
    assert!(agents.len() == 1 && agents[0]["ip"] == right, "{state}");
}
