//! The HTTP endpoints of the agent.

use prost::Message;

use super::Agent;
use crate::Upid;
use crate::metrics::PROMETHEUS;
use crate::proto::AgentInfo;
use crate::protocol::http::{JSON, PROTOBUF, Request, Response, negotiate};
use crate::protocol::routes;
use crate::protocol::routes::{Access, Endpoint};
use crate::protocol::views;
use crate::protocol::views::AgentDetails;

/// The operation that a request names by its path and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Returns this agent and its overlays.
    Overlay,
    /// Returns the other agents.
    Peers,
    /// Returns the metrics.
    Metrics,
}

/// The endpoints of an agent.
pub const ENDPOINTS: &[Endpoint<Route>] = &[
    Endpoint {
        path: "/overlay-agent/overlay",
        methods: &[("GET", Route::Overlay)],
        access: Access::Readers,
        title: "This agent's overlays and their states.",
        help: "JSON, or `AgentInfo` as `application/x-protobuf` if only that is accepted; 415 if neither is. \
               `?jsonp=f` wraps JSON in a call of `f`.",
    },
    Endpoint {
        path: "/overlay-agent/peers",
        methods: &[("GET", Route::Peers)],
        access: Access::Readers,
        title: "The other agents, as this agent knows them.",
        help: "JSON. `?jsonp=f` wraps it in a call of `f`.",
    },
    Endpoint {
        path: "/overlay-agent/metrics",
        methods: &[("GET", Route::Metrics)],
        access: Access::Readers,
        title: "This agent's metrics, for Prometheus.",
        help: "Prometheus's text format, version 0.0.4. The same metrics are in Mesos's `/metrics/snapshot`.",
    },
];

impl Agent {
    pub(super) fn handle_request(&mut self, request: &Request) {
        let response = self.respond(request).unwrap_or_else(|error| error);
        self.out.respond(request.id, response);
    }

    /// Returns the answer; an error is the answer to an invalid request.
    fn respond(&self, request: &Request) -> Result<Response, Response> {
        let route = routes::route(ENDPOINTS, request)?.operation;
        let jsonp = request.jsonp()?;
        Ok(match route {
            Route::Overlay => self.overlay(request, jsonp),
            Route::Peers => Response::json(views::peers(self.peers.announced()), jsonp),
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

    /// Returns the agent as JSON, with more than the protobuf has.
    fn json(&self) -> Vec<u8> {
        let master = self.registration.master().map(Upid::to_string);
        let authentication = self.master_authentication();
        let addresses = self.addresses();
        let draining: Vec<String> = self.host.draining().values().cloned().collect();
        let details = AgentDetails {
            addresses: Some(&addresses),
            draining: &draining,
            host_errors: &self.host_problems(),
            master: master.as_deref(),
            master_authentication: authentication.as_deref(),
            notices: &self.notices,
            problems: &self.all_problems(),
            registered: self.is_registered(),
        };
        views::agent(&self.info(), &details)
    }

    /// Returns this agent and its overlays, with their states.
    fn info(&self) -> AgentInfo {
        AgentInfo {
            confirmed: None,
            provisional: None,
            ip: self.me.address.ip().to_string(),
            overlays: self.overlays(),
            configuration_attempts: Some(self.host.target().attempts()),
        }
    }
}
