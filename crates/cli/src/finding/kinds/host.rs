//! Findings about this host.

use crate::finding::Kind;

/// The kernel lacks something that the overlays need.
pub const KERNEL_FEATURE_MISSING: Kind = Kind::error(
    "kernel-feature-missing",
    "The kernel lacks a feature that the overlays need",
    "the-kernel-lacks-a-feature",
);

/// Forwarding is off, of the host or of a device of the overlays.
pub const FORWARDING_OFF: Kind = Kind::error(
    "forwarding-off",
    "Forwarding of packets is off, on the host or on a device of the overlays",
    "forwarding-is-off",
);

/// Strict reverse path filter.
pub const REVERSE_PATH_FILTER: Kind = Kind::warning(
    "reverse-path-filter",
    "The strict reverse path filter drops some packets of the overlays",
    "the-reverse-path-filter-drops-packets",
);

/// The host depends on router advertisements that it will not accept.
pub const ROUTER_ADVERTISEMENTS: Kind = Kind::warning(
    "router-advertisements",
    "The host depends on router advertisements that it does not accept while it forwards IPv6",
    "the-host-loses-its-ipv6-addresses-or-default-route",
);

/// A network manager takes the overlays' devices for its own.
pub const DEVICES_MANAGED: Kind = Kind::error(
    "devices-managed",
    "A network manager takes the overlays' devices for its own",
    "install.md#network-managers",
);

/// NetworkManager is not told to leave the overlays' devices alone.
pub const DEVICES_NOT_EXCLUDED: Kind = Kind::warning(
    "devices-not-excluded",
    "NetworkManager is not told to leave the overlays' devices alone",
    "install.md#network-managers",
);

/// A bridge of somebody else has a name like an overlay's.
pub const FOREIGN_BRIDGE: Kind = Kind::warning(
    "foreign-bridge",
    "A bridge that is not an overlay's has a name like one",
    "install.md#network-managers",
);

/// A firewall drops the overlays' packets.
pub const FIREWALL_DROPS: Kind = Kind::error(
    "firewall-drops",
    "A firewall of the host drops packets of the overlays or of the tunnels",
    "firewall.md#other-firewalls",
);

/// The tools of the firewall are not installed.
pub const FIREWALL_TOOLS_MISSING: Kind = Kind::error(
    "firewall-tools-missing",
    "The tools that the agent writes the firewall with are not installed",
    "firewall.md#masquerading",
);

/// No container engine listens.
pub const ENGINE_ABSENT: Kind = Kind::error(
    "engine-absent",
    "No container engine listens on its socket",
    "the-container-engine-cannot-be-reached",
);

/// The container engine does not answer.
pub const ENGINE_HUNG: Kind = Kind::error(
    "engine-hung",
    "The container engine does not answer",
    "the-container-engine-cannot-be-reached",
);

/// The container engine is too old.
pub const ENGINE_OLD: Kind = Kind::error(
    "engine-old",
    "The container engine is older than 20.10",
    "compatibility.md#docker-versions",
);

/// Docker 28 drops the overlays' packets, and the agent may not write to the firewall.
pub const ENGINE_ISOLATES: Kind = Kind::warning(
    "engine-isolates",
    "Docker drops packets of the overlays, and the agent does not write to the firewall",
    "firewall.md#docker-28",
);

/// Another program has the tunnels' port.
pub const PORT_IN_USE: Kind = Kind::error(
    "port-in-use",
    "Another program has UDP port 64000",
    "udp-port-64000-is-in-use",
);

/// Any program can get the tunnels' port by chance.
pub const PORT_NOT_RESERVED: Kind = Kind::warning(
    "port-not-reserved",
    "Any program can get UDP port 64000 as its local port by chance",
    "udp-port-64000-is-in-use",
);

/// The MTU does not fit the underlay.
pub const MTU_TOO_LARGE: Kind = Kind::error(
    "mtu-too-large",
    "An MTU of the overlays does not fit into the underlay",
    "small-packets-pass-large-ones-do-not",
);

/// The underlay is too narrow for IPv6 in tunnels.
pub const UNDERLAY_TOO_SMALL: Kind = Kind::error(
    "underlay-too-small",
    "The underlay's MTU is too small for IPv6 in the tunnels",
    "the-overlays-have-no-ipv6-on-a-host",
);

/// A CNI plugin is missing.
pub const PLUGIN_MISSING: Kind = Kind::error(
    "plugin-missing",
    "A CNI plugin is not where Mesos looks for it",
    "a-cni-plugin-is-missing",
);

/// Mesos has no `network/cni`.
pub const ISOLATION_WITHOUT_CNI: Kind = Kind::error(
    "isolation-without-cni",
    "Mesos's isolation lacks network/cni",
    "mesoss-flags-do-not-match-the-module",
);

/// Mesos reads CNI configurations elsewhere.
pub const CNI_DIR_DIFFERS: Kind = Kind::error(
    "cni-dir-differs",
    "Mesos reads CNI configurations from another directory than the module writes to",
    "mesoss-flags-do-not-match-the-module",
);

/// Too few worker threads.
pub const WORKER_THREADS_FEW: Kind = Kind::warning(
    "worker-threads-few",
    "Mesos has too few worker threads for its connections to ZooKeeper",
    "a-master-hangs-at-its-start",
);

/// The module cannot see the flags of its Mesos.
pub const FLAGS_UNSEEN: Kind = Kind::error(
    "flags-unseen",
    "The module cannot see where the masters meet",
    "mesoss-flags-do-not-match-the-module",
);

/// An agent's address is one of loopback.
pub const ADDRESS_LOOPBACK: Kind = Kind::error(
    "address-loopback",
    "The agent's address is one of loopback",
    "an-agent-is-missing-from-the-state",
);

/// A library of the host is too old.
pub const LIBRARY_OLD: Kind = Kind::error(
    "library-old",
    "A library of the host is older than the module needs",
    "the-module-is-not-made-for-this-mesos",
);

/// Mesos and the module were compiled with different C++ libraries.
pub const MODULE_MISMATCH: Kind = Kind::error(
    "module-mismatch",
    "The module is not made for this Mesos",
    "the-module-is-not-made-for-this-mesos",
);

/// Others can write to the directory of CNI configurations.
pub const CNI_DIR_EXPOSED: Kind = Kind::warning(
    "cni-dir-exposed",
    "Users other than root can write to cni_dir",
    "others-can-write-to-cni_dir",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[
    &KERNEL_FEATURE_MISSING,
    &FORWARDING_OFF,
    &REVERSE_PATH_FILTER,
    &ROUTER_ADVERTISEMENTS,
    &DEVICES_MANAGED,
    &DEVICES_NOT_EXCLUDED,
    &FOREIGN_BRIDGE,
    &FIREWALL_DROPS,
    &FIREWALL_TOOLS_MISSING,
    &ENGINE_ABSENT,
    &ENGINE_HUNG,
    &ENGINE_OLD,
    &ENGINE_ISOLATES,
    &PORT_IN_USE,
    &PORT_NOT_RESERVED,
    &MTU_TOO_LARGE,
    &UNDERLAY_TOO_SMALL,
    &PLUGIN_MISSING,
    &ISOLATION_WITHOUT_CNI,
    &CNI_DIR_DIFFERS,
    &WORKER_THREADS_FEW,
    &FLAGS_UNSEEN,
    &ADDRESS_LOOPBACK,
    &LIBRARY_OLD,
    &MODULE_MISMATCH,
    &CNI_DIR_EXPOSED,
];
