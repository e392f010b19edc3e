//! The master's HTTP endpoints: what is asked, before it is known whether this
//! master can answer.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::Value;

use crate::core::{Request, Response};

/// The state of the whole cluster.
const STATE: &str = "/overlay-master/state";
/// Takes agents out of it.
const DELETE: &str = "/overlay-master/agents/delete";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The state.
    State,
    /// To delete agents; the body is not read yet.
    Delete,
}

/// Finds out what a request asks for, and the function to wrap the answer in. The
/// error is the answer to a request that makes no sense.
pub fn asked(request: &Request) -> Result<(Asked, Option<String>), Response> {
    let asked = match request.path.trim_end_matches('/') {
        STATE if request.is_get() => Asked::State,
        STATE => return Err(Response::method_not_allowed("GET, HEAD")),
        DELETE if request.method == "POST" => Asked::Delete,
        DELETE => return Err(Response::method_not_allowed("POST")),
        _ => return Err(Response::not_found(&request.path, &[STATE, DELETE])),
    };
    Ok((asked, request.jsonp()?.map(str::to_owned)))
}

/// The agents that the body `{"agents": ["10.0.0.1", …]}` names. Nothing is done
/// unless all of it makes sense.
pub fn agents_to_delete(body: &[u8]) -> Result<BTreeSet<Ipv4Addr>, Response> {
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
    agents.iter().enumerate().map(agent).collect()
}
