//! The host as the machine sees it.

use std::sync::Arc;
use std::time::Duration;

use overlay_core::Input;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::engine::EngineDesired;

use super::host::Host;

/// Passes desired states to the host, and reports to the machine.
///
/// The host outlives machines and may still report on an older desired state. Only reports
/// on the newest one of the current machine are passed on. Its generation identifies it,
/// since machines use different generations (see
/// [`overlay_core::machine::number_base`]).
pub(super) struct HostProxy {
    host: Box<dyn Host>,
    /// Generation of the newest [`overlay_core::Effect::ApplyHost`].
    generation: Option<u64>,
    /// Generation of the newest [`overlay_core::Effect::ApplyEngine`].
    engine_generation: Option<u64>,
    /// Time after which [`poll`](Self::poll) is due again; `None`: when something happens.
    next_look: Option<Duration>,
}

impl HostProxy {
    pub(super) fn new(host: Box<dyn Host>) -> HostProxy {
        HostProxy {
            host,
            generation: None,
            engine_generation: None,
            next_look: None,
        }
    }

    /// Starts to reconcile the host.
    pub(super) fn apply(&mut self, generation: u64, desired: Arc<Desired>) {
        self.generation = Some(generation);
        self.host.apply(generation, desired);
    }

    /// Starts to reconcile the container engine.
    pub(super) fn apply_engine(&mut self, generation: u64, networks: Arc<EngineDesired>) {
        self.engine_generation = Some(generation);
        self.host.apply_engine(generation, networks);
    }

    /// Returns the next report for the machine.
    pub(super) fn poll(&mut self) -> Option<Input> {
        self.next_look = self.host.look_after();
        while let Some(report) = self.host.poll() {
            if self.generation == Some(report.generation) {
                return Some(Input::HostDone(report));
            }
        }
        while let Some(report) = self.host.poll_engine() {
            if self.engine_generation == Some(report.generation) {
                return Some(Input::EngineDone(report));
            }
        }
        self.host.poll_usage().map(Input::Usage)
    }

    /// Returns the time after which [`poll`](Self::poll) is due again, whatever happens: threads
    /// that hang do not report.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// Forgets the desired states of the machine that panicked.
    pub(super) fn forget(&mut self) {
        self.generation = None;
        self.engine_generation = None;
    }
}
