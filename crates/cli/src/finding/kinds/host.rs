//! Findings about this host.

use crate::finding::Kind;

/// All kinds of this module.
pub const ALL: &[&Kind] = &[];
