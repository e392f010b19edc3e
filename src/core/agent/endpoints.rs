//! `/overlay-agent/overlay`: what this agent has and how it fares.

use prost::Message;

use super::Agent;
use crate::core::http::{JSON, PROTOBUF, Request, Response, negotiate};
use crate::core::json::{self, About};
use crate::core::{Effect, Upid};
use crate::wire::AgentInfo;

const OVERLAY: &str = "/overlay-agent/overlay";

impl Agent {
    pub(super) fn on_request(&mut self, request: &Request) {
        let response = self.respond(request);
        self.effects.push_back(Effect::Respond { id: request.id, response });
    }

    fn respond(&self, request: &Request) -> Response {
        if request.path.trim_end_matches('/') != OVERLAY {
            return Response::not_found(&request.path, &[OVERLAY]);
        }
        if !request.is_get() {
            return Response::method_not_allowed("GET, HEAD");
        }
        let jsonp = match request.jsonp() {
            Ok(jsonp) => jsonp,
            Err(response) => return response,
        };
        match negotiate(request.accept.as_deref(), &[JSON, PROTOBUF]) {
            Some(JSON) => Response::json(self.json(), jsonp),
            Some(_) => Response::ok(PROTOBUF, self.info().encode_to_vec()),
            None => Response::unsupported_media_type(&[JSON, PROTOBUF]),
        }
    }

    /// The same, and what an operator wants to know besides.
    fn json(&self) -> Vec<u8> {
        let master = self.registration.master().map(Upid::to_string);
        let addresses = self.addresses();
        let about = About {
            addresses: Some(&addresses),
            draining: self.configuration.draining(),
            host_errors: &self.host_errors(),
            master: master.as_deref(),
            problems: &self.problems,
            registered: self.is_registered(),
        };
        json::agent(&self.info(), &about)
    }

    /// This agent and its overlays, with their states.
    fn info(&self) -> AgentInfo {
        AgentInfo {
            ip: self.me.address.ip().to_string(),
            overlays: self.overlays(),
            configuration_attempts: Some(self.configuration.attempts()),
        }
    }
}
