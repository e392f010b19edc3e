//! Values of the log: a master rejects a value, or reads it, adds an agent, and writes a value in
//! which all agents keep their allocations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::proto::internal::{AgentNetworkConfig, RegisterAgentMessage};
use overlay_core::proto::{AgentInfo, State};
use overlay_core::{Input, StoreOutcome, Upid};
use prost::Message;
use testkit::checked_master::{CheckedMaster, Fetched, agent};

/// Address of an agent that is in no state of the corpus.
const NEW: u8 = 199;

pub(crate) fn run(data: &[u8]) {
    let Some(stored) = restored(data) else { return };
    // The master must read the value that it wrote.
    let again = restored(&stored.encode_to_vec()).expect("the master refuses what it wrote");
    assert_eq!(holdings(&again.agents), holdings(&stored.agents));
    let Ok(before) = State::decode(data) else {
        panic!("garbage was accepted")
    };
    let (before, after) = (holdings(&before.agents), holdings(&stored.agents));
    // Agents without overlays have no allocation and are not stored.
    let had = before
        .iter()
        .filter(|(ip, had)| **ip != format!("10.0.0.{NEW}") && !had.subnets.is_empty());
    for (ip, had) in had {
        assert_eq!(after.get(ip), Some(had), "what {ip} had");
    }
}

/// Returns the log after a master has read `state` and registered one more agent; `None`: the master
/// rejects it.
fn restored(data: &[u8]) -> Option<State> {
    let mut master = CheckedMaster::new(1);
    let leader = "master@10.0.0.250:5050".parse::<Upid>().expect("a pid");
    master.is_leading = true;
    master.input(Input::Leader(Some(leader)));
    master.fetched(Fetched::Garbage(data.to_vec()));
    master.request("GET", "/overlay-master/state".to_owned(), None, Vec::new());
    assert!(master.unanswered.is_empty(), "no answer");
    if master.status != 200 {
        return None;
    }
    let network_config = AgentNetworkConfig::default();
    master.message(
        agent(NEW, 5051),
        &RegisterAgentMessage {
            network_config,
            ..Default::default()
        },
    );
    master.stored(StoreOutcome::Stored, true);
    master.stored(StoreOutcome::Stored, true);
    Some(State::decode(master.log).expect("what was written"))
}

/// Allocation of an agent.
#[derive(Debug, PartialEq)]
struct Holding {
    /// Subnets and bridges by overlay.
    subnets: BTreeMap<String, [Option<IpNet>; 2]>,
    /// Addresses of the VTEP, from the overlays that contain them. (Their prefix length comes from
    /// the configuration, so that all agents agree after `vtep_subnet` was enlarged. The MAC is
    /// derived from the address.)
    addresses: BTreeSet<IpAddr>,
}

fn holdings(agents: &[AgentInfo]) -> BTreeMap<String, Holding> {
    let of = |agent: &AgentInfo| {
        let subnets = agent.overlays.iter().map(|overlay| {
            let subnets =
                [&overlay.subnet, &overlay.subnet6].map(|subnet| subnet.as_deref().map(net));
            (overlay.info.name.clone(), subnets)
        });
        let vxlan = agent
            .overlays
            .iter()
            .filter_map(|overlay| overlay.backend.vxlan.as_ref());
        let addresses =
            vxlan.flat_map(|vxlan| [Some(vxlan.vtep_ip.as_str()), vxlan.vtep_ip6.as_deref()]);
        let addresses = addresses.flatten().map(|text| net(text).addr()).collect();
        (
            agent.ip.clone(),
            Holding {
                subnets: subnets.collect(),
                addresses,
            },
        )
    };
    agents.iter().map(of).collect()
}

/// Parses a network, which can be written in several ways. Addresses get a full prefix.
fn net(text: &str) -> IpNet {
    let net = text
        .parse()
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    net.unwrap_or_else(|_| panic!("\"{text}\" was accepted"))
}
