//! The JSON of the endpoints.
//!
//! Readers expect this form: keys in alphabetical order, fields with a default always present,
//! unset fields and empty lists never, no white space. Serde keeps the order of the fields of a
//! struct, so they are in alphabetical order, too.

mod agent_list;
mod agents;
mod health;
mod messages;
mod overlays;
mod overview;
mod own_agent;
mod peers;
mod state;

use serde::Serialize;

pub use agent_list::{Extent, agent_list};
pub use agents::{Agent, AgentJson, LastError, Presence};
pub use health::Health;
pub use overlays::{Overlay, overlay, overlays};
pub use overview::{AgentNumbers, Overview};
pub use own_agent::{AgentDetails, agent};
pub use peers::peers;
pub use state::{NetworkConfig, state};

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    // This fails only for a map whose keys are not strings, or a writer that fails.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests;
