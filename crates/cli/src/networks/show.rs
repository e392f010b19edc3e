//! One overlay network in full.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::util::line::{list_first, one_line};
use schemars::JsonSchema;
use serde::Serialize;

use super::definition::in_words;
use super::{list, master};
use crate::answers::{AgentOverlay, MasterState, Overlay};
use crate::connection::ConnectionOptions;
use crate::finding::Finding;
use crate::output::page::{Page, bar, count};
use crate::output::{Failure, OutputOptions, Report};

/// Number of agents that the page shows without --agents.
const SHOWN: usize = 10;

/// Shows one overlay network: definitions, who holds subnets of it, and what is wrong.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay networks show dcos
  mesos-overlay networks show dcos --agents")]
pub struct Options {
    /// Name of the network.
    name: String,
    /// Show all agents, not only the first ones. (JSON has all.)
    #[arg(long)]
    agents: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// One overlay network.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Show {
    /// The network, as the master shows it.
    network: Overlay,
    /// Agents that hold a subnet of it, by address.
    agents: Vec<Holder>,
    /// Sentences of the master about the network's ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    #[serde(skip)]
    shows_all: bool,
}

/// Agent that holds a subnet.
#[derive(Debug, Serialize, JsonSchema)]
struct Holder {
    /// Address of the agent.
    ip: Ipv4Addr,
    /// True if it is connected to the master.
    connected: bool,
    /// Its subnets of the network, one of each family.
    #[schemars(with = "Vec<String>")]
    subnets: Vec<IpNet>,
    /// State of the network on the agent: `STATUS_OK`, `STATUS_CONFIGURING` or `STATUS_FAILED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// Error of the network there.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Holder {
    fn new(ip: Ipv4Addr, connected: bool, overlay: &AgentOverlay) -> Holder {
        let state = overlay.state.as_ref();
        let plain = |text: &String| one_line(text, 500).into_owned();
        Holder {
            ip,
            connected,
            subnets: overlay.subnets().collect(),
            status: state.map(|state| plain(&state.status)),
            error: state.and_then(|state| state.error.as_ref()).map(plain),
        }
    }

    fn row(&self) -> Vec<String> {
        let subnets: Vec<String> = self.subnets.iter().map(ToString::to_string).collect();
        vec![
            self.ip.to_string(),
            if self.connected { "yes" } else { "no" }.to_owned(),
            subnets.join(", "),
            self.status.clone().unwrap_or_default(),
            self.error.clone().unwrap_or_default(),
        ]
    }
}

/// Looks at a network.
///
/// # Errors
/// The master cannot be asked, or has no such network.
pub fn show(options: &Options) -> Result<Show, Failure> {
    let master = master(&options.connection)?;
    let overlays = master.overlays()?;
    let found = overlays
        .overlays
        .iter()
        .find(|overlay| overlay.name == options.name);
    let names = || {
        overlays
            .overlays
            .iter()
            .map(|overlay| overlay.name.clone())
            .collect::<Vec<_>>()
    };
    let network = found.ok_or_else(|| {
        let there = list_first(&names(), 20);
        format!("there is no network {}; there are: {there}", options.name)
    })?;
    let state = master.state()?;
    Ok(Show {
        network: network.clone(),
        agents: holders(&options.name, &state),
        problems: problems(network, &state),
        shows_all: options.agents,
    })
}

fn holders(name: &str, state: &MasterState) -> Vec<Holder> {
    let agents = state.agents.iter();
    agents
        .filter_map(|agent| {
            let mut overlays = agent.overlays.iter();
            let held = overlays.find(|overlay| overlay.info.name == name)?;
            Some(Holder::new(agent.ip, agent.connected, held))
        })
        .collect()
}

/// Returns the sentences of the master that name a range of this network.
fn problems(network: &Overlay, state: &MasterState) -> Vec<String> {
    let info = network.info.iter().chain(&network.file);
    let ranges: Vec<String> = info
        .flat_map(|info| info.subnet.into_iter().chain(info.subnet6))
        .map(|range| range.to_string())
        .collect();
    let names_range = |problem: &&String| ranges.iter().any(|range| problem.contains(range));
    let named = state.problems.iter().filter(names_range);
    named
        .map(|problem| one_line(problem, 1000).into_owned())
        .collect()
}

impl Report for Show {
    const COMMAND: &'static str = "networks show";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let network = &self.network;
        page.line(format_args!(
            "Network {}: {}",
            one_line(&network.name, 64),
            list::state(network)
        ))?;
        if let Some(info) = &network.info {
            let source = match network.source.as_str() {
                "file" => "in the configuration file",
                "stored" => "in the replicated log, changed by an operator",
                _ => "defined nowhere",
            };
            page.line(format_args!("Definition: {} ({source})", in_words(info)))?;
        }
        if let Some(file) = &network.file {
            page.line(format_args!(
                "Configuration file: {} (not in force)",
                in_words(file)
            ))?;
        }
        if let Some(error) = &network.error {
            page.line(format_args!("Left out: {}", one_line(error, 500)))?;
        }
        self.write_subnets(page)?;
        if !network.holders.is_empty() {
            let holders: Vec<String> = network
                .holders
                .iter()
                .map(|ip| one_line(ip, 64).into_owned())
                .collect();
            let named = list_first(&holders, SHOWN);
            page.line(format_args!(
                "Not released yet by {}: {named}",
                count(holders.len(), "agent")
            ))?;
        }
        for problem in &self.problems {
            page.line(format_args!("Problem: {problem}"))?;
        }
        self.write_agents(page)
    }
}

impl Show {
    fn write_subnets(&self, page: &mut Page<'_>) -> io::Result<()> {
        let capacity = self.network.agent_subnets.unwrap_or_default();
        for (family, used, total) in [
            ("IPv4", capacity.used, capacity.total),
            ("IPv6", capacity.used6, capacity.total6),
        ] {
            if let Some((used, total)) = used.zip(total) {
                page.line(format_args!(
                    "{family} subnets: {used} of {total} used {}",
                    bar(used, total)
                ))?;
            }
        }
        Ok(())
    }

    fn write_agents(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.agents.is_empty() {
            return Ok(());
        }
        let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
        for agent in &self.agents {
            *by_status
                .entry(agent.status.as_deref().unwrap_or("not reported"))
                .or_default() += 1;
        }
        let numbers: Vec<String> = by_status
            .iter()
            .map(|(status, number)| format!("{number} {status}"))
            .collect();
        page.heading(format_args!("Agents: {}", numbers.join(", ")))?;
        // Those with errors and those that are away come first.
        let mut agents: Vec<&Holder> = self.agents.iter().collect();
        agents.sort_by_key(|agent| (agent.error.is_none(), agent.connected, agent.ip));
        let shown = if self.shows_all { agents.len() } else { SHOWN };
        let rows = agents.iter().take(shown).map(|agent| agent.row());
        page.table(
            &["AGENT", "CONNECTED", "SUBNETS", "STATUS", "ERROR"],
            &[],
            rows,
        )?;
        match agents.len().saturating_sub(shown) {
            0 => Ok(()),
            more => page.line(format_args!("… and {more} more; --agents shows all")),
        }
    }
}
