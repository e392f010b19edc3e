//! Comparison of a master's file with the allocations that a running master has stored.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::master::{HeldNetwork, contradiction};

use super::file::Examination;
use crate::answers::Agent;
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::finding::kinds::configuration;
use crate::output::Failure;
use crate::this_host::ThisHost;

/// Source of an overlay that was changed while the cluster ran: the log counts, and not the file.
const STORED: &str = "stored";

/// Compares the files of masters with the allocations of the leading master.
///
/// # Errors
/// No master serves.
pub fn compare(
    examination: &Examination,
    options: &ConnectionOptions,
    host: &ThisHost,
) -> Result<Vec<Finding>, Failure> {
    if examination.parsed.masters.is_empty() {
        return Ok(Vec::new());
    }
    let master = Master::find(options, host)?;
    let state = master.state()?;
    let overlays = master.overlays()?.overlays.into_iter();
    let changed: BTreeSet<String> = overlays
        .filter(|overlay| overlay.source == STORED)
        .map(|overlay| overlay.name)
        .collect();
    let held: Vec<HeldNetwork> = state
        .agents
        .iter()
        .flat_map(|agent| held(agent, &changed))
        .collect();
    let findings = examination
        .parsed
        .masters
        .iter()
        .filter_map(|(file, config)| {
            let sentence = contradiction(&config.network, &held)?;
            let sentence = sentence.trim_end_matches('.');
            let (message, remedy) = sentence
                .rsplit_once(": ")
                .unwrap_or((sentence, "restore the old value"));
            Some(
                configuration::CONTRADICTS_LOG
                    .finding(message, remedy)
                    .about(file),
            )
        });
    Ok(findings.collect())
}

/// Returns what an agent holds of overlays that the file defines, and its VTEP addresses.
fn held(agent: &Agent, changed: &BTreeSet<String>) -> Vec<HeldNetwork> {
    let of_file = agent
        .overlays
        .iter()
        .filter(|overlay| !changed.contains(&overlay.info.name));
    let mut held: Vec<HeldNetwork> = of_file
        .flat_map(|overlay| {
            let name = &overlay.info.name;
            overlay
                .subnets()
                .map(|net| network(agent.ip, Some(name), net))
                .collect::<Vec<_>>()
        })
        .collect();
    if let Some(vxlan) = agent
        .overlays
        .iter()
        .find_map(|overlay| overlay.backend.vxlan.as_ref())
    {
        let addresses = [Some(vxlan.vtep_ip), vxlan.vtep_ip6].into_iter().flatten();
        held.extend(addresses.map(|net| network(agent.ip, None, IpNet::from(net.addr()))));
    }
    held
}

fn network(agent: Ipv4Addr, overlay: Option<&String>, net: IpNet) -> HeldNetwork {
    HeldNetwork {
        agent,
        overlay: overlay.cloned(),
        net,
    }
}
