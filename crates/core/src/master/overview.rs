//! The networks with numbers of their agents, as `/overlay-master/overview` shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::ledger::Ledger;
use super::networks::OverlayState;
use super::overlays::describe;
use super::sessions::{Session, Sessions};
use crate::Time;
use crate::protocol::versions::Version;
use crate::protocol::views::{AgentJson, AgentNumbers, Overlay};

/// Longest time for which an answer is used again. Some problems depend on the time alone.
const LONGEST_USE: Duration = Duration::from_secs(5);

/// The latest answer of the endpoint. Each open page asks for it every two seconds, and making it
/// takes time for every agent.
#[derive(Debug)]
pub struct LatestOverview {
    /// The number of changes of the master when it was made.
    changes: u64,
    made_at: Time,
    /// The answer as JSON.
    pub json: Bytes,
    /// The version of the answer.
    pub version: Version,
}

impl LatestOverview {
    /// Creates the answer of a moment.
    pub fn new(changes: u64, now: Time, json: Vec<u8>) -> LatestOverview {
        LatestOverview {
            changes,
            made_at: now,
            version: Version::of(&json),
            json: json.into(),
        }
    }

    /// Returns whether the answer is the same now.
    pub fn is_valid(&self, changes: u64, now: Time) -> bool {
        self.changes == changes && now.since(self.made_at) < LONGEST_USE
    }
}

/// Numbers of the agents, of each overlay and of all.
pub struct Numbers<'a> {
    /// All agents.
    pub all: AgentNumbers,
    overlays: BTreeMap<&'a str, OverlayNumbers>,
}

/// Numbers of an overlay.
#[derive(Clone, Copy, Default)]
struct OverlayNumbers {
    agents: AgentNumbers,
    addresses: u64,
}

impl<'a> Numbers<'a> {
    /// Counts the agents of the committed state.
    pub fn count(ledger: &'a Ledger, sessions: &Sessions) -> Numbers<'a> {
        let mut counter = Counter::default();
        let mut sessions = sessions.iter().peekable();
        for (ip, agent) in &ledger.committed().agents {
            // Both are in the order of the addresses.
            while sessions.next_if(|(other, _)| other < ip).is_some() {}
            let session = sessions.next_if(|(other, _)| other == ip);
            counter.add(&agent.json, session.map(|(_, session)| session));
        }
        Numbers {
            all: counter.all,
            overlays: counter.overlays.into_iter().collect(),
        }
    }

    /// Returns all overlays, without their holders.
    pub fn overlays(&self, ledger: &'a Ledger) -> Vec<Overlay<'a>> {
        let networks = &ledger.committed().networks;
        let mut names = networks.names();
        let is_orphaned =
            |name: &str| networks.overlay_state(name, true) == Some(OverlayState::Orphaned);
        names.extend(
            self.overlays
                .keys()
                .copied()
                .filter(|name| is_orphaned(name)),
        );
        let overlay = |name: &'a str| {
            let numbers = self.overlays.get(name).copied().unwrap_or_default();
            let overlay = describe(ledger, name, numbers.agents.total, None)?;
            Some(Overlay {
                connected: Some(numbers.agents.connected),
                container_addresses: Some(numbers.addresses),
                failing: Some(numbers.agents.failing),
                ..overlay
            })
        };
        names.into_iter().filter_map(overlay).collect()
    }
}

/// A count under way.
#[derive(Default)]
struct Counter<'a> {
    all: AgentNumbers,
    overlays: Vec<(&'a str, OverlayNumbers)>,
    index: BTreeMap<&'a str, usize>,
}

impl<'a> Counter<'a> {
    fn add(&mut self, agent: &'a AgentJson, session: Option<&Session>) {
        let connected = session.is_some_and(|session| session.is_connected);
        let mut failing = session.is_some_and(|session| !session.host_errors.is_empty());
        for (position, (name, addresses)) in agent.capacities().enumerate() {
            let state = session.and_then(|session| session.state_near(position, name));
            let fails = state.is_some_and(|state| state.error.is_some());
            failing |= fails;
            let index = self.index_of(position, name);
            let numbers = &mut self.overlays[index].1;
            numbers.addresses = numbers.addresses.saturating_add(addresses);
            count(&mut numbers.agents, connected, fails);
        }
        count(&mut self.all, connected, failing);
    }

    /// Returns the index of an overlay. Almost all agents have the same overlays in the same
    /// order, so that its position is the first guess.
    fn index_of(&mut self, position: usize, name: &'a str) -> usize {
        let guess = self.overlays.get(position).map(|(name, _)| *name);
        if guess == Some(name) {
            return position;
        }
        *self.index.entry(name).or_insert_with(|| {
            self.overlays.push((name, OverlayNumbers::default()));
            self.overlays.len() - 1
        })
    }
}

fn count(numbers: &mut AgentNumbers, connected: bool, failing: bool) {
    numbers.total += 1;
    numbers.connected += usize::from(connected);
    numbers.failing += usize::from(failing);
}
