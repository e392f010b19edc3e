//! What machines show at their endpoints, read back.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::host::ENGINE_AWAY;
use crate::cluster::Process;

/// What an agent says of itself.
#[derive(Deserialize)]
struct Own {
    registered: bool,
    #[serde(default)]
    overlays: Vec<ShownOverlay>,
    #[serde(default)]
    host_errors: Vec<String>,
    problems: Option<IgnoredAny>,
}

/// What a master says of networks.
#[derive(Deserialize)]
pub struct ShownNetworks {
    #[serde(default)]
    pub overlays: Vec<ShownNetwork>,
}

#[derive(Deserialize)]
pub struct ShownNetwork {
    pub name: String,
    pub state: String,
}

/// What a master says of all.
#[derive(Deserialize)]
pub struct Shown {
    #[serde(default)]
    agents: Vec<ShownAgent>,
}

#[derive(Deserialize)]
struct ShownAgent {
    ip: String,
    #[serde(default)]
    overlays: Vec<ShownOverlay>,
}

#[derive(Deserialize)]
struct ShownOverlay {
    info: ShownInfo,
    subnet: Option<String>,
    subnet6: Option<String>,
    backend: ShownBackend,
    state: Option<ShownState>,
}

#[derive(Deserialize)]
struct ShownInfo {
    name: String,
}

#[derive(Deserialize)]
struct ShownBackend {
    vxlan: Option<ShownVxlan>,
}

#[derive(Default, Deserialize)]
struct ShownVxlan {
    vtep_ip: String,
    vtep_ip6: Option<String>,
    vtep_mac: String,
}

#[derive(Deserialize)]
struct ShownState {
    status: String,
}

impl ShownOverlay {
    /// See [`crate::check::essence`].
    fn essence(self) -> String {
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

impl Shown {
    /// What each agent has of each overlay.
    pub fn essences(self) -> BTreeSet<String> {
        self.agents
            .into_iter()
            .flat_map(|agent| agent.overlays)
            .map(ShownOverlay::essence)
            .collect()
    }

    /// The status of each overlay of each agent.
    pub fn statuses(self) -> BTreeMap<(String, String), String> {
        let of = |agent: ShownAgent| {
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

pub fn shown(response: &Response) -> Result<Shown, String> {
    parse(response)
}

/// An agent's answer says that it is registered.
pub fn says_registered(response: &Response) -> bool {
    String::from_utf8_lossy(&response.body).contains(r#""registered":true"#)
}

/// An agent that says that it is registered has everything in place.
pub fn honest(process: &Process, response: &Response) -> Result<(), String> {
    if !says_registered(response) {
        return parse::<IgnoredAny>(response).map(drop);
    }
    let own: Own = parse(response)?;
    // Without docker_bridge no engine is needed.
    let matters = |error: &&String| process.has_docker() || *error != ENGINE_AWAY;
    let broken = !own.overlays.iter().all(ShownOverlay::is_ok)
        || own.host_errors.iter().any(|error| matters(&error))
        || own.problems.is_some();
    match own.registered && broken {
        true => Err(format!("is registered while broken: {:?}", response.body)),
        false => Ok(()),
    }
}
