//! Zones shared between the thread that follows the master and those that answer.

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use crate::zone::Zones;

/// Zones behind a lock, and a number that grows with every change.
#[derive(Debug)]
pub struct Authority {
    zones: RwLock<Zones>,
    changes: watch::Sender<u64>,
}

impl Authority {
    /// Makes an authority for zones.
    pub fn new(zones: Zones) -> Self {
        Self {
            zones: RwLock::new(zones),
            changes: watch::Sender::new(0),
        }
    }

    /// Changes the zones. Questions wait meanwhile.
    pub fn update<R>(&self, change: impl FnOnce(&mut Zones) -> R) -> R {
        let result = change(&mut self.zones.write());
        self.changes.send_modify(|number| *number += 1);
        result
    }

    /// Returns the zones for reading. Changes wait meanwhile.
    pub fn zones(&self) -> RwLockReadGuard<'_, Zones> {
        self.zones.read()
    }

    /// Returns a receiver that is told of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
