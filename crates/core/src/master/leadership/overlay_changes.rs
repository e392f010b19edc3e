//! Operators' requests to add, change and remove overlays.

use super::{Leadership, MasterParts, registered_agents};
use crate::master::answers::PendingOverlayChange;
use crate::master::endpoints::OverlayChange;
use crate::master::networks::{Change, Refusal};
use crate::master::overlays;
use crate::{Level, RequestId, Response};

impl Leadership {
    /// Adds, changes or removes an overlay. The request is answered when the log has the
    /// change.
    pub fn handle_overlay_change(
        &mut self,
        parts: &mut MasterParts<'_>,
        request: RequestId,
        requested: &OverlayChange,
    ) {
        let OverlayChange {
            change,
            removal,
            permits_hosts,
        } = requested;
        let name = change.name().to_owned();
        if let Err(refusal) = self.hosts(parts.me, parts.sessions).check(change) {
            if !permits_hosts {
                return parts
                    .out
                    .respond(request, Response::text(refusal.status, &refusal.sentence));
            }
            let line = format!("By \"force\", in spite of this: {}", refusal.sentence);
            parts.out.log(Level::Warning, line);
        }
        let before = self.ledger.networks().last_known(&name).cloned();
        let registered = registered_agents(parts.sessions, &self.answers);
        let pending = match self.ledger.change_networks(change, *removal, &registered) {
            Err(Refusal { status, sentence }) => {
                return parts
                    .out
                    .respond(request, Response::text(status, &sentence));
            }
            Ok(None) => PendingOverlayChange {
                request,
                name,
                status: 200,
                before: None,
            },
            Ok(Some(made)) => {
                parts.out.log(Level::Info, made.summary);
                self.set_lists(made.lists);
                let is_new = matches!(change, Change::Add(_));
                PendingOverlayChange {
                    request,
                    name,
                    status: if is_new { 201 } else { 200 },
                    before,
                }
            }
        };
        self.answers.overlay_changes.push(pending);
    }

    /// Answers a request to change an overlay, once the log has the change.
    pub(super) fn answer_overlay_change(
        &mut self,
        parts: &mut MasterParts<'_>,
        change: PendingOverlayChange,
    ) {
        let PendingOverlayChange {
            request,
            name,
            status,
            before,
        } = change;
        let overlay = overlays::overlay_json(&self.ledger, &name, before.as_ref());
        let mut response = Response::json(overlay.unwrap_or_default(), None);
        response.status = status;
        if status == 201 {
            response
                .headers
                .push(("Location", format!("/overlay-master/overlays/{name}")));
        }
        parts.out.respond(request, response);
    }
}
