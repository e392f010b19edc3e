//! Findings about paths between hosts.

use crate::finding::Kind;

/// All kinds of this module.
pub const ALL: &[&Kind] = &[];
