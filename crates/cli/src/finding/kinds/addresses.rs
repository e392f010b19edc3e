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

/// Addresses of `host-local` whose containers do not exist.
pub const LEAKED: Kind = Kind::warning(
    "leaked-addresses",
    "Addresses are reserved for containers that do not exist",
    "containers-do-not-start-no-ip-addresses-available",
);

/// One address of two containers.
pub const DOUBLE: Kind = Kind::error(
    "double-address",
    "Two containers have one address",
    "two-containers-have-one-address",
);

/// Address of a container that `host-local` can give to another one.
pub const NOT_RESERVED: Kind = Kind::error(
    "address-not-reserved",
    "A container has an address that host-local can give to another one",
    "two-containers-have-one-address",
);

/// Address of a container outside of the agent's subnet.
pub const OUTSIDE: Kind = Kind::error(
    "address-outside-subnet",
    "A container has an address outside of its agent's subnet",
    "a-container-has-an-address-outside-of-its-agents-subnet",
);

/// Files of `host-local` outside of the agent's subnet.
pub const RESERVED_OUTSIDE: Kind = Kind::warning(
    "reservations-outside-subnet",
    "host-local has files of addresses outside of the agent's subnet",
    "a-container-has-an-address-outside-of-its-agents-subnet",
);

/// One subnet of two agents.
pub const DOUBLE_SUBNET: Kind = Kind::error(
    "double-subnet",
    "Two agents have subnets that overlap",
    "two-agents-have-one-subnet",
);

/// Subnet of an agent that is not the one that the master gave it.
pub const SUBNET_DIFFERS: Kind = Kind::error(
    "subnet-differs",
    "An agent uses another subnet than the master gave it",
    "two-agents-have-one-subnet",
);

/// Network of the container engine, or bridge, of an overlay that nobody defines.
pub const ORPHANED_NETWORK: Kind = Kind::warning(
    "orphaned-network",
    "A host has a Docker network or a bridge of an overlay that nobody defines",
    "a-host-has-something-of-an-overlay-that-nobody-defines",
);

/// Files of `host-local` of an overlay that nobody defines.
pub const ORPHANED_RESERVATIONS: Kind = Kind::warning(
    "orphaned-reservations",
    "host-local has files of addresses of an overlay that nobody defines",
    "a-host-has-something-of-an-overlay-that-nobody-defines",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[
    &EXHAUSTED,
    &NEARLY_EXHAUSTED,
    &LEAKED,
    &DOUBLE,
    &NOT_RESERVED,
    &OUTSIDE,
    &RESERVED_OUTSIDE,
    &DOUBLE_SUBNET,
    &SUBNET_DIFFERS,
    &ORPHANED_NETWORK,
    &ORPHANED_RESERVATIONS,
];
