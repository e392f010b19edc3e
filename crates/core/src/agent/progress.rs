//! What came of a pass over the host: to the log and to the master.

use std::collections::BTreeSet;

use super::assignment::quote;
use super::{Agent, Phase};
use crate::proto::AgentOverlayInfo;
use crate::proto::agent_overlay_info::State;
use crate::proto::agent_overlay_info::state::Status;
use crate::proto::internal::AgentRegisteredMessage;
use crate::{Effect, EngineReport, HostReport, Level, Time};

/// The most lines about the host as a whole after one pass; a thousand peers can
/// fail for one reason.
const MOST_HOST_LINES: usize = 8;

impl Agent {
    pub(super) fn on_host_done(&mut self, now: Time, report: HostReport) {
        let before = self.overlays();
        let errors = self.configuration.host_errors().iter().cloned().collect();
        let draining = self.configuration.draining().to_vec();
        let failed: BTreeSet<String> = report.overlays.keys().cloned().collect();
        if !self.configuration.end(now, report, &mut self.random) {
            return;
        }
        self.note_settled();
        self.counters.overlay_failures += failed.len() as u64;
        let again = next_attempt(
            now,
            self.configuration.attempts(),
            self.configuration.retry_at(),
        );
        self.log_overlays(now, &before, &failed, &again);
        self.log_host(now, &errors, &again);
        self.log_draining(&draining);
        if self.configuration.wants_another() {
            self.apply(now);
        }
        match self.registration.phase {
            Phase::Configuring if self.configuration.all_tried() => self.report(now),
            Phase::Settled => self.report_news(now),
            _ => {}
        }
    }

    pub(super) fn on_engine_done(&mut self, now: Time, report: EngineReport) {
        let before = self.overlays();
        let notes: BTreeSet<String> = self.engine.notes().iter().cloned().collect();
        let failed: BTreeSet<String> = report.overlays.keys().cloned().collect();
        if !self.engine.end(now, report, &mut self.random) {
            return;
        }
        self.note_settled();
        self.counters.docker_failures += failed.len() as u64;
        self.warn_scarce();
        let again = next_attempt(now, self.engine.failures(), self.engine.retry_at());
        self.log_overlays(now, &before, &failed, &again);
        let news: Vec<String> = self
            .engine
            .notes()
            .iter()
            .filter(|note| !notes.contains(*note))
            .cloned()
            .collect();
        for note in news.into_iter().take(MOST_HOST_LINES) {
            self.warn(now, &note, || note.clone());
        }
        if self.registration.phase == Phase::Settled {
            self.report_news(now);
        }
    }

    /// Logs each overlay that is not in place because this pass `failed` for it, and
    /// each that is in place again. `before` is how they were.
    fn log_overlays(
        &mut self,
        now: Time,
        before: &[AgentOverlayInfo],
        failed: &BTreeSet<String>,
        again: &str,
    ) {
        let after = self.overlays();
        for (old, new) in before.iter().zip(&after) {
            let name = quote(&new.info.name);
            let Some(State { error, .. }) = &new.state else {
                continue;
            };
            match (error, status(new)) {
                (None, Status::Ok) if status(old) != Status::Ok => {
                    self.log(Level::Info, format!("Overlay {name} is in place"));
                }
                (None, _) => {}
                (Some(_), _) if old.state == new.state && !failed.contains(&new.info.name) => {}
                (Some(error), Status::Failed) if status(old) != Status::Failed => {
                    self.log(
                        Level::Error,
                        format!("Overlay {name} failed: {error}{again}"),
                    );
                }
                (Some(error), _) => self.warn(now, &format!("overlay {name}"), || {
                    format!("Overlay {name} is not in place: {error}{again}")
                }),
            }
        }
    }

    /// Logs what is newly wrong with the host as a whole.
    fn log_host(&mut self, now: Time, before: &BTreeSet<String>, again: &str) {
        let errors = self.configuration.host_errors();
        if errors.is_empty() && !before.is_empty() {
            self.log(Level::Info, "The host is in order again".into());
            return;
        }
        let all = errors.len();
        let news: Vec<String> = errors
            .iter()
            .filter(|error| !before.contains(*error))
            .cloned()
            .collect();
        if all == 0 || self.throttle.allow(now, "host").is_none() {
            return;
        }
        for error in news.iter().take(MOST_HOST_LINES) {
            self.log(Level::Error, format!("Host: {error}"));
        }
        self.log(
            Level::Warning,
            format!("Host: {all} errors, see /overlay-agent/overlay{again}"),
        );
    }

    /// Logs which overlays wait for their last containers.
    fn log_draining(&mut self, before: &[String]) {
        let now = self.configuration.draining().to_vec();
        for line in now.iter().filter(|line| !before.contains(line)) {
            self.log(Level::Warning, format!("Host: {line}"));
        }
        if now.is_empty() && !before.is_empty() {
            self.log(
                Level::Info,
                "No overlay waits for its last containers any more".into(),
            );
        }
    }

    /// The overlays with their states, as everybody is told.
    pub(super) fn overlays(&self) -> Vec<AgentOverlayInfo> {
        let mut overlays = self
            .configuration
            .overlays(self.config.max_configuration_attempts);
        for overlay in &mut overlays {
            overlay.state = overlay
                .state
                .take()
                .map(|state| self.engine.combine(&overlay.info.name, state));
        }
        overlays
    }

    /// What is not right with the host beyond one overlay.
    pub(super) fn host_errors(&self) -> Vec<String> {
        let errors = self.configuration.host_errors().iter();
        errors
            .chain(self.engine.notes())
            .chain(self.peers.faults())
            .cloned()
            .collect()
    }

    /// Reports again if the master's knowledge is out of date.
    pub(super) fn report_news(&mut self, now: Time) {
        if self.present() != self.reported {
            self.report(now);
        }
    }

    /// Tells the master how the overlays fare.
    fn report(&mut self, now: Time) {
        let Some(master) = self.registration.master().cloned() else {
            self.counters.reports_dropped += 1;
            return;
        };
        self.counters.reports_sent += 1;
        self.registration.reports(now, &mut self.random);
        self.reported = self.present();
        self.effects.push_back(Effect::send(master, &self.reported));
    }

    /// How the overlays fare, as the master is told.
    pub(super) fn present(&self) -> AgentRegisteredMessage {
        AgentRegisteredMessage {
            overlays: self.overlays(),
            host_errors: self.host_errors(),
            draining: self
                .configuration
                .used()
                .union(self.engine.used())
                .cloned()
                .collect(),
            revision: self.settled,
        }
    }
}

/// `; attempt 3, the next one in 4.2 s`.
fn next_attempt(now: Time, attempts: u32, at: Option<Time>) -> String {
    let Some(at) = at else { return String::new() };
    format!(
        "; attempt {attempts}, the next one in {:.1} s",
        at.since(now).as_secs_f64()
    )
}

pub(super) fn status(overlay: &AgentOverlayInfo) -> Status {
    overlay
        .state
        .as_ref()
        .map_or(Status::Invalid, State::status)
}
