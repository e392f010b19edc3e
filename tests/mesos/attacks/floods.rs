//! Many messages in a short time.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use testbed::cluster::Cluster;
use testbed::node::Node;
use testbed::wait;
use testkit::blind::{Flood, message};
use testkit::watch::{Watch, Watched};

use super::{Bounds, agent, attacked, forged, host, master, sender};
use crate::common::{LIMIT, all_ok, configure_master, wait_state};

/// Time in which a new agent must register after a flood, on a busy machine and without optimisation.
const SOON: Duration = Duration::from_secs(20);

/// Number of repetitions of one registration.
const REPEATS: u64 = 40_000;

/// Returns the pid of made-up agent number `number`. The first 63,000 are on the hosts' own
/// network, where the kernel looks for them in vain.
fn made_up(number: u64) -> String {
    let first = u32::from(Ipv4Addr::new(10, 77, 8, 0));
    let ip = Ipv4Addr::from(first + u32::try_from(number).unwrap());
    format!("overlay-agent@{ip}:5051")
}

/// Floods the master with registrations of made-up agents. Meanwhile a new agent starts, which must
/// be registered soon after the flood.
fn flood_of_agents(test: &str, count: u64, addresses: Option<&str>) {
    let Some(setup) = attacked(test, 3) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    if let Some(addresses) = addresses {
        configure_master(&cluster.master, &json!({ "agent_addresses": [addresses] }));
    }
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    wait_state(&mut cluster, "the first agent", |state| all_ok(state, 1));
    let watch = Watch::start(&cluster.master, "/overlay-master/health").unwrap();
    let make = |number| {
        let registration = forged::registration(number);
        message(&made_up(number), "overlay-master", &registration)
    };
    let from = sender(&cluster.agents[1], &master(&cluster));
    let mut flood = Flood::fast(from, count, LIMIT, make);
    let started = Instant::now();
    cluster.agents[1].start().unwrap();
    let sent = flood.finish().unwrap();
    wait_ok(&cluster, 1);
    let during = started.elapsed();

    let started = Instant::now();
    cluster.agents[2].start().unwrap();
    wait_ok(&cluster, 2);
    let after = started.elapsed();
    let what = format!(
        "row 6, agent_addresses {addresses:?}, {sent:?}, an agent registered {during:.1?} after the start of the \
         flood, the next one within {after:.1?}"
    );
    let watched = watch.stop(&what).unwrap();
    assert!(sent.messages == count, "{sent:?}");
    assert!(during < sent.time + SOON, "{during:?} of {sent:?}");
    assert!(after < SOON, "{after:?}");
    assert_ours(&mut cluster, &watched);
}

/// Waits until an agent has its overlays.
#[track_caller]
fn wait_ok(cluster: &Cluster, index: usize) {
    let client = cluster.agents[index].client();
    wait::until("the agent's overlays", LIMIT, || {
        let own = client.get("/overlay-agent/overlay")?.json()?;
        let ok = own["registered"] == true && own["overlays"][0]["state"]["status"] == "STATUS_OK";
        ensure!(ok, "{own}");
        Ok(Some(()))
    })
    .unwrap();
}

/// Asserts that all three agents are there, that the others hold nothing for good, and what the
/// flood cost.
#[track_caller]
fn assert_ours(cluster: &mut Cluster, watched: &Watched) {
    let state = cluster.master.overlay_state().unwrap();
    for agent in &cluster.agents {
        assert!(state.to_string().contains(&agent.ip()), "{}", agent.name());
    }
    let agents = state["agents"].as_array().unwrap().len();
    assert!(agents <= 3 + 64, "{agents} agents");
    Bounds::FLOOD.assert(watched);
    cluster.check().unwrap();
}

#[test]
fn five_thousand_made_up_agents() {
    flood_of_agents("five_thousand_made_up_agents", 5000, None);
}

#[test]
fn sixty_thousand_made_up_agents() {
    flood_of_agents("sixty_thousand_made_up_agents", 60_000, None);
}

#[test]
fn sixty_thousand_made_up_agents_where_few_are_allowed() {
    let test = "sixty_thousand_made_up_agents_where_few_are_allowed";
    flood_of_agents(test, 60_000, Some("10.77.1.0/24"));
}

/// Returns the number of TCP connections that a host has accepted.
fn accepted(node: &Node) -> u64 {
    let text = host(node)
        .run("cat", &["/proc/thread-self/net/snmp"])
        .unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both.find(|(name, _)| *name == "PassiveOpens").unwrap();
    value.parse().unwrap()
}

/// Repeats one registration of an agent, of its own address, as fast as the master takes it. The
/// master must not open a connection for each.
#[test]
fn one_registration_over_and_over() {
    let Some(setup) = attacked("one_registration_over_and_over", 2) else {
        return;
    };
    let mut cluster = Cluster::start(&setup).unwrap();
    wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let before = accepted(&cluster.agents[0]);
    let watch = Watch::start(&cluster.master, "/overlay-master/health").unwrap();
    let victim = agent(&cluster.agents[0]).to_string();
    let make = |number| message(&victim, "overlay-master", &forged::registration(number));
    let bytes = [make(0), make(1)];
    let from = sender(&cluster.agents[1], &master(&cluster));
    let limit = Duration::from_secs(10);
    let mut flood = Flood::fast(from, REPEATS, limit, move |number| {
        bytes[(number % 2) as usize].clone()
    });
    let sent = flood.finish().unwrap();
    wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let connections = accepted(&cluster.agents[0]) - before;
    let what = format!("row 8, {sent:?}, {connections} connections to the agent");
    let watched = watch.stop(&what).unwrap();
    assert!(connections < 100, "{connections} connections");
    Bounds::FLOOD.assert(&watched);
    cluster.check().unwrap();
}
