//! Findings about objects of a host that are not as its agent wants them.

use crate::finding::Kind;

const SECTION: &str = "the-host-is-not-as-the-agent-wants-it";

/// VXLAN device.
pub const DEVICE: Kind = Kind::error(
    "device-differs",
    "The VXLAN device is missing or has wrong settings",
    SECTION,
);

/// Bridge, or a port of it.
pub const BRIDGE: Kind = Kind::error(
    "bridge-differs",
    "A bridge is missing or has wrong settings",
    SECTION,
);

/// Address of a device.
pub const ADDRESS: Kind = Kind::error(
    "address-differs",
    "A device of the overlays lacks an address or has a wrong one",
    SECTION,
);

/// Neighbour of a peer.
pub const NEIGHBOUR: Kind = Kind::error(
    "neighbour-differs",
    "The neighbour of a peer's VTEP is missing or wrong",
    SECTION,
);

/// FDB entry of a peer.
pub const FDB_ENTRY: Kind = Kind::error(
    "fdb-entry-differs",
    "The FDB entry of a peer's VTEP is missing or wrong",
    SECTION,
);

/// Route to a peer.
pub const ROUTE: Kind = Kind::error(
    "route-differs",
    "A route to a peer is missing or wrong",
    SECTION,
);

/// Routing rule of an overlay.
pub const RULE: Kind = Kind::error(
    "rule-differs",
    "The routing rule of an overlay is missing or wrong",
    SECTION,
);

/// CNI configuration of an overlay.
pub const CNI_FILE: Kind = Kind::error(
    "cni-file-differs",
    "The CNI configuration of an overlay is missing or wrong",
    SECTION,
);

/// Rules and sets of the firewall.
pub const FIREWALL: Kind = Kind::error(
    "firewall-differs",
    "Rules of the module in the firewall are missing or wrong",
    SECTION,
);

/// Network of the container engine.
pub const DOCKER_NETWORK: Kind = Kind::error(
    "docker-network-differs",
    "The Docker network of an overlay is missing or wrong",
    SECTION,
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[
    &DEVICE,
    &BRIDGE,
    &ADDRESS,
    &NEIGHBOUR,
    &FDB_ENTRY,
    &ROUTE,
    &RULE,
    &CNI_FILE,
    &FIREWALL,
    &DOCKER_NETWORK,
];
