//! `/overlay-agent/overlay`: what this agent has and how it fares.

use prost::Message;

use super::Agent;
use crate::core::Effect;
use crate::core::http::{JSON, PROTOBUF, Request, Response, negotiate};
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
        let _jsonp = match request.jsonp() {
            Ok(jsonp) => jsonp,
            Err(response) => return response,
        };
        match negotiate(request.accept.as_deref(), &[JSON, PROTOBUF]) {
            Some(JSON) => Response::unavailable("not yet"),
            Some(_) => Response::ok(PROTOBUF, self.info().encode_to_vec()),
            None => Response::unsupported_media_type(&[JSON, PROTOBUF]),
        }
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
