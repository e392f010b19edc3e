//! Encoding of the `State` in the replicated log, from parts that are encoded already.
//!
//! Thousands of agents are written with every change of one, so each agent is encoded once
//! and the state is joined from the pieces.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, message};

use crate::proto;

/// Field number of the network in the stored `State`.
const STATE_NETWORK: u32 = 1;
/// Field number of the agents in the stored `State`.
const STATE_AGENTS: u32 = 2;
/// Field number of the changed overlays in the stored `State`.
const STATE_NETWORKS: u32 = 100;
/// Field number of the reclaimed allocations in the stored `State`.
const STATE_FORMER: u32 = 101;

/// Appends an encoded message as a field of another message.
pub fn put_message(field: u32, message: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

/// Appends an agent, an encoded `AgentInfo`, to an encoded `State`.
pub fn put_agent(info: &[u8], state: &mut Vec<u8>) {
    put_message(STATE_AGENTS, info, state);
}

/// Appends a reclaimed allocation, an encoded `AgentInfo`, to an encoded `State`.
pub fn put_reclaimed(info: &[u8], state: &mut Vec<u8>) {
    put_message(STATE_FORMER, info, state);
}

/// Encodes a `State`. `agents` are pieces written by [`put_agent`], `agents_size` bytes in all.
/// `reclaimed` are arguments for [`put_reclaimed`].
pub fn encode_state<'a>(
    network: &proto::NetworkConfig,
    agents: impl Iterator<Item = &'a [u8]>,
    agents_size: usize,
    networks: Option<&proto::StoredNetworks>,
    reclaimed: impl Iterator<Item = &'a [u8]>,
) -> Bytes {
    let mut state = Vec::with_capacity(4096 + agents_size);
    message::encode(STATE_NETWORK, network, &mut state);
    agents.for_each(|piece| state.extend_from_slice(piece));
    if let Some(networks) = networks {
        message::encode(STATE_NETWORKS, networks, &mut state);
    }
    reclaimed.for_each(|info| put_reclaimed(info, &mut state));
    state.into()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn joined_pieces_are_the_encoded_state() {
        let agent = |ip: &str| proto::AgentInfo {
            ip: ip.into(),
            ..Default::default()
        };
        let overlay = proto::OverlayInfo {
            name: "web".into(),
            subnet: Some("9.0.0.0/8".into()),
            prefix: Some(24),
            ..Default::default()
        };
        let changed = proto::StoredNetworks {
            revision: Some(7),
            overlays: vec![proto::StoredOverlay {
                info: overlay.clone(),
                ..Default::default()
            }],
        };
        for (networks, overlays) in [(None, vec![]), (Some(changed), vec![overlay])] {
            let state = proto::State {
                network: Some(proto::NetworkConfig {
                    vtep_subnet: "44.128.0.0/20".into(),
                    vtep_mac_oui: "70:B3:D5:00:00:00".into(),
                    overlays,
                    ..Default::default()
                }),
                agents: vec![agent("10.0.0.1"), agent("10.0.0.2"), agent("10.0.0.3")],
                networks,
                former: vec![agent("10.0.0.4"), agent("10.0.0.5")],
            };
            // Two pieces, of two agents and of one.
            let pieces = state.agents.chunks(2).map(|agents| {
                let mut piece = Vec::new();
                for agent in agents {
                    put_agent(&agent.encode_to_vec(), &mut piece);
                }
                piece
            });
            let pieces: Vec<_> = pieces.collect();
            let reclaimed: Vec<_> = state.former.iter().map(Message::encode_to_vec).collect();
            let joined = encode_state(
                state.network.as_ref().unwrap(),
                pieces.iter().map(Vec::as_slice),
                pieces.iter().map(Vec::len).sum(),
                state.networks.as_ref(),
                reclaimed.iter().map(Vec::as_slice),
            );
            assert_eq!(joined, state.encode_to_vec());
        }
    }
}
