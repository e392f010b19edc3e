//! Agents that lose their allocations: the operator deletes them, or their leases end.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{Leadership, MasterParts, leases, registered_agents};
use crate::master::answers::{AgentOperation, AgentRequest, DepartedAgent, Departure};
use crate::master::endpoints::{DeleteRequest, ReclaimRequest};
use crate::master::leases::MAX_NAMED;
use crate::master::notices;
use crate::master::trust::Trust;
use crate::proto::internal::UpdateAgentOverlaysMessage;
use crate::util::line::list_first;
use crate::{Level, RequestId, Response};

impl Leadership {
    /// Deletes agents, all with one write or none. Unknown agents are no error.
    pub fn handle_delete(
        &mut self,
        parts: &mut MasterParts<'_>,
        delete: &DeleteRequest,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        let connected: Vec<_> = delete
            .agents
            .iter()
            .filter(|ip| parts.sessions.is_connected(**ip))
            .collect();
        if !delete.force && !connected.is_empty() {
            let refusal = Response::conflict(&refuse_connected(&connected));
            return parts.out.respond(request, refusal);
        }
        let mut unknown = Vec::new();
        for ip in &delete.agents {
            match self.ledger.allocation(*ip) {
                Some(allocation) => {
                    let line = format!("Deleting agent {ip}, which frees {allocation}");
                    parts.out.log(Level::Info, line);
                }
                None => unknown.push(ip),
            }
            self.depart(parts, *ip, Departure::Deleted);
        }
        if let Some(first) = unknown.first() {
            let line = match unknown.len() {
                1 => format!("Nothing to delete: agent {first} holds nothing"),
                count => format!(
                    "Nothing to delete: {count} of the agents hold nothing, among them {first}"
                ),
            };
            parts.out.log(Level::Info, line);
        }
        self.answers.agent_requests.push(AgentRequest {
            request,
            jsonp,
            operation: AgentOperation::Delete,
        });
    }

    /// Reclaims the allocations of agents whose leases ended, all with one write or none.
    pub fn handle_reclaim(
        &mut self,
        parts: &mut MasterParts<'_>,
        reclaim: &ReclaimRequest,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        let leases = leases(parts, &self.answers);
        let agents = match leases.select(&self.ledger, reclaim.agents.as_ref()) {
            Ok(agents) => agents,
            Err(sentence) => return parts.out.respond(request, Response::conflict(&sentence)),
        };
        for ip in agents {
            self.reclaim(parts, ip, "the operator requested it");
        }
        self.answers.agent_requests.push(AgentRequest {
            request,
            jsonp,
            operation: AgentOperation::Reclaim,
        });
    }

    /// Takes the confirmation of agents back: they may be of an earlier release from now on.
    pub fn handle_unconfirm(
        &mut self,
        parts: &mut MasterParts<'_>,
        agents: &BTreeSet<Ipv4Addr>,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        for ip in agents {
            parts.confirmed.forget(*ip);
            if self.ledger.trust(*ip) == Some(Trust::Confirmed)
                && self.ledger.set_trust(*ip, Trust::Legacy)
            {
                let line = format!("Agent {ip} may be of an earlier release from now on");
                parts.out.log(Level::Info, line);
            }
        }
        self.answers.agent_requests.push(AgentRequest {
            request,
            jsonp,
            operation: AgentOperation::Unconfirm,
        });
    }

    /// Reclaims the allocation of an agent whose lease ended.
    pub(super) fn reclaim(&mut self, parts: &mut MasterParts<'_>, ip: Ipv4Addr, reason: &str) {
        let Some(allocation) = self.ledger.allocation(ip) else {
            return;
        };
        let silence = parts
            .out
            .now()
            .since(parts.sessions.last_contact(ip))
            .as_secs();
        let line = format!(
            "Reclaiming {allocation} from agent {ip}, without contact for {silence} s; {reason}"
        );
        parts.out.log(Level::Warning, line);
        self.depart(parts, ip, Departure::LeaseEnded);
    }

    /// Removes the allocation of an agent. The agent is notified when the log has the removal.
    pub(super) fn depart(
        &mut self,
        parts: &mut MasterParts<'_>,
        ip: Ipv4Addr,
        departure: Departure,
    ) {
        if self.ledger.allocation(ip).is_some() {
            // The pending answer lists subnets that the agent has lost.
            self.answers.registrations.remove(&ip);
            self.answers.pushes.remove(&ip);
            self.answers.departed.push(DepartedAgent {
                ip,
                session: parts.sessions.get(ip).map(|session| session.serial),
                departure,
            });
            self.pushes.remove(ip);
            parts.sessions.end_registration(ip);
        }
        let registered = || registered_agents(parts.sessions, &self.answers);
        let outcome = match departure {
            Departure::Deleted => self.ledger.delete(ip, registered),
            Departure::LeaseEnded => self.ledger.reclaim(ip, registered),
        };
        self.handle_drain_outcome(parts, outcome);
    }

    /// Notifies an agent that it has no allocation any more, and forgets its session. Called
    /// when the log has the removal.
    pub(super) fn finish_departure(
        &mut self,
        parts: &mut MasterParts<'_>,
        departed: &DepartedAgent,
    ) {
        let DepartedAgent {
            ip,
            session: serial,
            departure,
        } = *departed;
        let session = parts
            .sessions
            .get(ip)
            .filter(|session| Some(session.serial) == serial);
        self.pushes.remove(ip);
        if let Some(session) = session {
            let mut nothing = UpdateAgentOverlaysMessage::default();
            let is_told = match departure {
                Departure::Deleted => session.is_connected,
                // The agent is most likely unreachable. If it is not, it must stop using
                // subnets that another agent gets.
                Departure::LeaseEnded => {
                    let notice = notices::lease_ended(parts.sessions, ip, parts.out.now());
                    nothing.notices = vec![notice];
                    true
                }
            };
            if is_told {
                parts.out.send(&session.pid, &nothing);
            }
            self.peers.unsubscribe(ip);
            parts.sessions.remove(ip);
        }
        if self.ledger.allocation(ip).is_none() {
            parts.sessions.forget_contact(ip);
        }
    }

    /// Answers a request about agents, once the log has the changes.
    pub(super) fn answer_agent_request(
        &mut self,
        parts: &mut MasterParts<'_>,
        request: &AgentRequest,
    ) {
        let state = self.state_json(parts);
        let response = Response::json(state, request.jsonp.as_deref());
        parts.out.respond(request.request, response);
    }
}

/// Returns the reason for which no agent was deleted.
fn refuse_connected(connected: &[&Ipv4Addr]) -> String {
    let names: Vec<_> = connected.iter().map(ToString::to_string).collect();
    format!(
        "Nothing was deleted. These agents are connected to this master, and containers may be using \
         their subnets: {}. Stop these agents first, or say \"force\": true.",
        list_first(&names, MAX_NAMED)
    )
}
