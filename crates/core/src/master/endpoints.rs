//! The master's HTTP endpoints: what is asked, before it is known whether this
//! master can answer.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use super::networks::Change;
use crate::config::master::parse_definition;
use crate::protocol::routes;
use crate::protocol::routes::{Access, Endpoint};
use crate::{Request, Response};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The state.
    State,
    /// To delete agents; the body is not read yet.
    Delete,
    /// To reclaim what agents hold whose leases ended; the body is not read yet.
    Reclaim,
    /// Whether this master serves.
    Health,
    /// Its numbers.
    Metrics,
    /// All overlays.
    Overlays,
    /// One overlay.
    Overlay,
    /// To add an overlay; the body is not read yet.
    AddOverlay,
    /// To change an overlay; the body is not read yet.
    ChangeOverlay,
    /// To remove an overlay; the body is not read yet.
    RemoveOverlay,
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
        path: "/overlay-master/agents/reclaim",
        methods: &[("POST", Asked::Reclaim)],
        access: Access::Writers,
        title: "Take back what agents have whose leases ended.",
        help: "The body is `{}`: of all agents that were not heard of for longer than `agent_lease` of the \
               master's configuration; or `{\"agents\": [\"10.0.0.1\", …]}`: of these. Returns the new state once \
               it is stored. An agent that comes back gets what is still free of what it had.\n\n\
               (Without this, it is taken back when others would get nothing otherwise.)\n\n\
               409 if there is no `agent_lease`, or if the lease of one of the agents has not ended; 400 if the \
               body is something else. In both cases nothing was reclaimed. 503 and a sentence, which says \
               whether anything was reclaimed, if this master does not lead or cannot write the log.",
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
    Endpoint {
        path: "/overlay-master/metrics",
        methods: &[("GET", Asked::Metrics)],
        access: Access::Readers,
        title: "This master's numbers, for Prometheus.",
        help: "Prometheus's text format, version 0.0.4. Every master answers; what only the leading one knows \
               is absent elsewhere. The same numbers are in Mesos's `/metrics/snapshot`.",
    },
    Endpoint {
        path: "/overlay-master/overlays",
        methods: &[("GET", Asked::Overlays), ("POST", Asked::AddOverlay)],
        access: Access::Writers,
        title: "The overlay networks, and new ones.",
        help: "GET: every overlay with where its definition comes from (`source`: the `file` of this master, or \
               `stored` in the log), its `state` (`active`, `disabled`, `draining`, `removed`, `left_out`, \
               `orphaned`), how many subnets it has for agents, and who still holds some of one that is not in \
               force (`holders`).\n\n\
               POST: adds an overlay. The body is as in `network.overlays` of the configuration: `{\"name\": \
               \"web\", \"subnet\": \"9.64.0.0/16\", \"prefix\": 24}`. Answers 201 and the overlay once it is \
               stored; agents get it at once.\n\n\
               400 if the body is something else, 409 if the overlay cannot be (overlap, too small, there is one \
               already); then nothing was changed. 503 and a sentence, which says whether anything was changed, \
               if this master does not lead or cannot write the log.",
    },
    Endpoint {
        path: "/overlay-master/overlays/<name>",
        methods: &[
            ("GET", Asked::Overlay),
            ("PUT", Asked::ChangeOverlay),
            ("DELETE", Asked::RemoveOverlay),
        ],
        access: Access::Writers,
        title: "One overlay network.",
        help: "GET: the overlay as in the list.\n\n\
               PUT: the overlay is to be like the body, as in POST, but for the name, which may be missing; what \
               is not in the body is not so any more. Agents keep the subnets that they have. `{\"source\": \
               \"file\"}` makes it what the configuration says.\n\n\
               DELETE: removes the overlay. It drains: no agent gets it any more, hosts let go of it when no \
               container uses it, and its ranges are free when all have. `{\"force\": true}` frees them at once: \
               for agents that will never be back.\n\n\
               200 and the overlay once the change is stored. 400, 404 or 409 and a sentence if it cannot be; \
               503 as for POST.",
    },
];

/// Finds out what a request asks for, and the function to wrap the answer in. The
/// error is the answer to a request that makes no sense.
pub fn asked(request: &Request) -> Result<(Asked, &str, Option<String>), Response> {
    let (asked, name) = routes::asked(ENDPOINTS, request)?;
    Ok((asked, name, request.jsonp()?.map(str::to_owned)))
}

/// What a request to add, change or remove the overlay `name` wants, and whether by
/// force.
pub fn change(asked: Asked, name: &str, body: &[u8]) -> Result<(Change, bool), Response> {
    let bad = |what: String| Response::bad_request(&what);
    let text =
        std::str::from_utf8(body).map_err(|_| bad("body: not UTF-8; write JSON".to_owned()))?;
    let read = |name| parse_definition("body", text, name).map_err(bad);
    let json: Option<Value> = serde_json::from_str(text).ok();
    let object = json.as_ref().and_then(Value::as_object);
    let only =
        |key: &str| object.and_then(|object| (object.len() == 1).then(|| object.get(key))?);
    match asked {
        Asked::AddOverlay => Ok((Change::Add(read(None)?), false)),
        Asked::RemoveOverlay => {
            let nothing = text.trim().is_empty() || object.is_some_and(serde_json::Map::is_empty);
            let force = only("force")
                .and_then(Value::as_bool)
                .or(nothing.then_some(false));
            let force =
                force.ok_or_else(|| bad("body: write {\"force\": true}, or nothing".to_owned()))?;
            Ok((Change::Remove(name.to_owned()), force))
        }
        _ if object.is_some_and(|object| object.contains_key("source")) => match only("source") {
            Some(source) if source == "file" => Ok((Change::HandBack(name.to_owned()), false)),
            _ => Err(bad(
                "body: source: goes alone, and can be \"file\" only".to_owned()
            )),
        },
        _ => Ok((Change::Replace(read(Some(name))?), false)),
    }
}

/// Which agents to delete.
#[derive(Debug, PartialEq, Eq)]
pub struct ToDelete {
    /// Those that the body names.
    pub agents: BTreeSet<Ipv4Addr>,
    /// Connected ones too.
    pub force: bool,
}

/// Which agents to reclaim from.
#[derive(Debug, PartialEq, Eq)]
pub struct ToReclaim {
    /// Those that the body names; `None`: all whose leases ended.
    pub agents: Option<BTreeSet<Ipv4Addr>>,
}

/// The body `{"agents": ["10.0.0.1", …], "force": false}`. Nothing is done unless all
/// of it makes sense.
pub fn agents_to_delete(body: &[u8]) -> Result<ToDelete, Response> {
    let bad = |what: &str| bad(what, r#"{"agents": ["10.0.0.1"]}"#);
    let object = object(body).map_err(|what| bad(&what))?;
    let agents = agents(&object)
        .map_err(|what| bad(&what))?
        .ok_or_else(|| bad("The body has no \"agents\""))?;
    let Some(force) = object.get("force").map_or(Some(false), Value::as_bool) else {
        return Err(bad("\"force\" is neither true nor false"));
    };
    Ok(ToDelete { agents, force })
}

/// The body `{}` or `{"agents": ["10.0.0.1", …]}`.
pub fn agents_to_reclaim(body: &[u8]) -> Result<ToReclaim, Response> {
    let agents = object(body).and_then(|object| agents(&object));
    let agents = agents.map_err(|what| bad(&what, r#"{} or {"agents": ["10.0.0.1"]}"#))?;
    Ok(ToReclaim { agents })
}

fn bad(what: &str, example: &str) -> Response {
    Response::bad_request(&format!("{what}; the body must look like {example}."))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("The body is not a JSON object".to_owned()),
        Err(error) => Err(format!("The body is not JSON: {error}")),
    }
}

fn agents(object: &Map<String, Value>) -> Result<Option<BTreeSet<Ipv4Addr>>, String> {
    let Some(agents) = object.get("agents") else {
        return Ok(None);
    };
    let agents = agents.as_array().ok_or("\"agents\" is not a list")?;
    let agent = |(index, agent): (usize, &Value)| {
        let text = agent
            .as_str()
            .ok_or_else(|| format!("\"agents\"[{index}] is not a string"))?;
        text.parse()
            .map_err(|_| format!("\"agents\"[{index}] is not an IPv4 address"))
    };
    agents
        .iter()
        .enumerate()
        .map(agent)
        .collect::<Result<_, _>>()
        .map(Some)
}
