//! Agents as the master shows them, thousands at once.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::{AgentOverlayInfo, AgentState, OverlayState, to_bytes, write};
use crate::proto;

/// What is stored of an agent, as endpoints show it: written already but for the overlays'
/// states. (Thousands of agents are shown at once, and this hardly ever changes.)
#[derive(Debug, PartialEq)]
pub struct AgentJson {
    configuration_attempts: Option<u32>,
    overlays: Box<[OverlayJson]>,
}

#[derive(Debug, PartialEq)]
struct OverlayJson {
    name: Box<str>,
    /// An object without its `state`.
    text: Box<str>,
    /// Where in it that would stand, behind a comma.
    state_at: usize,
}

impl AgentJson {
    /// Writes it.
    pub fn new(info: &proto::AgentInfo) -> AgentJson {
        AgentJson {
            configuration_attempts: info.configuration_attempts,
            overlays: info.overlays.iter().map(OverlayJson::new).collect(),
        }
    }

    /// The names of its overlays.
    pub fn overlays(&self) -> impl Iterator<Item = &str> {
        self.overlays.iter().map(|overlay| overlay.name.as_ref())
    }
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
        // No string has this in it: quotes in strings have a backslash before them.
        let placeholder = r#""state":{"status":""}"#;
        let state_at = text.find(placeholder).unwrap_or_default();
        text.replace_range(state_at..state_at + placeholder.len(), "");
        OverlayJson {
            name: overlay.info.name.as_str().into(),
            text: text.into(),
            state_at,
        }
    }

    fn write(&self, out: &mut Vec<u8>, state: Option<&AgentState>) {
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

/// An agent as the master shows it.
pub struct Agent<'a, F> {
    head: AgentHead<'a>,
    prepared: &'a AgentJson,
    /// How it fares with an overlay of this name.
    state: F,
    since_seconds: Option<u64>,
}

/// The members before `overlays`.
#[derive(Serialize)]
struct AgentHead<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_attempts: Option<u32>,
    connected: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    host_errors: &'a [String],
    ip: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError<'a>>,
}

/// How an agent is at present, as far as its master knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presence<'a> {
    /// Whether its connection is up.
    pub connected: bool,
    /// For how many seconds that has been so; `None`: it has not registered with this
    /// master.
    pub since_seconds: Option<u64>,
    /// What is wrong with its host.
    pub host_errors: &'a [String],
    /// The latest that was wrong with it, right again or not.
    pub last_error: Option<LastError<'a>>,
}

/// What was wrong with an agent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LastError<'a> {
    /// What.
    pub error: &'a str,
    /// How many seconds ago it was heard of last.
    pub seconds_ago: u64,
}

impl<'a, F: Fn(&str) -> Option<&'a AgentState>> Agent<'a, F> {
    /// An agent as it is stored, with how it is, and the states that `state` knows by
    /// overlay name.
    pub fn new(
        ip: Ipv4Addr,
        prepared: &'a AgentJson,
        presence: Presence<'a>,
        state: F,
    ) -> Agent<'a, F> {
        let head = AgentHead {
            configuration_attempts: prepared.configuration_attempts,
            connected: presence.connected,
            host_errors: presence.host_errors,
            ip,
            last_error: presence.last_error,
        };
        Agent {
            head,
            prepared,
            state,
            since_seconds: presence.since_seconds,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(out, &self.head);
        // It goes on.
        out.pop();
        for (index, overlay) in self.prepared.overlays.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b",\"overlays\":[" } else { b"," });
            overlay.write(out, (self.state)(&overlay.name));
        }
        if !self.prepared.overlays.is_empty() {
            out.push(b']');
        }
        if let Some(seconds) = self.since_seconds {
            out.extend_from_slice(b",\"since_seconds\":");
            write(out, &seconds);
        }
        out.push(b'}');
    }
}
