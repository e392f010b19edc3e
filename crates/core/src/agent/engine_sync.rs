//! Making the container engine's networks match: what is wanted of it, how each
//! network fares, and when to try again.
//!
//! Apart from the host's [`configuration`](super::host_sync), since an engine
//! may be away or hang while everything else goes on. An overlay is in place when
//! both its parts are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::assignment::Given;
use crate::config::AgentConfig;
use crate::host_api::engine::EngineDesired;
use crate::host_api::engine::{DEFAULT_SOCKET, Network};
use crate::host_api::usage::InUse;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::util::backoff::Backoff;
use crate::{EngineReport, Time};

/// The engine's side of the agent.
#[derive(Debug)]
pub(super) struct Engine {
    /// `None` until a master has said what there is to be: until then the engine is
    /// left alone. On an agent without Docker there is to be nothing, and there need be
    /// no engine; networks may be left from when it had Docker.
    desired: Option<Arc<EngineDesired>>,
    /// How each desired network fares; `None`: nothing was heard of it yet.
    health: BTreeMap<String, Option<Result<(), String>>>,
    /// Whether this is an agent with Docker; otherwise no engine is needed.
    needed: bool,
    /// The last pass could do nothing at all, and that matters.
    down: bool,
    /// The last pass found or made everything as it is wanted now.
    settled: bool,
    /// What else the engine's worker has to say.
    notes: Vec<String>,
    /// The names of networks that are not wanted any more and still there.
    used: BTreeSet<String>,
    usage: BTreeMap<String, InUse>,
    /// The number of the last pass that was started.
    generation: u64,
    /// Passes in a row that went wrong.
    failures: u32,
    backoff: Backoff,
    retry_at: Option<Time>,
}

impl Engine {
    /// Returns an engine whose first pass has the number after `generation`.
    pub fn after(generation: u64) -> Engine {
        Engine {
            desired: None,
            health: BTreeMap::new(),
            needed: false,
            down: false,
            settled: false,
            notes: Vec::new(),
            used: BTreeSet::new(),
            usage: BTreeMap::new(),
            generation,
            failures: 0,
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(60)),
            retry_at: None,
        }
    }

    /// The master's word; gives whether the engine has to be told. A network that
    /// stays as it was keeps its state.
    pub fn give(&mut self, config: &AgentConfig, given: &Given) -> bool {
        self.needed = config.network.docker_bridge;
        let shares = given.shares.iter().filter_map(|share| {
            let network = Network::of(share.overlay.as_ref().ok()?, given.vtep.as_ref())?;
            Some((share.name().to_owned(), network))
        });
        let desired = EngineDesired {
            socket: config
                .docker_socket
                .clone()
                .unwrap_or_else(|| DEFAULT_SOCKET.into()),
            timeout: config.network.command_timeout,
            networks: shares.collect(),
            fit_mtu: config.network.overlay_mtu.is_none(),
        };
        let before = self.desired.as_deref();
        if before == Some(&desired) {
            return false;
        }
        let kept = |(name, network): (&String, &Network)| {
            let same = before.is_some_and(|before| before.networks.get(name) == Some(network));
            (
                name.clone(),
                self.health.get(name).filter(|_| same).cloned().flatten(),
            )
        };
        self.health = desired.networks.iter().map(kept).collect();
        self.usage
            .retain(|name, _| desired.networks.contains_key(name));
        self.desired = Some(Arc::new(desired));
        self.settled = false;
        self.failures = 0;
        self.backoff.reset();
        true
    }

    /// Begins a pass: gives its number and what is wanted.
    pub fn begin(&mut self) -> Option<(u64, Arc<EngineDesired>)> {
        let desired = self.desired.clone()?;
        self.retry_at = None;
        self.generation += 1;
        Some((self.generation, desired))
    }

    /// A pass ended, or what it found is so no longer; gives whether it is the latest
    /// one. If not all is well, the retry is due at [`retry_at`](Self::retry_at).
    pub fn end(&mut self, now: Time, report: EngineReport, random: &mut fastrand::Rng) -> bool {
        if report.generation != self.generation || self.desired.is_none() {
            return false;
        }
        let well = report.is_ok();
        for (name, health) in &mut self.health {
            *health = Some(
                report
                    .overlays
                    .get(name)
                    .map_or(Ok(()), |error| Err(error.clone())),
            );
        }
        self.down = self.needed && report.engine.is_some();
        self.settled = well;
        // One that could not look has not seen that something is gone.
        if well {
            self.used = report.used;
        } else {
            self.used.extend(report.used);
        }
        self.notes = report.notes;
        self.notes
            .extend(report.engine.filter(|_| self.health.is_empty()));
        self.usage = report.usage;
        if well {
            self.failures = 0;
            self.retry_at = None;
            self.backoff.reset();
        } else {
            self.failures = self.failures.saturating_add(1);
            // The worker tells its news without being asked; that is no attempt of ours.
            if self.retry_at.is_none() {
                self.retry_at = Some(now + self.backoff.next(random));
            }
        }
        true
    }

    pub fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }

    /// Passes in a row that went wrong.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What is not right with the engine beyond one overlay.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The names of networks that are not wanted any more and still there.
    pub fn used(&self) -> &BTreeSet<String> {
        &self.used
    }

    /// Whether the last pass found or made everything as it is wanted now.
    pub fn is_settled(&self) -> bool {
        self.settled || self.desired.is_none()
    }

    /// Addresses that Docker's containers have, by overlay.
    pub fn usage(&self) -> &BTreeMap<String, InUse> {
        &self.usage
    }

    /// Whether every network is as the master wants it.
    pub fn is_whole(&self) -> bool {
        !self.down
            && self
                .health
                .values()
                .all(|health| matches!(health, Some(Ok(()))))
    }

    /// The state of an overlay whose host part is in the state `host`. What is wrong
    /// with the engine is told at once: it was given `command_timeout`.
    pub fn combine(&self, overlay: &str, host: State) -> State {
        match self.health.get(overlay) {
            None | Some(Some(Ok(()))) => host,
            Some(None) if host.status() == Status::Ok => State {
                status: Some(Status::Configuring.into()),
                ..host
            },
            Some(None) => host,
            Some(Some(Err(error))) => {
                let all: Vec<&str> = host
                    .error
                    .as_deref()
                    .into_iter()
                    .chain([error.as_str()])
                    .collect();
                State {
                    status: Some(Status::Failed.into()),
                    error: Some(all.join("; ")),
                }
            }
        }
    }
}
