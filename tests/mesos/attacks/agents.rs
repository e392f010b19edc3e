//! Messages to agents, "from" the leading overlay master.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use testbed::cluster::Cluster;
use testbed::container::Container;
use testbed::netns::Netns;
use testbed::node::Node;
use testbed::packet_loss::Traffic;
use testbed::wait;
use testkit::blind::{Flood, Sender};
use testkit::watch::Watch;

use super::{
    Bounds, Kernels, RATE, agent, assert_warned, attacked, containers, dump, forged, host, master,
    warns,
};
use crate::common::{LIMIT, all_ok, start, wait_reach, wait_settled, wait_state};

/// Limit of a flood that a test ends.
const LONGEST: Duration = Duration::from_secs(60);

/// Floods the first agent from a namespace, for example the host of the second one, until the flood
/// is dropped.
fn flood(cluster: &Cluster, netns: &Netns) -> Flood {
    let from = master(cluster).to_string();
    let ip = cluster.master.ip();
    let sender = Sender::connect(Some(netns), &agent(&cluster.agents[0])).unwrap();
    let make = move |number| forged::to_agent(&from, &ip, number);
    Flood::steady(sender, RATE, LONGEST, make)
}

/// Returns the subnets of a registered agent.
fn wait_registered(node: &Node) -> Value {
    let client = node.client();
    wait::until("the agent to be registered", LIMIT, || {
        let own = client.get("/overlay-agent/overlay")?.json()?;
        let subnet = &own["overlays"][0]["subnet"];
        ensure!(own["registered"] == true && subnet.is_string(), "{own}");
        Ok(Some(subnet.clone()))
    })
    .unwrap()
}

/// Sends a confirmed agent made-up lists of overlays and peers, from another host and from a
/// container, and then while it starts again.
#[test]
fn forged_lists_change_nothing() {
    let Some(setup) = attacked("forged_lists_change_nothing", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let containers = containers(&cluster, ["a", "b"]);
    let tasks = containers.each_ref().map(Container::client);
    wait_reach(&tasks);
    let traffic = Traffic::start(&tasks, LIMIT).unwrap();
    wait_settled(host(&cluster.agents[0]));
    let before = dump(host(&cluster.agents[0]));
    let subnet = wait_registered(&cluster.agents[0]);
    let leader = master(&cluster);

    {
        let kernels = Kernels::of(&cluster);
        let watch = Watch::start(&cluster.agents[0], "/overlay-agent/overlay").unwrap();
        let other_host = host(&cluster.agents[1]).netns();
        let mut floods = [other_host, containers[1].netns()].map(|from| flood(&cluster, from));
        traffic.flow(1500, LIMIT).unwrap();
        let sent = floods.each_mut().map(|flood| flood.stop().unwrap());
        let watched = watch.stop(&format!("rows 1 and 2, {sent:?}")).unwrap();
        kernels.assert_unchanged(&cluster, "forged messages");
        assert_warned(&cluster.agents[0], &leader);
        Bounds::USUAL.assert(&watched);
        assert!(sent.iter().all(|sent| sent.messages > 100), "{sent:?}");
    }

    let mut flood = flood(&cluster, host(&cluster.agents[1]).netns());
    cluster.agents[0].restart().unwrap();
    wait_registered(&cluster.agents[0]);
    traffic.flow(500, LIMIT).unwrap();
    flood.stop().unwrap();
    assert_eq!(wait_registered(&cluster.agents[0]), subnet);
    assert_eq!(dump(host(&cluster.agents[0])), before, "after a restart");
    assert_warned(&cluster.agents[0], &leader);
    for outcome in traffic.finish().unwrap() {
        assert!(outcome.lost == 0, "{outcome:?}");
    }
}

/// Floods an agent from its first start on: while its master is up, and before it is.
#[test]
fn forged_lists_do_not_come_first() {
    let Some(setup) = attacked("forged_lists_do_not_come_first", 2) else {
        return;
    };
    for master_first in [true, false] {
        let mut cluster = Cluster::prepare(&setup).unwrap();
        if master_first {
            cluster.master.start().unwrap();
        }
        cluster.agents[0].start().unwrap();
        let client = cluster.agents[0].client();
        let listening = || Ok(client.get("/overlay-agent/overlay").ok().map(drop));
        wait::until("the agent's port", LIMIT, listening).unwrap();
        let mut flood = flood(&cluster, host(&cluster.agents[1]).netns());
        if !master_first {
            // A master that is down cannot contradict; only the values are checked.
            let leader = master(&cluster);
            wait::until("a WARNING", LIMIT, || {
                Ok(warns(&cluster.agents[0], &leader).then_some(()))
            })
            .unwrap();
            assert_not_cut_off(&cluster);
            cluster.master.start().unwrap();
        }
        wait_registered(&cluster.agents[0]);
        assert_not_cut_off(&cluster);
        flood.stop().unwrap();
        assert_eq!(wait_registered(&cluster.agents[0]), "9.0.0.0/24");
        let peers = dump(host(&cluster.agents[0]));
        assert!(!peers.contains("10.77.9.9"), "{peers}");
        assert_warned(&cluster.agents[0], &master(&cluster));
    }
}

/// Asserts that the first agent's host has neither the master's address nor a route to it.
#[track_caller]
fn assert_not_cut_off(cluster: &Cluster) {
    let host = host(&cluster.agents[0]);
    let ip = cluster.master.ip();
    let route = host.run("ip", &["route", "get", &ip]).unwrap();
    assert!(route.contains("dev eth0"), "{route}");
    let addresses = host.run("ip", &["-o", "address"]).unwrap();
    assert!(!addresses.contains(&format!(" {ip}/")), "{addresses}");
    let routes = host.run("ip", &["route"]).unwrap();
    assert!(!routes.contains(".0/1 "), "{routes}");
}
