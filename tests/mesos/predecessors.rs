//! Clusters with a module of this project in real Mesos, and a model of a C++ module that uses
//! libprocess's wire format.

use std::net::IpAddr;

use bytes::Bytes;
use overlay_core::config::{AgentConfig, master};
use overlay_core::proto::State;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Input, Upid};
use prost::Message;
use serde_json::json;
use testbed::cluster::default_network;
use testbed::wait;
use testkit::predecessor::agent;
use testkit::predecessor::agent::OldAgent;
use testkit::predecessor::master as old_master;
use testkit::predecessor::master::OldMaster;

use crate::common::{LIMIT, all_ok, loopback, start, wait_state};
use crate::predecessor_process::{Process, free_port};

fn count<T: PartialEq<&'static str>>(names: &[T], name: &'static str) -> usize {
    names.iter().filter(|it| **it == name).count()
}

/// Returns an unused address next to that of a node.
fn beside(ip: &str) -> IpAddr {
    let mut octets = ip.parse::<std::net::Ipv4Addr>().unwrap().octets();
    octets[3] = 200;
    IpAddr::from(octets)
}

#[test]
fn an_old_agent_is_served_by_our_master() {
    let Some(setup) = loopback("an_old_agent_is_served_by_our_master", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let ip = beside(&cluster.master.ip());
    let me = Upid::new("overlay-agent", free_port(ip));
    let habits = agent::Habits {
        drops_unasked: true,
    };
    let old = Process::start(
        &me,
        OldAgent::new(AgentConfig::new("/cni"), me.clone(), 1, habits),
        Bytes::new(),
    );
    let leader = Upid::new("master", cluster.master.address());
    old.input(Input::Leader(Some(leader)));
    let state = wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let observations = wait::until("the acknowledgement", LIMIT, || {
        let observations = old.observations();
        Ok(
            (count(&observations.received, AgentRegisteredAcknowledgement::NAME) > 0)
                .then_some(observations),
        )
    })
    .unwrap();
    assert!(
        observations.host.contains("9.0.1.0/24"),
        "{}",
        observations.host
    );
    assert_eq!(
        count(&observations.received, UpdatePeersMessage::NAME),
        0,
        "it would not understand"
    );
    assert!(state.to_string().contains(&ip.to_string()), "{state}");
    // The C++ agent is a peer of ours, and its allocation survives the master.
    cluster.master.restart().unwrap();
    let after = wait_state(&mut cluster, "the state again", |state| {
        state["agents"]
            .as_array()
            .is_some_and(|agents| agents.len() == 2)
    });
    assert!(after.to_string().contains("9.0.1.0/24"), "{after}");
}

#[test]
fn our_agent_works_with_an_old_master() {
    let Some(mut setup) = loopback("our_agent_works_with_an_old_master", 1) else {
        return;
    };
    // The overlay master is not part of Mesos here.
    let me = Upid::new("overlay-master", free_port(IpAddr::from([127, 15, 77, 1])));
    setup.agent_config["master"] = json!(me.address.to_string());
    let config = master::parse(
        "master.json",
        &json!({ "network": default_network() }).to_string(),
    )
    .unwrap();
    let habits = old_master::Habits {
        keeps_unknown_fields: false,
    };
    let machine = OldMaster::new(config.config.network, me.clone(), habits);
    let old = Process::start(&me, machine, Bytes::new());
    old.input(Input::Leader(Some(Upid::new("master", me.address))));
    let cluster = start(&setup);
    let client = cluster.agents[0].client();
    wait::until("the registration", LIMIT, || {
        let own = client.get("/overlay-agent/overlay")?.json()?;
        Ok((own["registered"] == true).then_some(()))
    })
    .unwrap();
    let observations = old.observations();
    assert!(
        count(&observations.received, RegisterAgentMessage::NAME) >= 2,
        "the first one is lost on it: {:?}",
        observations.received
    );
    assert!(
        count(&observations.received, AgentRegisteredMessage::NAME) >= 1,
        "{:?}",
        observations.received
    );
    assert!(
        count(&observations.sent, UpdateAgentOverlaysMessage::NAME) >= 1,
        "{:?}",
        observations.sent
    );
    let state = State::decode(observations.log).unwrap();
    assert_eq!(state.agents[0].ip, cluster.agents[0].ip());
    assert_eq!(
        state.agents[0].overlays[0].subnet.as_deref(),
        Some("9.0.0.0/24")
    );
}
