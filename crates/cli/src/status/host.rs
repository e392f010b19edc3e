//! Examination of this host: its overlay agent, and the objects that the agent manages.

use std::net::Ipv4Addr;
use std::time::Duration;

use nix::unistd::geteuid;
use overlay_core::Upid;
use overlay_core::agent::{DesiredStates, MasterData, desired_states};
use overlay_core::config::AgentConfig;
use overlay_core::proto::AgentInfo;
use overlay_core::proto::internal::{Peer, PeerSubnet};
use overlay_host::Operation;
use prost::Message;

use super::compare::{self, Comparison};
use super::found::{Found, clause, host_error};
use super::report::{Host, HostOverlay};
use super::{addresses, agents};
use crate::answers::agent::{Peers, own_agent};
use crate::answers::{AgentOverlay, MasterState, OwnAgent};
use crate::connection::{AskError, ConnectionOptions, Http};
use crate::finding::Finding;
use crate::finding::kinds::cluster;
use crate::output::Failure;
use crate::this_host::{ThisHost, own_addresses};

/// Port of Mesos agents, unless their flags name another one.
const AGENT_PORT: u16 = 5051;

/// Longest time for an answer of the agent on this host.
const AGENT_LIMIT: Duration = Duration::from_secs(5);

/// What a look at this host shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Part of the report, without the differences.
    pub report: Host,
    /// What is wrong, without the differences.
    pub found: Vec<Found>,
    /// Operations that would make the host as it should be.
    pub differences: Vec<Operation>,
    /// What could not be seen.
    pub notes: Vec<String>,
    /// Address of the agent, which identifies it at the master.
    pub agent: Option<Ipv4Addr>,
}

/// Overlay agent that belongs to this host.
#[derive(Clone, Debug)]
pub struct Place {
    /// Address of its endpoints, `ip:port`.
    address: String,
    /// Address on the underlay.
    ip: Option<Ipv4Addr>,
}

/// Returns the overlay agent of this host: of a Mesos process, or else one that the master knows at
/// an address of this host. `None`: this host has none, as far as can be seen.
pub fn find(
    host: &ThisHost,
    options: &ConnectionOptions,
    state: Option<&MasterState>,
) -> Option<Place> {
    if host.agent_module().is_some() {
        let address = host.agent_address()?;
        let ip = address.rsplit_once(':').and_then(|(ip, _)| ip.parse().ok());
        return Some(Place { address, ip });
    }
    let known = state.and_then(|state| {
        let own = own_addresses();
        let mut agents = state.agents.iter().map(|agent| agent.ip);
        agents.find(|ip| own.contains(ip))
    });
    // A file that is only there may be that of a package, on a master.
    let ip = known.or_else(|| options.agent_config.as_ref().and(Some(Ipv4Addr::LOCALHOST)))?;
    Some(Place {
        address: format!("{ip}:{AGENT_PORT}"),
        ip: known,
    })
}

/// Looks at this host.
///
/// # Errors
/// The configuration that the command line names cannot be read.
pub fn look(
    http: &Http,
    host: &ThisHost,
    place: &Place,
    options: &ConnectionOptions,
) -> Result<View, Failure> {
    let http = http.with_limit(options.limit().min(AGENT_LIMIT));
    let mut view = View {
        agent: place.ip,
        ..View::default()
    };
    view.report.agent.clone_from(&place.address);
    let config = configuration(host, options, &mut view)?;
    match own_agent(&http, &place.address) {
        Ok(agent) => {
            view.agent = Some(agent.ip);
            examine_agent(&agent, &mut view);
            if let Some(config) = config {
                compare(&http, place, &config, &agent, &mut view);
            }
        }
        Err(AskError::Unauthorized(sentence)) => {
            let sentence = clause(&sentence);
            view.notes
                .push(format!("This host was not looked at: {sentence}."));
        }
        Err(error) => {
            view.found.push(Found::lasting(silent(place, &error)));
            view.notes.push(
                "This host was not compared with what its agent wants, since the agent does not say which overlays it \
                 has."
                    .to_owned(),
            );
        }
    }
    Ok(view)
}

fn silent(place: &Place, error: &AskError) -> Finding {
    let message = format!(
        "the overlay agent does not answer: {}",
        clause(&error.to_string())
    );
    let subject = place.ip.map_or(place.address.clone(), |ip| ip.to_string());
    cluster::AGENT_SILENT
        .finding(
            message,
            "Start the Mesos agent, and read the end of its log",
        )
        .about(subject)
}

/// Reads the configuration of the agent module, with the socket of the container engine that the
/// environment of the agent names.
fn configuration(
    host: &ThisHost,
    options: &ConnectionOptions,
    view: &mut View,
) -> Result<Option<AgentConfig>, Failure> {
    let found = match host.agent_config(options.agent_config.as_deref()) {
        Err(failure) if options.agent_config.is_some() => return Err(failure),
        Err(Failure(sentence)) => Err(sentence),
        Ok(None) => Err("no configuration of the agent module is found".to_owned()),
        Ok(Some(found)) => Ok(found),
    };
    match found {
        Ok((file, config)) => {
            view.report.config_file = Some(file.display().to_string());
            Ok(Some(with_socket(host, config)))
        }
        Err(reason) => {
            view.notes.push(format!(
                "This host was not compared with what its agent wants: {}; name its file with --agent-config.",
                clause(&reason)
            ));
            Ok(None)
        }
    }
}

fn with_socket(host: &ThisHost, mut config: AgentConfig) -> AgentConfig {
    let variable = host.agent_module();
    let variable = variable.and_then(|(process, _)| process.variable("DOCKER_HOST"));
    let socket = || overlay_core::config::agent::docker_socket(variable?).ok();
    config.docker_socket = config.docker_socket.take().or_else(socket);
    config
}

/// Adds what the agent says of itself.
fn examine_agent(agent: &OwnAgent, view: &mut View) {
    let subject = agent.ip.to_string();
    let master = agent.master.as_deref();
    let report = &mut view.report;
    report.answers = true;
    report.registered = agent.registered;
    report.master = master.map(|pid| {
        pid.rsplit_once('@')
            .map_or(pid, |(_, address)| address)
            .to_owned()
    });
    report.draining = agent.draining.iter().map(|text| clause(text)).collect();
    report.overlays = agent.overlays.iter().map(describe).collect();
    let errors = agent.host_errors.iter();
    view.found
        .extend(errors.map(|error| Found::lasting(host_error(&subject, error))));
    let refused = agent.problems.iter();
    view.found.extend(refused.map(|problem| {
        let remedy = "Do as the sentence says; docs/troubleshooting.md has the reasons";
        agents::about(&cluster::AGENT_REFUSED, &subject, problem, remedy)
    }));
    let notices = agent.notices.iter();
    view.found.extend(notices.map(|notice| {
        let remedy = "Restart the containers on this agent";
        agents::about(&cluster::SUBNET_LOST, &subject, notice, remedy)
    }));
    view.found
        .extend(agents::overlay_states(&subject, &agent.overlays));
    for overlay in &agent.overlays {
        view.found.extend(addresses::findings(&subject, overlay));
    }
    if agent.registered == Some(false) && agent.problems.is_empty() {
        let message = match &view.report.master {
            Some(master) => format!("the agent is not registered with the master at {master}"),
            None => "the agent knows no leading master".to_owned(),
        };
        let remedy = "Check that agent and master reach each other, and master in agent.json";
        let finding = cluster::AGENT_UNREGISTERED.finding(message, remedy);
        view.found.push(Found::passing(finding.about(&subject)));
    }
}

fn describe(overlay: &AgentOverlay) -> HostOverlay {
    let state = overlay.state.as_ref();
    HostOverlay {
        name: clause(&overlay.info.name),
        status: state.map(|state| clause(&state.status)),
        error: state.and_then(|state| state.error.as_deref()).map(clause),
        subnets: overlay.subnets().map(|net| net.to_string()).collect(),
        bridges: overlay
            .bridges()
            .map(|bridge| clause(&bridge.name))
            .collect(),
        addresses: overlay.addresses.clone(),
    }
}

/// Compares the host with what the agent wants.
fn compare(http: &Http, place: &Place, config: &AgentConfig, agent: &OwnAgent, view: &mut View) {
    let Some(registered) = agent.registered else {
        return view.notes.push(of_another_release());
    };
    if agent.overlays.is_empty() && !registered {
        let note =
            "This host was not compared with what its agent wants: the agent has no overlays yet.";
        view.notes.push(note.to_owned());
        return;
    }
    let overlays = match overlays(http, &place.address) {
        Ok(overlays) => overlays,
        Err(error) => {
            let sentence = clause(&error.to_string());
            view.notes.push(format!(
                "This host was not compared with what its agent wants: {sentence}."
            ));
            return;
        }
    };
    let peers = match peers(http, &place.address) {
        Ok(peers) => peers,
        // What another release wants is not always what this one wants.
        Err(AskError::Refused(404, _)) => return view.notes.push(of_another_release()),
        Err(error) => {
            view.notes.push(format!(
                "Routes, neighbours and FDB entries of peers were not compared: {}.",
                clause(&error.to_string())
            ));
            None
        }
    };
    let master = agent
        .master
        .as_deref()
        .and_then(|pid| pid.parse::<Upid>().ok());
    let data = MasterData {
        master: master.map(|master| master.address.ip()),
        overlays,
        peers,
    };
    let states = desired_states(config, agent.ip, data);
    if let Some(name) = states.invalid.keys().next() {
        view.notes.push(format!(
            "This host was not compared with what its agent wants: the master sent invalid values of overlay {name}."
        ));
        return;
    }
    add_comparison(&states, agent, view);
}

fn of_another_release() -> String {
    "This host was not compared with what its agent wants: the agent is of an earlier release, or of the C++ module."
        .to_owned()
}

fn add_comparison(states: &DesiredStates, agent: &OwnAgent, view: &mut View) {
    let Comparison {
        operations,
        objects,
        errors,
        engine_error,
        notes,
    } = compare::compare(states, geteuid().is_root());
    view.report.objects = objects;
    view.differences = operations;
    view.notes.extend(notes);
    let subject = agent.ip.to_string();
    let said: Vec<&str> = agent
        .overlays
        .iter()
        .filter_map(|overlay| overlay.state.as_ref()?.error.as_deref())
        .chain(agent.host_errors.iter().map(String::as_str))
        .collect();
    let is_known = |error: &str| {
        said.iter()
            .any(|said| said.contains(error) || error.contains(said))
    };
    let new = errors.iter().filter(|error| !is_known(error));
    let new: Vec<Found> = new
        .map(|error| Found::passing(host_error(&subject, error)))
        .collect();
    view.found.extend(new);
    if let Some(finding) = engine_error {
        // The agent reports the same with each overlay that needs the engine.
        view.found
            .retain(|found| !["engine-absent", "engine-hung"].contains(&found.finding.code));
        view.found.push(Found::passing(finding.about(&subject)));
    }
}

/// Returns the overlays that the master sent to the agent.
fn overlays(
    http: &Http,
    address: &str,
) -> Result<Vec<overlay_core::proto::AgentOverlayInfo>, AskError> {
    let headers = [("Accept", "application/x-protobuf")];
    let answer = http.send("GET", address, "/overlay-agent/overlay", &headers, None)?;
    if !answer.is_success() {
        return Err(AskError::Refused(answer.status, answer.sentence()));
    }
    let info = AgentInfo::decode(answer.body.as_slice());
    let info = info.map_err(|error| {
        AskError::Malformed(format!("{address}/overlay-agent/overlay: {error}"))
    })?;
    Ok(info.overlays)
}

/// Returns the peers that the master sent to the agent; `None`: it has sent none yet, or the agent
/// needs none.
fn peers(http: &Http, address: &str) -> Result<Option<Vec<Peer>>, AskError> {
    let peers: Peers = http.json(address, "/overlay-agent/peers")?;
    let messages = peers.peers.into_iter().map(|peer| Peer {
        ip: peer.ip,
        vni: 0,
        vtep_ip: peer.vtep_ip,
        vtep_ip6: peer.vtep_ip6,
        vtep_mac: peer.vtep_mac,
        subnets: peer
            .subnets
            .into_iter()
            .map(|subnet| PeerSubnet {
                overlay: subnet.overlay,
                subnet: subnet.subnet,
                subnet6: subnet.subnet6,
            })
            .collect(),
    });
    Ok(peers.count.map(|_| messages.collect()))
}
