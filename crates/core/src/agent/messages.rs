//! Messages of the leading master.

use bytes::Bytes;

use super::assignment::{self, Assignment, quote};
use super::registration::{AllocationCompleteness, Phase};
use super::{Agent, Backend};
use crate::proto::AgentOverlayInfo;
use crate::proto::internal::{
    AgentRegisteredAcknowledgement, PeersReceivedMessage, RegistrationChallengeMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use crate::protocol::limits::{self, MAX_OVERLAYS};
use crate::protocol::messages::Named;
use crate::protocol::peer_list_codec::unpack;
use crate::protocol::reports::bound_sentences;
use crate::{Level, Upid};

impl Agent {
    pub(super) fn handle_message(&mut self, from: &Upid, name: &str, body: Bytes) {
        self.out.counters.count_received(name);
        if self.registration.master() != Some(from) {
            let master = self.registration.master();
            let master = master.map_or("unknown".to_owned(), Upid::to_string);
            self.out.counters.count_dropped(name);
            self.out.warn("stranger", || {
                let name = quote(name);
                format!("Dropped {name} from {from}: the leading overlay master is {master}")
            });
            return;
        }
        self.dispatch(from, name, body);
    }

    /// Passes a message of the leading master's pid to its handler.
    pub(super) fn dispatch(&mut self, from: &Upid, name: &str, body: Bytes) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.decode(from, body, Self::handle_overlays),
            AgentRegisteredAcknowledgement::NAME => {
                self.decode(from, body, Self::handle_acknowledgement)
            }
            RegistrationChallengeMessage::NAME => self.decode(from, body, Self::handle_challenge),
            RegistrationRefusedMessage::NAME => self.decode(from, body, Self::handle_refusal),
            UpdatePeersMessage::NAME => self.decode(from, body, Self::handle_peers),
            _ => self.out.warn("unknown", || {
                let name = quote(name);
                format!("Dropped {name} from {from}: not a message to an agent")
            }),
        }
    }

    /// Passes a message to its handler, unless it is malformed or not known to be the master's.
    fn decode<M: Named>(&mut self, from: &Upid, body: Bytes, handler: fn(&mut Self, M)) {
        match limits::decode(body.clone()) {
            Ok(message) => {
                if self.is_masters(from, &message, body) {
                    handler(self, message);
                }
            }
            Err(error) => self.drop_malformed::<M>(from, &error.to_string()),
        }
    }

    fn drop_malformed<M: Named>(&mut self, from: &Upid, error: &str) {
        self.out.counters.count_dropped(M::NAME);
        self.out.warn("malformed", || {
            format!("Dropped {} from {from}: {error}", M::NAME)
        });
    }

    /// Drops a message of the leading master.
    fn drop_from_master<M: Named>(&mut self, error: &str) {
        if let Some(master) = self.registration.master().cloned() {
            self.drop_malformed::<M>(&master, error);
        }
    }

    fn handle_overlays(&mut self, mut message: UpdateAgentOverlaysMessage) {
        let count = message.overlays.len();
        if count > MAX_OVERLAYS {
            // A part of the list would remove the other overlays.
            let error = format!("{count} overlays are more than {MAX_OVERLAYS}");
            return self.drop_from_master::<UpdateAgentOverlaysMessage>(&error);
        }
        message.notices = bound_sentences(message.notices);
        message.problems = bound_sentences(message.problems);
        // An empty list with a revision is no deletion: a change of overlays left none for
        // this agent.
        let is_deletion = message.overlays.is_empty()
            && !self.registration.awaits_list
            && message.revision.is_none();
        if is_deletion {
            self.set_notices(message.notices);
            return self.handle_deletion();
        }
        if let Err(known) = self.registration.accept_revision(message.revision) {
            self.out
                .counters
                .count_dropped(UpdateAgentOverlaysMessage::NAME);
            let revision = message.revision.unwrap_or_default();
            return self.out.warn("late", || {
                format!(
                    "Dropped a list of overlays of revision {revision}: it is older than \
                     revision {known}"
                )
            });
        }
        self.set_notices(message.notices);
        if self.problems != message.problems {
            self.log_from_master(&message.problems);
            self.problems = message.problems;
        }
        self.set_revision(message.revision);
        let engine_changed = self.assign(message.overlays);
        self.registration
            .on_list_received(self.out.now(), &mut self.random);
        self.reconcile_host();
        if engine_changed {
            self.reconcile_engine();
        }
    }

    /// Sets the master's notices about subnets that this agent had before. A list without
    /// notices removes them only if it answers a registration.
    fn set_notices(&mut self, notices: Vec<String>) {
        if notices.is_empty() && self.registration.phase != Phase::Registering {
            return;
        }
        if self.notices != notices {
            self.log_from_master(&notices);
            self.notices = notices;
        }
    }

    fn log_from_master(&mut self, sentences: &[String]) {
        for sentence in sentences {
            let line = format!("The master reports: {}", quote(sentence));
            self.out.log(Level::Warning, line);
        }
    }

    /// Handles an empty list that was not requested: an operator deleted this agent, or its
    /// lease ended. The host releases all subnets before the agent registers again.
    fn handle_deletion(&mut self) {
        self.problems.clear();
        self.set_revision(None);
        let engine_changed = self.assign(Vec::new());
        if self.registration.phase != Phase::Registering {
            self.out.log(
                Level::Warning,
                "The master removed this agent's overlays; registering again",
            );
            self.registration.restart(self.out.now(), &mut self.random);
        }
        self.reconcile_host();
        if engine_changed {
            self.reconcile_engine();
        }
    }

    /// Sets the revision of the latest list. The revision that the host matched before remains
    /// valid until the next reconciliation, unless another master counts from the beginning or
    /// has no revisions.
    fn set_revision(&mut self, revision: Option<u64>) {
        self.matched_revision = self
            .matched_revision
            .filter(|matched| revision.is_some_and(|revision| *matched <= revision));
        self.latest_revision = revision;
    }

    /// Adopts the master's list of overlays, and logs changes. Returns whether the networks of
    /// the container engine changed.
    fn assign(&mut self, overlays: Vec<AgentOverlayInfo>) -> bool {
        let hosts = self.underlay_hosts();
        let mut assignment = assignment::parse(&self.config, &hosts, overlays);
        let before = self.host.assignment().cloned().unwrap_or_default();
        assignment.keep(&before);
        let engine_changed = self.engine.assign(&self.config, &assignment);
        if self.peers.set_ranges(assignment.ranges(hosts)) {
            self.warn_of_peers();
        }
        if self.host.assign(assignment.clone()) {
            self.log_assignment(&before, &assignment);
        }
        engine_changed
    }

    /// Warns of peers with wrong values.
    fn warn_of_peers(&mut self) {
        let Some(fault) = self.peers.faults().sentences().next() else {
            return;
        };
        let master = self.registration.master();
        let master = master.map(Upid::to_string).unwrap_or_default();
        self.out.warn("peer", || {
            format!("Left out of the list of peers of {master}: {fault}")
        });
    }

    fn log_assignment(&mut self, before: &Assignment, assignment: &Assignment) {
        let is_removed = |name: &str| assignment.find(name).is_none();
        for overlay in before.overlays.iter().filter(|o| is_removed(o.name())) {
            let line = format!("Overlay {} was removed", quote(overlay.name()));
            self.out.log(Level::Info, line);
        }
        if assignment.overlays.is_empty() {
            self.out
                .log(Level::Info, "The master assigned no overlays to this agent");
        }
        let master = self.registration.master();
        let master = master.map(Upid::to_string).unwrap_or_default();
        for assigned in &assignment.overlays {
            let name = quote(assigned.name());
            match &assigned.overlay {
                Ok(overlay) => {
                    let subnets: Vec<String> =
                        overlay.subnets.iter().map(ToString::to_string).collect();
                    let subnets = if subnets.is_empty() {
                        "no subnet".to_owned()
                    } else {
                        subnets.join(", ")
                    };
                    self.out.log(
                        Level::Info,
                        format!("Overlay {name}: this agent has {subnets}"),
                    );
                }
                Err(fault) => {
                    let kept = match &assigned.kept {
                        Some(_) => "; it stays as it was",
                        None => "",
                    };
                    let line =
                        format!("Overlay {name} of {master} cannot be set up: {fault}{kept}");
                    // A list of an earlier release may be anybody's, and come again and again.
                    if self.out.permits(&format!("overlay {name}")) {
                        self.out.log(Level::Error, line);
                    }
                }
            }
        }
    }

    fn handle_acknowledgement(&mut self, _: AgentRegisteredAcknowledgement) {
        if self.registration.phase != Phase::Reporting {
            self.out
                .counters
                .count_dropped(AgentRegisteredAcknowledgement::NAME);
            return;
        }
        let was_registered = self.is_registered();
        let supply = if self.problems.is_empty() && !self.host.has_invalid_overlays() {
            AllocationCompleteness::Complete
        } else {
            AllocationCompleteness::Short
        };
        self.reports.acknowledge();
        self.registration
            .on_acknowledged(self.out.now(), supply, &mut self.random);
        if !was_registered && self.is_registered() {
            let master = self.registration.master();
            let master = master.map(Upid::to_string).unwrap_or_default();
            let overlays = self.host.assigned_overlays().count();
            let peers = self.peers.count(self.own_ip()).unwrap_or_default();
            self.out.log(
                Level::Info,
                format!(
                    "Registered with {master}: {overlays} overlays in place, {peers} peers known"
                ),
            );
        }
        self.report_changes();
    }

    fn handle_refusal(&mut self, message: RegistrationRefusedMessage) {
        let reason = message.reason;
        self.out.warn("refused", || {
            format!("The master refused the registration: {}", quote(&reason))
        });
        self.problems = bound_sentences([reason]);
        self.registration
            .on_refused(self.out.now(), &mut self.random);
    }

    fn handle_peers(&mut self, mut message: UpdatePeersMessage) {
        if self.config.backend == Backend::External {
            return;
        }
        let Some(master) = self.registration.master().cloned() else {
            return;
        };
        let packed = message.packed.take();
        match packed.map_or(Ok(Vec::new()), |packed| unpack(&packed)) {
            Ok(peers) => message.peers.extend(peers),
            Err(error) => return self.drop_malformed::<UpdatePeersMessage>(&master, &error),
        }
        if let Err(error) = self.peers.check_size(&message) {
            return self.drop_malformed::<UpdatePeersMessage>(&master, &error);
        }
        if self.peers.update(message) {
            self.warn_of_peers();
            self.reconcile_host();
        }
        let version = self.peers.version();
        self.send_to_master(&PeersReceivedMessage {
            version,
            session: None,
        });
    }
}
