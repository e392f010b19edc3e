//! Findings about masters and agents.

use crate::finding::Kind;

/// No master answers.
pub const MASTER_UNREACHABLE: Kind = Kind::error(
    "master-unreachable",
    "No master answers, or the leading one does not",
    "no-master-answers",
);

/// ZooKeeper does not say where the masters are.
pub const ZOOKEEPER_UNREACHABLE: Kind = Kind::error(
    "zookeeper-unreachable",
    "ZooKeeper is not reached, or does not say where the masters are",
    "zookeeper-is-not-reached-or-refuses",
);

/// A Mesos master without the module.
pub const MASTER_WITHOUT_MODULE: Kind = Kind::error(
    "master-without-module",
    "The Mesos master has no overlay-master module",
    "no-master-answers",
);

/// No master leads.
pub const NO_LEADER: Kind = Kind::error(
    "no-leader",
    "No Mesos master leads",
    "503-from-overlay-masterstate",
);

/// A master that still reads the log.
pub const MASTER_RECOVERING: Kind = Kind::error(
    "master-recovering",
    "The leading master still reads the replicated log",
    "503-from-overlay-masterstate",
);

/// No quorum of replicas.
pub const NO_QUORUM: Kind = Kind::error(
    "no-quorum",
    "The leading master cannot read the replicated log, since no quorum of replicas answers",
    "503-from-overlay-masterstate",
);

/// A log that cannot be opened or read.
pub const LOG_UNREADABLE: Kind = Kind::error(
    "log-unreadable",
    "The replicated log of the leading master cannot be opened or read",
    "the-replicated-log-cannot-be-opened",
);

/// Other sentences of a master about the cluster.
pub const CLUSTER_PROBLEM: Kind = Kind::error(
    "cluster-problem",
    "The master reports a problem with the cluster as a whole",
    "api.md#get-overlay-masterstate",
);

/// Two agents at one address.
pub const ADDRESS_TWICE: Kind = Kind::error(
    "agent-address-twice",
    "Two agents have the same address, and the second one is refused",
    "an-agent-is-missing-from-the-state",
);

/// An overlay that is left out.
pub const OVERLAY_LEFT_OUT: Kind = Kind::error(
    "overlay-left-out",
    "An overlay of the masters' configuration is left out",
    "an-overlay-of-the-configuration-is-left-out",
);

/// An overlay that drains.
pub const OVERLAY_DRAINING: Kind = Kind::warning(
    "overlay-draining",
    "A removed overlay is still held by agents",
    "an-overlay-stays-draining",
);

/// An overlay that nothing defines.
pub const OVERLAY_ORPHANED: Kind = Kind::warning(
    "overlay-orphaned",
    "Agents hold subnets of an overlay that nothing defines",
    "an-overlay-is-orphaned",
);

/// A range without free subnets or addresses.
pub const RANGE_FULL: Kind = Kind::error(
    "range-full",
    "A range has no free subnet or VTEP address for another agent",
    "a-range-is-full",
);

/// A range that will be full soon.
pub const RANGE_NEARLY_FULL: Kind = Kind::warning(
    "range-nearly-full",
    "90 % of the subnets or VTEP addresses of a range are used",
    "a-range-is-full",
);

/// An agent that is not connected.
pub const AGENT_LOST: Kind = Kind::error(
    "agent-lost",
    "An agent is not connected to the master",
    "an-agent-is-not-connected",
);

/// An agent that does not answer.
pub const AGENT_SILENT: Kind = Kind::error(
    "agent-silent",
    "The overlay agent of a host does not answer",
    "the-agent-of-this-host-does-not-answer",
);

/// An agent that is not registered.
pub const AGENT_UNREGISTERED: Kind = Kind::error(
    "agent-unregistered",
    "The agent is not registered with a master",
    "an-agent-is-missing-from-the-state",
);

/// What the master does not give to an agent.
pub const AGENT_REFUSED: Kind = Kind::error(
    "agent-refused",
    "The master refuses the agent, or could not assign something to it",
    "an-agent-is-missing-from-the-state",
);

/// An agent that lost a subnet.
pub const SUBNET_LOST: Kind = Kind::warning(
    "subnet-lost",
    "An agent lost its subnet or VTEP address and has another one",
    "an-agent-lost-its-subnet",
);

/// An overlay that does not work on a host.
pub const OVERLAY_FAILED: Kind = Kind::error(
    "overlay-failed",
    "An overlay is STATUS_FAILED on an agent",
    "an-overlay-is-status_failed",
);

/// An overlay that is being configured.
pub const OVERLAY_CONFIGURING: Kind = Kind::warning(
    "overlay-configuring",
    "An agent still configures an overlay, or has not reported its state",
    "an-overlay-is-status_failed",
);

/// An error of an agent's host.
pub const HOST_ERROR: Kind = Kind::error(
    "host-error",
    "An agent reports an error of its host",
    "an-agent-reports-an-error-of-its-host",
);

/// Nothing has an address or a name.
pub const NOT_FOUND: Kind = Kind::error(
    "not-found",
    "Nothing in the cluster has the address or name that was asked for",
    "program.md#whois",
);

/// All kinds of this module.
pub const ALL: &[&Kind] = &[
    &MASTER_UNREACHABLE,
    &ZOOKEEPER_UNREACHABLE,
    &MASTER_WITHOUT_MODULE,
    &NO_LEADER,
    &MASTER_RECOVERING,
    &NO_QUORUM,
    &LOG_UNREADABLE,
    &CLUSTER_PROBLEM,
    &ADDRESS_TWICE,
    &OVERLAY_LEFT_OUT,
    &OVERLAY_DRAINING,
    &OVERLAY_ORPHANED,
    &RANGE_FULL,
    &RANGE_NEARLY_FULL,
    &AGENT_LOST,
    &AGENT_SILENT,
    &AGENT_UNREGISTERED,
    &AGENT_REFUSED,
    &SUBNET_LOST,
    &OVERLAY_FAILED,
    &OVERLAY_CONFIGURING,
    &HOST_ERROR,
    &NOT_FOUND,
];
