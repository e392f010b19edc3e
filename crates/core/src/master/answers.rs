//! Answers that wait for a write of the replicated log.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::counters::Outbox;
use super::pending::Registration;
use crate::proto;
use crate::proto::internal::UpdateAgentOverlaysMessage;
use crate::{RequestId, Response};

/// The answers and messages that are sent when one write is in the log.
#[derive(Debug, Default)]
pub struct PendingAnswers {
    /// The latest registration of each agent, with its answer.
    pub registrations: BTreeMap<Ipv4Addr, AnsweredRegistration>,
    /// Agents that lost their allocations.
    pub departed: Vec<DepartedAgent>,
    /// Requests about agents.
    pub agent_requests: Vec<AgentRequest>,
    /// Requests to change overlays.
    pub overlay_changes: Vec<PendingOverlayChange>,
    /// Unsolicited lists of overlays, by agent.
    pub pushes: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
}

/// A registration with its answer.
#[derive(Debug)]
pub struct AnsweredRegistration {
    /// The registration.
    pub registration: Registration,
    /// The answer.
    pub answer: UpdateAgentOverlaysMessage,
}

/// Reason why an agent loses its allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The operator deleted the agent.
    Deleted,
    /// The agent's lease ended, and the allocation was reclaimed.
    LeaseEnded,
}

/// An agent that lost its allocation.
#[derive(Clone, Copy, Debug)]
pub struct DepartedAgent {
    /// The agent.
    pub ip: Ipv4Addr,
    /// Serial of the session at departure. A newer session is not notified.
    pub session: Option<u64>,
    /// The reason.
    pub departure: Departure,
}

/// An operation on agents that an HTTP request demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentOperation {
    /// Deletes agents.
    Delete,
    /// Reclaims the allocations of agents whose leases ended.
    Reclaim,
    /// Takes agents' confirmation back.
    Unconfirm,
}

/// An HTTP request about agents.
#[derive(Debug)]
pub struct AgentRequest {
    /// The request.
    pub request: RequestId,
    /// The function to wrap the answer in.
    pub jsonp: Option<String>,
    /// The operation.
    pub operation: AgentOperation,
}

/// An HTTP request to change an overlay. The change is made, but not in the log yet.
#[derive(Debug)]
pub struct PendingOverlayChange {
    /// The request.
    pub request: RequestId,
    /// The overlay.
    pub name: String,
    /// Status of the answer.
    pub status: u16,
    /// The overlay before the change. The answer shows it if the overlay no longer exists.
    pub before: Option<proto::OverlayInfo>,
}

/// The state of a request whose write did not succeed, with the reason as a sentence.
pub enum Failure<'a> {
    /// The request was not carried out.
    NotDone(&'a str),
    /// The write was rejected.
    NotWritten(&'a str),
    /// The write may have succeeded.
    Unknown(&'a str),
}

impl Failure<'_> {
    /// Returns a sentence about the failed request. `subject` and `done` are its objects and
    /// its participle, such as "the agents were" and "deleted". The operator can verify the
    /// outcome at `check`.
    fn sentence(&self, done: &str, subject: &str, check: &str) -> String {
        match self {
            Failure::NotDone(reason) => format!("Nothing was {done}: {reason}"),
            Failure::NotWritten(reason) => format!("Nothing was written. {reason}"),
            Failure::Unknown(reason) => {
                format!("It is not known whether {subject} {done}: {reason} Check {check}.")
            }
        }
    }
}

impl PendingAnswers {
    /// Returns whether an operator's request waits. Such a request causes a write even if it
    /// changes nothing: a superseded master learns from the write that it was superseded,
    /// before it confirms anything.
    pub fn has_requests(&self) -> bool {
        !self.agent_requests.is_empty() || !self.overlay_changes.is_empty()
    }

    /// Answers the requests with 503 and returns the registrations.
    pub fn fail(self, out: &mut Outbox, failure: &Failure<'_>) -> Vec<Registration> {
        for AgentRequest {
            request, operation, ..
        } in self.agent_requests
        {
            let (done, subject) = match operation {
                AgentOperation::Delete => ("deleted", "the agents were"),
                AgentOperation::Reclaim => ("reclaimed", "the allocations were"),
                AgentOperation::Unconfirm => ("changed", "the agents were"),
            };
            let sentence = failure.sentence(done, subject, "the state");
            out.respond(request, Response::unavailable(&sentence));
        }
        for change in self.overlay_changes {
            let sentence = failure.sentence("changed", "the overlay was", "the overlays");
            out.respond(change.request, Response::unavailable(&sentence));
        }
        let registrations = self.registrations.into_values();
        registrations
            .map(|answered| answered.registration)
            .collect()
    }
}
