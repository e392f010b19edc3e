//! Simulated host of an agent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use overlay_core::host_api::desired::PeerMap;
use overlay_core::host_api::desired::{Desired, Overlay, Vtep};
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::engine::Network;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::{EngineReport, HostReport};

/// Error of the worker when the container engine is away.
pub const ENGINE_AWAY: &str = "made to be away";

/// State of a host. Survives the agent, as a kernel does.
#[derive(Default)]
pub struct Host {
    pub vtep: Option<Vtep>,
    pub overlays: BTreeMap<String, Overlay>,
    pub peers: PeerMap,
    /// Networks of the container engine.
    pub networks: BTreeMap<String, Network>,
    /// Overlays that Mesos's containers use.
    pub containers: BTreeSet<String>,
    /// Networks that the engine's containers use.
    pub engine_containers: BTreeSet<String>,
    /// Removed overlays that Mesos's containers still use.
    pub lingering: BTreeSet<String>,
}

impl Host {
    /// Returns whether the host has anything of this overlay.
    pub fn has(&self, overlay: &str) -> bool {
        self.overlays.contains_key(overlay)
            || self.lingering.contains(overlay)
            || self.networks.contains_key(overlay)
    }
}

/// Queue of an agent's host executor.
#[derive(Default)]
pub struct Executor {
    /// Desired states by generation. The first one is being applied.
    passes: VecDeque<(u64, Arc<Desired>)>,
    /// State that the executor maintains.
    kept: Option<(u64, Arc<Desired>)>,
}

impl Executor {
    /// Adds a desired state. Returns whether its reconciliation begins now.
    pub fn apply(&mut self, generation: u64, desired: Arc<Desired>) -> bool {
        self.passes.truncate(1);
        self.passes.push_back((generation, desired));
        self.passes.len() == 1
    }

    /// Handles a change of containers. Returns whether a reconciliation begins now.
    pub fn on_containers_changed(&mut self) -> bool {
        let idle = self.passes.is_empty();
        self.passes.extend(self.kept.clone().filter(|_| idle));
        idle && !self.passes.is_empty()
    }

    /// Ends a reconciliation. Returns its report, and whether another one begins.
    pub fn finish(&mut self, host: &mut Host, failure: Option<Failure>) -> (HostReport, bool) {
        let (generation, desired) = self.passes.pop_front().expect("a pass is under way");
        self.kept = Some((generation, desired.clone()));
        let mut report = HostReport {
            generation,
            ..HostReport::default()
        };
        if failure != Some(Failure::Host) {
            host.vtep.clone_from(&desired.vtep);
        }
        let failed = match failure {
            Some(Failure::Overlay(n)) => desired
                .overlays
                .keys()
                .nth(n % desired.overlays.len().max(1)),
            _ => None,
        };
        if failure != Some(Failure::Host) {
            host.lingering.extend(host.overlays.keys().cloned());
            host.lingering.retain(|name| {
                !desired.overlays.contains_key(name) && host.containers.contains(name)
            });
            host.overlays
                .retain(|name, _| desired.overlays.contains_key(name));
        }
        report.draining_overlays.clone_from(&host.lingering);
        for (name, overlay) in &desired.overlays {
            if failed == Some(name) {
                report.overlays.insert(name.clone(), "made to fail".into());
            } else {
                host.overlays.insert(name.clone(), overlay.clone());
            }
        }
        if failure == Some(Failure::Host) {
            let problem = Problem::new(ProblemKind::Reconciliation, "", "made to fail");
            report.host.push(problem);
        } else if let Some(peers) = &desired.peers {
            host.peers = PeerMap::clone(peers);
        }
        (report, !self.passes.is_empty())
    }
}

/// Simulated worker of the container engine.
#[derive(Default)]
pub struct EngineWorker {
    work: Option<(u64, Arc<EngineDesired>)>,
    /// The last report was a failure, and the worker does not repeat it by itself.
    pub stuck: bool,
}

impl EngineWorker {
    /// Sets the desired state. A running reconciliation is abandoned.
    pub fn apply(&mut self, generation: u64, desired: Arc<EngineDesired>) {
        self.work = Some((generation, desired));
        self.stuck = false;
    }

    /// Returns the latest generation.
    pub fn generation(&self) -> Option<u64> {
        self.work.as_ref().map(|(generation, _)| *generation)
    }

    /// Ends a reconciliation, the first of its generation or a repeated one.
    pub fn finish(
        &mut self,
        host: &mut Host,
        failure: Option<EngineFailure>,
    ) -> Option<EngineReport> {
        let (generation, desired) = self.work.as_ref()?;
        let mut report = match failure {
            Some(EngineFailure::Away) => EngineReport::failed(desired, ENGINE_AWAY.into()),
            Some(EngineFailure::Network(n)) => {
                let failed = desired
                    .networks
                    .keys()
                    .nth(n % desired.networks.len().max(1));
                let overlays = failed.map(|name| (name.clone(), "made to fail".to_owned()));
                EngineReport {
                    overlays: overlays.into_iter().collect(),
                    ..EngineReport::default()
                }
            }
            None => EngineReport::default(),
        };
        report.generation = *generation;
        self.stuck = report.engine.is_some();
        if report.engine.is_none() {
            let failed = report.overlays.keys().next();
            let busy = |name: &String| {
                host.engine_containers.contains(name) && !desired.networks.contains_key(name)
            };
            host.networks.retain(|name, _| busy(name));
            report.draining_networks = host.networks.keys().cloned().collect();
            host.networks.extend(desired.networks.clone());
            host.networks.retain(|name, _| Some(name) != failed);
        }
        Some(report)
    }
}

/// Failure of the container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineFailure {
    /// The engine is absent, or does not answer in time.
    Away,
    /// Failure of the network with this number modulo the number of networks.
    Network(usize),
}

/// Failure of a reconciliation of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Failure of the overlay with this number modulo the number of overlays.
    Overlay(usize),
    /// The VXLAN device fails.
    Host,
}
