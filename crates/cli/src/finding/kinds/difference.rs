//! Findings about objects of a host that are not as its agent wants them. Those about the VXLAN device
//! and the peers' objects on it are in [`path`](super::path).

use crate::finding::Kind;

const SECTION: &str = "the-host-is-not-as-the-agent-wants-it";

/// Bridge, or a port of it.
pub const BRIDGE: Kind = Kind::error(
    "bridge-wrong",
    "A bridge is missing or has wrong settings",
    SECTION,
);

/// CNI configuration of an overlay.
pub const CNI_FILE: Kind = Kind::error(
    "cni-file-wrong",
    "The CNI configuration of an overlay is missing or wrong",
    SECTION,
);

/// Rules and sets of the firewall.
pub const FIREWALL: Kind = Kind::error(
    "firewall-wrong",
    "Rules of the module in the firewall are missing or wrong",
    SECTION,
);

/// Network of the container engine.
pub const DOCKER_NETWORK: Kind = Kind::error(
    "docker-network-wrong",
    "The Docker network of an overlay is missing or wrong",
    SECTION,
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[&BRIDGE, &CNI_FILE, &FIREWALL, &DOCKER_NETWORK];
