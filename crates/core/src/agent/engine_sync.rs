//! Reconciliation of the container engine's networks.
//!
//! The engine is a target of its own because it may be absent or hang while the host is
//! reconciled. An overlay is in place when both its parts are.

use std::collections::BTreeMap;

use super::assignment::Assignment;
use super::desired;
use super::sync::{Attempt, Concurrency, DesiredState, Outcome, Target};
use crate::config::AgentConfig;
use crate::host_api::engine::{EngineDesired, Network};
use crate::host_api::problem::{Problem, ProblemKind};
use crate::host_api::usage::InUse;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::{EngineReport, Time};

impl DesiredState for EngineDesired {
    type Overlay = Network;

    fn overlays(&self) -> BTreeMap<&str, &Network> {
        let networks = self.networks.iter();
        networks.map(|(name, net)| (name.as_str(), net)).collect()
    }
}

/// The container engine as a target of reconciliation.
#[derive(Debug)]
pub(super) struct EngineSync {
    target: Target<EngineDesired>,
    /// The agent has `docker_bridge`. Otherwise there need be no engine; one that exists may
    /// have networks of an earlier configuration, which are removed.
    required: bool,
    /// The last attempt did not reach a required engine.
    unavailable: bool,
    usage: BTreeMap<String, InUse>,
}

impl EngineSync {
    /// Creates an engine whose first attempt has the number after `generation`.
    pub fn new(config: &AgentConfig, generation: u64) -> EngineSync {
        EngineSync {
            target: Target::new(Concurrency::Supersede, generation),
            required: config.network.docker_bridge,
            unavailable: false,
            usage: BTreeMap::new(),
        }
    }

    /// Returns the state of attempts and results.
    pub fn target(&self) -> &Target<EngineDesired> {
        &self.target
    }

    /// Sets what the master assigned. Returns whether the networks changed.
    pub fn assign(&mut self, config: &AgentConfig, assignment: &Assignment) -> bool {
        let changed = self.target.set_desired(desired::engine(config, assignment));
        self.usage
            .retain(|name, _| self.target.health(name).is_some());
        changed
    }

    /// Begins an attempt, see [`Target::begin`].
    pub fn begin(&mut self, now: Time) -> Option<Attempt<EngineDesired>> {
        self.target.begin(now)
    }

    /// Ends an attempt, or records a later change of the engine, see [`Target::complete`].
    pub fn complete(
        &mut self,
        now: Time,
        report: EngineReport,
        random: &mut fastrand::Rng,
    ) -> bool {
        let is_ok = report.is_ok();
        let unavailable = self.required && report.engine.is_some();
        let mut problems = report.notes;
        // Otherwise it is the error of each network.
        let error = report.engine.filter(|_| self.target.desires_no_overlay());
        problems.extend(error.map(|text| Problem::new(ProblemKind::Engine, "", text)));
        let outcome = Outcome {
            generation: report.generation,
            is_ok,
            overlays: report.overlays,
            problems,
            draining: report.draining_networks,
        };
        if !self.target.complete(now, outcome, random) {
            return false;
        }
        self.unavailable = unavailable;
        self.usage = report.usage;
        true
    }

    /// Returns the numbers of addresses that Docker's containers have, by overlay.
    pub fn usage(&self) -> &BTreeMap<String, InUse> {
        &self.usage
    }

    /// Returns whether every network is as the master wants it.
    pub fn is_healthy(&self) -> bool {
        !self.unavailable && self.target.is_healthy()
    }

    /// Returns the state of an overlay whose host part is in state `host`. An error of the
    /// engine makes the overlay fail at once: the engine had `command_timeout` to answer.
    pub fn combine(&self, overlay: &str, host: State) -> State {
        let Some(health) = self.target.health(overlay) else {
            return host;
        };
        match &health.last {
            Some(Ok(())) => host,
            None if host.status() == Status::Ok => State {
                status: Some(Status::Configuring.into()),
                ..host
            },
            None => host,
            Some(Err(error)) => {
                let errors: Vec<&str> = host
                    .error
                    .as_deref()
                    .into_iter()
                    .chain([error.as_str()])
                    .collect();
                State {
                    status: Some(Status::Failed.into()),
                    error: Some(errors.join("; ")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::assignment::OverlayAssignment;
    use crate::host_api::desired::{Bridge, Overlay};
    use crate::proto::AgentOverlayInfo;

    fn assignment(names: &[&str]) -> Assignment {
        let overlays = names.iter().map(|name| {
            let bridge = Bridge {
                name: format!("d-{name}"),
                subnets: vec!["9.0.0.128/25".parse().unwrap()],
            };
            let mut info = AgentOverlayInfo::default();
            info.info.name = (*name).to_owned();
            let overlay = Overlay {
                docker_bridge: Some(bridge),
                ..Overlay::default()
            };
            OverlayAssignment {
                info,
                overlay: Ok(overlay),
                kept: None,
            }
        });
        Assignment {
            vtep: None,
            overlays: overlays.collect(),
        }
    }

    #[test]
    fn the_usage_of_a_removed_network_is_forgotten() {
        let config = AgentConfig::new("/cni");
        let mut random = fastrand::Rng::with_seed(1);
        let mut engine = EngineSync::new(&config, 0);
        assert!(engine.assign(&config, &assignment(&["dcos", "web"])));
        let generation = engine.begin(Time::default()).unwrap().generation;
        let in_use = InUse {
            v4: 3,
            v6: 0,
            leaked: 0,
        };
        let report = EngineReport {
            generation,
            usage: ["dcos", "web"].map(|name| (name.to_owned(), in_use)).into(),
            ..EngineReport::default()
        };
        assert!(engine.complete(Time::default(), report, &mut random));
        assert_eq!(engine.usage().len(), 2);

        assert!(engine.assign(&config, &assignment(&["dcos"])));
        assert!(engine.assign(&config, &assignment(&["dcos", "web"])));
        assert_eq!(
            engine.usage(),
            &BTreeMap::from([("dcos".to_owned(), in_use)]),
            "the engine has not counted the new network yet"
        );
    }
}
