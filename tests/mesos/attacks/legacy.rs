//! Agents and masters of the predecessor, which know no sessions, while others are attacked: they
//! go on working.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use overlay_core::config::{AgentConfig, master as master_config};
use overlay_core::proto::internal::AgentRegisteredAcknowledgement;
use overlay_core::protocol::messages::Named;
use overlay_core::{AGENT_ID, Input, MASTER_ID, Upid};
use serde_json::json;
use testbed::cluster::{Cluster, default_network};
use testbed::wait;
use testkit::blind::{Flood, Sender, message};
use testkit::predecessor::agent::{Habits, OldAgent};
use testkit::predecessor::master::{Habits as MasterHabits, OldMaster};
use testkit::watch::Watch;

use super::{Bounds, RATE, agent, forged, master};
use crate::common::{LIMIT, loopback, start, wait_state};
use crate::predecessor_process::{Process, free_port};

/// Starts an agent of the predecessor next to the master, on the machine's own network.
fn old_agent(cluster: &Cluster, last: u8) -> Process {
    let mut octets = cluster.master.ipv4().unwrap().octets();
    octets[3] = last;
    let me = Upid::new(AGENT_ID, free_port(IpAddr::from(octets)));
    let habits = Habits {
        drops_unasked: true,
    };
    let machine = OldAgent::new(AgentConfig::new("/cni"), me.clone(), last.into(), habits);
    Process::start(&me, machine, Bytes::new())
}

/// Makes an agent register, waits until the master acknowledges its report, and returns the time
/// it took.
#[track_caller]
fn register(cluster: &Cluster, old: &Process) -> Duration {
    let acknowledged = || {
        let received = old.observations().received;
        let is_one = |name: &&String| *name == AgentRegisteredAcknowledgement::NAME;
        received.iter().filter(is_one).count()
    };
    let (before, begin) = (acknowledged(), Instant::now());
    let leader = Upid::new("master", cluster.master.address());
    old.input(Input::Leader(Some(leader)));
    wait::until("the acknowledgement", LIMIT, || {
        Ok((acknowledged() > before).then_some(()))
    })
    .unwrap();
    begin.elapsed()
}

/// Floods the master with registrations: of made-up agents, and of one over and over.
fn floods(cluster: &Cluster) -> [Flood; 2] {
    let sender = || Sender::connect(None, &master(cluster)).unwrap();
    let made_up = |number| {
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 240, 0, 1)) + number as u32);
        let from = format!("{AGENT_ID}@{ip}:5051");
        message(&from, MASTER_ID, &forged::registration(number))
    };
    let ours = agent(&cluster.agents[0]).to_string();
    let repeated = move |number| message(&ours, MASTER_ID, &forged::registration(number));
    [
        Flood::fast(sender(), 5000, LIMIT, made_up),
        Flood::steady(sender(), RATE, LIMIT, repeated),
    ]
}

/// Registers an agent of the predecessor before, during and after floods, and another one before
/// them.
#[test]
fn old_agents_register_during_floods() {
    let Some(setup) = loopback("old_agents_register_during_floods", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let old = [200, 201].map(|last| old_agent(&cluster, last));
    let before = old.each_ref().map(|old| register(&cluster, old));
    let watch = Watch::start(&cluster.master, "/overlay-master/health").unwrap();
    let mut floods = floods(&cluster);
    let during = register(&cluster, &old[0]);
    let sent = floods.each_mut().map(|flood| flood.stop().unwrap());
    let after = register(&cluster, &old[1]);
    let what = format!(
        "legacy agents, {sent:?}, registered {before:.1?} before, {during:.1?} during and {after:.1?} after"
    );
    let watched = watch.stop(&what).unwrap();
    wait_state(&mut cluster, "both agents", |state| {
        let text = state.to_string();
        [200, 201]
            .iter()
            .all(|last| text.contains(&format!(".{last}\"")))
    });
    Bounds::USUAL.assert(&watched);
}

/// Sends an agent of a predecessor's master lists "from" this master that no master would send.
#[test]
fn an_agent_stays_with_its_old_master() {
    let Some(mut setup) = loopback("an_agent_stays_with_its_old_master", 1) else {
        return;
    };
    let me = Upid::new(MASTER_ID, free_port(IpAddr::from([127, 15, 77, 2])));
    setup.agent_config["master"] = json!(me.address.to_string());
    let network = json!({ "network": default_network() }).to_string();
    let config = master_config::parse("master.json", &network).unwrap();
    let habits = MasterHabits {
        keeps_unknown_fields: false,
    };
    let machine = OldMaster::new(config.config.network, me.clone(), habits);
    let old = Process::start(&me, machine, Bytes::new());
    old.input(Input::Leader(Some(Upid::new("master", me.address))));
    let cluster = start(&setup);
    let client = cluster.agents[0].client();
    let right = || {
        let own = client.get("/overlay-agent/overlay")?.json()?;
        let right = own["registered"] == true && own["overlays"][0]["subnet"] == "9.0.0.0/24";
        Ok(right.then_some(()))
    };
    wait::until("the registration", LIMIT, right).unwrap();

    let from = me.to_string();
    let sender = Sender::connect(None, &agent(&cluster.agents[0])).unwrap();
    let make = move |number| forged::absurd_to_agent(&from, "10.77.0.1", number);
    let watch = Watch::start(&cluster.agents[0], "/overlay-agent/overlay").unwrap();
    let mut flood = Flood::steady(sender, RATE, Duration::from_secs(3), make);
    let sent = flood.finish().unwrap();
    // The lists are refused, and the agent registers again within 30 s.
    wait::until("the agent to be as before", LIMIT, right).unwrap();
    let watched = watch.stop(&format!("legacy master, {sent:?}")).unwrap();
    Bounds::USUAL.assert(&watched);
}
