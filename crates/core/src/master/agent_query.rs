//! Selection of agents by the query of `/overlay-master/agents`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::leases::Leases;
use super::ledger::Ledger;
use super::record::EncodedAgent;
use super::sessions::Session;
use crate::Response;
use crate::allocation::allocator::{Allocation, DualStackNet};
use crate::allocation::prefix::overlap;
use crate::config::nearest;
use crate::util::line::quote;

/// Number of agents in an answer, if the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// Largest number of agents in an answer.
const MAX_LIMIT: usize = 1000;
/// Largest number of agents that a request names.
const MAX_NAMED: usize = 200;
/// Maximum length of a text that is searched, in bytes.
const MAX_TEXT: usize = 200;

/// Keys of the query.
const KEYS: &[&str] = &["network", "agent", "q", "also", "status", "limit", "offset"];

/// A selection of agents, and of a part of it.
#[derive(Debug, Default)]
pub struct AgentQuery {
    /// An overlay that the agents have.
    network: Option<String>,
    /// The only agents that are selected.
    agents: Option<BTreeSet<Ipv4Addr>>,
    search: Option<Search>,
    /// Agents that are found whatever is searched for.
    also: BTreeSet<Ipv4Addr>,
    status: Option<Status>,
    /// The number of agents to show at most.
    limit: usize,
    /// The number of selected agents to leave out first.
    pub offset: usize,
}

/// Text or address that is searched for.
#[derive(Debug)]
enum Search {
    /// An address of an agent, of its VTEP or in its subnets; or a range that overlaps them.
    Net(IpNet),
    /// Small letters in the agent's addresses, subnets, MAC address, release or errors.
    Text(String),
}

#[derive(Clone, Copy, Debug)]
enum Status {
    Connected,
    Disconnected,
    /// With an error: of the overlay that the query names, or of any and the host.
    Failing,
    /// With a lease that has ended.
    Expired,
}

/// The agents that a query selects.
pub struct Selection<'a> {
    /// The agents of the part that is shown.
    pub shown: Vec<(Ipv4Addr, &'a EncodedAgent)>,
    /// The number of all selected agents.
    pub matched: usize,
}

impl AgentQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// The answer to a malformed one.
    pub fn parse(query: &BTreeMap<String, String>) -> Result<AgentQuery, Response> {
        if let Some(key) = query.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let hint = nearest(key, KEYS.iter().copied());
            let hint = hint.map(|near| format!("; did you mean {near}?"));
            return Err(bad(&format!(
                "there is no parameter {}{}",
                quote(key),
                hint.unwrap_or_default()
            )));
        }
        let value = |key: &str| query.get(key).map(String::as_str);
        let text = value("q").map(str::trim).filter(|text| !text.is_empty());
        Ok(AgentQuery {
            network: value("network").map(str::to_owned),
            agents: value("agent")
                .map(|text| agents("agent", text))
                .transpose()?,
            search: text.map(search).transpose()?,
            also: agents("also", value("also").unwrap_or_default())?,
            status: value("status").map(status).transpose()?,
            limit: number("limit", value("limit"), DEFAULT_LIMIT, 1..=MAX_LIMIT)?,
            offset: number("offset", value("offset"), 0, 0..=usize::MAX)?,
        })
    }

    /// Returns the agents of the committed state that are selected, in the order of their
    /// addresses.
    pub fn select<'a>(&self, ledger: &'a Ledger, leases: &Leases<'_>) -> Selection<'a> {
        let holders = match &self.search {
            Some(Search::Net(net)) => Some(holders(ledger, *net)),
            _ => None,
        };
        let mut selection = Selection {
            shown: Vec::new(),
            matched: 0,
        };
        for (ip, agent) in &ledger.committed().agents {
            let is_among = |set: &Option<BTreeSet<_>>| set.as_ref().is_none_or(|s| s.contains(ip));
            if !is_among(&self.agents) || !self.has_network(agent) {
                continue;
            }
            let session = leases.sessions.get(*ip);
            let has_status = |status| self.has_status(status, *ip, agent, leases);
            let is_found = || match &self.search {
                Some(Search::Text(text)) => has_text(text, *ip, agent, session),
                _ => is_among(&holders),
            };
            if !self.status.is_none_or(has_status) || !(self.also.contains(ip) || is_found()) {
                continue;
            }
            selection.matched += 1;
            if selection.matched > self.offset && selection.shown.len() < self.limit {
                selection.shown.push((*ip, &**agent));
            }
        }
        selection
    }

    fn has_network(&self, agent: &EncodedAgent) -> bool {
        let is_it = |network: &String| agent.json.overlays().any(|name| name == network);
        self.network.as_ref().is_none_or(is_it)
    }

    fn has_status(
        &self,
        status: Status,
        ip: Ipv4Addr,
        agent: &EncodedAgent,
        leases: &Leases<'_>,
    ) -> bool {
        let session = leases.sessions.get(ip);
        let is_connected = session.is_some_and(|session| session.is_connected);
        match status {
            Status::Connected => is_connected,
            Status::Disconnected => !is_connected,
            Status::Failing => session.is_some_and(|session| self.fails(agent, session)),
            Status::Expired => leases.has_ended(ip),
        }
    }

    /// Returns whether an agent reports an error, as the overview counts it.
    fn fails(&self, agent: &EncodedAgent, session: &Session) -> bool {
        match &self.network {
            Some(name) => {
                let state = session.state(name);
                state.is_some_and(|state| state.error.is_some())
            }
            None => !session.host_errors.is_empty() || errors(agent, session).next().is_some(),
        }
    }
}

/// Returns the errors of an agent's overlays.
fn errors<'a>(agent: &'a EncodedAgent, session: &'a Session) -> impl Iterator<Item = &'a str> {
    let overlays = agent.json.overlays().enumerate();
    let states = overlays.filter_map(|(position, name)| session.state_near(position, name));
    states.filter_map(|state| state.error.as_deref())
}

fn has_text(text: &str, ip: Ipv4Addr, agent: &EncodedAgent, session: Option<&Session>) -> bool {
    let has = |whole: &str| whole.to_lowercase().contains(text);
    if agent.json.addresses().contains(text) || ip.to_string().contains(text) {
        return true;
    }
    session.is_some_and(|session| {
        session.release.as_deref().is_some_and(has)
            || session.host_errors.iter().any(|error| has(error))
            || session
                .last_error
                .as_ref()
                .is_some_and(|last| has(&last.text))
            || errors(agent, session).any(has)
    })
}

/// Returns the agents with an address in `net`, or a subnet that overlaps it.
fn holders(ledger: &Ledger, net: IpNet) -> BTreeSet<Ipv4Addr> {
    let holds = |(ip, allocation): &(Ipv4Addr, &Allocation)| {
        net.contains(&IpAddr::V4(*ip))
            || nets(allocation.vtep).any(|vtep| net.contains(&vtep.addr()))
            || allocation
                .overlays
                .values()
                .any(|subnets| nets(*subnets).any(|subnet| overlap(subnet, net)))
    };
    let holders = ledger.allocations().filter(holds);
    holders.map(|(ip, _)| ip).collect()
}

fn nets(both: DualStackNet) -> impl Iterator<Item = IpNet> {
    both.v4.into_iter().chain(both.v6)
}

fn search(text: &str) -> Result<Search, Response> {
    if text.len() > MAX_TEXT {
        return Err(bad(&format!("q has more than {MAX_TEXT} bytes")));
    }
    let address = text.parse::<IpAddr>().map(IpNet::from);
    Ok(match text.parse::<IpNet>().or(address) {
        Ok(net) => Search::Net(net),
        Err(_) => Search::Text(text.to_lowercase()),
    })
}

fn agents(key: &str, text: &str) -> Result<BTreeSet<Ipv4Addr>, Response> {
    let named = text.split(',').filter(|agent| !agent.is_empty());
    if named.clone().count() > MAX_NAMED {
        return Err(bad(&format!("{key} names more than {MAX_NAMED} agents")));
    }
    let parse = |agent: &str| {
        let parsed = agent.trim().parse();
        parsed.map_err(|_| bad(&format!("{key}: {} is not an IPv4 address", quote(agent))))
    };
    named.map(parse).collect()
}

fn status(text: &str) -> Result<Status, Response> {
    match text {
        "connected" => Ok(Status::Connected),
        "disconnected" => Ok(Status::Disconnected),
        "failing" => Ok(Status::Failing),
        "expired" => Ok(Status::Expired),
        _ => Err(bad(&format!(
            "status: {} is none of connected, disconnected, failing and expired",
            quote(text)
        ))),
    }
}

fn number(
    key: &str,
    text: Option<&str>,
    default: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, Response> {
    let Some(text) = text else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let end = match *range.end() {
            usize::MAX => String::new(),
            end => format!(" and at most {end}"),
        };
        let start = range.start();
        bad(&format!(
            "{key}: {} is not a number of at least {start}{end}",
            quote(text)
        ))
    })
}

fn bad(what: &str) -> Response {
    Response::bad_request(&format!("The query is wrong: {what}."))
}
