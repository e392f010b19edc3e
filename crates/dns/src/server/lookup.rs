//! Knowledge about a name or an address: records, and the tasks that they are for.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::authority::Authority;
use crate::zone::{Data, DomainName, Knowledge, Lookup, Zone, Zones};

/// Names of one address that are listed.
const MAX_NAMES: usize = 1_000;

/// Facts about the cluster beside the zones.
pub trait Facts: fmt::Debug + Send + Sync {
    /// Returns numbers for the metrics.
    fn gauges(&self) -> Gauges;

    /// Returns the tasks that have a record with this owner, at most a thousand.
    fn tasks_of_name(&self, owner: &DomainName) -> Vec<Task>;

    /// Returns the tasks that have an address, at most a thousand.
    fn tasks_of_address(&self, address: IpAddr) -> Vec<Task>;
}

/// Numbers for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// A leading master sends its events.
    pub is_connected: bool,
    /// Running tasks with records.
    pub tasks: usize,
    /// Running tasks whose agent or framework is not known yet.
    pub waiting: usize,
    /// Running tasks that have no names, because none is left of theirs.
    pub left_out: usize,
    /// Agents.
    pub agents: usize,
    /// Frameworks.
    pub frameworks: usize,
    /// Frameworks, agents and tasks for which there was no room.
    pub refused: u64,
    /// Failed attempts to follow a master, and streams of events that ended.
    pub failures: u64,
    /// Parts of masters' events.
    pub events: u64,
    /// Bytes of masters' events.
    pub bytes: u64,
}

/// A task, as the master has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Task id.
    pub id: String,
    /// Label of its name.
    pub name: String,
    /// Label of its framework's name.
    pub framework: String,
    /// Hostname of the agent.
    pub agent: String,
    /// Reason why it has no names, or not all, as a phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Knowledge about a name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Name or address that was asked for.
    pub wanted: String,
    /// Zone that a name is in.
    pub zone: Option<String>,
    /// Serial of the zone.
    pub serial: Option<u32>,
    /// Knowledge of the server about the cluster: nothing, partial, complete, or since.
    pub knowledge: State,
    /// The name exists.
    pub exists: bool,
    /// Records of the name, or with the address.
    pub records: Vec<Entry>,
    /// Tasks that the records are for.
    pub tasks: Vec<Task>,
}

/// Knowledge of the server about the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No knowledge.
    Nothing,
    /// A part.
    Partial,
    /// All names, as they are now.
    Complete,
    /// All names, as they were when a master was heard for the last time.
    Old,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Owner.
    pub name: String,
    /// Type.
    pub rtype: String,
    /// Data.
    pub data: String,
}

/// Returns what is known about a name.
pub fn name(authority: &Authority, facts: Option<&dyn Facts>, name: &DomainName) -> Found {
    let tasks = facts.map_or_else(Vec::new, |facts| facts.tasks_of_name(name));
    let zones = authority.zones();
    let zone = zones.zone_of(name.as_slice());
    let lookup = zone.map(|zone| zone.find(name.as_slice()));
    let (exists, data) = match lookup {
        Some(Lookup::Name(data)) => (true, data),
        Some(Lookup::NoName) | None => (false, &[][..]),
    };
    Found {
        wanted: name.to_string(),
        zone: zone.map(|zone| zone.apex().to_string()),
        serial: zone.map(|zone| zone.soa().serial.into_int()),
        knowledge: State::of(&zones),
        exists,
        records: data.iter().map(|data| Entry::new(name, data)).collect(),
        tasks,
    }
}

/// Returns what is known about an address: names that have it, and tasks.
pub fn address(authority: &Authority, facts: Option<&dyn Facts>, address: IpAddr) -> Found {
    let tasks = facts.map_or_else(Vec::new, |facts| facts.tasks_of_address(address));
    // Changes copy records as long as this clone is there, which is the time of the search.
    let zones = authority.zones().clone();
    let wanted = match address {
        IpAddr::V4(address) => Data::A(address),
        IpAddr::V6(address) => Data::Aaaa(address),
    };
    let with_address = zones
        .iter()
        .flat_map(Zone::records)
        .filter(|(_, data)| **data == wanted);
    let mut records: Vec<Entry> = with_address
        .take(MAX_NAMES)
        .map(|(owner, data)| Entry::new(owner, data))
        .collect();
    records.sort_by(|one, other| one.name.cmp(&other.name));
    Found {
        wanted: address.to_string(),
        zone: None,
        serial: None,
        knowledge: State::of(&zones),
        exists: !records.is_empty(),
        records,
        tasks,
    }
}

impl State {
    fn of(zones: &Zones) -> Self {
        match zones.knowledge() {
            Knowledge::Nothing => State::Nothing,
            Knowledge::Partial => State::Partial,
            Knowledge::Complete => State::Complete,
            Knowledge::Since(_) => State::Old,
        }
    }
}

impl Entry {
    fn new(owner: &DomainName, data: &Data) -> Self {
        let (rtype, data) = match data {
            Data::A(address) => ("A", address.to_string()),
            Data::Aaaa(address) => ("AAAA", address.to_string()),
            Data::Srv { port, target } => ("SRV", format!("0 0 {port} {target}")),
            Data::Ptr(name) => ("PTR", name.to_string()),
            Data::Ns(name) => ("NS", name.to_string()),
        };
        Self {
            name: owner.to_string(),
            rtype: rtype.to_owned(),
            data,
        }
    }
}
