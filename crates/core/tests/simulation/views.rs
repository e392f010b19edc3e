//! Answers of the endpoints.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::host::ENGINE_AWAY;
use crate::cluster::Process;

/// Answer of an agent about itself.
#[derive(Deserialize)]
struct OwnView {
    registered: bool,
    #[serde(default)]
    overlays: Vec<AgentOverlayView>,
    #[serde(default)]
    host_errors: Vec<String>,
    problems: Option<IgnoredAny>,
}

/// Answer of a master about overlays.
#[derive(Deserialize)]
pub struct OverlaysView {
    #[serde(default)]
    pub overlays: Vec<OverlayView>,
}

#[derive(Deserialize)]
pub struct OverlayView {
    pub name: String,
    pub state: String,
}

/// State of a master.
#[derive(Deserialize)]
pub struct StateView {
    #[serde(default)]
    agents: Vec<AgentView>,
}

#[derive(Deserialize)]
struct AgentView {
    ip: String,
    #[serde(default)]
    overlays: Vec<AgentOverlayView>,
}

#[derive(Deserialize)]
struct AgentOverlayView {
    info: InfoView,
    subnet: Option<String>,
    subnet6: Option<String>,
    backend: BackendView,
    state: Option<OverlayStateView>,
}

#[derive(Deserialize)]
struct InfoView {
    name: String,
}

#[derive(Deserialize)]
struct BackendView {
    vxlan: Option<VxlanView>,
}

#[derive(Default, Deserialize)]
struct VxlanView {
    vtep_ip: String,
    vtep_ip6: Option<String>,
    vtep_mac: String,
}

#[derive(Deserialize)]
struct OverlayStateView {
    status: String,
}

impl AgentOverlayView {
    /// Returns the part that an agent must not lose, see [`crate::checker::summary`].
    fn summary(self) -> String {
        let vxlan = self.backend.vxlan.unwrap_or_default();
        format!(
            "{} {:?} {:?} {} {:?} {}",
            self.info.name,
            self.subnet,
            self.subnet6,
            vxlan.vtep_ip,
            vxlan.vtep_ip6,
            vxlan.vtep_mac
        )
    }

    fn is_ok(&self) -> bool {
        self.state
            .as_ref()
            .is_some_and(|state| state.status == "STATUS_OK")
    }
}

impl StateView {
    /// Returns a summary of each overlay of each agent.
    pub fn summaries(self) -> BTreeSet<String> {
        self.agents
            .into_iter()
            .flat_map(|agent| agent.overlays)
            .map(AgentOverlayView::summary)
            .collect()
    }

    /// Returns the status of each overlay of each agent.
    pub fn statuses(self) -> BTreeMap<(String, String), String> {
        let of = |agent: AgentView| {
            agent.overlays.into_iter().filter_map(move |overlay| {
                Some(((agent.ip.clone(), overlay.info.name), overlay.state?.status))
            })
        };
        self.agents.into_iter().flat_map(of).collect()
    }
}

pub fn parse<'a, T: Deserialize<'a>>(response: &'a Response) -> Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("not as expected: {error}"))
}

pub fn parse_state(response: &Response) -> Result<StateView, String> {
    parse(response)
}

/// Returns whether an agent reports itself as registered.
pub fn is_registered(response: &Response) -> bool {
    String::from_utf8_lossy(&response.body).contains(r#""registered":true"#)
}

/// Checks that a registered agent is healthy.
pub fn is_registered_only_if_healthy(process: &Process, response: &Response) -> Result<(), String> {
    if !is_registered(response) {
        return parse::<IgnoredAny>(response).map(drop);
    }
    let own: OwnView = parse(response)?;
    // Without docker_bridge no engine is needed.
    let matters = |error: &&String| process.has_docker() || *error != ENGINE_AWAY;
    let broken = !own.overlays.iter().all(AgentOverlayView::is_ok)
        || own.host_errors.iter().any(|error| matters(&error))
        || own.problems.is_some();
    match own.registered && broken {
        true => Err(format!("is registered while broken: {:?}", response.body)),
        false => Ok(()),
    }
}
