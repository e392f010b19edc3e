//! Findings about addresses and the containers that have them.

use crate::finding::Kind;

/// No free address for a container.
pub const EXHAUSTED: Kind = Kind::error(
    "addresses-exhausted",
    "All addresses of an agent for the containers of an overlay are in use",
    "containers-do-not-start-no-ip-addresses-available",
);

/// Few free addresses for containers.
pub const NEARLY_EXHAUSTED: Kind = Kind::warning(
    "addresses-nearly-exhausted",
    "90 % of an agent's addresses for the containers of an overlay are in use",
    "containers-do-not-start-no-ip-addresses-available",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[&EXHAUSTED, &NEARLY_EXHAUSTED];
