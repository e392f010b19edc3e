//! Inputs and effects as lines of a trace.

use bytes::Bytes;
use ipnet::IpNet;
use overlay_core::proto::internal::{UpdateAgentOverlaysMessage, UpdatePeersMessage};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io};
use prost::Message;

use crate::checker::{decode, summary};

pub fn format_input(input: &Input) -> String {
    match input {
        Input::Message { from, name, body } => format!("{from} {}", format_message(name, body)),
        Input::Fetched(Ok(value)) => format!("fetched {} bytes", value.len()),
        other => format!("{other:?}"),
    }
}

pub fn format_effect(effect: &Effect) -> String {
    match effect {
        Effect::Io(Io::Send { to, name, body, .. }) => {
            format!("{to} {}", format_message(name, body))
        }
        Effect::Io(Io::Store { number, state }) => match decode(state) {
            Ok((_, agents)) => format!("store #{number} {:?}", agents.keys()),
            Err(error) => error,
        },
        Effect::ApplyHost {
            generation,
            desired,
        } => {
            let subnets: Vec<&IpNet> = desired.overlays.values().flat_map(|o| &o.subnets).collect();
            let peers = desired
                .peers
                .as_ref()
                .map(|peers| peers.keys().collect::<Vec<_>>());
            format!("apply #{generation} {subnets:?}, peers {peers:?}")
        }
        other => format!("{other:?}"),
    }
}

fn format_message(name: &str, body: &Bytes) -> String {
    let short = name.rsplit('.').next().unwrap_or(name);
    try_format_message(name, short, body).unwrap_or_else(|| format!("{short:?} (malformed)"))
}

fn try_format_message(name: &str, short: &str, body: &Bytes) -> Option<String> {
    Some(match name {
        UpdateAgentOverlaysMessage::NAME => {
            let message = UpdateAgentOverlaysMessage::decode(body.clone()).ok()?;
            let given: Vec<String> = message.overlays.iter().map(summary).collect();
            format!("{short} {given:?} {:?}", message.problems)
        }
        UpdatePeersMessage::NAME => {
            let message = UpdatePeersMessage::decode(body.clone()).ok()?;
            let peers: Vec<&str> = message.peers.iter().map(|peer| peer.ip.as_str()).collect();
            format!(
                "{short} {:?} base {:?} {peers:?} -{:?}",
                message.version, message.base, message.removed
            )
        }
        _ => short.to_owned(),
    })
}
