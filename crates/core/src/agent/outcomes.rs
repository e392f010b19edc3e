//! Results of reconciliations: what they mean for the registration, and their log lines.

use std::collections::{BTreeMap, BTreeSet};

use super::assignment::quote;
use super::registration::Phase;
use super::report::status;
use super::sync::{DesiredState, Target};
use super::{Agent, Time};
use crate::host_api::problem::Problem;
use crate::proto::AgentOverlayInfo;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::{EngineReport, HostReport, Level};

/// Maximum of log lines about problems of the host after one attempt. A thousand peers can fail
/// for one reason.
const MAX_PROBLEM_LINES: usize = 8;

impl Agent {
    pub(super) fn handle_host_done(&mut self, report: HostReport) {
        let overlays = self.overlays();
        let problems = self.host.target().problems().to_vec();
        let draining = self.host.draining().clone();
        let failed: BTreeSet<String> = report.overlays.keys().cloned().collect();
        if !self.host.complete(self.out.now(), report, &mut self.random) {
            return;
        }
        self.update_matched_revision();
        self.out.counters.overlay_failures += failed.len() as u64;
        let retry = describe_retry(self.out.now(), self.host.target());
        self.log_overlays(&overlays, &failed, &retry);
        self.log_host_problems(&problems, &retry);
        self.log_draining(&draining);
        if self.host.target().needs_rerun() {
            self.reconcile_host();
        }
        match self.registration.phase {
            Phase::Configuring if self.host.target().all_attempted() => self.report(),
            Phase::Settled => self.report_changes(),
            _ => {}
        }
    }

    pub(super) fn handle_engine_done(&mut self, report: EngineReport) {
        let overlays = self.overlays();
        let problems = self.engine.target().problems().to_vec();
        let failed: BTreeSet<String> = report.overlays.keys().cloned().collect();
        if !self
            .engine
            .complete(self.out.now(), report, &mut self.random)
        {
            return;
        }
        self.update_matched_revision();
        self.out.counters.docker_failures += failed.len() as u64;
        self.warn_of_scarce_addresses();
        let retry = describe_retry(self.out.now(), self.engine.target());
        self.log_overlays(&overlays, &failed, &retry);
        for problem in new_problems(self.engine.target(), &problems) {
            self.out.warn(&problem.key.to_string(), || problem.text);
        }
        if self.registration.phase == Phase::Settled {
            self.report_changes();
        }
    }

    /// Adopts the latest revision if host and container engine match it.
    fn update_matched_revision(&mut self) {
        if self.host.target().is_settled() && self.engine.target().is_settled() {
            self.matched_revision = self.latest_revision;
        }
    }

    /// Logs each overlay of which this attempt `failed`, or whose state changed. `before` are
    /// the overlays before the attempt ended.
    fn log_overlays(
        &mut self,
        before: &[AgentOverlayInfo],
        failed: &BTreeSet<String>,
        retry: &str,
    ) {
        let after = self.overlays();
        for (old, new) in before.iter().zip(&after) {
            let name = quote(&new.info.name);
            let Some(State { error, .. }) = &new.state else {
                continue;
            };
            match (error, status(new)) {
                (None, Status::Ok) if status(old) != Status::Ok => {
                    let line = format!("Overlay {name} is in place");
                    self.out.log(Level::Info, line);
                }
                (None, _) => {}
                (Some(_), _) if old.state == new.state && !failed.contains(&new.info.name) => {}
                (Some(error), Status::Failed) if status(old) != Status::Failed => {
                    let line = format!("Overlay {name} failed: {error}{retry}");
                    self.out.log(Level::Error, line);
                }
                (Some(error), _) => self.out.warn(&format!("overlay {name}"), || {
                    format!("Overlay {name} is not in place: {error}{retry}")
                }),
            }
        }
    }

    /// Logs new problems of the host as a whole. `before` are the known ones.
    fn log_host_problems(&mut self, before: &[Problem], retry: &str) {
        let target = self.host.target();
        let count = target.problems().len();
        if count == 0 {
            if !before.is_empty() {
                let line = "The host has no errors any more";
                self.out.log(Level::Info, line);
            }
            return;
        }
        let new = new_problems(target, before);
        if !self.out.permits("host") {
            return;
        }
        for problem in new {
            self.out
                .log(Level::Error, format!("Host: {}", problem.text));
        }
        self.out.log(
            Level::Warning,
            format!("Host: {count} errors, see /overlay-agent/overlay{retry}"),
        );
    }

    /// Logs new sentences about bridges that wait for their last containers, and the end of
    /// the last one.
    fn log_draining(&mut self, before: &BTreeMap<String, String>) {
        let draining = self.host.draining();
        for (bridge, sentence) in draining {
            if before.get(bridge) != Some(sentence) {
                self.out.log(Level::Warning, format!("Host: {sentence}"));
            }
        }
        if draining.is_empty() && !before.is_empty() {
            let line = "No removed overlay has containers any more";
            self.out.log(Level::Info, line);
        }
    }
}

/// Returns the first problems that do not repeat one of `before`.
fn new_problems<D: DesiredState>(target: &Target<D>, before: &[Problem]) -> Vec<Problem> {
    let problems = target.problems().iter();
    let new = problems.filter(|problem| !before.iter().any(|earlier| problem.repeats(earlier)));
    new.take(MAX_PROBLEM_LINES).cloned().collect()
}

/// Returns `; attempt 3, the next one in 4.2 s`, or nothing if no retry is due.
fn describe_retry<D: DesiredState>(now: Time, target: &Target<D>) -> String {
    target.retry_at().map_or_else(String::new, |at| {
        let attempts = target.attempts();
        let delay = at.since(now).as_secs_f64();
        format!("; attempt {attempts}, the next one in {delay:.1} s")
    })
}
