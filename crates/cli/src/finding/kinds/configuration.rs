//! Findings about configuration files.

use crate::finding::Kind;

/// A file cannot be read.
pub const UNREADABLE: Kind = Kind::error(
    "config-unreadable",
    "A configuration file cannot be read",
    "configuration.md#errors-and-warnings",
);

/// A mistake, which stops Mesos.
pub const INVALID: Kind = Kind::error(
    "config-invalid",
    "A configuration file has a mistake, with which Mesos does not start",
    "configuration.md#errors-and-warnings",
);

/// Something that is hardly meant.
pub const DOUBTFUL: Kind = Kind::warning(
    "config-doubtful",
    "A configuration file has something that is hardly meant",
    "configuration.md#errors-and-warnings",
);

/// A mistake in a list of modules.
pub const MODULES_INVALID: Kind = Kind::error(
    "modules-invalid",
    "A list of modules has a mistake",
    "a-list-of-modules-is-wrong",
);

/// The library of the modules is missing.
pub const LIBRARY_MISSING: Kind = Kind::error(
    "library-missing",
    "The library that a list of modules names is not there",
    "a-list-of-modules-is-wrong",
);

/// The quorum is no majority of the masters.
pub const QUORUM_WRONG: Kind = Kind::error(
    "quorum-wrong",
    "The quorum is not the majority of the masters",
    "the-quorum-is-wrong",
);

/// Masters and agents meet at different places.
pub const ZOOKEEPER_DIFFERS: Kind = Kind::error(
    "zookeeper-differs",
    "Masters and agents do not meet in the same ZooKeeper",
    "files-contradict-each-other",
);

/// Masters with different files.
pub const MASTERS_DIFFER: Kind = Kind::error(
    "masters-differ",
    "Masters have files with different networks",
    "the-network-is-not-what-the-last-leader-wrote",
);

/// MTUs that do not fit into each other.
pub const MTU_CONTRADICTION: Kind = Kind::error(
    "mtu-contradiction",
    "The MTU of the containers is larger than that of the VXLAN device",
    "small-packets-pass-large-ones-do-not",
);

/// Keys or modes that refuse each other.
pub const KEYS_DIFFER: Kind = Kind::error(
    "keys-differ",
    "Masters and agents have different settings of message authentication",
    "files-contradict-each-other",
);

/// An address of a host that lies in a range of the overlays.
pub const ADDRESS_IN_RANGE: Kind = Kind::error(
    "address-in-range",
    "An address of a master or agent lies in a range of the overlays or VTEPs",
    "files-contradict-each-other",
);

/// Two agent modules on a host.
pub const AGENTS_COLLIDE: Kind = Kind::error(
    "agents-collide",
    "Two configurations of agents on one host contradict each other",
    "files-contradict-each-other",
);

/// Overlays that agents do not get.
pub const OVERLAY_UNUSABLE: Kind = Kind::warning(
    "overlay-unusable",
    "An overlay of the master's file cannot be used by agents with the agent's file",
    "files-contradict-each-other",
);

/// A file of an installation that is there with other content.
pub const FILE_IN_PLACE: Kind = Kind::error(
    "file-in-place",
    "A file of the installation is there already with other content",
    "install.md#switch-on-with-the-program",
);

/// A file that contradicts the replicated log.
pub const CONTRADICTS_LOG: Kind = Kind::error(
    "config-contradicts-log",
    "The configuration contradicts the stored allocations",
    "the-configuration-contradicts-the-stored-allocations",
);

/// A range that DC/OS uses otherwise.
pub const DCOS_RANGE: Kind = Kind::warning(
    "dcos-range-overlap",
    "A network overlaps a range that DC/OS uses for something else",
    "dcos.md#configyaml",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[
    &UNREADABLE,
    &INVALID,
    &DOUBTFUL,
    &MODULES_INVALID,
    &LIBRARY_MISSING,
    &QUORUM_WRONG,
    &ZOOKEEPER_DIFFERS,
    &MASTERS_DIFFER,
    &MTU_CONTRADICTION,
    &KEYS_DIFFER,
    &ADDRESS_IN_RANGE,
    &AGENTS_COLLIDE,
    &OVERLAY_UNUSABLE,
    &FILE_IN_PLACE,
    &CONTRADICTS_LOG,
    &DCOS_RANGE,
];
