//! Parts of the host that a quick check reads only where an event pointed to them.

use std::net::Ipv4Addr;

use overlay_core::host_api::desired::Desired;

use super::{KernelReconciler, event_loop};
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::{observe, underlay};
use crate::progress;
use crate::reconcile::observed::LoosePort;
use crate::reconcile::{Clue, is_our_port};

impl KernelReconciler {
    /// Returns whether something differs in the parts of the host that events pointed to.
    pub(super) fn follow_clues(&mut self, desired: &Desired) -> bool {
        let (draining, underlay) = (&self.draining, &self.underlay);
        let differs = |clue: Clue| match clue {
            Clue::Ports => {
                progress::step("look for containers that are cut off");
                let is_ours = |port: &LoosePort| is_our_port(desired, draining, port);
                let are_cut_off = with_netlink(async |netlink| {
                    let mut ports = observe::loose_ports(netlink).await?;
                    ports.retain(is_ours);
                    if ports.is_empty() {
                        return Ok(false);
                    }
                    let routed = observe::routed_devices(netlink).await?;
                    Ok(ports.iter().any(|port| !routed.contains(&port.index)))
                });
                // What cannot be read is a failure of the reconciliation.
                are_cut_off.unwrap_or(true)
            }
            Clue::Underlay => {
                let found =
                    with_netlink(async |netlink| underlay::underlay(netlink, desired).await);
                found.as_ref() != Some(underlay)
            }
        };
        self.events.take_clues().into_iter().any(differs)
    }

    /// Returns whether the peers that only `to` has are on paths that the underlay has already,
    /// so that no MTU changes.
    pub(super) fn leads_to_new_peers(&self, from: &Desired, to: &Desired) -> bool {
        let (Some(before), Some(after)) = (&from.peers, &to.peers) else {
            return false;
        };
        let mut before = before.keys().peekable();
        let new = after.keys().filter(|peer| {
            while before.next_if(|other| other < peer).is_some() {}
            before.next_if_eq(peer).is_none()
        });
        let new: Vec<Ipv4Addr> = new.copied().collect();
        if new.is_empty() {
            return true;
        }
        progress::step("read the routes to new peers");
        let underlay = self.underlay.as_ref();
        let known =
            with_netlink(async |netlink| underlay::has_paths_to(netlink, to, underlay, &new).await);
        known == Some(true)
    }
}

/// Reads something from the kernel; `None`: that is impossible.
fn with_netlink<T>(read: impl AsyncFnOnce(&Netlink) -> Result<T, Error>) -> Option<T> {
    event_loop().ok()?.block_on(async {
        let netlink = Netlink::open().ok()?;
        read(&netlink).await.ok()
    })
}
