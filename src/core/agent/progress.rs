//! What came of a pass over the host: to the log and to the master.

use std::collections::BTreeSet;

use super::desired::quote;
use super::{Agent, Phase};
use crate::core::{Effect, HostReport, Level, Time};
use crate::wire::AgentOverlayInfo;
use crate::wire::agent_overlay_info::State;
use crate::wire::agent_overlay_info::state::Status;
use crate::wire::internal::AgentRegisteredMessage;

/// The most lines about the host as a whole after one pass; a thousand peers can
/// fail for one reason.
const MOST_HOST_LINES: usize = 8;

impl Agent {
    pub(super) fn on_host_done(&mut self, now: Time, report: HostReport) {
        let before = self.overlays();
        let errors = self.configuration.host_errors().iter().cloned().collect();
        if !self.configuration.end(now, report, &mut self.random) {
            return;
        }
        self.log_overlays(now, &before);
        self.log_host(now, &errors);
        if self.configuration.wants_another() {
            self.apply();
        }
        match self.registration.phase {
            Phase::Configuring if self.configuration.all_tried() => self.report(now),
            Phase::Settled => self.report_news(now),
            _ => {}
        }
    }

    /// Logs each overlay whose state is another one than `before`.
    fn log_overlays(&mut self, now: Time, before: &[AgentOverlayInfo]) {
        let after = self.overlays();
        let again = self.next_attempt(now);
        for (old, new) in before.iter().zip(&after) {
            let name = quote(&new.info.name);
            let Some(State { error, .. }) = &new.state else { continue };
            match (error, status(new)) {
                (None, _) if status(old) == Status::Ok => {}
                (None, _) => self.log(Level::Info, format!("Overlay {name} is in place")),
                (Some(error), Status::Failed) if status(old) != Status::Failed => {
                    self.log(Level::Error, format!("Overlay {name} failed: {error}{again}"));
                }
                (Some(error), _) => self.warn(now, &format!("overlay {name}"), || {
                    format!("Overlay {name} is not in place: {error}{again}")
                }),
            }
        }
    }

    /// Logs what is newly wrong with the host as a whole.
    fn log_host(&mut self, now: Time, before: &BTreeSet<String>) {
        let errors = self.configuration.host_errors();
        if errors.is_empty() && !before.is_empty() {
            self.log(Level::Info, "The host is in order again".into());
            return;
        }
        let all = errors.len();
        let news: Vec<String> = errors.iter().filter(|error| !before.contains(*error)).cloned().collect();
        if all == 0 || self.throttle.allow(now, "host").is_none() {
            return;
        }
        for error in news.iter().take(MOST_HOST_LINES) {
            self.log(Level::Error, format!("Host: {error}"));
        }
        let again = self.next_attempt(now);
        self.log(Level::Warning, format!("Host: {all} errors, see /overlay-agent/overlay{again}"));
    }

    /// `; attempt 3, the next one in 4.2 s`.
    fn next_attempt(&self, now: Time) -> String {
        let attempts = self.configuration.attempts();
        let Some(at) = self.configuration.retry_at() else { return String::new() };
        format!("; attempt {attempts}, the next one in {:.1} s", at.since(now).as_secs_f64())
    }

    /// The overlays with their states, as everybody is told.
    pub(super) fn overlays(&self) -> Vec<AgentOverlayInfo> {
        self.configuration.overlays(self.config.max_configuration_attempts)
    }

    /// What is not right with the host beyond one overlay.
    pub(super) fn host_errors(&self) -> Vec<String> {
        self.configuration.host_errors().iter().chain(self.peers.faults()).cloned().collect()
    }

    /// Reports again if the master's knowledge is out of date.
    pub(super) fn report_news(&mut self, now: Time) {
        if self.present() != self.reported {
            self.report(now);
        }
    }

    /// Tells the master how the overlays fare.
    fn report(&mut self, now: Time) {
        let Some(master) = self.registration.master().cloned() else { return };
        self.registration.reports(now, &mut self.random);
        self.reported = self.present();
        self.effects.push_back(Effect::send(master, &self.reported));
    }

    /// How the overlays fare, as the master is told.
    pub(super) fn present(&self) -> AgentRegisteredMessage {
        AgentRegisteredMessage { overlays: self.overlays(), host_errors: self.host_errors() }
    }
}

fn status(overlay: &AgentOverlayInfo) -> Status {
    overlay.state.as_ref().map_or(Status::Invalid, State::status)
}
