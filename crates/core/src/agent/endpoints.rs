//! The agent's HTTP endpoints: what this agent has and how it fares.

use prost::Message;

use super::Agent;
use crate::metrics::PROMETHEUS;
use crate::proto::AgentInfo;
use crate::protocol::http::{JSON, PROTOBUF, Request, Response, negotiate};
use crate::protocol::routes;
use crate::protocol::routes::{Access, Endpoint};
use crate::protocol::views;
use crate::protocol::views::AgentDetails;
use crate::{Effect, Io, Upid};

/// The operation that a request names by its path and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Returns this agent and its overlays.
    Overlay,
    /// Returns the metrics.
    Metrics,
}

/// The endpoints of an agent.
pub const ENDPOINTS: &[Endpoint<Route>] = &[
    Endpoint {
        path: "/overlay-agent/overlay",
        methods: &[("GET", Route::Overlay)],
        access: Access::Readers,
        title: "This agent's overlays and how it fares with each.",
        help: "JSON, or `AgentInfo` as `application/x-protobuf` if only that is accepted; 415 if neither is. \
               `?jsonp=f` wraps JSON in a call of `f`.",
    },
    Endpoint {
        path: "/overlay-agent/metrics",
        methods: &[("GET", Route::Metrics)],
        access: Access::Readers,
        title: "This agent's numbers, for Prometheus.",
        help: "Prometheus's text format, version 0.0.4. The same numbers are in Mesos's `/metrics/snapshot`.",
    },
];

impl Agent {
    pub(super) fn on_request(&mut self, request: &Request) {
        let response = self.respond(request).unwrap_or_else(|invalid| invalid);
        self.effects.push_back(Effect::Io(Io::Respond {
            id: request.id,
            response,
        }));
    }

    /// Returns the answer; an error is the answer to a request that is invalid.
    fn respond(&self, request: &Request) -> Result<Response, Response> {
        let route = routes::route(ENDPOINTS, request)?.operation;
        let jsonp = request.jsonp()?;
        Ok(match route {
            Route::Overlay => self.overlay(request, jsonp),
            Route::Metrics => Response::ok(PROMETHEUS, self.numbers().to_prometheus()),
        })
    }

    fn overlay(&self, request: &Request, jsonp: Option<&str>) -> Response {
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
        let details = AgentDetails {
            addresses: Some(&addresses),
            draining: self.configuration.draining(),
            host_errors: &self.host_errors(),
            master: master.as_deref(),
            notices: &self.notices,
            problems: &self.problems,
            registered: self.is_registered(),
        };
        views::agent(&self.info(), &details)
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
