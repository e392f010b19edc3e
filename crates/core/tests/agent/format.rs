//! The effects of an agent as lines of a transcript.

use overlay_core::host_api::desired::{Backend, Bridge, Desired};
use overlay_core::proto::AgentOverlayInfo;
use overlay_core::proto::internal::{
    AgentRegisteredMessage, PeersReceivedMessage, PeersVersion, RegisterAgentMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Io, Level};
use prost::Message;
use serde_json::Value;

/// Returns an effect as one line.
pub fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Io(Io::Send { to, name, body, .. }) => {
            let short = name.rsplit('.').next().unwrap();
            format!("send {to} {short}{}", message(name, body))
        }
        Effect::Io(Io::Link {
            to,
            reconnect: false,
        }) => format!("link {to}"),
        Effect::Io(Io::Link {
            to,
            reconnect: true,
        }) => format!("link {to} anew"),
        Effect::Io(Io::Respond { id, response }) => {
            let body = if response.content_type.ends_with("protobuf") {
                format!("{} bytes", response.body.len())
            } else {
                String::from_utf8(response.body.to_vec()).unwrap()
            };
            let headers: Vec<String> = response
                .headers
                .iter()
                .map(|(k, v)| format!(" {k}: {v};"))
                .collect();
            let headers = headers.concat();
            format!(
                "respond #{} {} {};{headers} {}",
                id.0,
                response.status,
                response.content_type,
                body.trim_end()
            )
        }
        Effect::ApplyHost {
            generation,
            desired,
        } => format!("apply #{generation} {}", host(desired)),
        Effect::ApplyEngine {
            generation,
            networks,
        } => {
            let networks = networks.networks.iter().map(|(name, network)| {
                let trusted = network.trusted.join(",");
                format!(
                    "{name} {}={} trusts {trusted}",
                    network.bridge,
                    list(&network.subnets)
                )
            });
            let networks: Vec<String> = networks.collect();
            let networks = if networks.is_empty() {
                "no networks".to_owned()
            } else {
                networks.join("; ")
            };
            format!("engine #{generation} {networks}")
        }
        Effect::Log(level, line) => {
            let level = match level {
                Level::Info => "INFO",
                Level::Warning => "WARNING",
                Level::Error => "ERROR",
            };
            format!("log {level} {line}")
        }
        Effect::Fetch { .. } | Effect::Io(Io::Store { .. }) => {
            panic!("an agent has no log: {effect:?}")
        }
    }
}

/// Returns a summary of the answer of `/overlay-agent/overlay`.
pub fn status(effect: &Effect) -> String {
    let Effect::Io(Io::Respond { response, .. }) = effect else {
        panic!("not an answer: {effect:?}")
    };
    let json: Value = serde_json::from_slice(&response.body).unwrap();
    let list = |key: &str| json[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut parts = vec![
        if json["registered"] == true {
            "registered"
        } else {
            "not registered"
        }
        .to_owned(),
    ];
    parts.push(format!("master {}", text(&json["master"])));
    parts.push(format!("attempts {}", json["configuration_attempts"]));
    for overlay in list("overlays") {
        let state = &overlay["state"];
        let error = state["error"]
            .as_str()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        let status = text(&state["status"]).replace("STATUS_", "");
        parts.push(format!(
            "{} {status}{error}",
            text(&overlay["info"]["name"])
        ));
    }
    parts.extend(
        list("problems")
            .iter()
            .map(|problem| format!("problem: {}", text(problem))),
    );
    parts.extend(
        list("notices")
            .iter()
            .map(|notice| format!("notice: {}", text(notice))),
    );
    parts.extend(
        list("host_errors")
            .iter()
            .map(|error| format!("host: {}", text(error))),
    );
    parts.extend(
        list("draining")
            .iter()
            .map(|sentence| format!("draining: {}", text(sentence))),
    );
    parts.join("; ")
}

fn message(name: &str, body: &[u8]) -> String {
    match name {
        RegisterAgentMessage::NAME => {
            let message = RegisterAgentMessage::decode(body).unwrap();
            let config = message.network_config;
            let flags = [
                (config.allocate_subnet(), "subnets"),
                (config.mesos_bridge(), "mesos"),
                (config.docker_bridge(), "docker"),
                (config.enable_ipv6(), "ipv6"),
            ];
            let flags: Vec<&str> = flags
                .into_iter()
                .filter(|(on, _)| *on)
                .map(|(_, flag)| flag)
                .collect();
            let mut peers = message.peers.map_or("none wanted".to_owned(), version);
            if message.peers.is_some() && !message.unpacks_peers() {
                peers.push_str(" unpacked");
            }
            let vtep = message.vtep_ip.iter().chain(&message.vtep_ip6).cloned();
            let subnets = message.holds.iter().map(|held| {
                let subnets = held.subnet.iter().chain(&held.subnet6);
                format!("{}={}", held.overlay, list(&subnets.collect::<Vec<_>>()))
            });
            let held: Vec<String> = vtep.chain(subnets).collect();
            let holds = if held.is_empty() { "" } else { "; holds " };
            format!(
                " wants {}; mtu {}; peers {peers}{holds}{}",
                flags.join(" "),
                config.overlay_mtu(),
                held.join(" ")
            )
        }
        AgentRegisteredMessage::NAME => {
            let message = AgentRegisteredMessage::decode(body).unwrap();
            let mut states: Vec<String> = message.overlays.iter().map(state).collect();
            states.extend(
                message
                    .host_errors
                    .iter()
                    .map(|error| format!("host: {error}")),
            );
            states.extend(
                message
                    .draining
                    .iter()
                    .map(|overlay| format!("draining: {overlay}")),
            );
            let revision = message
                .revision
                .map(|revision| format!(" @{revision}"))
                .unwrap_or_default();
            format!(
                "{revision} {}",
                if states.is_empty() {
                    "nothing".to_owned()
                } else {
                    states.join("; ")
                }
            )
        }
        PeersReceivedMessage::NAME => {
            format!(
                " {}",
                version(PeersReceivedMessage::decode(body).unwrap().version)
            )
        }
        _ => panic!("an agent sends no {name}"),
    }
}

fn version(version: PeersVersion) -> String {
    format!("{}:{}", version.epoch(), version.version())
}

fn state(overlay: &AgentOverlayInfo) -> String {
    let state = overlay.state.as_ref().unwrap();
    let status = state
        .status()
        .as_str_name()
        .strip_prefix("STATUS_")
        .unwrap();
    let error = state
        .error
        .as_ref()
        .map(|error| format!(" ({error})"))
        .unwrap_or_default();
    format!("{} {status}{error}", overlay.info.name)
}

fn host(desired: &Desired) -> String {
    let mut parts = vec![];
    if desired.backend == Backend::External {
        parts.push("data plane is another's".to_owned());
    }
    parts.push(match &desired.vtep {
        Some(vtep) => format!("{} {} {}", vtep.name, vtep.mac, list(&vtep.addresses)),
        None => "no VTEP".to_owned(),
    });
    for (name, overlay) in &desired.overlays {
        let bridge = |bridge: &Option<Bridge>| {
            bridge
                .as_ref()
                .map(|b| format!(" {}={}", b.name, list(&b.subnets)))
                .unwrap_or_default()
        };
        let (mesos, docker) = (
            bridge(&overlay.mesos_bridge),
            bridge(&overlay.docker_bridge),
        );
        parts.push(format!("{name} {}{mesos}{docker}", list(&overlay.subnets)));
    }
    match &desired.peers {
        None => parts.push("peers unknown".to_owned()),
        Some(peers) if peers.is_empty() => parts.push("no peers".to_owned()),
        Some(peers) => parts.extend(peers.iter().map(|(ip, peer)| {
            format!(
                "peer {ip} {} {} {}",
                list(&peer.vtep_ips),
                peer.vtep_mac,
                list(&peer.subnets)
            )
        })),
    }
    parts.join("; ")
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join(",")
    }
}
