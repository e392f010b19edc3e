//! List of the agents.

use std::cmp::Reverse;
use std::io;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::util::line::one_line;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answers::{Agent, AgentOverlay, LastError};
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::output::page::{self, Page, count, duration, styled};
use crate::output::{Failure, OutputOptions, Report};
use crate::this_host::ThisHost;

/// Length of an error in the table, in characters.
const ERROR_WIDTH: usize = 80;

/// Lists the agents: since when they are connected, what they hold, and what is wrong.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay agents list
  mesos-overlay agents list --lost --sort since
  mesos-overlay agents list --errors -o json")]
pub struct Options {
    /// Only agents that are not connected to the leading master.
    #[arg(long)]
    lost: bool,
    /// Only agents on which something is wrong.
    #[arg(long)]
    errors: bool,
    /// Order.
    #[arg(long, value_name = "ORDER", value_enum, default_value_t)]
    sort: Order,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// Order of the agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// By address.
    #[default]
    Address,
    /// By connection: agents that are not connected first, the longest first.
    Since,
    /// By the number of errors, the most first.
    Errors,
}

/// Agents of the cluster.
#[derive(Debug, Serialize, JsonSchema)]
pub struct List {
    /// Agents that the options ask for.
    agents: Vec<Entry>,
    /// Number of all agents.
    total: usize,
    /// Number of those that are connected.
    connected: usize,
}

/// Agent, as its master knows it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Entry {
    /// Address.
    pub ip: Ipv4Addr,
    /// True if it is connected to the leading master.
    pub connected: bool,
    /// Seconds since it connected or disconnected; absent if it has not registered with this
    /// master yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// VTEP addresses, with the prefix length of their ranges.
    #[schemars(with = "Vec<String>")]
    pub vteps: Vec<IpNet>,
    /// Networks that it has.
    pub networks: Vec<Held>,
    /// Errors of its host and its networks, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Latest error, even if it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Seconds since the latest error was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_seconds: Option<u64>,
    /// Authentication of its messages: `key <id>`, `confirmed` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<String>,
}

/// Network of an agent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Held {
    /// Name of the network.
    pub network: String,
    /// The agent's subnets, one of each family.
    #[schemars(with = "Vec<String>")]
    pub subnets: Vec<IpNet>,
    /// `STATUS_OK`, `STATUS_CONFIGURING` or `STATUS_FAILED`; absent if the agent has not reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl Held {
    fn new(overlay: &AgentOverlay) -> Held {
        let status = overlay
            .state
            .as_ref()
            .map(|state| one_line(&state.status, 64).into_owned());
        Held {
            network: one_line(&overlay.info.name, 64).into_owned(),
            subnets: overlay.subnets().collect(),
            status,
        }
    }
}

impl Entry {
    /// Creates the entry of an agent in the state.
    pub fn new(agent: &Agent) -> Entry {
        let plain = |text: &str| one_line(text, 500).into_owned();
        let tunnel = agent
            .overlays
            .iter()
            .find_map(|overlay| overlay.backend.vxlan.as_ref());
        let vteps = tunnel.map(|tunnel| {
            std::iter::once(tunnel.vtep_ip)
                .chain(tunnel.vtep_ip6)
                .collect()
        });
        let states = agent.overlays.iter().filter_map(|overlay| {
            let error = overlay.state.as_ref()?.error.as_ref()?;
            Some(plain(&format!("{}: {error}", overlay.info.name)))
        });
        let last: Option<&LastError> = agent.last_error.as_ref();
        Entry {
            ip: agent.ip,
            connected: agent.connected,
            since_seconds: agent.since_seconds,
            vteps: vteps.unwrap_or_default(),
            networks: agent.overlays.iter().map(Held::new).collect(),
            errors: agent
                .host_errors
                .iter()
                .map(|error| plain(error))
                .chain(states)
                .collect(),
            last_error: last.map(|last| plain(&last.error)),
            last_error_seconds: last.map(|last| last.seconds_ago),
            authentication: agent.authentication.as_deref().map(plain),
        }
    }

    /// Returns what the agent holds, such as `VTEP 44.128.0.2, 9.0.1.0/24 of dcos`.
    pub fn holdings(&self) -> String {
        let vteps = self
            .vteps
            .iter()
            .map(|vtep| format!("VTEP {}", vtep.addr()));
        let subnets = self.networks.iter().flat_map(|held| {
            let of = |subnet: &IpNet| format!("{subnet} of {}", held.network);
            held.subnets.iter().map(of)
        });
        let parts: Vec<String> = vteps.chain(subnets).collect();
        match parts.is_empty() {
            true => "nothing".to_owned(),
            false => parts.join(", "),
        }
    }

    /// Returns true if something is wrong on the agent.
    fn has_errors(&self) -> bool {
        let mut networks = self.networks.iter();
        let failed = |held: &Held| held.status.as_deref() == Some("STATUS_FAILED");
        !self.errors.is_empty() || networks.any(failed)
    }

    fn row(&self) -> Vec<String> {
        let connected = match self.connected {
            true => styled(page::GOOD, "yes"),
            false => styled(page::ERROR, "no"),
        };
        let error = match self.errors.first() {
            Some(error) => styled(page::ERROR, one_line(error, ERROR_WIDTH)),
            None => String::new(),
        };
        vec![
            self.ip.to_string(),
            connected,
            self.since_seconds.map_or("never".to_owned(), duration),
            self.holdings(),
            error,
        ]
    }
}

/// Lists agents.
///
/// # Errors
/// The master cannot be asked.
pub fn list(options: &Options) -> Result<List, Failure> {
    let master = Master::find(&options.connection, &ThisHost::look())?;
    let state = master.state()?;
    Ok(List::new(&state.agents, options))
}

impl List {
    fn new(all: &[Agent], options: &Options) -> List {
        let is_wanted = |entry: &Entry| {
            !(options.lost && entry.connected || options.errors && !entry.has_errors())
        };
        let mut agents: Vec<Entry> = all.iter().map(Entry::new).filter(is_wanted).collect();
        match options.sort {
            Order::Address => agents.sort_by_key(|agent| agent.ip),
            Order::Since => agents.sort_by_key(|agent| {
                (
                    agent.connected,
                    Reverse(agent.since_seconds.unwrap_or(u64::MAX)),
                    agent.ip,
                )
            }),
            Order::Errors => agents.sort_by_key(|agent| (Reverse(agent.errors.len()), agent.ip)),
        }
        List {
            agents,
            total: all.len(),
            connected: all.iter().filter(|agent| agent.connected).count(),
        }
    }
}

impl Report for List {
    const COMMAND: &'static str = "agents list";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let headings = ["AGENT", "CONNECTED", "SINCE", "HOLDS", "ERROR"];
        page.table(&headings, &[2], self.agents.iter().map(Entry::row))?;
        let shown = match self.agents.len() == self.total {
            true => String::new(),
            false => format!("{} of ", self.agents.len()),
        };
        let total = count(self.total, "agent");
        page.line(format_args!("{shown}{total}, {} connected", self.connected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents() -> Vec<Agent> {
        let text = r#"[
            {"ip":"10.0.0.1","connected":true,"since_seconds":9,"overlays":[
                {"info":{"name":"a"},"subnet":"9.0.0.0/24","subnet6":"fd00::/80","state":{"status":"STATUS_OK"},
                 "backend":{"vxlan":{"vni":1024,"vtep_ip":"44.0.0.1/20","vtep_mac":"x","vtep_name":"vtep1024"}}}]},
            {"ip":"10.0.0.2","since_seconds":200,"host_errors":["x\u001b[31m"]},
            {"ip":"10.0.0.3","overlays":[{"info":{"name":"a"},"state":{"status":"STATUS_FAILED","error":"why"}}]}]"#;
        serde_json::from_str(text).unwrap()
    }

    fn list(lost: bool, errors: bool, sort: Order) -> Vec<u8> {
        let options = Options {
            lost,
            errors,
            sort,
            connection: crate::connection::ConnectionOptions::for_tests(),
            output: OutputOptions::default(),
        };
        let list = List::new(&agents(), &options);
        assert_eq!((list.total, list.connected), (3, 1));
        list.agents
            .iter()
            .map(|agent| agent.ip.octets()[3])
            .collect()
    }

    #[test]
    fn agents_are_chosen_and_ordered() {
        assert_eq!(list(false, false, Order::Address), [1, 2, 3]);
        assert_eq!(list(true, false, Order::Since), [3, 2]);
        assert_eq!(list(false, true, Order::Address), [2, 3]);
        assert_eq!(list(false, false, Order::Errors), [2, 3, 1]);
    }

    #[test]
    fn an_entry_says_what_the_agent_holds() {
        let entry = |index: usize| Entry::new(&agents()[index]);
        assert_eq!(
            entry(0).holdings(),
            "VTEP 44.0.0.1, 9.0.0.0/24 of a, fd00::/80 of a"
        );
        assert_eq!(entry(1).errors, ["x [31m"]);
        assert_eq!(entry(2).errors, ["a: why"]);
        assert_eq!(entry(2).holdings(), "nothing");
    }
}
