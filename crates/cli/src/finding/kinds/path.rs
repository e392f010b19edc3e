//! Findings about paths between hosts.

use crate::finding::Kind;

/// The tunnel's entries of this host lead to the wrong place, or are missing.
const ENTRIES: &str = "an-entry-of-a-peer-is-wrong";

/// No VXLAN device on an agent's host, or it is down.
pub const DEVICE_WRONG: Kind = Kind::error(
    "vxlan-device-wrong",
    "The VXLAN device of this host does not exist, is down, or is not as the master says",
    "the-vxlan-device-is-wrong",
);

/// Neighbour entry.
pub const NEIGHBOUR_WRONG: Kind = Kind::error(
    "neighbour-wrong",
    "The neighbour entry of a peer on the VXLAN device is wrong or missing",
    ENTRIES,
);

/// FDB entry.
pub const FDB_WRONG: Kind = Kind::error(
    "fdb-wrong",
    "The FDB entry of a peer on the VXLAN device is wrong or missing",
    ENTRIES,
);

/// Route.
pub const ROUTE_WRONG: Kind = Kind::error(
    "route-wrong",
    "The route to a peer's subnet, or to a peer itself through the tunnel, is wrong or missing",
    ENTRIES,
);

/// Rule of the containers' table.
pub const RULE_MISSING: Kind = Kind::error(
    "rule-missing",
    "The rule that sends packets of containers through the containers' table is missing",
    ENTRIES,
);

/// A host that does not answer at all.
pub const HOST_SILENT: Kind = Kind::error(
    "host-silent",
    "The host of an agent answers neither directly nor through the tunnel",
    "a-host-does-not-answer",
);

/// The tunnel does not work while the underlay does.
pub const TUNNEL_BLOCKED: Kind = Kind::error(
    "tunnel-blocked",
    "A host answers, and its tunnel does not: UDP port 64000 is dropped on the way",
    "containers-reach-each-other-on-one-host-but-not-across-hosts",
);

/// The gateway of an overlay on a peer is missing.
pub const GATEWAY_SILENT: Kind = Kind::error(
    "gateway-silent",
    "The tunnel of a peer answers, and the gateway of its containers does not",
    "a-gateway-does-not-answer",
);

/// The way back from a peer is broken.
pub const RETURN_PATH: Kind = Kind::error(
    "return-path-broken",
    "A peer does not send packets back to the containers of this host",
    "a-peer-does-not-send-packets-back",
);

/// Large packets are lost.
pub const MTU_TOO_SMALL: Kind = Kind::error(
    "path-mtu-too-small",
    "Small packets pass and large ones do not",
    "small-packets-pass-large-ones-do-not",
);

/// Some packets are lost.
pub const PACKETS_LOST: Kind = Kind::warning(
    "packets-lost",
    "A part of the packets to a peer is lost",
    "a-host-does-not-answer",
);

/// A container does not answer while its gateway does.
pub const CONTAINER_SILENT: Kind = Kind::error(
    "container-silent",
    "The gateway of a container answers, and the container does not",
    "a-container-does-not-answer",
);

/// No route.
pub const NO_ROUTE: Kind = Kind::error(
    "no-route",
    "This host has no route to a destination outside of the overlays",
    "containers-do-not-reach-the-outside",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[
    &DEVICE_WRONG,
    &NEIGHBOUR_WRONG,
    &FDB_WRONG,
    &ROUTE_WRONG,
    &RULE_MISSING,
    &HOST_SILENT,
    &TUNNEL_BLOCKED,
    &GATEWAY_SILENT,
    &RETURN_PATH,
    &MTU_TOO_SMALL,
    &PACKETS_LOST,
    &CONTAINER_SILENT,
    &NO_ROUTE,
];
