//! Host of an agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::host_api::usage::InUse;
use overlay_core::{EngineReport, HostReport, Level};
use overlay_host::docker;
use overlay_host::{Executor, Sampler, UnderlayMtu};
use tokio::sync::watch;

use super::{Role, log};

/// Executor of the effects [`ApplyHost`] and [`ApplyEngine`]. No method blocks.
///
/// [`ApplyHost`]: overlay_core::Effect::ApplyHost
/// [`ApplyEngine`]: overlay_core::Effect::ApplyEngine
pub trait Host: Send {
    /// Starts to reconcile the host with `desired`.
    fn apply(&mut self, generation: u64, desired: Arc<Desired>);

    /// Returns the next report about the host.
    fn poll(&mut self) -> Option<HostReport>;

    /// Starts to reconcile the container engine with `networks`.
    fn apply_engine(&mut self, generation: u64, networks: Arc<EngineDesired>);

    /// Returns the next report about the container engine. There may be several of one
    /// generation.
    fn poll_engine(&mut self) -> Option<EngineReport>;

    /// Returns the next sample of the addresses in use, by overlay.
    fn poll_usage(&mut self) -> Option<BTreeMap<String, InUse>> {
        None
    }

    /// Replaces threads that hang or have ended, and has reports about them. Returns the time
    /// after which this is due again; `None`: there are no threads.
    fn look_after(&mut self) -> Option<Duration> {
        None
    }
}

/// Host that the process runs on. Its threads are started when they are needed first, so
/// that a master has none.
pub struct LocalHost {
    wake: Arc<dyn Fn() + Send + Sync>,
    executor: Option<Executor>,
    sampler: Option<Sampler>,
    /// Report that the thread that configures the host could not be started.
    failed: Option<HostReport>,
    engine: Option<docker::Executor>,
    /// Report that the thread for the engine could not be started.
    engine_failed: Option<EngineReport>,
}

impl LocalHost {
    /// Creates a host that calls `wake`, from any thread, when there is a report.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> LocalHost {
        LocalHost {
            wake,
            executor: None,
            sampler: None,
            failed: None,
            engine: None,
            engine_failed: None,
        }
    }
}

impl Host for LocalHost {
    fn apply(&mut self, generation: u64, desired: Arc<Desired>) {
        if self.executor.is_none() {
            let wake = self.wake.clone();
            match Executor::spawn(move || wake()) {
                Ok(executor) => self.executor = Some(executor),
                Err(error) => {
                    let text = format!("cannot start the thread that configures the host: {error}");
                    let host = vec![Problem::new(ProblemKind::Reconciliation, "", text)];
                    self.failed = Some(HostReport {
                        generation,
                        host,
                        ..HostReport::default()
                    });
                }
            }
        }
        if self.sampler.is_none() {
            let wake = self.wake.clone();
            let sampler = Sampler::spawn(move || wake());
            self.sampler = sampler
                .inspect_err(|error| {
                    let line = format!("cannot count addresses in use: {error}");
                    log(Role::Agent, Level::Warning, &line);
                })
                .ok();
        }
        if let Some(sampler) = &self.sampler {
            sampler.watch(desired.clone());
        }
        if let Some(executor) = &self.executor {
            executor.apply(generation, desired);
        }
    }

    fn poll(&mut self) -> Option<HostReport> {
        self.failed
            .take()
            .or_else(|| self.executor.as_ref()?.poll())
    }

    fn poll_usage(&mut self) -> Option<BTreeMap<String, InUse>> {
        self.sampler.as_ref()?.poll()
    }

    fn apply_engine(&mut self, generation: u64, networks: Arc<EngineDesired>) {
        if self.engine.is_none() {
            let wake = self.wake.clone();
            let underlay_mtu = match &self.executor {
                Some(executor) => executor.underlay_mtu(),
                // The thread that configures the host measures it.
                None => watch::channel(UnderlayMtu::Unknown).1,
            };
            match docker::Executor::spawn_with_underlay(underlay_mtu, move || wake()) {
                Ok(worker) => self.engine = Some(worker),
                Err(error) => {
                    let reason =
                        format!("cannot start the thread for the container engine: {error}");
                    let report = EngineReport::failed(&networks, reason);
                    self.engine_failed = Some(EngineReport {
                        generation,
                        ..report
                    });
                }
            }
        }
        if let Some(worker) = &self.engine {
            worker.apply(generation, networks);
        }
    }

    fn poll_engine(&mut self) -> Option<EngineReport> {
        self.engine_failed
            .take()
            .or_else(|| self.engine.as_ref()?.poll())
    }

    fn look_after(&mut self) -> Option<Duration> {
        let looks = [
            self.executor.as_mut().map(Executor::look_after),
            self.sampler.as_mut().map(Sampler::look_after),
            self.engine.as_mut().map(docker::Executor::look_after),
        ];
        looks.into_iter().flatten().min()
    }
}

/// Orders all threads to end before it waits for any: Mesos waits for them.
impl Drop for LocalHost {
    fn drop(&mut self) {
        self.executor.as_mut().map(Executor::stop);
        self.sampler.as_mut().map(Sampler::stop);
        self.engine.as_mut().map(docker::Executor::stop);
    }
}
