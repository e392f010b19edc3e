//! Findings about masters and agents.

use crate::finding::Kind;

/// An agent that its master has lost.
pub const AGENT_LOST: Kind = Kind::error(
    "agent-lost",
    "The master has lost an agent",
    "a-host-does-not-answer",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[&AGENT_LOST];
