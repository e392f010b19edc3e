//! Agents for the tests of peers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::Upid;
use crate::master::record::EncodedAgent;
use crate::proto;

/// Returns the agent at address `number`.
pub fn agent(number: u32) -> Arc<EncodedAgent> {
    let vxlan = proto::VxLanInfo {
        vtep_mac: number.to_string(),
        ..Default::default()
    };
    let overlay = proto::AgentOverlayInfo {
        backend: proto::BackendInfo { vxlan: Some(vxlan) },
        ..Default::default()
    };
    let info = proto::AgentInfo {
        ip: Ipv4Addr::from(number).to_string(),
        ..Default::default()
    };
    EncodedAgent::renew(None, &info, [overlay].iter())
}

/// Returns the agents at these addresses.
pub fn agents(numbers: std::ops::Range<u32>) -> Vec<(Ipv4Addr, Arc<EncodedAgent>)> {
    numbers
        .map(|number| (number.into(), agent(number)))
        .collect()
}

/// Returns the pid of the agent at address `number`.
pub fn pid(number: u32) -> Arc<Upid> {
    let address = (Ipv4Addr::from(number), 5051).into();
    Arc::new(Upid::new("overlay-agent", address))
}

/// Returns the addresses of the peers in a message.
pub fn addresses(message: &proto::internal::UpdatePeersMessage) -> Vec<&str> {
    message.peers.iter().map(|peer| peer.ip.as_str()).collect()
}
