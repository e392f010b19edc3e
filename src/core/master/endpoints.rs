//! The master's HTTP endpoints: what is asked, before it is known whether this
//! master can answer.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::core::endpoints::{Access, Endpoint};
use crate::core::{Request, Response, endpoints};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The state.
    State,
    /// To delete agents; the body is not read yet.
    Delete,
    /// Whether this master serves.
    Health,
}

/// All endpoints of a master.
pub const ENDPOINTS: &[Endpoint<Asked>] = &[
    Endpoint {
        path: "/overlay-master/state",
        methods: &[("GET", Asked::State)],
        access: Access::Readers,
        title: "The overlay networks and what every agent has of them.",
        help: "Networks and allocations as JSON, as they are stored in the replicated log, and how the agents \
               fare. `?jsonp=f` wraps the answer in a call of `f`.\n\n\
               503 and a sentence if this master does not lead, or has not read the log yet.",
    },
    Endpoint {
        path: "/overlay-master/agents/delete",
        methods: &[("POST", Asked::Delete)],
        access: Access::Writers,
        title: "Take back what agents that are gone for good have.",
        help: "The body is `{\"agents\": [\"10.0.0.1\", …]}`. Returns the new state once it is stored; unknown \
               agents are no error.\n\n\
               409 if one of them is connected, unless the body has `\"force\": true`; an agent that is \
               alive registers anew then. 400 if the body is something else. In both cases nothing was \
               deleted. 503 and a sentence, which says \
               whether anything was deleted, if this master does not lead or cannot write the log.",
    },
    Endpoint {
        path: "/overlay-master/health",
        methods: &[("GET", Asked::Health)],
        access: Access::Anyone,
        title: "Whether this master serves, for load balancers.",
        help: "200 if this master leads and serves, 503 if not. With `?standby=ok` a master that only waits to \
               lead is healthy as well: 503 means then that it leads and cannot serve, because it is still \
               reading the replicated log, or cannot use what is in it.\n\n\
               JSON: `status` is `serving`, `standby`, `recovering` or `broken`, `reason` says why it does not \
               serve, `leader` where the leading master is.",
    },
];

/// Finds out what a request asks for, and the function to wrap the answer in. The
/// error is the answer to a request that makes no sense.
pub fn asked(request: &Request) -> Result<(Asked, Option<String>), Response> {
    let (asked, _) = endpoints::asked(ENDPOINTS, request)?;
    Ok((asked, request.jsonp()?.map(str::to_owned)))
}

/// Which agents to delete.
#[derive(Debug, PartialEq, Eq)]
pub struct ToDelete {
    /// Those that the body names.
    pub agents: BTreeSet<Ipv4Addr>,
    /// Connected ones too.
    pub force: bool,
}

/// The body `{"agents": ["10.0.0.1", …], "force": false}`. Nothing is done unless all
/// of it makes sense.
pub fn agents_to_delete(body: &[u8]) -> Result<ToDelete, Response> {
    let bad = |what: &str| {
        Response::bad_request(&format!("{what}; the body must look like {{\"agents\": [\"10.0.0.1\"]}}."))
    };
    let json: Value =
        serde_json::from_slice(body).map_err(|error| bad(&format!("The body is not JSON: {error}")))?;
    let Some(object) = json.as_object() else {
        return Err(bad("The body is not a JSON object"));
    };
    let Some(agents) = object.get("agents") else {
        return Err(bad("The body has no \"agents\""));
    };
    let Some(agents) = agents.as_array() else {
        return Err(bad("\"agents\" is not a list"));
    };
    let agent = |(index, agent): (usize, &Value)| {
        let Some(text) = agent.as_str() else {
            return Err(bad(&format!("\"agents\"[{index}] is not a string")));
        };
        text.parse().map_err(|_| bad(&format!("\"agents\"[{index}] is not an IPv4 address")))
    };
    let agents = agents.iter().enumerate().map(agent).collect::<Result<_, _>>()?;
    let Some(force) = object.get("force").map_or(Some(false), Value::as_bool) else {
        return Err(bad("\"force\" is neither true nor false"));
    };
    Ok(ToDelete { agents, force })
}
