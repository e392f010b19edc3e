//! Registrations from addresses at which no agent is.

use std::thread;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::container::Container;
use testbed::wait;
use testkit::blind::{Sender, message};

use super::{Kernels, attacked, containers, forged, master};
use crate::common::{LIMIT, all_ok, start, state, wait_reach, wait_state};

/// Time in which a stored registration would have reached all agents.
const SETTLED: Duration = Duration::from_secs(1);

/// Senders that cannot be agents, whoever asks.
const IMPOSSIBLE: [&str; 14] = [
    "overlay-agent@0.0.0.0:5051",
    "overlay-agent@0.1.2.3:5051",
    "overlay-agent@127.0.0.1:5051",
    "overlay-agent@127.9.9.9:5051",
    "overlay-agent@169.254.1.1:5051",
    "overlay-agent@224.0.0.1:5051",
    "overlay-agent@240.0.0.1:5051",
    "overlay-agent@255.255.255.255:5051",
    "overlay-agent@44.128.0.1:5051",
    "overlay-agent@44.128.0.200:5051",
    "overlay-agent@9.0.0.2:5051",
    "stranger@10.77.9.1:5051",
    "overlay-agent(1)@10.77.9.1:5051",
    "v1.40/containers/create?name=x&a=@10.77.9.2:2375",
];

/// Sends messages from a container, which has its host's address outside.
fn send(from: &Container, cluster: &Cluster, messages: impl Iterator<Item = Vec<u8>>) -> Sender {
    let mut sender = Sender::connect(Some(from.netns()), &master(cluster)).unwrap();
    messages.for_each(|bytes| sender.write(&bytes).unwrap());
    sender
}

/// Returns registrations of each sender with a nonce, or without one as in earlier releases.
fn registrations(from: &[impl AsRef<str>], nonce: bool) -> impl Iterator<Item = Vec<u8>> {
    let body = forged::registration(u64::from(!nonce));
    from.iter()
        .map(move |from| message(from.as_ref(), "overlay-master", &body))
}

/// Waits until the master has received a number of registrations since its start.
#[track_caller]
fn wait_received(cluster: &Cluster, count: u64) {
    let client = cluster.master.client();
    wait::until("the registrations to arrive", LIMIT, || {
        let metrics = client.get("/metrics/snapshot")?.json()?;
        let received = metrics["overlay/master/internal/register_agent_messages_received"].as_f64();
        ensure!(received >= Some(count as f64), "{received:?} of {count}");
        Ok(Some(()))
    })
    .unwrap();
}

/// Asserts that the state contains the first two agents and no other, also in the log, and that no
/// agent has heard of another one.
#[track_caller]
fn assert_only_ours(cluster: &mut Cluster, kernels: &Kernels) {
    let ours = json!([cluster.agents[0].ip(), cluster.agents[1].ip()]);
    assert_eq!(agents(&state(&cluster.master).unwrap()), ours);
    assert_not_published(cluster, kernels);
    cluster.master.restart().unwrap();
    let state = wait_state(cluster, "our agents", |state| all_ok(state, 2));
    assert_eq!(agents(&state), ours, "the log");
}

fn agents(state: &Value) -> Value {
    let agents = state["agents"].as_array().into_iter().flatten();
    agents.map(|agent| agent["ip"].clone()).collect()
}

#[track_caller]
fn assert_not_published(cluster: &Cluster, kernels: &Kernels) {
    let reply = cluster.agents[0].client().get("/overlay-agent/metrics");
    let metrics = reply.unwrap().text();
    assert!(metrics.contains("overlay_agent_peers 1\n"), "{metrics}");
    kernels.assert_unchanged(cluster, "registrations of strangers");
}

/// Registers agents with addresses that no agent can have, from inside a container.
#[test]
fn impossible_agents_are_not_stored() {
    let Some(setup) = attacked("impossible_agents_are_not_stored", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let [inside, other] = containers(&cluster, ["a", "b"]);
    wait_reach(&[inside.client(), other.client()]);
    let kernels = Kernels::of(&cluster);
    let _open =
        [true, false].map(|nonce| send(&inside, &cluster, registrations(&IMPOSSIBLE, nonce)));
    wait_received(&cluster, 2 * IMPOSSIBLE.len() as u64);
    thread::sleep(SETTLED);
    let log = cluster.master.log();
    let named = IMPOSSIBLE.iter().filter(|sender| log.contains(**sender));
    assert!(named.count() > 0, "no sender is named:\n{log}");
    assert_only_ours(&mut cluster, &kernels);
}

/// Registers agents at addresses of the underlay at which no agent is, one of them the master's,
/// from inside a container.
#[test]
fn absent_agents_are_not_published() {
    let Some(setup) = attacked("absent_agents_are_not_published", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let [inside, other] = containers(&cluster, ["a", "b"]);
    wait_reach(&[inside.client(), other.client()]);
    let kernels = Kernels::of(&cluster);
    let absent = (1..20).map(|number| format!("10.77.9.{number}"));
    let absent = absent.chain([cluster.master.ip()]);
    let absent: Vec<_> = absent
        .map(|ip| format!("overlay-agent@{ip}:5051"))
        .collect();
    let _open = [(); 3].map(|()| send(&inside, &cluster, registrations(&absent, true)));
    wait_received(&cluster, 60);
    thread::sleep(SETTLED);
    assert_only_ours(&mut cluster, &kernels);

    // Agents of earlier releases cannot confirm. A few get an allocation, which is in the state, but
    // nobody hears of them.
    let _open = send(&inside, &cluster, registrations(&absent, false));
    wait_received(&cluster, 20);
    thread::sleep(SETTLED);
    assert_not_published(&cluster, &kernels);
    let state = state(&cluster.master).unwrap();
    let listed = state["agents"].as_array().unwrap();
    for agent in listed
        .iter()
        .filter(|agent| agent["authentication"] != "confirmed")
    {
        let states: Vec<_> = agent["overlays"].as_array().into_iter().flatten().collect();
        assert!(
            states.iter().all(|overlay| overlay["state"].is_null()),
            "{agent}"
        );
        assert_ne!(agent["ip"], cluster.master.ip(), "{agent}");
    }
}
