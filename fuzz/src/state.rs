//! What is in the log: it is read or refused, and what is read is what is written
//! again, with everything that the agents had.

use std::collections::BTreeMap;

use mesos_overlay::core::{Input, StoreOutcome, Upid};
use mesos_overlay::wire::internal::{AgentNetworkConfig, RegisterAgentMessage};
use mesos_overlay::wire::{AgentInfo, State};
use prost::Message;

use crate::world::{Fetched, World, agent};

/// An agent that no state of a corpus has.
const NEW: u8 = 199;

pub(crate) fn run(data: &[u8]) {
    let Some(stored) = restored(data) else { return };
    // What the master wrote it reads.
    let again = restored(&stored.encode_to_vec()).expect("the master refuses what it wrote");
    assert_eq!(holdings(&again.agents), holdings(&stored.agents));
    let Ok(before) = State::decode(data) else { panic!("garbage was accepted") };
    let (before, after) = (holdings(&before.agents), holdings(&stored.agents));
    for (ip, had) in before.iter().filter(|(ip, _)| **ip != format!("10.0.0.{NEW}")) {
        assert_eq!(after.get(ip), Some(had), "what {ip} had");
    }
}

/// What the log holds after a master read this and gave one more agent what there was
/// left; `None`: it refuses it.
fn restored(data: &[u8]) -> Option<State> {
    let mut world = World::new(1);
    let leader = "master@10.0.0.250:5050".parse::<Upid>().expect("a pid");
    world.leads = true;
    world.input(Input::Leader(Some(leader)));
    world.fetched(Fetched::Garbage(data.to_vec()));
    world.request("GET", "/overlay-master/state".to_owned(), None, Vec::new());
    assert!(world.unanswered.is_empty(), "no answer");
    if world.status != 200 {
        return None;
    }
    let network_config = AgentNetworkConfig::default();
    world.message(agent(NEW, 5051), &RegisterAgentMessage { network_config, peers: None });
    world.stored(StoreOutcome::Stored, true);
    world.stored(StoreOutcome::Stored, true);
    Some(State::decode(world.log).expect("what was written"))
}

/// What each agent has: of each overlay the subnets and the VTEP's addresses. (How long
/// the prefix of a VTEP's address is, the configuration says, whatever stood there: so all
/// agents agree after `vtep_subnet` grew.)
type Holdings = BTreeMap<String, BTreeMap<String, Vec<Option<String>>>>;

fn holdings(agents: &[AgentInfo]) -> Holdings {
    let of = |agent: &AgentInfo| {
        let overlays = agent.overlays.iter().map(|overlay| {
            let vxlan = overlay.backend.vxlan.clone().unwrap_or_default();
            // The MAC follows from the address, whatever stood there.
            let address = |net: String| net.split('/').next().map(str::to_owned);
            let addresses = [address(vxlan.vtep_ip), vxlan.vtep_ip6.and_then(address)];
            let subnets = [overlay.subnet.clone(), overlay.subnet6.clone()];
            (overlay.info.name.clone(), subnets.into_iter().chain(addresses).collect())
        });
        (agent.ip.clone(), overlays.collect())
    };
    agents.iter().map(of).collect()
}
