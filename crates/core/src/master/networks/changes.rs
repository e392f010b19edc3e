//! Changes of overlays by operators while the cluster runs.

use super::owned_ranges::{self, OwnedRange};
use super::{HeldSubnet, Networks, OverlayState, Override, SubnetsByOverlay, held_subnets};
use crate::config::overlay::Definition;
use crate::util::line::one_line;

/// Longest name of an unknown overlay that is shown in full, in characters.
const SHOWN_NAME: usize = 100;

/// A change of one overlay.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Adds an overlay.
    Add(Definition),
    /// Replaces the definition of an overlay.
    Replace(Definition),
    /// Resets an overlay to the configuration.
    ResetToFile(String),
    /// Removes an overlay.
    Remove(String),
}

impl Change {
    /// Returns the name of the overlay.
    pub fn name(&self) -> &str {
        match self {
            Change::Add(definition) | Change::Replace(definition) => definition.name(),
            Change::ResetToFile(name) | Change::Remove(name) => name,
        }
    }
}

/// The reason why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the HTTP response, 404 or 409.
    pub status: u16,
    /// The reason and the remedy in one sentence.
    pub sentence: String,
}

impl Refusal {
    fn not_found(sentence: String) -> Refusal {
        Refusal {
            status: 404,
            sentence,
        }
    }

    /// Returns a refusal of a change that contradicts something else.
    pub fn conflict(sentence: String) -> Refusal {
        Refusal {
            status: 409,
            sentence,
        }
    }
}

/// Returns the answer to a request for an overlay that does not exist.
pub fn unknown(name: &str) -> String {
    let name = one_line(name, SHOWN_NAME);
    format!("There is no overlay {name}; GET /overlay-master/overlays lists them.")
}

impl Networks {
    /// Returns the networks after a change, or `None` if nothing would change. `held` are the
    /// subnets that agents hold after the change.
    pub fn changed(
        &self,
        change: &Change,
        held: &SubnetsByOverlay,
    ) -> Result<Option<Networks>, Refusal> {
        let overrides = match change {
            Change::Add(definition) => self.add(definition, held)?,
            Change::Replace(definition) => self.replace(definition, held)?,
            Change::ResetToFile(name) => self.reset(name, held)?,
            Change::Remove(name) => self.remove(name, held)?,
        };
        Ok(overrides.map(|overrides| {
            let revision = self.revision + 1;
            self.merge_again(revision, overrides, held).pruned(held)
        }))
    }

    /// Returns the networks after agents released subnets. `held` are the remaining subnets.
    /// The revision grows only if the networks in force change.
    pub fn after_release(&self, held: &SubnetsByOverlay) -> Networks {
        let overrides = self.overrides.clone();
        let mut networks = self
            .merge_again(self.revision, overrides, held)
            .pruned(held);
        networks.revision += u64::from(networks.network != self.network);
        networks
    }

    /// Drops removals on which nothing depends any more: no agent holds a subnet of the overlay,
    /// and no configuration had or has the name.
    fn pruned(mut self, held: &SubnetsByOverlay) -> Networks {
        let configured = &self.configured;
        self.overrides.retain(|overlay| {
            let name = overlay.name();
            overlay.removed_in_revision().is_none()
                || overlay.was_configured()
                || held.contains_key(name)
                || configured.overlay(name).is_some()
        });
        self
    }

    fn add(
        &self,
        definition: &Definition,
        held: &SubnetsByOverlay,
    ) -> Result<Option<Vec<Override>>, Refusal> {
        let name = definition.name();
        let active = self.override_of(name).and_then(Override::active);
        if active.is_some_and(|active| active.config() == definition.config()) {
            return Ok(None);
        }
        if self.overlay(name).is_some() {
            return Err(Refusal::conflict(format!(
                "There is an overlay {name} already; PUT /overlay-master/overlays/{name} changes it."
            )));
        }
        self.check(definition, held)?;
        Ok(Some(self.with_override(definition.clone(), None)))
    }

    fn replace(
        &self,
        definition: &Definition,
        held: &SubnetsByOverlay,
    ) -> Result<Option<Vec<Override>>, Refusal> {
        let name = definition.name();
        if self.overlay(name).is_none() && self.conflict(name).is_none() {
            return Err(Refusal::not_found(match self.override_of(name) {
                Some(_) => {
                    format!(
                        "Overlay {name} was removed; POST /overlay-master/overlays adds it again."
                    )
                }
                None => unknown(name),
            }));
        }
        let config = self.override_of(name).and_then(Override::config);
        if config == Some(definition.config()) {
            return Ok(None);
        }
        self.check(definition, held)?;
        Ok(Some(self.with_override(definition.clone(), None)))
    }

    fn reset(&self, name: &str, held: &SubnetsByOverlay) -> Result<Option<Vec<Override>>, Refusal> {
        let is_changed = self.override_of(name).is_some();
        let Some(configured) = self.configured(name) else {
            if !is_changed {
                return Err(Refusal::not_found(unknown(name)));
            }
            return Err(Refusal::conflict(format!(
                "The configuration of this master has no overlay {name} to go back to; DELETE \
                 /overlay-master/overlays/{name} removes the overlay."
            )));
        };
        if !is_changed {
            return Ok(None);
        }
        self.check(configured, held)?;
        check_prefixes(configured, held)?;
        let mut overrides = self.overrides.clone();
        overrides.retain(|overlay| overlay.name() != name);
        Ok(Some(overrides))
    }

    fn remove(
        &self,
        name: &str,
        held: &SubnetsByOverlay,
    ) -> Result<Option<Vec<Override>>, Refusal> {
        match self.overlay_state(name, held.contains_key(name)) {
            None => return Err(Refusal::not_found(unknown(name))),
            Some(OverlayState::Draining | OverlayState::Removed) => return Ok(None),
            Some(_) => {}
        }
        let revision = self.revision + 1;
        let known = self.overlay(name).or_else(|| self.configured(name));
        Ok(Some(match known {
            Some(definition) => self.with_override(definition.clone(), Some(revision)),
            None => {
                let mut overrides = self.overrides.clone();
                overrides.push(Override::removal(name, revision));
                overrides
            }
        }))
    }

    /// Returns the overrides with a new one for an overlay.
    fn with_override(&self, definition: Definition, removed: Option<u64>) -> Vec<Override> {
        let name = definition.name().to_owned();
        let was_configured = self
            .override_of(&name)
            .is_some_and(Override::was_configured);
        let configured = was_configured || self.configured(&name).is_some();
        let new = Override::new(definition, removed, configured);
        let mut overrides = self.overrides.clone();
        match overrides.iter_mut().find(|overlay| overlay.name() == name) {
            Some(overlay) => *overlay = new,
            None => overrides.push(new),
        }
        overrides
    }

    /// Checks a definition against other overlays and the subnets that agents hold.
    fn check(&self, definition: &Definition, held: &SubnetsByOverlay) -> Result<(), Refusal> {
        let config = definition.config();
        let name = &config.name;
        let mut owned = owned_ranges::of_overrides(&self.overrides, held);
        owned.extend(OwnedRange::of_vteps(&self.network));
        let in_force = self.network.overlays.iter();
        owned.extend(in_force.flat_map(|overlay| OwnedRange::of_overlay(overlay.config())));
        owned.extend(self.reserved(held));
        if let Some(why) = owned.iter().find_map(|range| range.conflict(config)) {
            return Err(Refusal::conflict(format!(
                "Overlay {name} cannot be like that: {why}; give ranges that share no address."
            )));
        }
        let outside = || held_subnets(held, name).filter(|held| !config.contains(held.net));
        let Some(HeldSubnet { agent, net }) = outside().next() else {
            return Ok(());
        };
        Err(Refusal::conflict(format!(
            "Overlay {name} is in use: agent {agent} holds {net}, which would not be in its range any more ({} \
             such subnets in all); give a range that contains them, or delete those agents first.",
            outside().count()
        )))
    }
}

/// Checks that the subnets that agents hold have the configured prefix length. A configuration
/// has one length per range, so a master that read it would refuse any other.
fn check_prefixes(configured: &Definition, held: &SubnetsByOverlay) -> Result<(), Refusal> {
    let has_other_prefix = |held: &HeldSubnet| {
        let range = configured.config().range_like(held.net);
        range.is_some_and(|range| range.prefix != held.net.prefix_len())
    };
    let name = configured.name();
    match held_subnets(held, name).find(has_other_prefix) {
        None => Ok(()),
        Some(HeldSubnet { agent, net }) => Err(Refusal::conflict(format!(
            "Agent {agent} holds {net} of overlay {name}, and a configuration has one prefix length only: \
             keep the overlay as it is, or delete the agents with subnets of another length first."
        ))),
    }
}
