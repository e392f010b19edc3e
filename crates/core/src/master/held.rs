//! What agents say that they hold, for a master without a record of them.
//!
//! If the replicated log is lost, the agents are the only ones that know who has which subnets.
//! Such a claim is no proof: it is heeded only where the log says nothing, for ranges that are free,
//! and if the agent has confirmed its registration.

use std::net::IpAddr;

use ipnet::IpNet;

use super::confirmed::SenderProof;
use crate::allocation::allocator::{Allocation, DualStackNet};
use crate::config::Network;
use crate::proto::internal::RegisterAgentMessage;
use crate::protocol::limits::MAX_HELD_OVERLAYS;
use crate::util::family::Family;

/// Returns whether a registration says that its agent holds an address or a subnet.
pub fn claims_anything(message: &RegisterAgentMessage) -> bool {
    message.vtep_ip.is_some() || message.vtep_ip6.is_some() || !message.holds.is_empty()
}

/// Returns what an agent says that it holds, as far as it can be an allocation of this network.
pub fn held(message: &RegisterAgentMessage, proof: &SenderProof, network: &Network) -> Allocation {
    let mut held = Allocation::default();
    if *proof == SenderProof::None {
        return held;
    }
    for text in message.vtep_ip.iter().chain(&message.vtep_ip6) {
        let Ok(ip) = text.parse::<IpAddr>() else {
            continue;
        };
        let range = network.vtep_ranges().find(|range| range.contains(&ip));
        let address = range.and_then(|range| IpNet::new(ip, range.prefix_len()).ok());
        put(&mut held.vtep, address);
    }
    for claim in message.holds.iter().take(MAX_HELD_OVERLAYS) {
        if network.overlay(&claim.overlay).is_none() {
            continue;
        }
        let mut nets = DualStackNet::default();
        for text in claim.subnet.iter().chain(&claim.subnet6) {
            put(&mut nets, text.parse().ok());
        }
        if !nets.is_empty() {
            held.overlays.insert(claim.overlay.clone(), nets);
        }
    }
    held
}

fn put(nets: &mut DualStackNet, net: Option<IpNet>) {
    let Some(net) = net else { return };
    let place = Family::from(net).pick(&mut nets.v4, &mut nets.v6);
    place.get_or_insert(net);
}
