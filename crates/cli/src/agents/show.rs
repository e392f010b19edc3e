//! One agent in full.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use overlay_core::util::line::one_line;
use schemars::JsonSchema;
use serde::Serialize;

use super::list::Entry;
use super::{Located, Slaves};
use crate::answers::{Addresses, OwnAgent};
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::output::page::{self, Page, bar, duration, styled};
use crate::output::{Failure, OutputOptions, Report};
use crate::this_host::ThisHost;

/// Shows everything that is known of an agent. The agent itself is asked, too.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay agents show 10.0.0.7
  mesos-overlay agents show node7.example.org")]
pub struct Options {
    /// Address, hostname or Mesos id of the agent.
    agent: String,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// An agent, as Mesos, the leading overlay master and the agent itself show it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Show {
    /// Knowledge of the leading overlay master.
    agent: Entry,
    /// Knowledge of Mesos; absent if it does not know the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    mesos: Option<Located>,
    /// Answer of the agent itself; absent if it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<Own>,
    /// Parts that could not be seen, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Answer of an agent about itself.
#[derive(Debug, Serialize, JsonSchema)]
struct Own {
    /// True if the master has acknowledged its latest report.
    registered: bool,
    /// Overlay master that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<String>,
    /// Problems: what the master could not assign, or why it refused the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// Subnets that it lost and got.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
    /// Errors of its host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    host_errors: Vec<String>,
    /// Removed networks that containers still use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    draining: Vec<String>,
    /// Addresses for containers, by network and containerizer (`mesos`, `docker`).
    addresses: BTreeMap<String, BTreeMap<String, Addresses>>,
}

impl Own {
    fn new(own: OwnAgent) -> Own {
        let plain = |texts: &[String]| {
            texts
                .iter()
                .map(|text| one_line(text, 1000).into_owned())
                .collect()
        };
        let addresses = own.overlays.iter().map(|overlay| {
            let name = one_line(&overlay.info.name, 64).into_owned();
            (name, overlay.addresses.clone())
        });
        Own {
            registered: own.registered.unwrap_or(true),
            master: own
                .master
                .as_deref()
                .map(|master| one_line(master, 256).into_owned()),
            problems: plain(&own.problems),
            notices: plain(&own.notices),
            host_errors: plain(&own.host_errors),
            draining: plain(&own.draining),
            addresses: addresses.collect(),
        }
    }
}

/// Looks at an agent.
///
/// # Errors
/// The master cannot be asked, or does not know the agent.
pub fn show(options: &Options) -> Result<Show, Failure> {
    let master = Master::find(&options.connection, &ThisHost::look())?;
    let mut notes = Vec::new();
    let slaves = Slaves::ask(&master).unwrap_or_else(|error| {
        notes.push(format!(
            "Mesos does not say which agents there are: {error}"
        ));
        Slaves::default()
    });
    let given = options.agent.as_str();
    let ip: Option<Ipv4Addr> = match given.parse() {
        Ok(ip) => Some(ip),
        Err(_) => slaves.find(given)?,
    };
    let ip = ip.ok_or_else(|| {
        format!(
            "Mesos knows no agent {given}; give its address, as mesos-overlay agents list shows it"
        )
    })?;
    let state = master.state()?;
    let agent = state.agents.iter().find(|agent| agent.ip == ip);
    let agent = agent.ok_or_else(|| {
        format!(
            "the master at {} knows no agent {ip}; mesos-overlay agents list shows all",
            master.address()
        )
    })?;
    let own = master
        .http()
        .json(&slaves.endpoint(ip), "/overlay-agent/overlay");
    let own =
        own.inspect_err(|error| notes.push(format!("the agent itself cannot be asked: {error}")));
    Ok(Show {
        agent: Entry::new(agent),
        mesos: slaves.get(ip).cloned(),
        own: own.ok().map(Own::new),
        notes,
    })
}

impl Report for Show {
    const COMMAND: &'static str = "agents show";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.write_head(page)?;
        self.write_networks(page)?;
        for error in &self.agent.errors {
            page.line(format_args!("{} {error}", styled(page::ERROR, "error:")))?;
        }
        if let Some((error, ago)) = self
            .agent
            .last_error
            .as_ref()
            .zip(self.agent.last_error_seconds)
        {
            page.line(format_args!(
                "Latest error ({} ago): {error}",
                duration(ago)
            ))?;
        }
        if let Some(own) = &self.own {
            own.write(page)?;
        }
        for note in &self.notes {
            page.line(format_args!("{} {note}", styled(page::DIM, "note:")))?;
        }
        Ok(())
    }
}

impl Show {
    fn write_head(&self, page: &mut Page<'_>) -> io::Result<()> {
        let agent = &self.agent;
        let since = agent
            .since_seconds
            .map_or(String::new(), |since| format!(" for {}", duration(since)));
        let connected = match (agent.connected, agent.since_seconds) {
            (true, _) => styled(page::GOOD, format_args!("connected{since}")),
            (false, Some(_)) => styled(page::ERROR, format_args!("not connected{since}")),
            (false, None) => styled(page::ERROR, "has not registered with this master"),
        };
        page.line(format_args!("Agent {}: {connected}", agent.ip))?;
        if let Some(Located {
            id,
            hostname,
            address,
            active,
        }) = &self.mesos
        {
            let active = if *active { "" } else { ", not active" };
            page.line(format_args!(
                "Mesos: {hostname}, {address}, id {id}{active}"
            ))?;
        }
        for vtep in &agent.vteps {
            page.line(format_args!("VTEP: {}", vtep.addr()))?;
        }
        if let Some(authentication) = &agent.authentication {
            page.line(format_args!("Authentication: {authentication}"))?;
        }
        Ok(())
    }

    fn write_networks(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut rows = Vec::new();
        for held in &self.agent.networks {
            let subnets: Vec<String> = held.subnets.iter().map(ToString::to_string).collect();
            let status = held.status.clone().unwrap_or_default();
            rows.push(vec![held.network.clone(), subnets.join(", "), status]);
        }
        match rows.is_empty() {
            true => page.line("It has no networks."),
            false => page.table(&["NETWORK", "SUBNETS", "STATUS"], &[], rows),
        }
    }
}

impl Own {
    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let rows = self.addresses.iter().flat_map(|(network, addresses)| {
            addresses
                .iter()
                .map(move |(containerizer, numbers)| addresses_row(network, containerizer, numbers))
        });
        let headings = ["ADDRESSES", "FOR", "IN USE", "OF", "LEAKED", ""];
        page.table(&headings, &[2, 3, 4], rows)?;
        if !self.registered {
            page.line("The agent is not registered with an overlay master.")?;
        }
        for (what, texts) in [
            ("Problem", &self.problems),
            ("Notice", &self.notices),
            ("Draining", &self.draining),
        ] {
            for text in texts {
                page.line(format_args!("{what}: {text}"))?;
            }
        }
        Ok(())
    }
}

/// Returns the row of a network's addresses for one containerizer.
pub fn addresses_row(network: &str, containerizer: &str, numbers: &Addresses) -> Vec<String> {
    let (in_use, total) = match numbers.total {
        Some(total) => (numbers.in_use, Some(u128::from(total))),
        None => (numbers.in_use6, numbers.total6),
    };
    let text = |number: Option<u128>| number.map_or("?".to_owned(), |number| number.to_string());
    let in_use = in_use.map(u128::from);
    vec![
        network.to_owned(),
        containerizer.to_owned(),
        text(in_use),
        text(total),
        numbers
            .leaked
            .map_or(String::new(), |leaked| leaked.to_string()),
        in_use
            .zip(total)
            .map_or(String::new(), |(in_use, total)| bar(in_use, total)),
    ]
}
