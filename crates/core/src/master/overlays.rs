//! The overlays as operators see them at `/overlay-master/overlays`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::networks::Standing;
use super::serving::Serving;
use crate::proto;
use crate::protocol::views;
use crate::protocol::views::Overlay;

/// The agents that hold something of an overlay, as the log has it.
type Use = BTreeSet<Ipv4Addr>;

impl Serving {
    /// All overlays.
    pub fn overlays_json(&self) -> Vec<u8> {
        let uses = self.uses();
        let mut names = self.shown.names();
        names.extend(
            uses.keys()
                .copied()
                .filter(|name| self.shown.standing(name, true) == Some(Standing::Orphaned)),
        );
        let none = Use::default();
        let overlays = names
            .into_iter()
            .filter_map(|name| self.overlay(name, uses.get(name).unwrap_or(&none), None));
        views::overlays(self.shown.revision, overlays)
    }

    /// One overlay; `None`: there is none. `before` is what it was, in case that there is none any more.
    pub fn overlay_json(&self, name: &str, before: Option<&proto::OverlayInfo>) -> Option<Vec<u8>> {
        let uses = self.uses();
        let overlay = self.overlay(name, uses.get(name).unwrap_or(&Use::default()), before);
        overlay.map(|overlay| views::overlay(&overlay))
    }

    /// What the log has of every overlay.
    fn uses(&self) -> BTreeMap<&str, Use> {
        let mut uses: BTreeMap<&str, Use> = BTreeMap::new();
        for (ip, entry) in &self.stored {
            for name in entry.shown.overlays() {
                uses.entry(name).or_default().insert(*ip);
            }
        }
        uses
    }

    fn overlay<'a>(
        &'a self,
        name: &'a str,
        uses: &Use,
        before: Option<&'a proto::OverlayInfo>,
    ) -> Option<Overlay<'a>> {
        let networks = &self.shown;
        let standing = networks.standing(name, !uses.is_empty());
        let standing = standing.or(before.map(|_| Standing::Removed))?;
        let in_force = networks.overlay(name);
        let in_file = networks.in_file(name);
        let waiting = matches!(standing, Standing::Draining | Standing::Orphaned);
        Some(Overlay {
            agent_subnets: in_force.map(|_| self.allocator.capacity(Some(name))),
            agents: uses.len(),
            error: networks.left_out(name),
            file: in_file
                .filter(|(config, _)| in_force.map(|(config, _)| config) != Some(config))
                .map(|(_, info)| info),
            holders: uses
                .iter()
                .filter(|_| waiting)
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
}
