//! The agents in the state of a master.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::Serialize;

use super::messages::{AgentOverlayInfo, OverlayState};
use super::{to_bytes, write};
use crate::host_api::usage::assignable;
use crate::proto;
use crate::proto::agent_overlay_info::State;

/// The JSON of a stored agent without the states of its overlays. Thousands of agents are shown
/// at once, and this part of them hardly ever changes.
#[derive(Debug, PartialEq)]
pub struct AgentJson {
    configuration_attempts: Option<u32>,
    overlays: Box<[OverlayJson]>,
    addresses: Box<str>,
}

#[derive(Debug, PartialEq)]
struct OverlayJson {
    name: Box<str>,
    /// The overlay as an object without `state`.
    text: Box<str>,
    /// The offset in `text` where `state` belongs, after a comma.
    state_at: usize,
    /// The number of addresses that containers can have.
    capacity: u64,
}

impl AgentJson {
    /// Encodes an agent.
    pub fn new(info: &proto::AgentInfo) -> AgentJson {
        AgentJson {
            configuration_attempts: info.configuration_attempts,
            overlays: info.overlays.iter().map(OverlayJson::new).collect(),
            addresses: addresses(info).into(),
        }
    }

    /// Returns the agent's overlays, each with the number of addresses that containers can have:
    /// IPv4 addresses if it has any.
    pub fn capacities(&self) -> impl Iterator<Item = (&str, u64)> {
        let overlays = self.overlays.iter();
        overlays.map(|overlay| (overlay.name.as_ref(), overlay.capacity))
    }

    /// Returns the addresses of the agent's VTEP and its subnets in small letters, for searches.
    pub fn addresses(&self) -> &str {
        &self.addresses
    }

    /// Returns the names of the agent's overlays.
    pub fn overlays(&self) -> impl Iterator<Item = &str> {
        self.overlays.iter().map(|overlay| overlay.name.as_ref())
    }
}

/// Returns the number of addresses in an overlay's bridges, of IPv4 or else of IPv6.
fn capacity(overlay: &proto::AgentOverlayInfo) -> u64 {
    let bridges = || {
        let both = [&overlay.mesos_bridge, &overlay.docker_bridge];
        both.into_iter().flatten()
    };
    let count = |net: Option<&String>| -> u128 {
        let net = net.and_then(|net| net.parse::<IpNet>().ok());
        net.map(assignable).unwrap_or_default()
    };
    let v4: u128 = bridges().map(|bridge| count(bridge.ip.as_ref())).sum();
    let v6 = || bridges().map(|bridge| count(bridge.ip6.as_ref()));
    let all = match v4 {
        0 => v6().fold(0, u128::saturating_add),
        v4 => v4,
    };
    u64::try_from(all).unwrap_or(u64::MAX)
}

fn addresses(info: &proto::AgentInfo) -> String {
    let vxlan = info.overlays.iter().find_map(|o| o.backend.vxlan.as_ref());
    let vtep = vxlan.into_iter().flat_map(|vxlan| {
        let texts = [Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref()];
        texts.into_iter().chain([Some(&vxlan.vtep_mac)]).flatten()
    });
    let subnets = info.overlays.iter();
    let subnets = subnets.flat_map(|overlay| overlay.subnet.iter().chain(&overlay.subnet6));
    let texts: Vec<&str> = vtep.chain(subnets).map(String::as_str).collect();
    texts.join(" ").to_lowercase()
}

impl OverlayJson {
    fn new(overlay: &proto::AgentOverlayInfo) -> OverlayJson {
        let state = Some(OverlayState {
            error: None,
            status: "",
        });
        let json = to_bytes(&AgentOverlayInfo {
            state,
            ..AgentOverlayInfo::from(overlay)
        });
        let mut text = String::from_utf8(json).unwrap_or_default();
        // No string contains the placeholder, because quotes in strings are escaped.
        let placeholder = r#""state":{"status":""}"#;
        let state_at = text.find(placeholder).unwrap_or_default();
        text.replace_range(state_at..state_at + placeholder.len(), "");
        OverlayJson {
            name: overlay.info.name.as_str().into(),
            text: text.into(),
            state_at,
            capacity: capacity(overlay),
        }
    }

    fn write(&self, out: &mut Vec<u8>, state: Option<&State>) {
        let (before, after) = self.text.as_bytes().split_at(self.state_at);
        match state {
            Some(state) => {
                out.extend_from_slice(before);
                out.extend_from_slice(b"\"state\":");
                write(out, &OverlayState::from(state));
            }
            None => out.extend_from_slice(before.strip_suffix(b",").unwrap_or(before)),
        }
        out.extend_from_slice(after);
    }
}

/// An agent and its present state.
pub struct Agent<'a, F> {
    head: AgentHead<'a>,
    stored: &'a AgentJson,
    /// Returns the state of an overlay by its name.
    state: F,
    release: Option<&'a str>,
    since_seconds: Option<u64>,
}

/// The fields before `overlays`.
#[derive(Serialize)]
struct AgentHead<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_attempts: Option<u32>,
    connected: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    host_errors: &'a [String],
    ip: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ends_in_seconds: Option<u64>,
}

/// The state of an agent, as far as its master knows.
#[derive(Clone, Debug, Default)]
pub struct Presence<'a> {
    /// The agent is connected.
    pub connected: bool,
    /// The seconds since the agent connected or disconnected. `None` if it has not registered
    /// with this master.
    pub since_seconds: Option<u64>,
    /// Errors of its host.
    pub host_errors: &'a [String],
    /// The most recent error, even if it has since been resolved.
    pub last_error: Option<LastError<'a>>,
    /// The seconds until the lease of the agent ends; 0: it has ended. `None` if it does not end,
    /// or is not asked for.
    pub lease_ends_in_seconds: Option<u64>,
    /// Authentication of the agent's messages: `key <id>`, `confirmed` or `none`. `None` if it
    /// has not registered with this master.
    pub authentication: Option<String>,
    /// Release of the agent's module, if it says so.
    pub release: Option<&'a str>,
}

/// An error of an agent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LastError<'a> {
    /// The sentence.
    pub error: &'a str,
    /// The seconds since it was last reported.
    pub seconds_ago: u64,
}

impl<'a, F: Fn(&str) -> Option<&'a State>> Agent<'a, F> {
    /// Creates the view of an agent. `state` returns the state of an overlay by its name.
    pub fn new(
        ip: Ipv4Addr,
        stored: &'a AgentJson,
        presence: Presence<'a>,
        state: F,
    ) -> Agent<'a, F> {
        let head = AgentHead {
            authentication: presence.authentication,
            configuration_attempts: stored.configuration_attempts,
            connected: presence.connected,
            host_errors: presence.host_errors,
            ip,
            last_error: presence.last_error,
            lease_ends_in_seconds: presence.lease_ends_in_seconds,
        };
        Agent {
            head,
            stored,
            state,
            release: presence.release,
            since_seconds: presence.since_seconds,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(out, &self.head);
        // Other fields follow, so the closing brace is removed.
        out.pop();
        for (index, overlay) in self.stored.overlays.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b",\"overlays\":[" } else { b"," });
            overlay.write(out, (self.state)(&overlay.name));
        }
        if !self.stored.overlays.is_empty() {
            out.push(b']');
        }
        if let Some(release) = self.release {
            out.extend_from_slice(b",\"release\":");
            write(out, &release);
        }
        if let Some(seconds) = self.since_seconds {
            out.extend_from_slice(b",\"since_seconds\":");
            write(out, &seconds);
        }
        out.push(b'}');
    }
}
