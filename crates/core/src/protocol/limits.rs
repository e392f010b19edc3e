//! The largest messages, requests and values that are accepted from outside.
//!
//! The largest cluster that docs/scaling.md describes has 50,000 agents. Each limit leaves room
//! for twice as many, or for several times of what such a cluster needs.

use super::messages::Named;
use super::wire_limits::{self, Limits, Refusal};
use crate::proto::State;
use crate::proto::internal::{
    AgentRegisteredMessage, RegisterAgentMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use crate::proto::mesos::MasterInfo;
use bytes::{Buf, Bytes};

/// Largest number of agents: twice that of the largest cluster.
pub const MAX_AGENTS: usize = 100_000;

/// Largest number of overlays of one agent. Clusters have up to some hundred; each one is two
/// bridges and several routes and rules on every host.
pub const MAX_OVERLAYS: usize = 1_000;

/// Largest number of overlays of which an agent tells its master what it holds, so that a
/// registration is within its limit of bytes.
pub const MAX_HELD_OVERLAYS: usize = 500;

/// Largest list of peers, in bytes, before it is packed. A peer takes about 50 bytes, and 40 for
/// its subnet in each overlay.
pub const MAX_PEERS_BYTES: usize = 64 << 20;

/// Largest number of subnets of all peers in a list: 20 overlays for each of 50,000 agents, or
/// 200 for each of 5,000.
pub const MAX_SUBNETS: usize = 1_000_000;

/// Limits of a list of peers.
const PEERS: Limits = Limits {
    bytes: MAX_PEERS_BYTES,
    elements: MAX_AGENTS,
    inner_elements: MAX_SUBNETS,
};

/// Limits of a list of overlays for one agent. An overlay takes up to 600 bytes, and may come
/// with a problem and a notice for each address family.
const OVERLAYS: Limits = Limits {
    bytes: 8 << 20,
    elements: 5 * MAX_OVERLAYS,
    inner_elements: 0,
};

/// Limits of a report. Agents of release 0.1 report an error for every peer that is not in
/// place, and one that the network cut off may report all of them: 150 bytes for each.
const REPORT: Limits = Limits {
    bytes: 16 << 20,
    elements: MAX_AGENTS,
    inner_elements: 0,
};

/// Limits of a registration, with the subnets that the agent holds.
const REGISTRATION: Limits = Limits {
    bytes: 64 << 10,
    elements: MAX_HELD_OVERLAYS,
    inner_elements: 0,
};

/// Limits of all other messages, which have no lists. The longest have a sentence.
const SHORT: Limits = Limits {
    bytes: 64 << 10,
    elements: 0,
    inner_elements: 0,
};

/// Limits of the state in the replicated log, which a master does not serve otherwise. So they
/// are far above those of lists of peers. (The log itself becomes slow long before: each change
/// writes the whole state, 160 to 190 bytes for each overlay of each agent.)
const STATE: Limits = Limits {
    bytes: 512 << 20,
    elements: 10 * MAX_AGENTS,
    inner_elements: 2 * MAX_SUBNETS,
};

/// Largest body of an HTTP request, in bytes: a request for [`MAX_AGENTS`] agents has 1.9 MB.
pub const MAX_BODY: usize = 2 << 20;

/// Returns the limits of the message between agents and masters of this protobuf type.
pub fn of_message(name: &str) -> Limits {
    match name {
        UpdatePeersMessage::NAME => PEERS,
        UpdateAgentOverlaysMessage::NAME => OVERLAYS,
        AgentRegisteredMessage::NAME => REPORT,
        RegisterAgentMessage::NAME => REGISTRATION,
        _ => SHORT,
    }
}

/// Decodes a message between agents and masters, unless it exceeds its limits.
///
/// # Errors
/// The message exceeds a limit, or is malformed. The text continues a sentence about it.
pub fn decode<M: Named>(body: impl Buf + AsRef<[u8]>) -> Result<M, Refusal> {
    wire_limits::decode(M::NAME, body, of_message(M::NAME))
}

/// Decodes the state in the replicated log, unless it exceeds its limits.
///
/// # Errors
/// As for [`decode`].
pub fn decode_state(state: Bytes) -> Result<State, Refusal> {
    wire_limits::decode(&<State as prost::Name>::full_name(), state, STATE)
}

/// Decodes Mesos's message with the leading master, unless it exceeds its limits.
///
/// # Errors
/// As for [`decode`].
pub fn decode_master_info(info: &[u8]) -> Result<MasterInfo, Refusal> {
    wire_limits::decode(&<MasterInfo as prost::Name>::full_name(), info, SHORT)
}
