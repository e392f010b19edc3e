//! Findings about configuration files.

use crate::finding::Kind;

/// All kinds of this module.
pub const ALL: &[&Kind] = &[&MISTAKE, &OTHER_FILE, &DOUBTFUL, &MTU, &DCOS_RANGE];

/// Mistake in a configuration.
pub const MISTAKE: Kind = Kind::error(
    "configuration-mistake",
    "A configuration has a mistake, with which Mesos does not start",
    "mesos-exits-with-failed-to-create-anonymous-module",
);

/// File that is not overwritten.
pub const OTHER_FILE: Kind = Kind::error(
    "file-is-different",
    "A file that would be written is there with other settings",
    "program.md#config-from-dcos",
);

/// Value that is ignored or of no use.
pub const DOUBTFUL: Kind = Kind::warning(
    "configuration-doubtful",
    "A configuration has something that is ignored or of no use",
    "configuration.md#errors-and-warnings",
);

/// MTUs that do not fit together.
pub const MTU: Kind = Kind::warning(
    "configuration-mtu",
    "The MTUs of a configuration do not fit together",
    "small-packets-pass-large-ones-do-not",
);

/// Range that DC/OS uses otherwise.
pub const DCOS_RANGE: Kind = Kind::warning(
    "dcos-range-overlap",
    "A network overlaps a range that DC/OS uses for something else",
    "dcos.md#move-to-another-mesos",
);
