//! `mesos-overlay ipam show`.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::host_api::usage::assignable;
use overlay_core::util::line::{list_first, one_line};
use schemars::JsonSchema;
use serde::Serialize;

use super::ask::{AskOptions, ask};
use super::view::Place;
use crate::agents::show::addresses_row;
use crate::answers::{Addresses, AgentOverlay, MasterState, OverlayInfo, OwnAgent};
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::output::page::{self, Page, bar, count, styled};
use crate::output::{Failure, OutputOptions, Report};
use crate::this_host::ThisHost;

/// Number of agents in the list of those that use most.
const TOP: usize = 10;

/// Shows how many subnets and addresses each overlay has, and how many are used.
///
/// The master knows subnets. How many addresses containers have is known to the agents only: the
/// agent of this host is asked, and with --ask-agents all of them.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay ipam show
  mesos-overlay ipam show --overlay dcos --ask-agents
  mesos-overlay ipam show --ask-agents --agents -o json"
)]
pub struct Options {
    /// Show this overlay only.
    #[arg(long, value_name = "NAME")]
    overlay: Option<String>,
    /// Show the addresses of every agent that was asked, not only of those that use most.
    #[arg(long, requires = "ask_agents")]
    agents: bool,
    #[command(flatten)]
    ask: AskOptions,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// Result of `ipam show`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Show {
    /// Ranges, one of each overlay and family.
    ranges: Vec<Range>,
    /// The agent on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    this_host: Option<AgentAddresses>,
    /// Agents that were asked, by address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<AgentAddresses>,
    /// Parts that could not be seen, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip)]
    shows_all: bool,
}

/// Range of an overlay in one family.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
struct Range {
    /// Overlay.
    overlay: String,
    /// The range.
    #[schemars(with = "String")]
    range: IpNet,
    /// Prefix length of the agents' subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
    /// Number of subnets for agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    subnets: Option<u128>,
    /// Number of subnets that agents have.
    #[serde(skip_serializing_if = "Option::is_none")]
    subnets_used: Option<u128>,
    /// Number of subnets that agents can still get.
    #[serde(skip_serializing_if = "Option::is_none")]
    subnets_free: Option<u128>,
    /// Number of addresses for containers in the subnets that agents have.
    addresses: u128,
    /// Number of addresses that containers have on the agents that were asked; absent if none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses_in_use: Option<u128>,
    /// Half of the agents that were asked have at most this many addresses in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    median_in_use: Option<u128>,
}

/// Addresses of an agent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct AgentAddresses {
    /// Address of the agent.
    agent: Ipv4Addr,
    /// Addresses for containers, by overlay and containerizer (`mesos`, `docker`).
    addresses: BTreeMap<String, BTreeMap<String, Addresses>>,
}

/// Family of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl AgentAddresses {
    fn new(own: &OwnAgent, only: Option<&str>) -> AgentAddresses {
        let wanted = own
            .overlays
            .iter()
            .filter(|overlay| only.is_none_or(|only| overlay.info.name == only));
        let addresses = wanted.map(|overlay| {
            (
                one_line(&overlay.info.name, 64).into_owned(),
                overlay.addresses.clone(),
            )
        });
        AgentAddresses {
            agent: own.ip,
            addresses: addresses.collect(),
        }
    }

    /// Returns how many addresses of an overlay are in use; `None`: no containerizer has a number.
    fn in_use(&self, overlay: &str, family: Family) -> Option<u128> {
        let numbers = self.addresses.get(overlay)?.values();
        let known = numbers.filter_map(|numbers| match family {
            Family::V4 => numbers.in_use,
            Family::V6 => numbers.in_use6,
        });
        let known: Vec<u128> = known.map(u128::from).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    /// Returns true if it has an overlay of which it does not say how many addresses are in use.
    fn lacks_numbers(&self) -> bool {
        let mut overlays = self.addresses.keys();
        overlays.any(|overlay| {
            [Family::V4, Family::V6]
                .iter()
                .all(|family| self.in_use(overlay, *family).is_none())
        })
    }

    /// Returns the largest part of its addresses that is in use, in thousandths.
    fn fullness(&self) -> u128 {
        let numbers = self.addresses.values().flat_map(BTreeMap::values);
        let full = numbers.filter_map(|numbers| {
            let (in_use, total) = (u128::from(numbers.in_use?), u128::from(numbers.total?));
            (in_use * 1000).checked_div(total)
        });
        full.max().unwrap_or_default()
    }

    fn rows(&self) -> impl Iterator<Item = Vec<String>> + use<'_> {
        self.addresses.iter().flat_map(|(overlay, addresses)| {
            addresses.iter().map(|(containerizer, numbers)| {
                let mut row = vec![self.agent.to_string()];
                row.extend(addresses_row(overlay, containerizer, numbers));
                row
            })
        })
    }
}

/// Shows.
///
/// # Errors
/// The master cannot be asked, or has no such overlay.
pub fn show(options: &Options) -> Result<Show, Failure> {
    let host = ThisHost::look();
    let master = Master::find(&options.connection, &host)?;
    let state = master.state()?;
    let only = options.overlay.as_deref();
    check_name(only, &state)?;
    let mut notes = Vec::new();
    let own = match host.agent_address() {
        Some(_) => Place::find(&options.connection, &host)?.map(|place| place.own()),
        None => None,
    };
    let this_host = own.and_then(|own| {
        own.inspect_err(|error| notes.push(format!("the agent of this host: {error}")))
            .ok()
    });
    let mut agents = Vec::new();
    if options.ask.ask_agents {
        let answers = ask(&master, &state)?;
        notes.extend(answers.notes());
        agents.extend(
            answers
                .agents
                .iter()
                .map(|(_, own)| AgentAddresses::new(own, only)),
        );
    }
    notes.extend(note_of_unknown(&agents));
    Ok(Show {
        ranges: ranges(&state, &agents, only),
        this_host: this_host.map(|own| AgentAddresses::new(&own, only)),
        agents,
        notes,
        shows_all: options.agents,
    })
}

/// Returns a note about agents that do not say how many addresses are in use.
fn note_of_unknown(agents: &[AgentAddresses]) -> Option<String> {
    let unknown = agents.iter().filter(|agent| agent.lacks_numbers()).count();
    (unknown > 0).then(|| {
        format!(
            "{} of {} asked did not say how many addresses of an overlay are in use, so the sums lack them",
            count(unknown, "agent"),
            agents.len()
        )
    })
}

fn check_name(only: Option<&str>, state: &MasterState) -> Result<(), Failure> {
    let names: Vec<String> = state
        .network
        .overlays
        .iter()
        .map(|overlay| overlay.name.clone())
        .collect();
    match only {
        Some(name) if !names.iter().any(|known| known == name) => Err(format!(
            "no overlay {name} is in force; there are: {}",
            list_first(&names, 20)
        )
        .into()),
        _ => Ok(()),
    }
}

fn ranges(state: &MasterState, agents: &[AgentAddresses], only: Option<&str>) -> Vec<Range> {
    let totals = totals(state);
    let overlays = state.network.overlays.iter();
    let wanted = overlays.filter(|overlay| only.is_none_or(|only| overlay.name == only));
    let both = wanted.flat_map(|overlay| [Family::V4, Family::V6].map(|family| (overlay, family)));
    both.filter_map(|(overlay, family)| {
        let mut range = Range::new(overlay, family)?;
        let (v4, v6) = totals
            .get(overlay.name.as_str())
            .copied()
            .unwrap_or_default();
        range.addresses = if family == Family::V4 { v4 } else { v6 };
        let in_use = agents
            .iter()
            .filter_map(|agent| agent.in_use(&overlay.name, family));
        let in_use: Vec<u128> = in_use.collect();
        range.addresses_in_use = (!in_use.is_empty()).then(|| in_use.iter().sum());
        range.median_in_use = median(in_use);
        Some(range)
    })
    .collect()
}

/// Returns how many addresses containers can have in the subnets that agents have, by overlay:
/// IPv4 and IPv6.
fn totals(state: &MasterState) -> BTreeMap<&str, (u128, u128)> {
    let mut totals: BTreeMap<&str, (u128, u128)> = BTreeMap::new();
    for overlay in state.agents.iter().flat_map(|agent| &agent.overlays) {
        let (v4, v6) = totals.entry(&overlay.info.name).or_default();
        for net in bridge_subnets(overlay) {
            let total = if net.addr().is_ipv4() {
                &mut *v4
            } else {
                &mut *v6
            };
            *total = total.saturating_add(assignable(net));
        }
    }
    totals
}

fn bridge_subnets(overlay: &AgentOverlay) -> impl Iterator<Item = IpNet> + use<'_> {
    overlay
        .bridges()
        .flat_map(|bridge| bridge.ip.into_iter().chain(bridge.ip6))
}

/// Returns the number that half of the numbers do not exceed.
fn median(mut numbers: Vec<u128>) -> Option<u128> {
    numbers.sort_unstable();
    let middle = numbers.len().checked_sub(1)? / 2;
    numbers.get(middle).copied()
}

impl Report for Show {
    const COMMAND: &'static str = "ipam show";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let headings = [
            "OVERLAY",
            "RANGE",
            "PREFIX",
            "SUBNETS",
            "USED",
            "FREE",
            "",
            "ADDRESSES",
            "IN USE",
            "MEDIAN",
        ];
        page.table(
            &headings,
            &[2, 3, 4, 5, 7, 8, 9],
            self.ranges.iter().map(Range::row),
        )?;
        let headings = ["AGENT", "OVERLAY", "FOR", "IN USE", "OF", "LEAKED", ""];
        let right = [3, 4, 5];
        if let Some(own) = &self.this_host {
            page.heading("Addresses on this host")?;
            page.table(&headings, &right, own.rows())?;
        }
        if !self.agents.is_empty() {
            let mut agents: Vec<&AgentAddresses> = self.agents.iter().collect();
            agents.sort_by_key(|agent| (std::cmp::Reverse(agent.fullness()), agent.agent));
            let shown = if self.shows_all { agents.len() } else { TOP };
            page.heading(if self.shows_all {
                "Addresses on agents"
            } else {
                "Agents that use most"
            })?;
            page.table(
                &headings,
                &right,
                agents.iter().take(shown).flat_map(|agent| agent.rows()),
            )?;
        }
        for note in &self.notes {
            page.line(format_args!("{} {note}.", styled(page::DIM, "note:")))?;
        }
        Ok(())
    }
}

impl Range {
    /// Returns the range of an overlay, without addresses; `None`: it has none of this family.
    fn new(overlay: &OverlayInfo, family: Family) -> Option<Range> {
        let subnets = overlay.agent_subnets.unwrap_or_default();
        let (range, prefix, [total, used, free]) = match family {
            Family::V4 => (
                overlay.subnet,
                overlay.prefix,
                [subnets.total, subnets.used, subnets.free],
            ),
            Family::V6 => (
                overlay.subnet6,
                overlay.prefix6,
                [subnets.total6, subnets.used6, subnets.free6],
            ),
        };
        Some(Range {
            overlay: one_line(&overlay.name, 64).into_owned(),
            range: range?,
            prefix,
            subnets: total,
            subnets_used: used,
            subnets_free: free,
            addresses: 0,
            addresses_in_use: None,
            median_in_use: None,
        })
    }

    fn row(&self) -> Vec<String> {
        let text = |number: Option<u128>| number.map_or(String::new(), |number| number.to_string());
        let used = self.subnets.zip(self.subnets_used);
        vec![
            self.overlay.clone(),
            self.range.to_string(),
            self.prefix
                .map_or(String::new(), |prefix| format!("/{prefix}")),
            text(self.subnets),
            text(self.subnets_used),
            text(self.subnets_free),
            used.map_or(String::new(), |(total, used)| bar(used, total)),
            self.addresses.to_string(),
            text(self.addresses_in_use),
            text(self.median_in_use),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"network":{"vtep_subnet":"44.0.0.0/8","overlays":[
        {"name":"a","subnet":"9.0.0.0/8","prefix":24,"subnet6":"fd00::/64","prefix6":80,
         "agent_subnets":{"total":65536,"used":2,"free":65534,"total6":65536,"used6":1,"free6":65535}},
        {"name":"b","subnet":"8.0.0.0/8","prefix":24}]},
        "agents":[
        {"ip":"10.0.0.1","overlays":[{"info":{"name":"a"},"mesos_bridge":{"name":"m-a","ip":"9.0.0.0/25","ip6":"fd00::/126"},
          "docker_bridge":{"name":"d-a","ip":"9.0.0.128/25"}}]},
        {"ip":"10.0.0.2","overlays":[{"info":{"name":"a"},"mesos_bridge":{"name":"m-a","ip":"9.0.1.0/25"}}]}]}"#;

    fn own(ip: &str, in_use: u64) -> AgentAddresses {
        let text = format!(
            r#"{{"ip":"{ip}","overlays":[{{"info":{{"name":"a"}},"addresses":{{"mesos":{{"in_use":{in_use},"total":125}},"docker":{{"in_use":1,"total":125}}}}}}]}}"#
        );
        AgentAddresses::new(&serde_json::from_str(&text).unwrap(), None)
    }

    #[test]
    fn numbers_are_sums_of_all_agents() {
        let state: MasterState = serde_json::from_str(STATE).unwrap();
        let agents = [own("10.0.0.1", 3), own("10.0.0.2", 7), own("10.0.0.3", 100)];
        let ranges = super::ranges(&state, &agents, None);
        let numbers: Vec<_> = ranges
            .iter()
            .map(|range| {
                (
                    range.overlay.as_str(),
                    range.addresses,
                    range.addresses_in_use,
                    range.median_in_use,
                )
            })
            .collect();
        assert_eq!(
            numbers,
            [
                ("a", 375, Some(113), Some(8)),
                ("a", 2, None, None),
                ("b", 0, None, None)
            ]
        );
        assert_eq!(super::ranges(&state, &[], Some("b")).len(), 1);
        assert_eq!(super::ranges(&state, &[], None)[0].addresses_in_use, None);
        assert_eq!(agents[2].fullness(), 800);
        assert_eq!(note_of_unknown(&agents), None);
        let silent = r#"{"ip":"10.0.0.4","overlays":[{"info":{"name":"a"},"addresses":{"mesos":{"total":125}}}]}"#;
        let silent = AgentAddresses::new(&serde_json::from_str(silent).unwrap(), None);
        assert_eq!(silent.in_use("a", Family::V4), None);
        let note = note_of_unknown(&[silent]).unwrap();
        assert!(note.starts_with("1 agent of 1 asked did not say"), "{note}");
    }

    #[test]
    fn half_of_the_numbers_are_not_above_the_median() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![9, 1]), Some(1));
        assert_eq!(median(vec![9, 1, 4]), Some(4));
    }
}
