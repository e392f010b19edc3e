//! The agent's view of its overlays, and the reports of it to the master.

use ipnet::IpNet;

use super::Agent;
use crate::proto::AgentOverlayInfo;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::AgentRegisteredMessage;
use crate::protocol::reports::{bound_errors, bound_sentences};

/// The reports that the master knows.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last_sent: AgentRegisteredMessage,
    last_acknowledged: AgentRegisteredMessage,
}

impl Reports {
    /// Records that the last report was acknowledged.
    pub fn acknowledge(&mut self) {
        self.last_acknowledged.clone_from(&self.last_sent);
    }
}

impl Agent {
    /// Returns whether the leading master has acknowledged that all assigned overlays are in
    /// place.
    pub fn is_registered(&self) -> bool {
        self.registration.acknowledged
            && self.is_healthy()
            && self.reports.last_acknowledged == self.current_report()
    }

    fn is_healthy(&self) -> bool {
        self.problems.is_empty()
            && self.host.is_healthy()
            && self.engine.is_healthy()
            && self.peers.faults().is_empty()
    }

    /// Returns the overlays with their states on host and container engine.
    pub(super) fn overlays(&self) -> Vec<AgentOverlayInfo> {
        let mut overlays = self.host.overlays(self.config.max_configuration_attempts);
        for overlay in &mut overlays {
            let state = overlay.state.take();
            overlay.state = state.map(|state| self.engine.combine(&overlay.info.name, state));
        }
        overlays
    }

    /// Returns sentences about problems that do not concern a single overlay.
    pub(super) fn host_problems(&self) -> Vec<String> {
        let problems = self.host.target().problems().iter();
        problems
            .chain(self.engine.target().problems())
            .map(|problem| problem.text.clone())
            .chain(self.peers.faults().sentences())
            .collect()
    }

    /// Returns the report of the present state, with texts that are as long as a master keeps
    /// them.
    fn current_report(&self) -> AgentRegisteredMessage {
        let (host, engine) = (self.host.target(), self.engine.target());
        let mut overlays = self.overlays();
        bound_errors(&mut overlays);
        AgentRegisteredMessage {
            session: None,
            overlays,
            host_errors: bound_sentences(self.host_problems()),
            draining: host.draining().union(engine.draining()).cloned().collect(),
            revision: self.matched_revision,
            networks: self.host.networks().map(IpNet::to_string).collect(),
        }
    }

    /// Sends a report if the last one is out of date.
    pub(super) fn report_changes(&mut self) {
        if self.current_report() != self.reports.last_sent {
            self.report();
        }
    }

    /// Sends a report.
    pub(super) fn report(&mut self) {
        if self.registration.master().is_none() {
            self.out.counters.reports_dropped += 1;
            return;
        }
        self.registration
            .on_report_sent(self.out.now(), &mut self.random);
        let report = self.current_report();
        self.send_to_master(&report);
        self.reports.last_sent = report;
    }
}

/// Returns the status of an overlay.
pub(super) fn status(overlay: &AgentOverlayInfo) -> Status {
    let state = overlay.state.as_ref();
    state.map_or(Status::Invalid, State::status)
}
