//! Agents that leave: the operator deletes them, or their leases end.

use std::net::Ipv4Addr;

use super::batch::{Deletion, Gone};
use super::endpoints::ToDelete;
use super::leases::parting;
use super::record::AgentRecord;
use super::serving::{Context, Serving, summary};
use crate::proto::internal::UpdateAgentOverlaysMessage;
use crate::{Level, RequestId, Response};

impl Serving {
    /// Deletes agents: all of them with one write, or none. Unknown ones are no error.
    pub fn delete(
        &mut self,
        cx: &mut Context<'_>,
        asked: &ToDelete,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        let connected: Vec<_> = asked
            .agents
            .iter()
            .filter(|ip| cx.sessions.is_connected(**ip))
            .collect();
        if !asked.force && !connected.is_empty() {
            cx.out
                .respond(request, Response::conflict(&refuse_connected(&connected)));
            return;
        }
        for ip in &asked.agents {
            // Nothing is kept for it to come back to.
            if self.former.remove(*ip).is_some() {
                self.gathering.changed.insert(*ip);
            }
            let line = match self.records.get(ip) {
                Some(record) => format!(
                    "Deleting agent {ip}, which frees {}",
                    summary(&record.allocation)
                ),
                None => format!("Nothing to delete: agent {ip} holds nothing"),
            };
            cx.out.log(Level::Info, line);
            self.take_all_from(cx, *ip, false);
        }
        self.gathering.held.deletions.push(Deletion {
            request,
            jsonp,
            reclaims: false,
        });
    }

    /// Takes all that an agent holds; what that was.
    pub(super) fn take_all_from(
        &mut self,
        cx: &mut Context<'_>,
        ip: Ipv4Addr,
        reclaimed: bool,
    ) -> Option<AgentRecord> {
        let record = self.records.remove(&ip)?;
        self.allocator.release(&record.allocation);
        self.gathering.changed.insert(ip);
        // Its answer would say what is not so any more.
        self.gathering.held.registrations.remove(&ip);
        let session = cx.sessions.get(ip).map(|session| session.serial);
        self.gathering.held.gone.push(Gone {
            ip,
            session,
            reclaimed,
        });
        cx.sessions.retire(ip);
        self.forget_holder(cx, ip);
        Some(record)
    }

    /// The log has an agent no more.
    pub(super) fn gone(&mut self, cx: &mut Context<'_>, gone: &Gone) {
        let Gone {
            ip,
            session: serial,
            reclaimed,
        } = *gone;
        let session = cx
            .sessions
            .get(ip)
            .filter(|session| Some(session.serial) == serial);
        // What it was told of it does not hold any more.
        self.pushed.forget(ip);
        if let Some(session) = session {
            if reclaimed {
                // It cannot be reached, as far as we know. If it can, it must not go on
                // with what will be another agent's.
                let notices = vec![parting(cx.sessions, ip, cx.out.now())];
                let nothing = UpdateAgentOverlaysMessage {
                    notices,
                    ..Default::default()
                };
                cx.out.send(&session.pid, &nothing);
            } else if session.connected {
                cx.out
                    .send(&session.pid, &UpdateAgentOverlaysMessage::default());
            }
            self.peers.leave(ip);
            cx.sessions.remove(ip);
        }
        if !self.records.contains_key(&ip) {
            cx.sessions.forget_contact(ip);
        }
    }

    /// The log has what a request is about.
    pub(super) fn deleted(&mut self, cx: &mut Context<'_>, deletion: &Deletion) {
        let state = self.state_json(cx.out.now(), cx.sessions);
        cx.out.respond(
            deletion.request,
            Response::json(state, deletion.jsonp.as_deref()),
        );
    }
}

/// Why nothing was deleted.
fn refuse_connected(connected: &[&Ipv4Addr]) -> String {
    let names: Vec<_> = connected.iter().map(ToString::to_string).collect();
    format!(
        "Nothing was deleted. Connected to this master, and so perhaps with containers that use what they \
         hold: {}. Stop these agents first, or say \"force\": true.",
        names.join(", ")
    )
}
