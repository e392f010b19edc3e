//! Findings about addresses and the containers that have them.

use crate::finding::Kind;

/// All kinds of this module.
pub const ALL: &[&Kind] = &[];
