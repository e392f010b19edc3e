//! The overlays as `/overlay-master/overlays` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::ledger::Ledger;
use super::networks::Standing;
use crate::proto;
use crate::protocol::views;
use crate::protocol::views::Overlay;

/// The agents with subnets of an overlay, as the log has it.
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
            .filter(|name| networks.standing(name, true) == Some(Standing::Orphaned)),
    );
    let none = Holders::default();
    let overlays = names
        .into_iter()
        .filter_map(|name| overlay(ledger, name, holders.get(name).unwrap_or(&none), None));
    views::overlays(networks.revision, overlays)
}

/// Returns one overlay as JSON, or `None` if it is unknown. `before` is the overlay before a
/// change, for one that is unknown since.
pub fn overlay_json(
    ledger: &Ledger,
    name: &str,
    before: Option<&proto::OverlayInfo>,
) -> Option<Vec<u8>> {
    let holders = holders(ledger);
    let none = Holders::default();
    let overlay = overlay(ledger, name, holders.get(name).unwrap_or(&none), before);
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

fn overlay<'a>(
    ledger: &'a Ledger,
    name: &'a str,
    holders: &Holders,
    before: Option<&'a proto::OverlayInfo>,
) -> Option<Overlay<'a>> {
    let networks = &ledger.committed().networks;
    let standing = networks.standing(name, !holders.is_empty());
    let standing = standing.or(before.map(|_| Standing::Removed))?;
    let in_force = networks.overlay(name);
    let in_file = networks.in_file(name);
    let is_drained = !matches!(standing, Standing::Draining | Standing::Orphaned);
    Some(Overlay {
        agent_subnets: in_force.map(|_| ledger.capacity(Some(name))),
        agents: holders.len(),
        error: networks.left_out(name),
        file: in_file
            .filter(|(config, _)| in_force.map(|(config, _)| config) != Some(config))
            .map(|(_, info)| info),
        holders: holders
            .iter()
            .filter(|_| !is_drained)
            .map(ToString::to_string)
            .collect(),
        info: networks.known(name).or(before),
        name,
        source: match (networks.stored(name), in_file) {
            (Some(_), _) => "stored",
            (None, Some(_)) => "file",
            (None, None) if standing == Standing::Orphaned => "none",
            (None, None) => "stored",
        },
        state: match standing {
            Standing::Active => "active",
            Standing::Disabled => "disabled",
            Standing::Draining => "draining",
            Standing::Removed => "removed",
            Standing::LeftOut => "left_out",
            Standing::Orphaned => "orphaned",
        },
    })
}
