//! Findings about configuration files.

use crate::finding::Kind;

/// All kinds of this module.
pub const ALL: &[&Kind] = &[];
