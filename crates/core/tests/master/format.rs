//! Formats the effects of a master as the lines of a transcript.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use overlay_core::proto;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, PeersVersion, RegistrationChallengeMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Io, Level};
use prost::Message;
use serde_json::Value;

/// Returns the lines for an effect; all but the first one are indented. `epochs` are the epochs
/// of peers in the order of their appearance, and `log` is the state in the log.
pub fn effect(epochs: &mut Vec<u64>, log: &Bytes, effect: Effect) -> String {
    match effect {
        Effect::Io(Io::Send { to, name, body, .. }) => {
            format!("send {to} {}", message(epochs, name, body))
        }
        Effect::Io(Io::Link { to, reconnect }) => {
            format!("link {to}{}", if reconnect { " anew" } else { "" })
        }
        Effect::Io(Io::Respond { id, response }) => {
            let headers: String = response
                .headers
                .iter()
                .map(|(k, v)| format!(" {k}: {v}"))
                .collect();
            let body = String::from_utf8_lossy(&response.body);
            let body = body.trim_end().replace('\n', "\n  ");
            let json: Option<Value> = serde_json::from_str(&body).ok();
            let json = json.filter(|json| json.get("network").is_some());
            let body = json.map_or(body.replace("},{\"agent", "},\n  {\"agent"), |json| {
                state(&json)
            });
            format!(
                "respond #{} {} {}{headers}\n  {body}",
                id.0, response.status, response.content_type
            )
        }
        Effect::Fetch { reopen: false } => "fetch".to_owned(),
        Effect::Fetch { reopen: true } => "fetch, with the log opened anew".to_owned(),
        Effect::Io(Io::Store { number, state }) => {
            format!("store #{number}{}", difference(log, state))
        }
        Effect::Log(level, line) => {
            assert!(!line.contains('\n'));
            let level = match level {
                Level::Info => "INFO",
                Level::Warning => "WARNING",
                Level::Error => "ERROR",
            };
            format!("{level} {line}")
        }
        Effect::ApplyHost { .. } | Effect::ApplyEngine { .. } => panic!("a master has no host"),
    }
}

/// Returns the agents of a state in JSON, in short. The replay tests have its exact form.
fn state(json: &Value) -> String {
    let texts = |value: &Value, keys: &[&str]| -> String {
        let texts = keys
            .iter()
            .filter_map(|key| value.pointer(key)?.as_str().map(str::to_owned));
        texts.collect::<Vec<_>>().join(" ")
    };
    let keys = [
        "/info/name",
        "/subnet",
        "/subnet6",
        "/state/status",
        "/state/error",
    ];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let agents = list(&json["agents"]).into_iter().map(|agent| {
        let overlays = list(&agent["overlays"])
            .into_iter()
            .map(|overlay| texts(&overlay, &keys));
        let errors: String = list(&agent["host_errors"])
            .iter()
            .map(|e| format!(" (host: {e})"))
            .collect();
        format!(
            "{}{} {}{errors}",
            texts(&agent, &["/ip"]),
            authentication(&agent["authentication"]),
            overlays.collect::<Vec<_>>().join(", ")
        )
    });
    let problems: String = list(&json["problems"])
        .iter()
        .map(|problem| format!("\n    problem: {}", problem.as_str().unwrap()))
        .collect();
    let agents = agents.collect::<Vec<_>>().join("; ");
    format!("state: {}", agents).trim_end().to_owned() + &problems
}

/// Returns how an agent is authenticated, unless it has confirmed or is not there.
fn authentication(value: &Value) -> String {
    match value.as_str() {
        None | Some("confirmed") => String::new(),
        Some(other) => format!(" ({other})"),
    }
}

/// Returns the changes that a write brings into the log.
fn difference(log: &Bytes, state: Bytes) -> String {
    let read = |state: Bytes| -> BTreeMap<String, (Option<bool>, Vec<proto::AgentOverlayInfo>)> {
        let agents = proto::State::decode(state)
            .map(|state| state.agents)
            .unwrap_or_default();
        agents
            .into_iter()
            .map(|agent| (agent.ip, (agent.provisional, agent.overlays)))
            .collect()
    };
    let (before, mut after) = (read(log.clone()), read(state.clone()));
    let gone: String = before
        .keys()
        .filter(|ip| !after.contains_key(*ip))
        .fold(String::new(), |text, ip| format!("{text}\n  - {ip}"));
    after.retain(|ip, list| before.get(ip) != Some(list));
    let gone = networks(log, &state) + &gone + &reclaimed(log, &state);
    after.iter().fold(gone, |text, (ip, (provisional, list))| {
        let note = provisional.map_or("", |_| " (provisional)");
        format!("{text}\n  {ip}{note}:{}", overlays(list))
    })
}

/// Returns the reclaimed allocations of a state that is written, if they changed.
fn reclaimed(log: &Bytes, written: &Bytes) -> String {
    let read = |state: &Bytes| {
        proto::State::decode(state.clone())
            .unwrap_or_default()
            .former
    };
    let allocation = |agent: &proto::AgentInfo| {
        let subnets = agent
            .overlays
            .iter()
            .flat_map(|overlay| [&overlay.subnet, &overlay.subnet6])
            .flatten();
        let vxlan = agent
            .overlays
            .iter()
            .find_map(|overlay| overlay.backend.vxlan.as_ref());
        let vtep = vxlan
            .into_iter()
            .flat_map(|vxlan| [Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref()]);
        let what: Vec<_> = subnets.chain(vtep.flatten()).map(String::as_str).collect();
        format!(" {} {}", agent.ip, what.join(" "))
    };
    match (read(log), read(written)) {
        (before, after) if before == after => String::new(),
        (_, after) => format!(
            "\n  former:{}",
            after.iter().map(allocation).collect::<Vec<_>>().join(",")
        ),
    }
}

/// Returns the networks of a state that is written, if they changed.
fn networks(log: &Bytes, written: &Bytes) -> String {
    let read = |state: &Bytes| proto::State::decode(state.clone()).unwrap_or_default();
    let (before, after) = (read(log), read(written));
    let overlay = |overlay: &proto::OverlayInfo| {
        let subnets = [&overlay.subnet, &overlay.subnet6]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>();
        format!(" {} {}", overlay.name, subnets.join(" "))
    };
    let in_force = |state: &proto::State| -> Vec<String> {
        state
            .network
            .iter()
            .flat_map(|network| &network.overlays)
            .map(overlay)
            .collect()
    };
    let mut text = String::new();
    if before.network.is_some() && in_force(&before) != in_force(&after) {
        write!(text, "\n  in force:{}", in_force(&after).join(",")).unwrap();
    }
    if before.networks != after.networks {
        let networks = after.networks.unwrap_or_default();
        write!(text, "\n  revision {}:", networks.revision()).unwrap();
        for stored in &networks.overlays {
            let removed = stored
                .removed
                .map(|at| format!(" removed at {at}"))
                .unwrap_or_default();
            let file = if stored.in_file() { " (in file)" } else { "" };
            write!(text, "{}{removed}{file};", overlay(&stored.info)).unwrap();
        }
    }
    text
}

/// Returns a message, after its short name.
fn message(epochs: &mut Vec<u64>, name: &str, body: Bytes) -> String {
    let short = name
        .rsplit('.')
        .next()
        .unwrap_or(name)
        .trim_end_matches("Message")
        .to_owned();
    let text = match name {
        UpdateAgentOverlaysMessage::NAME => {
            let message = UpdateAgentOverlaysMessage::decode(body).unwrap();
            let problems: String = message
                .problems
                .iter()
                .map(|p| format!("\n  problem: {p}"))
                .collect();
            let revision = message.revision.filter(|revision| *revision > 0);
            let revision = revision
                .map(|revision| format!(" @{revision}"))
                .unwrap_or_default();
            let notices: String = message
                .notices
                .iter()
                .map(|n| format!("\n  notice: {n}"))
                .collect();
            revision + &overlays(&message.overlays) + &problems + &notices
        }
        RegistrationRefusedMessage::NAME => {
            format!(
                " {}",
                RegistrationRefusedMessage::decode(body).unwrap().reason
            )
        }
        UpdatePeersMessage::NAME => peers(epochs, &UpdatePeersMessage::decode(body).unwrap()),
        AgentRegisteredAcknowledgement::NAME => String::new(),
        RegistrationChallengeMessage::NAME => String::new(),
        _ => panic!("a master does not send {name}"),
    };
    short + &text
}

/// Returns the version and the changes of a message with peers.
fn peers(epochs: &mut Vec<u64>, message: &UpdatePeersMessage) -> String {
    let mut version = |version: &PeersVersion| {
        let epoch = version.epoch();
        let known = epochs.iter().position(|known| *known == epoch);
        let number = known.unwrap_or_else(|| {
            epochs.push(epoch);
            epochs.len() - 1
        });
        format!("E{}/{}", number + 1, version.version())
    };
    let base = message
        .base
        .map_or("all".to_owned(), |base| format!("from {base}"));
    let mut text = format!(" {} {base}", version(&message.version));
    if let Some(since) = &message.since {
        write!(text, " since {}", version(since)).unwrap();
    }
    for peer in &message.peers {
        let subnets: String = peer
            .subnets
            .iter()
            .flat_map(|subnet| [&subnet.subnet, &subnet.subnet6])
            .flatten()
            .map(|subnet| format!(" {subnet}"))
            .collect();
        let v6 = peer
            .vtep_ip6
            .as_ref()
            .map(|ip| format!(" {ip}"))
            .unwrap_or_default();
        write!(
            text,
            "\n  + {} via {}{v6} {}:{subnets}",
            peer.ip, peer.vtep_ip, peer.vtep_mac
        )
        .unwrap();
    }
    for ip in &message.removed {
        write!(text, "\n  - {ip}").unwrap();
    }
    text
}

/// Returns overlays in one line each.
fn overlays(list: &[proto::AgentOverlayInfo]) -> String {
    let mut text = String::new();
    for overlay in list {
        assert_eq!(overlay.state, None, "the master sends and stores no state");
        write!(text, "\n    {}", overlay.info.name).unwrap();
        for subnet in [&overlay.subnet, &overlay.subnet6].into_iter().flatten() {
            write!(text, " {subnet}").unwrap();
        }
        for bridge in [&overlay.mesos_bridge, &overlay.docker_bridge]
            .into_iter()
            .flatten()
        {
            let nets: Vec<_> = [&bridge.ip, &bridge.ip6]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            write!(text, " {}={}", bridge.name, nets.join(",")).unwrap();
        }
        if let Some(vxlan) = &overlay.backend.vxlan {
            let v6 = vxlan
                .vtep_ip6
                .as_ref()
                .map(|ip| format!(" {ip}"))
                .unwrap_or_default();
            write!(text, " via {}{v6} {}", vxlan.vtep_ip, vxlan.vtep_mac).unwrap();
        }
    }
    if text.is_empty() {
        " nothing".to_owned()
    } else {
        text
    }
}
