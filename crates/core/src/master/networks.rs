//! The networks in force: those of this master's configuration, with the changes that operators
//! made while the cluster ran, which the log stores. Overlays of both are matched by their names.
//! docs/networks.md has the rules.

mod changes;
mod describe;
mod overrides;
mod owned_ranges;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::Level;
use crate::allocation::allocator::{Allocation, DualStackNet};
use crate::config::Network;
use crate::config::overlay::Definition;
use crate::proto;

pub use changes::{Change, Refusal, unknown};
pub use describe::{describe, differences};
pub use overrides::Override;
use owned_ranges::OwnedRange;

/// The subnets of one agent from one overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentSubnets {
    /// The agent.
    pub agent: Ipv4Addr,
    /// The subnets. An agent may take part in an overlay without a subnet.
    pub nets: DualStackNet,
}

/// The subnets of all agents by overlay.
pub type SubnetsByOverlay = BTreeMap<String, Vec<AgentSubnets>>;

/// Returns the subnets of these allocations by overlay.
pub fn subnets_by_overlay<'a>(
    allocations: impl Iterator<Item = (Ipv4Addr, &'a Allocation)>,
) -> SubnetsByOverlay {
    let mut subnets = SubnetsByOverlay::new();
    for (agent, allocation) in allocations {
        for (name, nets) in &allocation.overlays {
            let held = AgentSubnets { agent, nets: *nets };
            subnets.entry(name.clone()).or_default().push(held);
        }
    }
    subnets
}

/// A subnet and the agent that holds it.
#[derive(Clone, Copy)]
struct HeldSubnet {
    agent: Ipv4Addr,
    net: IpNet,
}

/// Returns all subnets of an overlay that agents hold.
fn held_subnets<'a>(
    held: &'a SubnetsByOverlay,
    name: &str,
) -> impl Iterator<Item = HeldSubnet> + use<'a> {
    let agents = held.get(name).into_iter().flatten();
    agents.flat_map(|&AgentSubnets { agent, nets }| {
        let nets = nets.v4.into_iter().chain(nets.v6);
        nets.map(move |net| HeldSubnet { agent, net })
    })
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The level.
    pub level: Level,
    /// The text, without control characters.
    pub text: String,
}

/// The networks of a leading master. Immutable: a change creates a new value.
#[derive(Clone, Debug, PartialEq)]
pub struct Networks {
    /// The networks in force.
    pub network: Network,
    /// The number of changes by operators since the log was created.
    pub revision: u64,
    /// The changes by operators, in the order in which the overlays were first changed.
    overrides: Vec<Override>,
    /// The networks of the configuration.
    configured: Arc<Network>,
    /// The overlays of the configuration that are left out, each with the reason as a phrase.
    conflicts: BTreeMap<String, String>,
}

/// Largest revision in a log. The next ones are numbers, too.
const MAX_REVISION: u64 = u64::MAX / 2;

/// The state of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayState {
    /// In force, and agents get subnets of it.
    Active,
    /// In force, but no agent gets a subnet of it.
    Disabled,
    /// Removed, and agents still hold subnets of it.
    Draining,
    /// Removed. The removal is remembered because a configuration has the name.
    Removed,
    /// In the configuration, but in conflict with another overlay.
    LeftOut,
    /// In no configuration and never changed, but agents hold subnets of it.
    Orphaned,
}

impl Networks {
    /// Merges the configuration with the changes in the log. Returns the networks, and notes
    /// for the operator. `held` are the subnets that agents hold.
    ///
    /// # Errors The changes contradict the configuration or each other, and leaving out a
    /// configured overlay does not help. The error is a phrase without a full stop.
    pub fn from_log(
        configured: &Arc<Network>,
        stored: Option<proto::StoredNetworks>,
        held: &SubnetsByOverlay,
    ) -> Result<(Networks, Vec<Note>), String> {
        let stored = stored.unwrap_or_default();
        let revision = stored.revision();
        if revision > MAX_REVISION {
            return Err(format!(
                "the log has revision {revision} of the networks, more than any number of changes"
            ));
        }
        let mut notes = Vec::new();
        let mut overrides: Vec<Override> = Vec::new();
        for overlay in stored.overlays {
            let overlay = Override::from_wire(overlay)?;
            let name = overlay.name();
            if overrides.iter().any(|earlier| earlier.name() == name) {
                return Err(format!(
                    "the log has overlay {name} twice among the changes"
                ));
            }
            match overlay.outdated(configured, held) {
                Some(text) => notes.push(Note {
                    level: Level::Error,
                    text,
                }),
                None => overrides.push(overlay),
            }
        }
        owned_ranges::check_overrides(configured, &overrides)?;
        let in_use = owned_ranges::of_overrides(&overrides, held);
        let networks = Networks::merge(configured.clone(), revision, overrides, &in_use);
        notes.extend(networks.notes());
        Ok((networks, notes))
    }

    /// Returns the changes for the log, or `None` if there never was one.
    pub fn to_wire(&self) -> Option<proto::StoredNetworks> {
        let overlays = self.overrides.iter().map(Override::to_wire).collect();
        (self.revision > 0).then_some(proto::StoredNetworks {
            revision: Some(self.revision),
            overlays,
        })
    }

    /// Merges configuration and changes. An override replaces the configured overlay of its
    /// name; overlays that are not configured follow. A configured overlay that overlaps a range
    /// in use is left out.
    fn merge(
        configured: Arc<Network>,
        revision: u64,
        overrides: Vec<Override>,
        in_use: &[OwnedRange],
    ) -> Networks {
        let mut overlays = Vec::new();
        let mut conflicts = BTreeMap::new();
        for overlay in &configured.overlays {
            let name = overlay.name();
            if let Some(changed) = find(&overrides, name) {
                overlays.extend(changed.active().cloned());
                continue;
            }
            let conflict = |range: &OwnedRange| range.conflict(overlay.config());
            match in_use.iter().find_map(conflict) {
                Some(why) => _ = conflicts.insert(name.to_owned(), why),
                None => overlays.push(overlay.clone()),
            }
        }
        let is_added = |overlay: &&Override| configured.overlay(overlay.name()).is_none();
        let added = overrides.iter().filter(is_added);
        overlays.extend(added.filter_map(Override::active).cloned());
        Networks {
            network: Network {
                overlays,
                ..Network::clone(&configured)
            },
            revision,
            overrides,
            configured,
            conflicts,
        }
    }

    /// Merges the configuration with other changes while the master serves. Subnets of ranges
    /// that are not in force stay reserved for the agents that hold them, so that no overlay
    /// that was left out takes them.
    fn merge_again(
        &self,
        revision: u64,
        overrides: Vec<Override>,
        held: &SubnetsByOverlay,
    ) -> Networks {
        let mut in_use = owned_ranges::of_overrides(&overrides, held);
        in_use.extend(self.reserved(held));
        Networks::merge(self.configured.clone(), revision, overrides, &in_use)
    }

    /// Returns the subnets that agents hold of overlays that are not in force, or not in the
    /// family of the subnet.
    fn reserved(&self, held: &SubnetsByOverlay) -> impl Iterator<Item = OwnedRange> {
        held.keys().flat_map(|holder| {
            let in_force = self.overlay(holder);
            let is_unconfigured = move |held: &HeldSubnet| {
                in_force.is_none_or(|overlay| overlay.config().range_like(held.net).is_none())
            };
            let subnets = held_subnets(held, holder).filter(is_unconfigured);
            subnets.map(move |held| OwnedRange::of_held(holder, held))
        })
    }

    /// Returns notes for the operator when the master begins to serve.
    fn notes(&self) -> Vec<Note> {
        let conflict = |(name, why): (&String, &String)| Note {
            level: Level::Error,
            text: format!(
                "Overlay {name} of the configuration is left out: {why}; give it another range, or remove the \
                 other one"
            ),
        };
        let conflicts = self.conflicts.iter().map(conflict);
        let changes = self.overrides.iter().filter_map(|overlay| {
            Some(Note {
                level: Level::Warning,
                text: overlay.difference(self.configured(overlay.name())?)?,
            })
        });
        conflicts.chain(changes).collect()
    }

    /// Returns an overlay that is in force.
    pub fn overlay(&self, name: &str) -> Option<&Definition> {
        self.network.overlay(name)
    }

    /// Returns an overlay as in the configuration.
    pub fn configured(&self, name: &str) -> Option<&Definition> {
        self.configured.overlay(name)
    }

    /// Returns the definition of an overlay: the one in force, else the last one, else the
    /// configured one.
    pub fn last_known(&self, name: &str) -> Option<&proto::OverlayInfo> {
        self.overlay(name)
            .map(Definition::info)
            .or_else(|| self.override_of(name).map(Override::info))
            .or_else(|| self.configured(name).map(Definition::info))
    }

    /// Returns all changes by operators.
    pub fn overrides(&self) -> impl Iterator<Item = &Override> {
        self.overrides.iter()
    }

    /// Returns the change of an overlay by operators.
    pub fn override_of(&self, name: &str) -> Option<&Override> {
        find(&self.overrides, name)
    }

    /// Returns the revision in which an overlay was removed.
    pub fn removed_in_revision(&self, name: &str) -> Option<u64> {
        self.override_of(name)?.removed_in_revision()
    }

    /// Returns why an overlay of the configuration is left out.
    pub fn conflict(&self, name: &str) -> Option<&str> {
        self.conflicts.get(name).map(String::as_str)
    }

    /// Returns the state of an overlay, or `None` if it is unknown. `is_held`: agents hold
    /// subnets of the overlay.
    pub fn overlay_state(&self, name: &str, is_held: bool) -> Option<OverlayState> {
        if let Some(overlay) = self.overlay(name) {
            return Some(if overlay.config().enabled {
                OverlayState::Active
            } else {
                OverlayState::Disabled
            });
        }
        match self.override_of(name) {
            Some(_) if is_held => Some(OverlayState::Draining),
            Some(_) => Some(OverlayState::Removed),
            None if self.conflicts.contains_key(name) => Some(OverlayState::LeftOut),
            None => is_held.then_some(OverlayState::Orphaned),
        }
    }

    /// Returns the names of the configured overlays, and then of the changed ones.
    pub fn names(&self) -> Vec<&str> {
        let configured = self.configured.overlays.iter().map(Definition::name);
        let changed = self.overrides.iter().map(Override::name);
        let added = changed.filter(|name| self.configured(name).is_none());
        configured.chain(added).collect()
    }
}

fn find<'a>(overrides: &'a [Override], name: &str) -> Option<&'a Override> {
    overrides.iter().find(|overlay| overlay.name() == name)
}

#[cfg(test)]
mod tests;
