//! Change of an overlay by an operator, as the log stores it.

use super::describe::describe;
use super::{SubnetsByOverlay, held_subnets};
use crate::config::overlay::Definition;
use crate::config::{Network, OverlayConfig};
use crate::proto;

/// An overlay that an operator added, changed or removed. It takes precedence over the
/// configured overlay of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    content: Content,
    /// Revision in which the overlay was removed; `None`: it was not.
    removed_in_revision: Option<u64>,
    /// True if the configuration of some leader had the name when the overlay was changed.
    was_configured: bool,
}

/// The definition of a changed overlay.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Valid(Definition),
    /// The definition of a removed overlay. Only the name needs to be valid.
    NameOnly(proto::OverlayInfo),
}

impl Override {
    /// Creates the override of an overlay that was added or changed, or of one that was removed
    /// in a revision. `was_configured` says that the configuration of some leader had the
    /// name when it was changed.
    pub fn new(
        definition: Definition,
        removed_in_revision: Option<u64>,
        was_configured: bool,
    ) -> Override {
        Override {
            content: Content::Valid(definition),
            removed_in_revision,
            was_configured,
        }
    }

    /// Creates the override of a removed overlay of which only the name is known.
    pub fn removal(name: &str, revision: u64) -> Override {
        Override {
            content: Content::NameOnly(proto::OverlayInfo {
                name: name.to_owned(),
                ..Default::default()
            }),
            removed_in_revision: Some(revision),
            was_configured: false,
        }
    }

    /// Reads an override from the log.
    ///
    /// # Errors
    /// The definition is invalid. The error is a phrase.
    pub fn from_wire(overlay: proto::StoredOverlay) -> Result<Override, String> {
        let was_configured = overlay.in_file();
        let proto::StoredOverlay { info, removed, .. } = overlay;
        let content = match Definition::from_log(info.clone()) {
            Ok(definition) => Content::Valid(definition),
            Err(_) if removed.is_some() && !info.name.is_empty() => Content::NameOnly(info),
            Err(error) => return Err(error),
        };
        Ok(Override {
            content,
            removed_in_revision: removed,
            was_configured,
        })
    }

    /// Returns the override for the log.
    pub fn to_wire(&self) -> proto::StoredOverlay {
        proto::StoredOverlay {
            info: self.info().clone(),
            removed: self.removed_in_revision,
            in_file: self.was_configured.then_some(true),
        }
    }

    /// Returns the name of the overlay.
    pub fn name(&self) -> &str {
        &self.info().name
    }

    /// Returns the definition as the operator wrote it.
    pub fn info(&self) -> &proto::OverlayInfo {
        match &self.content {
            Content::Valid(definition) => definition.info(),
            Content::NameOnly(info) => info,
        }
    }

    /// Returns the revision in which the overlay was removed.
    pub fn removed_in_revision(&self) -> Option<u64> {
        self.removed_in_revision
    }

    /// Returns whether the configuration of some leader had the name when the overlay was
    /// changed.
    pub fn was_configured(&self) -> bool {
        self.was_configured
    }

    /// Returns the checked values, also those of a removed overlay.
    pub fn config(&self) -> Option<&OverlayConfig> {
        match &self.content {
            Content::Valid(definition) => Some(definition.config()),
            Content::NameOnly(_) => None,
        }
    }

    /// Returns the definition unless the overlay was removed.
    pub fn active(&self) -> Option<&Definition> {
        match &self.content {
            Content::Valid(definition) if self.removed_in_revision.is_none() => Some(definition),
            _ => None,
        }
    }

    /// Returns a sentence if the override does not contain the subnets that agents hold, but
    /// the configured overlay does. Only a master that ignores changes can have assigned such
    /// subnets.
    pub fn outdated(&self, configured: &Network, held: &SubnetsByOverlay) -> Option<String> {
        let active = self.active()?;
        let configured = configured.overlay(self.name())?;
        let contains_all = |definition: &Definition| {
            held_subnets(held, self.name()).all(|held| definition.config().contains(held.net))
        };
        (!contains_all(active) && contains_all(configured)).then(|| {
            format!(
                "Overlay {} was changed while the cluster ran ({}), but agents hold subnets outside of that, so \
                 an older master must have led since. The overlay is as in the configuration again ({}).",
                self.name(),
                describe(self.info()),
                describe(configured.info())
            )
        })
    }

    /// Returns a sentence if the overlay is not as in the configuration.
    pub fn difference(&self, configured: &Definition) -> Option<String> {
        let name = self.name();
        let difference = match self.removed_in_revision {
            Some(_) => format!("Overlay {name} is in the configuration, but was removed"),
            None if self.config() == Some(configured.config()) => return None,
            None => format!(
                "Overlay {name} is not as in the configuration ({}): it was changed ({})",
                describe(configured.info()),
                describe(self.info())
            ),
        };
        Some(format!(
            "{difference} with /overlay-master/overlays/{name}; change the configuration, or reset the overlay to \
             it with PUT {{\"source\": \"file\"}}"
        ))
    }
}
