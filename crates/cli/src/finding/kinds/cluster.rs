//! Findings about masters and agents.

use crate::finding::Kind;

/// All kinds of this module.
pub const ALL: &[&Kind] = &[];
