//! Ranges in use, and conflicts of overlays with them.

use ipnet::IpNet;

use super::{HeldSubnet, Override, SubnetsByOverlay, held_subnets};
use crate::allocation::prefix::overlap;
use crate::config::{Network, OverlayConfig};

/// A range and its owner.
pub struct OwnedRange {
    /// The overlay of the range. An overlay does not conflict with itself.
    overlay: Option<String>,
    /// The owner, for a sentence.
    owner: String,
    net: IpNet,
}

impl OwnedRange {
    /// Returns the ranges of an overlay in force.
    pub fn of_overlay(overlay: &OverlayConfig) -> impl Iterator<Item = OwnedRange> {
        OwnedRange::of_ranges(overlay, format!("overlay {}", overlay.name))
    }

    fn of_ranges(overlay: &OverlayConfig, owner: String) -> impl Iterator<Item = OwnedRange> {
        overlay.ranges().map(move |range| OwnedRange {
            overlay: Some(overlay.name.clone()),
            owner: owner.clone(),
            net: range.net,
        })
    }

    /// Returns the ranges of the VTEPs.
    pub fn of_vteps(network: &Network) -> impl Iterator<Item = OwnedRange> {
        network.vtep_ranges().map(|net| OwnedRange {
            overlay: None,
            owner: "the VTEPs".to_owned(),
            net,
        })
    }

    /// Returns an agent's subnet of an overlay that is not in force, or not in this family.
    pub fn of_held(overlay: &str, HeldSubnet { agent, net }: HeldSubnet) -> OwnedRange {
        OwnedRange {
            overlay: Some(overlay.to_owned()),
            owner: format!("agent {agent}, which holds it of overlay {overlay} as it was before"),
            net,
        }
    }

    /// Returns the reason, as a phrase, why an overlay conflicts with this range.
    pub fn conflict(&self, overlay: &OverlayConfig) -> Option<String> {
        if self.overlay.as_ref() == Some(&overlay.name) {
            return None;
        }
        let range = overlay
            .ranges()
            .find(|range| overlap(range.net, self.net))?;
        Some(format!(
            "its range {} overlaps {} of {}",
            range.net, self.net, self.owner
        ))
    }
}

/// Returns the ranges of changed overlays, and of removed ones that agents still hold.
pub fn of_overrides(overrides: &[Override], held: &SubnetsByOverlay) -> Vec<OwnedRange> {
    let mut owned = Vec::new();
    for overlay in overrides {
        let Some(config) = overlay.config() else {
            continue;
        };
        if overlay.removed_in_revision().is_none() {
            owned.extend(OwnedRange::of_overlay(config));
        } else if let Some(HeldSubnet { agent, .. }) = held_subnets(held, overlay.name()).next() {
            let agents = held.get(overlay.name()).map_or(0, Vec::len);
            let owner = format!(
                "overlay {}, which was removed and still drains (agents: {agents}, among them {agent})",
                overlay.name()
            );
            owned.extend(OwnedRange::of_ranges(config, owner));
        }
    }
    owned
}

/// Checks that no changed overlay overlaps the VTEPs or another changed overlay.
pub fn check_overrides(configured: &Network, overrides: &[Override]) -> Result<(), String> {
    let mut owned: Vec<OwnedRange> = OwnedRange::of_vteps(configured).collect();
    for overlay in overrides.iter().filter_map(Override::active) {
        let config = overlay.config();
        if let Some(why) = owned.iter().find_map(|range| range.conflict(config)) {
            return Err(format!(
                "overlay {}, which was changed while the cluster ran, is in conflict: {why}",
                config.name
            ));
        }
        owned.extend(OwnedRange::of_overlay(config));
    }
    Ok(())
}
