//! Agents that lose their allocations: the operator deletes them, or their leases end.

use std::net::Ipv4Addr;

use super::{Leadership, MasterParts, leases, registered_agents};
use crate::master::answers::{DepartedAgent, Departure, DepartureRequest};
use crate::master::endpoints::{DeleteRequest, ReclaimRequest};
use crate::master::notices;
use crate::proto::internal::UpdateAgentOverlaysMessage;
use crate::{Level, RequestId, Response};

impl Leadership {
    /// Deletes agents, all with one write or none. Unknown agents are no error.
    pub fn handle_delete(
        &mut self,
        cx: &mut MasterParts<'_>,
        delete: &DeleteRequest,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        let connected: Vec<_> = delete
            .agents
            .iter()
            .filter(|ip| cx.sessions.is_connected(**ip))
            .collect();
        if !delete.force && !connected.is_empty() {
            let refusal = Response::conflict(&refuse_connected(&connected));
            return cx.out.respond(request, refusal);
        }
        for ip in &delete.agents {
            let line = match self.ledger.allocation(*ip) {
                Some(allocation) => format!("Deleting agent {ip}, which frees {allocation}"),
                None => format!("Nothing to delete: agent {ip} holds nothing"),
            };
            cx.out.log(Level::Info, line);
            self.depart(cx, *ip, Departure::Deleted);
        }
        self.answers.departures.push(DepartureRequest {
            request,
            jsonp,
            departure: Departure::Deleted,
        });
    }

    /// Reclaims the allocations of agents whose leases ended, all with one write or none.
    pub fn handle_reclaim(
        &mut self,
        cx: &mut MasterParts<'_>,
        reclaim: &ReclaimRequest,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        let leases = leases(cx, &self.answers);
        let agents = match leases.select(&self.ledger, reclaim.agents.as_ref()) {
            Ok(agents) => agents,
            Err(sentence) => return cx.out.respond(request, Response::conflict(&sentence)),
        };
        for ip in agents {
            self.reclaim(cx, ip, "the operator requested it");
        }
        self.answers.departures.push(DepartureRequest {
            request,
            jsonp,
            departure: Departure::LeaseEnded,
        });
    }

    /// Reclaims the allocation of an agent whose lease ended.
    pub(super) fn reclaim(&mut self, cx: &mut MasterParts<'_>, ip: Ipv4Addr, reason: &str) {
        let Some(allocation) = self.ledger.allocation(ip) else {
            return;
        };
        let silence = cx.out.now().since(cx.sessions.last_contact(ip)).as_secs();
        let line = format!(
            "Reclaiming {allocation} from agent {ip}, without contact for {silence} s; {reason}"
        );
        cx.out.log(Level::Warning, line);
        self.depart(cx, ip, Departure::LeaseEnded);
    }

    /// Takes its allocation from an agent. The agent is told when that is in the log.
    pub(super) fn depart(&mut self, cx: &mut MasterParts<'_>, ip: Ipv4Addr, departure: Departure) {
        if self.ledger.allocation(ip).is_some() {
            // Its answer would list subnets that it does not have any more.
            self.answers.registrations.remove(&ip);
            self.answers.pushes.remove(&ip);
            self.answers.departed.push(DepartedAgent {
                ip,
                session: cx.sessions.get(ip).map(|session| session.serial),
                departure,
            });
            self.pushes.remove(ip);
            cx.sessions.end_registration(ip);
        }
        let registered = || registered_agents(cx.sessions, &self.answers);
        let settled = match departure {
            Departure::Deleted => self.ledger.delete(ip, registered),
            Departure::LeaseEnded => self.ledger.reclaim(ip, registered),
        };
        self.handle_drain_outcome(cx, settled);
    }

    /// Tells an agent that it has no allocation any more, and forgets its session. The log has
    /// that now.
    pub(super) fn finish_departure(&mut self, cx: &mut MasterParts<'_>, departed: &DepartedAgent) {
        let DepartedAgent {
            ip,
            session: serial,
            departure,
        } = *departed;
        let session = cx
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
                    let notice = notices::lease_ended(cx.sessions, ip, cx.out.now());
                    nothing.notices = vec![notice];
                    true
                }
            };
            if is_told {
                cx.out.send(&session.pid, &nothing);
            }
            self.peers.unsubscribe(ip);
            cx.sessions.remove(ip);
        }
        if self.ledger.allocation(ip).is_none() {
            cx.sessions.forget_contact(ip);
        }
    }

    /// Answers a request to delete or to reclaim. The log has the changes.
    pub(super) fn answer_departure(
        &mut self,
        cx: &mut MasterParts<'_>,
        request: &DepartureRequest,
    ) {
        let state = self.state_json(cx.out.now(), cx.sessions);
        let response = Response::json(state, request.jsonp.as_deref());
        cx.out.respond(request.request, response);
    }
}

/// Returns the reason for which no agent was deleted.
fn refuse_connected(connected: &[&Ipv4Addr]) -> String {
    let names: Vec<_> = connected.iter().map(ToString::to_string).collect();
    format!(
        "Nothing was deleted. These agents are connected to this master, and containers may be using \
         their subnets: {}. Stop these agents first, or say \"force\": true.",
        names.join(", ")
    )
}
