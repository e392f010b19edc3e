//! A host as far as an agent changes it.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use mesos_overlay::core::HostReport;
use mesos_overlay::host::desired::{Desired, Overlay, Peer, Vtep};

/// It outlives the agent, as a kernel does.
#[derive(Default)]
pub struct Host {
    pub vtep: Option<Vtep>,
    pub overlays: BTreeMap<String, Overlay>,
    pub peers: BTreeMap<Ipv4Addr, Peer>,
}

/// What an agent's executor has to do.
#[derive(Default)]
pub struct Executor {
    /// The first one is under way.
    passes: VecDeque<(u64, Arc<Desired>)>,
}

impl Executor {
    /// Takes a pass; gives whether it is the only one, so that it begins now.
    pub fn apply(&mut self, generation: u64, desired: Arc<Desired>) -> bool {
        self.passes.truncate(1);
        self.passes.push_back((generation, desired));
        self.passes.len() == 1
    }

    /// Ends the pass that is under way; gives its report and whether another one
    /// begins.
    pub fn finish(&mut self, host: &mut Host, failure: Option<Failure>) -> (HostReport, bool) {
        let (generation, desired) = self.passes.pop_front().expect("a pass is under way");
        let mut report = HostReport { generation, ..HostReport::default() };
        if failure != Some(Failure::Host) {
            host.vtep.clone_from(&desired.vtep);
        }
        let failed = match failure {
            Some(Failure::Overlay(n)) => desired.overlays.keys().nth(n % desired.overlays.len().max(1)),
            _ => None,
        };
        host.overlays.retain(|name, _| desired.overlays.contains_key(name));
        for (name, overlay) in &desired.overlays {
            if failed == Some(name) {
                report.overlays.insert(name.clone(), "made to fail".into());
            } else {
                host.overlays.insert(name.clone(), overlay.clone());
            }
        }
        if failure == Some(Failure::Host) {
            report.host.push("made to fail".into());
        } else if let Some(peers) = &desired.peers {
            host.peers.clone_from(peers);
        }
        (report, !self.passes.is_empty())
    }
}

/// What goes wrong in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The overlay of this number, counted round.
    Overlay(usize),
    /// The VXLAN device.
    Host,
}
