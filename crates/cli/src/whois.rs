//! `mesos-overlay whois`: says who has an address or a name.

use std::net::IpAddr;
use std::process::ExitCode;

use nix::unistd::geteuid;
use overlay_core::host_api::desired::Mac;
use overlay_core::host_api::engine::DEFAULT_SOCKET;
use overlay_core::util::line::one_line;

use crate::answers::MasterState;
use crate::answers::mesos::Slaves;
use crate::connection::{ConnectionOptions, Master};
use crate::finding::kinds::cluster::NOT_FOUND;
use crate::output::{Failure, OutputOptions, finish};
use crate::this_host::{self, ThisHost};
use address::Placed;
pub use report::Whois;
use report::{Match, Role};

mod address;
mod container;
mod name;
mod report;

const EXAMPLES: &str = "\
Examples:
  Which container has an address?
      mesos-overlay whois 9.0.1.5
  Which agent has a tunnel endpoint?
      mesos-overlay whois 44.128.0.2
      mesos-overlay whois 70:b3:d5:80:00:02
  Which addresses has a task?
      mesos-overlay whois web.1";

/// Says who has an address or a name.
///
/// An address, IPv4 or IPv6, is that of a container, a gateway, a VTEP, an agent, or free. A hardware
/// address is that of a VTEP. A name is that of an overlay, of an agent (its hostname or id), of a
/// task (its name or id) or of a container (its id). Only one agent is asked, the one that the
/// address belongs to.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub struct Options {
    /// Address, hardware address or name.
    #[arg(value_name = "ADDRESS|NAME")]
    query: String,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, whois(options))
}

fn whois(options: &Options) -> Result<Whois, Failure> {
    let host = ThisHost::look();
    let master = Master::find(&options.connection, &host)?;
    let state = master.state()?;
    let query = options.query.trim();
    let mut report = Whois {
        query: one_line(query, 200).into_owned(),
        ..Whois::default()
    };
    if let Ok(ip) = query.parse::<IpAddr>() {
        let matches = of_address(ip, &master, &state, options, &host, &mut report.notes)?;
        report.matches.extend(matches);
    } else if let Ok(mac) = query.parse::<Mac>() {
        report.matches.extend(address::of_mac(mac, &state));
    } else {
        report.matches = name::find(query, &master, &state)?;
        if report.matches.len() > name::MAX_MATCHES {
            report.matches.truncate(name::MAX_MATCHES);
            report.notes.push(format!(
                "There are more; the first {} are shown.",
                name::MAX_MATCHES
            ));
        }
    }
    if report.matches.is_empty() {
        let message = format!(
            "nothing in the cluster has the address or name \"{}\"",
            report.query
        );
        let remedy =
            "Check the spelling; names are those of overlays, agents, tasks and containers";
        report.findings.push(NOT_FOUND.finding(message, remedy));
    }
    Ok(report)
}

fn of_address(
    ip: IpAddr,
    master: &Master,
    state: &MasterState,
    options: &Options,
    host: &ThisHost,
    notes: &mut Vec<String>,
) -> Result<Option<Match>, Failure> {
    let Some(Placed {
        mut found,
        may_be_container,
    }) = address::place(ip, state)
    else {
        let is_master = master
            .address()
            .rsplit_once(':')
            .is_some_and(|(own, _)| own == ip.to_string());
        return Ok(is_master.then(|| Match {
            role: Role::Master,
            ..Match::default()
        }));
    };
    if found.agent.is_none() {
        return Ok(Some(found));
    }
    let slaves: Slaves = master.json("/slaves")?;
    let agent = found.agent.clone().unwrap_or_default();
    let mut slaves = slaves.slaves.iter();
    let slave = slaves.find(|slave| slave.ip().is_some_and(|ip| ip.to_string() == agent));
    found.hostname = slave.map(|slave| slave.hostname.clone());
    if !may_be_container {
        return Ok(Some(found));
    }
    match slave.and_then(|slave| slave.address()) {
        None => notes.push(format!(
            "No Mesos agent is registered at {agent}, so its containers are not known."
        )),
        Some(address) => match container::find(master.http(), address, ip, &mut found) {
            Ok(true) => return Ok(Some(found)),
            Ok(false) => {}
            Err(error) => notes.push(format!(
                "The containers of agent {agent} are not known: {error}."
            )),
        },
    }
    if found.containerizer.as_deref() == Some("docker") {
        of_engine(ip, &agent, options, host, &mut found, notes);
    }
    Ok(Some(found))
}

/// Looks for a Docker container that Mesos does not know, on this host.
fn of_engine(
    ip: IpAddr,
    agent: &str,
    options: &Options,
    host: &ThisHost,
    found: &mut Match,
    notes: &mut Vec<String>,
) {
    if !this_host::own_addresses()
        .iter()
        .any(|own| own.to_string() == agent)
    {
        let note = format!(
            "Docker containers that Mesos does not know are only found on their own host, {agent}."
        );
        return notes.push(note);
    }
    let config = host.agent_config(options.connection.agent_config.as_deref());
    let socket = config
        .ok()
        .flatten()
        .and_then(|(_, config)| config.docker_socket);
    let socket = socket.unwrap_or_else(|| DEFAULT_SOCKET.into());
    match container::find_in_engine(&socket, ip, found) {
        Ok(_) => {}
        Err(_) if !geteuid().is_root() => {
            let note = "Docker containers are not known; run this command as root.";
            notes.push(note.to_owned());
        }
        Err(error) => notes.push(format!("Docker containers are not known: {error}.")),
    }
}
