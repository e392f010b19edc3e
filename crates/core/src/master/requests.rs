//! HTTP requests of operators and programs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agent_query::AgentQuery;
use super::endpoints;
use super::endpoints::{Route, Routed};
use super::{Master, Phase, networks, overlays, page};
use crate::metrics::PROMETHEUS;
use crate::protocol::views;
use crate::{Request, Response};

impl Master {
    pub(super) fn handle_request(&mut self, request: &Request) {
        let routed = match endpoints::route(request) {
            Ok(routed) => routed,
            Err(response) => return self.out.respond(request.id, response),
        };
        match routed.route {
            Route::Health => {
                let response = self.health(&request.query, routed.jsonp.as_deref());
                self.out.respond(request.id, response);
            }
            Route::Metrics => {
                let response = Response::ok(PROMETHEUS, self.numbers().to_prometheus());
                self.out.respond(request.id, response);
            }
            Route::Page => self.out.respond(request.id, page::page(request)),
            Route::PageFile => {
                let response = page::file(routed.name, request);
                self.out.respond(request.id, response);
            }
            _ => self.handle_leader_request(request, routed),
        }
    }

    /// Handles a request that only a master that serves can answer.
    fn handle_leader_request(&mut self, request: &Request, routed: Routed<'_>) {
        let id = request.id;
        if let Some(sentence) = self.why_not_serving() {
            return self.out.respond(id, Response::unavailable(&sentence));
        }
        let Some((leadership, mut parts)) = self.leadership() else {
            return;
        };
        let Routed { route, name, jsonp } = routed;
        match route {
            Route::Health | Route::Metrics | Route::Page | Route::PageFile => {}
            Route::Overview => {
                let response = match jsonp {
                    None => leadership.overview(&parts, request),
                    Some(_) => Response::bad_request("This endpoint has no parameter jsonp."),
                };
                parts.out.respond(id, response);
            }
            Route::Agents => {
                let response = match AgentQuery::parse(&request.query) {
                    Ok(query) => leadership.agents(&parts, &query, request),
                    Err(response) => response,
                };
                parts.out.respond(id, response);
            }
            Route::State => {
                let state = leadership.state_json(&parts);
                parts
                    .out
                    .respond(id, Response::json(state, jsonp.as_deref()));
            }
            Route::Delete => match endpoints::agents_to_delete(&request.body) {
                Ok(delete) => leadership.handle_delete(&mut parts, &delete, id, jsonp),
                Err(response) => parts.out.respond(id, response),
            },
            Route::Reclaim => match endpoints::agents_to_reclaim(&request.body) {
                Ok(reclaim) => leadership.handle_reclaim(&mut parts, &reclaim, id, jsonp),
                Err(response) => parts.out.respond(id, response),
            },
            Route::Unconfirm => match endpoints::agents_to_unconfirm(&request.body) {
                Ok(agents) => leadership.handle_unconfirm(&mut parts, &agents, id, jsonp),
                Err(response) => parts.out.respond(id, response),
            },
            Route::Overlays => {
                let overlays = overlays::overlays_json(leadership.ledger());
                parts
                    .out
                    .respond(id, Response::json(overlays, jsonp.as_deref()));
            }
            Route::Overlay => {
                let overlay = overlays::overlay_json(leadership.ledger(), name, None);
                let response = match overlay {
                    Some(overlay) => Response::json(overlay, jsonp.as_deref()),
                    None => Response::text(404, &networks::unknown(name)),
                };
                parts.out.respond(id, response);
            }
            Route::AddOverlay | Route::ChangeOverlay | Route::RemoveOverlay => {
                match endpoints::overlay_change(route, name, &request.body) {
                    Ok(change) => leadership.handle_overlay_change(&mut parts, id, &change),
                    Err(response) => parts.out.respond(id, response),
                }
            }
        }
    }

    /// Returns whether this master serves, as 200 or 503.
    fn health(&self, query: &BTreeMap<String, String>, jsonp: Option<&str>) -> Response {
        let status = match &self.phase {
            Phase::Serving(_) => "serving",
            Phase::Standby => "standby",
            Phase::Recovering(_) => "recovering",
            Phase::Broken(_) => "broken",
        };
        let standby_is_healthy = query.get("standby").is_some_and(|value| value == "ok");
        let is_healthy = match &self.phase {
            Phase::Serving(_) => true,
            Phase::Standby => standby_is_healthy,
            Phase::Recovering(_) | Phase::Broken(_) => false,
        };
        let reason = self.why_not_serving();
        let leader = self
            .leader
            .as_ref()
            .map(|leader| leader.address.to_string());
        let health = views::Health {
            leader,
            reason: reason.as_deref(),
            status,
        };
        let response = Response::json(health.to_json(), jsonp);
        if is_healthy {
            response
        } else {
            Response {
                status: 503,
                ..response
            }
        }
    }

    fn why_not_serving(&self) -> Option<String> {
        match &self.phase {
            Phase::Serving(_) => None,
            Phase::Standby => Some(self.why_standby()),
            Phase::Broken(sentence) => Some(sentence.clone()),
            Phase::Recovering(recovering) => {
                let error = recovering.error();
                let error = error.map(|error| format!(" The latest attempt failed: {error}."));
                let waited = recovering.unanswered_for(self.out.now());
                let missing = waited.map(|waited| self.what_is_missing(waited));
                Some(format!(
                    "This master leads, and is still reading its state from the replicated log.{}{}",
                    error.unwrap_or_default(),
                    missing.unwrap_or_default()
                ))
            }
        }
    }

    /// Returns what a read needs that has no answer for this time.
    fn what_is_missing(&self, waited: Duration) -> String {
        let seconds = waited.as_secs();
        match self.config.zk.as_ref().map(|zk| zk.quorum) {
            Some(quorum @ 2..) => format!(
                " No quorum of replicas has answered for {seconds} s: {quorum} masters must run whose replicas have \
                 recovered (overlay/master/log/recovered is 1 in their /metrics/snapshot). A new replica recovers \
                 if {quorum} others have, or if the replicas of all {} masters are new; docs/operations.md says how one \
                 master becomes three.",
                2 * quorum - 1
            ),
            _ => format!(" Its replica has not answered for {seconds} s."),
        }
    }
}
