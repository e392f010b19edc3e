//! The overlays as `/overlay-master/overlays` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::ledger::Ledger;
use super::networks::OverlayState;
use crate::config::overlay::Definition;
use crate::proto;
use crate::protocol::views;
use crate::protocol::views::Overlay;

/// The agents with subnets of an overlay, by the committed state.
type Holders = BTreeSet<Ipv4Addr>;

/// Returns all overlays as JSON.
pub fn overlays_json(ledger: &Ledger) -> Vec<u8> {
    let networks = &ledger.committed().networks;
    let holders = holders(ledger);
    let mut names = networks.names();
    names.extend(
        holders
            .keys()
            .copied()
            .filter(|name| networks.overlay_state(name, true) == Some(OverlayState::Orphaned)),
    );
    let none = Holders::default();
    let overlays = names
        .into_iter()
        .filter_map(|name| with_holders(ledger, name, holders.get(name).unwrap_or(&none), None));
    views::overlays(networks.revision, overlays)
}

/// Returns one overlay as JSON, or `None` if it is unknown. `before` is the overlay before a
/// change, shown if it no longer exists.
pub fn overlay_json(
    ledger: &Ledger,
    name: &str,
    before: Option<&proto::OverlayInfo>,
) -> Option<Vec<u8>> {
    let holders = holders(ledger);
    let none = Holders::default();
    let overlay = with_holders(ledger, name, holders.get(name).unwrap_or(&none), before);
    overlay.map(|overlay| views::overlay(&overlay))
}

/// Returns the holders of every overlay.
fn holders(ledger: &Ledger) -> BTreeMap<&str, Holders> {
    let mut holders: BTreeMap<&str, Holders> = BTreeMap::new();
    for (ip, agent) in &ledger.committed().agents {
        for name in agent.json.overlays() {
            holders.entry(name).or_default().insert(*ip);
        }
    }
    holders
}

fn with_holders<'a>(
    ledger: &'a Ledger,
    name: &'a str,
    holders: &Holders,
    before: Option<&'a proto::OverlayInfo>,
) -> Option<Overlay<'a>> {
    let overlay = describe(ledger, name, holders.len(), before)?;
    let is_drained = !["draining", "orphaned"].contains(&overlay.state);
    let holders = holders.iter().filter(|_| !is_drained);
    Some(Overlay {
        holders: holders.map(ToString::to_string).collect(),
        ..overlay
    })
}

/// Describes an overlay that this number of agents have, without naming them. `None` if it is
/// unknown; `before` is as for [`overlay_json`].
pub fn describe<'a>(
    ledger: &'a Ledger,
    name: &'a str,
    agents: usize,
    before: Option<&'a proto::OverlayInfo>,
) -> Option<Overlay<'a>> {
    let networks = &ledger.committed().networks;
    let state = networks.overlay_state(name, agents > 0);
    let state = state.or(before.map(|_| OverlayState::Removed))?;
    let in_force = networks.overlay(name);
    let configured = networks.configured(name);
    Some(Overlay {
        agent_subnets: in_force.map(|_| ledger.capacity(Some(name))),
        agents,
        connected: None,
        container_addresses: None,
        error: networks.conflict(name),
        failing: None,
        file: configured
            .filter(|overlay| in_force.map(Definition::config) != Some(overlay.config()))
            .map(Definition::info),
        holders: Vec::new(),
        info: networks.last_known(name).or(before),
        name,
        source: match (networks.override_of(name), configured) {
            (Some(_), _) => "stored",
            (None, Some(_)) => "file",
            (None, None) if state == OverlayState::Orphaned => "none",
            (None, None) => "stored",
        },
        state: match state {
            OverlayState::Active => "active",
            OverlayState::Disabled => "disabled",
            OverlayState::Draining => "draining",
            OverlayState::Removed => "removed",
            OverlayState::LeftOut => "left_out",
            OverlayState::Orphaned => "orphaned",
        },
    })
}
