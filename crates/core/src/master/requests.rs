//! What operators and programs ask over HTTP.

use std::collections::BTreeMap;

use super::changes::ChangeRequest;
use super::endpoints;
use super::endpoints::Asked;
use super::{Master, Phase, networks};
use crate::metrics::PROMETHEUS;
use crate::protocol::views;
use crate::{Request, Response};

impl Master {
    pub(super) fn request(&mut self, request: &Request) {
        let (asked, name, jsonp) = match endpoints::asked(request) {
            Ok(asked) => asked,
            Err(response) => return self.out.respond(request.id, response),
        };
        match asked {
            Asked::Health => {
                let response = self.health(&request.query, jsonp.as_deref());
                self.out.respond(request.id, response);
            }
            Asked::Metrics => {
                let response = Response::ok(PROMETHEUS, self.numbers().to_prometheus());
                self.out.respond(request.id, response);
            }
            _ => self.ask_serving(request, asked, name, jsonp.as_deref()),
        }
    }

    /// What only a master that serves can answer.
    fn ask_serving(&mut self, request: &Request, asked: Asked, name: &str, jsonp: Option<&str>) {
        let id = request.id;
        if let Some(sentence) = self.why_not_serving() {
            return self.out.respond(id, Response::unavailable(&sentence));
        }
        let Some((serving, mut cx)) = self.serving() else {
            return;
        };
        match asked {
            Asked::Health | Asked::Metrics => {}
            Asked::State => {
                let state = serving.state_json(cx.out.now(), cx.sessions);
                cx.out.respond(id, Response::json(state, jsonp));
            }
            Asked::Delete => match endpoints::agents_to_delete(&request.body) {
                Ok(asked) => serving.delete(&mut cx, &asked, id, jsonp.map(str::to_owned)),
                Err(response) => cx.out.respond(id, response),
            },
            Asked::Reclaim => match endpoints::agents_to_reclaim(&request.body) {
                Ok(asked) => serving.reclaim(&mut cx, &asked, id, jsonp.map(str::to_owned)),
                Err(response) => cx.out.respond(id, response),
            },
            Asked::Overlays => cx
                .out
                .respond(id, Response::json(serving.overlays_json(), jsonp)),
            Asked::Overlay => {
                let overlay = serving
                    .overlay_json(name, None)
                    .map(|overlay| Response::json(overlay, jsonp));
                cx.out.respond(
                    id,
                    overlay.unwrap_or_else(|| Response::text(404, &networks::unknown(name))),
                );
            }
            Asked::AddOverlay | Asked::ChangeOverlay | Asked::RemoveOverlay => {
                match endpoints::change(asked, name, &request.body) {
                    Ok((change, force)) => {
                        serving.change(
                            &mut cx,
                            ChangeRequest {
                                request: id,
                                change,
                                force,
                            },
                        );
                    }
                    Err(response) => cx.out.respond(id, response),
                }
            }
        }
    }

    /// Whether this master serves.
    fn health(&self, query: &BTreeMap<String, String>, jsonp: Option<&str>) -> Response {
        let status = match &self.phase {
            Phase::Serving(_) => "serving",
            Phase::Standby => "standby",
            Phase::Recovering(_) => "recovering",
            Phase::Broken(_) => "broken",
        };
        let standby_will_do = query.get("standby").is_some_and(|value| value == "ok");
        let healthy = match &self.phase {
            Phase::Serving(_) => true,
            Phase::Standby => standby_will_do,
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
        if healthy {
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
                let error = recovering.error.as_ref();
                let error = error.map(|error| format!(" The latest attempt failed: {error}."));
                Some(format!(
                    "This master leads, and is still reading its state from the replicated log.{}",
                    error.unwrap_or_default()
                ))
            }
        }
    }
}
