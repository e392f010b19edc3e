//! Comparison of a host with the log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::PeerMap;
use overlay_core::host_api::desired::{Bridge, Peer};
use overlay_core::proto::{AgentInfo, AgentOverlayInfo, BridgeInfo};

use super::host::Host;
use crate::checker::peer;
use crate::cluster::Process;

/// Checks that a host matches the log's allocations of its agent and of the peers.
pub fn host_matches(
    process: &Process,
    info: &AgentInfo,
    agents: &BTreeMap<String, AgentInfo>,
    old_master: bool,
) -> Result<(), String> {
    let host = &process.host;
    let mut expected: BTreeMap<&str, [Vec<IpNet>; 3]> = info.overlays.iter().map(overlay).collect();
    let bridge = |bridge: &Option<Bridge>| {
        bridge
            .as_ref()
            .map(|it| it.subnets.clone())
            .unwrap_or_default()
    };
    let actual = host.overlays.iter().map(|(name, it)| {
        (
            name.as_str(),
            [
                it.subnets.clone(),
                bridge(&it.mesos_bridge),
                bridge(&it.docker_bridge),
            ],
        )
    });
    let mut actual: BTreeMap<&str, [Vec<IpNet>; 3]> = actual.collect();
    if old_master {
        // It gives an agent that it knows the bridges that the agent wanted at first.
        let nets = expected.values_mut().chain(actual.values_mut());
        nets.for_each(|[_, mesos, docker]| [mesos, docker].into_iter().for_each(Vec::clear));
    }
    if expected != actual {
        return Err(format!("the host has {actual:?} instead of {expected:?}"));
    }
    check_vtep(host, info)?;
    // Peers and the engine's networks are another program's, or nobody's.
    if process.is_predecessor || old_master {
        return Ok(());
    }
    let wanted =
        |name: &str| process.has_docker() && info.overlays.iter().any(|o| o.info.name == name);
    let busy = |name: &str| host.engine_containers.contains(name) && !wanted(name);
    let docker = info.overlays.iter().filter_map(|overlay| {
        let bridge = overlay.docker_bridge.as_ref()?;
        let subnets = [&bridge.ip, &bridge.ip6].into_iter().flatten();
        let subnets: Vec<IpNet> = subnets.map(|subnet| subnet.parse().unwrap()).collect();
        Some((overlay.info.name.as_str(), subnets))
    });
    let expected: BTreeMap<&str, Vec<IpNet>> = docker.collect();
    let actual = host
        .networks
        .iter()
        .filter(|(name, _)| !busy(name))
        .map(|(name, network)| (name.as_str(), network.subnets.clone()))
        .collect();
    // An agent that lost its docker_bridge takes away what it had of Docker's.
    let expected = if process.has_docker() {
        expected
    } else {
        BTreeMap::new()
    };
    if expected != actual {
        return Err(format!("the engine has {actual:?} instead of {expected:?}"));
    }
    let Some(own) = peer(info) else { return Ok(()) };
    let v6 = own.vtep_ips.len() > 1;
    let reached = |mut peer: Peer| {
        peer.vtep_ips.retain(|ip| ip.is_ipv4() || v6);
        let v6 = peer.vtep_ips.len() > 1;
        peer.subnets.retain(|net| net.addr().is_ipv4() || v6);
        peer
    };
    let others = agents.values().filter(|agent| agent.ip != info.ip);
    let others = others
        .filter_map(|agent| Some((agent.ip.parse().unwrap(), Arc::new(reached(peer(agent)?)))));
    let expected: PeerMap = others.collect();
    if expected != host.peers {
        return Err(format!(
            "the host has the peers {:?} instead of {expected:?}",
            host.peers
        ));
    }
    Ok(())
}

fn check_vtep(host: &Host, info: &AgentInfo) -> Result<(), String> {
    let Some(own) = peer(info) else { return Ok(()) };
    let vtep = host.vtep.as_ref().ok_or("the host has no VTEP")?;
    let addresses: Vec<IpAddr> = vtep.addresses.iter().map(IpNet::addr).collect();
    if (vtep.mac, addresses) != (own.vtep_mac, own.vtep_ips.clone()) {
        return Err(format!("the host has {vtep:?} instead of {own:?}"));
    }
    Ok(())
}

/// Returns an overlay's name, its subnets, and those of its two bridges.
fn overlay(overlay: &AgentOverlayInfo) -> (&str, [Vec<IpNet>; 3]) {
    let nets = |texts: [&Option<String>; 2]| {
        texts
            .into_iter()
            .flatten()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<IpNet>>()
    };
    let bridge = |bridge: &Option<BridgeInfo>| {
        bridge
            .as_ref()
            .map(|it| nets([&it.ip, &it.ip6]))
            .unwrap_or_default()
    };
    let subnets = nets([&overlay.subnet, &overlay.subnet6]);
    (
        &overlay.info.name,
        [
            subnets,
            bridge(&overlay.mesos_bridge),
            bridge(&overlay.docker_bridge),
        ],
    )
}
