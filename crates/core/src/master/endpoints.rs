//! HTTP endpoints of the master, and the parsing of requests.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use super::ledger::Removal;
use super::networks::{Change, unknown};
use crate::config::overlay::{DefinitionRequest, is_overlay_name, parse_request};
use crate::config::{nearest, repeated_key};
use crate::protocol::limits::MAX_AGENTS;
use crate::protocol::routes;
use crate::protocol::routes::{Access, Endpoint, RouteMatch};
use crate::util::encoding::decode;
use crate::util::line::{one_line, quote};
use crate::{Request, Response};

/// The operation that a request names by its path and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Returns the state.
    State,
    /// Deletes agents.
    Delete,
    /// Reclaims the allocations of agents whose leases ended.
    Reclaim,
    /// Takes the confirmation of agents back.
    Unconfirm,
    /// Returns whether this master serves.
    Health,
    /// Returns the metrics.
    Metrics,
    /// Returns all overlays.
    Overlays,
    /// Returns one overlay.
    Overlay,
    /// Adds an overlay.
    AddOverlay,
    /// Changes an overlay.
    ChangeOverlay,
    /// Removes an overlay.
    RemoveOverlay,
    /// Returns networks and numbers of agents.
    Overview,
    /// Returns some agents.
    Agents,
    /// Returns the page.
    Page,
    /// Returns a file of the page.
    PageFile,
}

/// The endpoints of a master.
pub const ENDPOINTS: &[Endpoint<Route>] = &[
    Endpoint {
        path: "/overlay-master/state",
        methods: &[("GET", Route::State)],
        access: Access::Readers,
        title: "The overlay networks and the subnets of every agent.",
        help: "Networks and allocations as JSON, as they are stored in the replicated log, and the status of the \
               agents. `?jsonp=f` wraps the answer in a call of `f`.\n\n\
               503 and a sentence if this master does not lead, or has not read the log yet.",
    },
    Endpoint {
        path: "/overlay-master/ui",
        methods: &[("GET", Route::Page)],
        access: Access::Readers,
        title: "A page that shows the networks, their agents and their containers.",
        help: "For browsers: `http://<master>:5050/overlay-master/ui`. Every master has the page; what it shows \
               comes from the leading one, and from Mesos's own `/tasks`.",
    },
    Endpoint {
        path: "/overlay-master/ui/<name>",
        methods: &[("GET", Route::PageFile)],
        access: Access::Readers,
        title: "The files of the page.",
        help: "Scripts and styles that the page loads.",
    },
    Endpoint {
        path: "/overlay-master/overview",
        methods: &[("GET", Route::Overview)],
        access: Access::Readers,
        title: "The networks, and numbers of their agents.",
        help: "JSON: `overlays` as at `/overlay-master/overlays`, with how many agents of each are `connected` and \
               `failing`; `agents` has the numbers of all agents; `problems` of the cluster; `dns_domain`. The \
               answer has an `ETag`.\n\n\
               503 and a sentence if this master does not lead, or has not read the log yet.",
    },
    Endpoint {
        path: "/overlay-master/agents",
        methods: &[("GET", Route::Agents)],
        access: Access::Readers,
        title: "Some of the agents.",
        help: "`agents` as at `/overlay-master/state`. `?network=dcos` selects those with a subnet of an overlay, \
               `?agent=10.0.0.1,10.0.0.2` these, `?status=` those that are `connected`, `disconnected`, `failing` \
               or `expired` (with a lease that ended), \
               `?q=9.0.1.7` the one that has the address, and `?q=` with a part of an address or an error those that \
               contain it (and those of `also=10.0.0.3`). `limit` (100, at most 1000) and `offset` choose a part of them; `matched` is how many \
               there are, `total` the number of all agents. The answer has an `ETag`, in which ages do not count.\n\n\
               400 if the query is malformed; 503 and a sentence if this master does not lead, or has not read \
               the log yet.",
    },
    Endpoint {
        path: "/overlay-master/agents/delete",
        methods: &[("POST", Route::Delete)],
        access: Access::Writers,
        title: "Delete agents that are gone for good.",
        help: "The body is `{\"agents\": [\"10.0.0.1\", …]}`. Returns the new state once it is stored; unknown \
               agents are no error.\n\n\
               409 if one of them is connected, unless the body has `\"force\": true`; an agent that is \
               alive registers anew then. 400 if the body is malformed. In both cases nothing was \
               deleted. 503 and a sentence, which says \
               whether anything was deleted, if this master does not lead or cannot write the log.",
    },
    Endpoint {
        path: "/overlay-master/agents/reclaim",
        methods: &[("POST", Route::Reclaim)],
        access: Access::Writers,
        title: "Reclaim the subnets of agents whose leases ended.",
        help: "The body is `{}` for all agents that were silent for longer than `agent_lease` of the master's \
               configuration, or `{\"agents\": [\"10.0.0.1\", …]}` for these agents. Returns the new state once \
               it is stored. An agent that returns gets those of its former subnets that are still free.\n\n\
               (Without a request, subnets are reclaimed when other agents would get none otherwise.)\n\n\
               409 if there is no `agent_lease`, or if the lease of one of the agents has not ended; 400 if the \
               body is malformed. In both cases nothing was reclaimed. 503 and a sentence, which says \
               whether anything was reclaimed, if this master does not lead or cannot write the log.",
    },
    Endpoint {
        path: "/overlay-master/agents/unconfirm",
        methods: &[("POST", Route::Unconfirm)],
        access: Access::Writers,
        title: "Let agents go back to an earlier release.",
        help: "The body is `{\"agents\": [\"10.0.0.1\", …]}`. An agent that has confirmed a registration is not \
               believed without a session from then on. Agents of earlier releases have no sessions, so this \
               takes the confirmation back before, or after, an agent is replaced by such a release. Nothing \
               else changes. Returns the new state once it is stored.\n\n\
               400 if the body is malformed. 503 and a sentence, which says whether anything was changed, if \
               this master does not lead or cannot write the log.",
    },
    Endpoint {
        path: "/overlay-master/health",
        methods: &[("GET", Route::Health)],
        access: Access::Anyone,
        title: "Whether this master serves, for load balancers.",
        help: "200 if this master leads and serves, 503 if not. With `?standby=ok` a master that only waits to \
               lead is healthy as well: 503 means then that it leads and cannot serve, because it is still \
               reading the replicated log, or cannot use its contents.\n\n\
               JSON: `status` is `serving`, `standby`, `recovering` or `broken`, `reason` says why it does not \
               serve, `leader` is the address of the leading master.",
    },
    Endpoint {
        path: "/overlay-master/metrics",
        methods: &[("GET", Route::Metrics)],
        access: Access::Readers,
        title: "The metrics of this master, for Prometheus.",
        help: "Prometheus's text format, version 0.0.4. Every master answers; metrics that only the leading \
               master has are absent elsewhere. The same metrics are in Mesos's `/metrics/snapshot`.",
    },
    Endpoint {
        path: "/overlay-master/overlays",
        methods: &[("GET", Route::Overlays), ("POST", Route::AddOverlay)],
        access: Access::Writers,
        title: "The overlay networks, and new ones.",
        help: "GET: every overlay with where its definition comes from (`source`: the `file` of this master, or \
               `stored` in the log), its `state` (`active`, `disabled`, `draining`, `removed`, `left_out`, \
               `orphaned`), how many subnets it has for agents, and which agents still have subnets of one that \
               is not in force (`holders`).\n\n\
               POST: adds an overlay. The body is as in `network.overlays` of the configuration: `{\"name\": \
               \"web\", \"subnet\": \"9.64.0.0/16\", \"prefix\": 24}`. Answers 201 and the overlay once it is \
               stored; agents get it at once.\n\n\
               400 if the body is malformed, 409 if the overlay is not possible (it overlaps, is too small, \
               exists already, or hosts lie in its range, which `\"force\": true` in the body permits); then nothing was \
               changed. 503 and a sentence, which says whether anything was changed, \
               if this master does not lead or cannot write the log.",
    },
    Endpoint {
        path: "/overlay-master/overlays/<name>",
        methods: &[
            ("GET", Route::Overlay),
            ("PUT", Route::ChangeOverlay),
            ("DELETE", Route::RemoveOverlay),
        ],
        access: Access::Writers,
        title: "One overlay network.",
        help: "GET: the overlay as in the list.\n\n\
               PUT: replaces the definition of the overlay by the body, as in POST, but the name may be missing; keys \
               that are not in the body get their defaults. Agents keep the subnets that they have. `{\"source\": \
               \"file\"}` resets it to the configuration.\n\n\
               DELETE: removes the overlay. It drains: no agent gets it any more, hosts release it when no \
               container uses it, and its ranges are free when all hosts have. `{\"force\": true}` frees them at \
               once, for agents that will never be back.\n\n\
               200 and the overlay once the change is stored. 400, 404 or 409 and a sentence if it is not possible; \
               503 as for POST.",
    },
];

/// A request with parsed path, method and query.
#[derive(Debug)]
pub struct Routed<'a> {
    /// The operation.
    pub route: Route,
    /// The name in the path, not decoded; empty if the path has none.
    pub name: &'a str,
    /// The function to wrap the answer in.
    pub jsonp: Option<String>,
}

/// Parses the path, the method and the query of a request.
///
/// # Errors
/// The answer to a malformed request.
pub fn route(request: &Request) -> Result<Routed<'_>, Response> {
    let RouteMatch {
        operation: route,
        name,
    } = routes::route(ENDPOINTS, request)?;
    let jsonp = request.jsonp()?.map(str::to_owned);
    Ok(Routed { route, name, jsonp })
}

/// The body of a request to add, change or remove an overlay.
#[derive(Debug)]
pub struct OverlayChange {
    /// The change.
    pub change: Change,
    /// The way in which the subnets of a removed overlay are released.
    pub removal: Removal,
    /// An overlay may have a range that hosts lie in.
    pub permits_hosts: bool,
}

/// Parses the body of a request to add, change or remove the overlay `name`.
///
/// # Errors
/// The answer to a malformed request.
pub fn overlay_change(route: Route, name: &str, body: &[u8]) -> Result<OverlayChange, Response> {
    let bad = |what: String| Response::bad_request(&what);
    let text = decode(body).map_err(|what| bad(format!("body: {what}")))?;
    let mut permits_hosts = false;
    let mut read = |name| {
        let DefinitionRequest { definition, force } =
            parse_request("body", text, name).map_err(|error| bad(error.to_string()))?;
        permits_hosts = force;
        Ok(definition)
    };
    let json: Option<Value> = serde_json::from_str(text).ok();
    let object = json.as_ref().and_then(Value::as_object);
    let only =
        |key: &str| object.and_then(|object| (object.len() == 1).then(|| object.get(key))?);
    let repeated = repeated_key(text);
    let once = || match &repeated {
        Some(key) => Err(bad(format!(
            "body: {}: given twice; keep one of them",
            one_line(key, 80)
        ))),
        None => Ok(()),
    };
    let mut removal = Removal::Drain;
    let change = match route {
        Route::AddOverlay => Change::Add(read(None)?),
        Route::RemoveOverlay => {
            once()?;
            let is_empty = text.trim().is_empty() || object.is_some_and(Map::is_empty);
            removal = match only("force").and_then(Value::as_bool) {
                Some(true) => Removal::Force,
                Some(false) => Removal::Drain,
                None if is_empty => Removal::Drain,
                None => return Err(bad("body: write {\"force\": true}, or nothing".to_owned())),
            };
            Change::Remove(name.to_owned())
        }
        _ if object.is_some_and(|object| object.contains_key("source")) => match only("source") {
            Some(source) if source == "file" => {
                once()?;
                Change::ResetToFile(name.to_owned())
            }
            _ => {
                return Err(bad(
                    "body: source: must be the only key, and \"file\"".to_owned()
                ));
            }
        },
        _ if !is_overlay_name(name) => return Err(Response::text(404, &unknown(name))),
        _ => Change::Replace(read(Some(name))?),
    };
    Ok(OverlayChange {
        change,
        removal,
        permits_hosts,
    })
}

/// The body of a request to delete agents.
#[derive(Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The agents.
    pub agents: BTreeSet<Ipv4Addr>,
    /// Connected agents are deleted as well.
    pub force: bool,
}

/// The body of a request to reclaim allocations.
#[derive(Debug, PartialEq, Eq)]
pub struct ReclaimRequest {
    /// The agents; `None` for all whose leases have ended.
    pub agents: Option<BTreeSet<Ipv4Addr>>,
}

/// Parses the body `{"agents": ["10.0.0.1", …], "force": false}`.
///
/// # Errors
/// The answer to a malformed request.
pub fn agents_to_delete(body: &[u8]) -> Result<DeleteRequest, Response> {
    let bad = |what: &str| bad(what, r#"{"agents": ["10.0.0.1"]}"#);
    let object = object(body, &["agents", "force"]).map_err(|what| bad(&what))?;
    let agents = agents(&object)
        .map_err(|what| bad(&what))?
        .ok_or_else(|| bad("The body has no \"agents\""))?;
    let Some(force) = object.get("force").map_or(Some(false), Value::as_bool) else {
        return Err(bad("\"force\" is neither true nor false"));
    };
    Ok(DeleteRequest { agents, force })
}

/// Parses the body `{"agents": ["10.0.0.1", …]}`.
///
/// # Errors
/// The answer to a malformed request.
pub fn agents_to_unconfirm(body: &[u8]) -> Result<BTreeSet<Ipv4Addr>, Response> {
    let agents = object(body, &["agents"]).and_then(|object| agents(&object));
    agents
        .and_then(|agents| agents.ok_or_else(|| "The body has no \"agents\"".to_owned()))
        .map_err(|what| bad(&what, r#"{"agents": ["10.0.0.1"]}"#))
}

/// Parses the body `{}` or `{"agents": ["10.0.0.1", …]}`.
///
/// # Errors
/// The answer to a malformed request.
pub fn agents_to_reclaim(body: &[u8]) -> Result<ReclaimRequest, Response> {
    let agents = object(body, &["agents"]).and_then(|object| agents(&object));
    let agents = agents.map_err(|what| bad(&what, r#"{} or {"agents": ["10.0.0.1"]}"#))?;
    Ok(ReclaimRequest { agents })
}

fn bad(what: &str, example: &str) -> Response {
    Response::bad_request(&format!("{what}; the body must look like {example}."))
}

/// Reads an object with these keys, each once.
fn object(body: &[u8], known: &[&str]) -> Result<Map<String, Value>, String> {
    let text = decode(body).map_err(|what| format!("The body {what}"))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => {
            if let Some(key) = repeated_key(text) {
                return Err(format!("The body has {} twice", quote(&key)));
            }
            match object.keys().find(|key| !known.contains(&key.as_str())) {
                Some(key) => Err(unknown_key(key, known)),
                None => Ok(object),
            }
        }
        Ok(_) => Err("The body is not a JSON object".to_owned()),
        Err(error) => Err(format!("The body is not JSON: {error}")),
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let hint = match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the known ones are {}", known.join(", ")),
    };
    format!("The body has the unknown key {} ({hint})", quote(key))
}

fn agents(object: &Map<String, Value>) -> Result<Option<BTreeSet<Ipv4Addr>>, String> {
    let Some(agents) = object.get("agents") else {
        return Ok(None);
    };
    let agents = agents.as_array().ok_or("\"agents\" is not a list")?;
    if agents.len() > MAX_AGENTS {
        return Err(format!("\"agents\" has more than {MAX_AGENTS} elements"));
    }
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
