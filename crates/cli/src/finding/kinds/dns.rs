//! Findings about the names of containers.

use crate::finding::Kind;

/// A name or an address that the name server does not know.
pub const NAME_NOT_FOUND: Kind = Kind::error(
    "name-not-found",
    "The name server has no such name, or no name with this address",
    "dns.md#lookup",
);

/// A name server that does not know all tasks yet.
pub const NAMES_INCOMPLETE: Kind = Kind::error(
    "names-incomplete",
    "The name server does not know all tasks yet, or what it knows is too old",
    "dns.md#when-no-master-leads",
);

/// A name server that hears no master.
pub const NAMES_OLD: Kind = Kind::warning(
    "names-old",
    "The name server hears no leading master and answers with what it last knew",
    "dns.md#when-no-master-leads",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[&NAME_NOT_FOUND, &NAMES_INCOMPLETE, &NAMES_OLD];
