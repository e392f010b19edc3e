//! Peers to probe, by what the command line names.

use std::net::IpAddr;

use super::Options;
use super::plan::{self, Chosen, LIMIT};
use crate::answers::Agent;
use crate::answers::mesos::Slaves;
use crate::connection::Master;
use crate::output::Failure;
use crate::paths::model::{Model, Place};

/// Returns the peers to probe.
///
/// # Errors
/// No agent has one of the addresses or names.
pub fn choose<'m>(
    options: &Options,
    model: &'m Model,
    master: Option<&Master>,
) -> Result<Vec<Chosen<'m>>, Failure> {
    let peers: Vec<&Agent> = model.peers().collect();
    if options.agents.is_empty() {
        let limit = if options.all { peers.len() } else { LIMIT };
        let chosen = plan::evenly(&peers, limit).into_iter();
        return Ok(chosen
            .map(|peer| Chosen {
                peer,
                address: None,
            })
            .collect());
    }
    let mut slaves = None;
    let mut chosen: Vec<Chosen<'m>> = Vec::new();
    for text in &options.agents {
        let ips = match text.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => resolve(text, master, &mut slaves)?,
        };
        let found = ips.iter().find_map(|ip| {
            let place = model.locate(*ip);
            let address = matches!(place, Place::Container(..)).then_some(*ip);
            Some(Chosen {
                peer: place.agent()?,
                address,
            })
        });
        let Some(found) = found else {
            return Err(unknown(text, &ips, model));
        };
        if Some(found.peer.ip) == model.own {
            return Err(format!("{text} is of this host itself; name another agent").into());
        }
        if !chosen
            .iter()
            .any(|other| other.peer.ip == found.peer.ip && other.address == found.address)
        {
            chosen.push(found);
        }
    }
    Ok(chosen)
}

/// Returns the addresses of a name: that of an agent in Mesos, or of a host.
///
/// # Errors
/// The name has none.
pub fn resolve(
    name: &str,
    master: Option<&Master>,
    slaves: &mut Option<Slaves>,
) -> Result<Vec<IpAddr>, Failure> {
    if slaves.is_none()
        && let Some(master) = master
    {
        *slaves = master.json("/slaves").ok();
    }
    let agents = slaves.iter().flat_map(|slaves| &slaves.slaves);
    let named = agents.filter(|slave| slave.hostname == name);
    let ip = |address: &str| address.rsplit_once(':')?.0.parse().ok();
    let ips: Vec<IpAddr> = named.filter_map(|slave| ip(slave.address()?)).collect();
    if !ips.is_empty() {
        return Ok(ips);
    }
    let found = crate::resolve::addresses(name);
    Ok(found.map_err(|error| {
        format!("no agent has the name {name}, and it cannot be resolved: {error}")
    })?)
}

/// Returns the sentence about an address that no agent has.
fn unknown(text: &str, ips: &[IpAddr], model: &Model) -> Failure {
    let place = ips.first().map(|ip| model.locate(*ip));
    let why = match place {
        Some(Place::Unassigned(overlay, range)) => {
            format!(
                "it is in the range {range} of the overlay {overlay}, and no agent has that part of it"
            )
        }
        Some(Place::UnassignedVtep(range)) => {
            format!("it is in the range {range} of the VTEPs, and no agent has it")
        }
        _ => "it is no address of an agent, a VTEP or a container".to_owned(),
    };
    format!("no agent has {text}: {why}; \"mesos-overlay agents list\" shows the agents").into()
}
