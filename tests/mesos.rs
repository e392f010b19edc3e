//! The module inside real Mesos masters and agents.
//!
//! Where only the control plane matters, masters and agents run on loopback
//! addresses and the kernel is left alone; the rest runs on hosts, which are network namespaces.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

#[path = "mesos/addresses.rs"]
mod addresses;
#[path = "mesos/authentication.rs"]
mod authentication;
#[path = "mesos/bad_config.rs"]
mod bad_config;
#[path = "mesos/bad_input.rs"]
mod bad_input;
#[path = "mesos/common.rs"]
mod common;
#[path = "mesos/delete.rs"]
mod delete;
#[path = "mesos/docker.rs"]
mod docker;
#[path = "mesos/docker_restart.rs"]
mod docker_restart;
#[path = "mesos/docker_takeover.rs"]
mod docker_takeover;
#[path = "mesos/election.rs"]
mod election;
#[path = "mesos/failover.rs"]
mod failover;
#[path = "mesos/help.rs"]
mod help;
#[path = "mesos/http.rs"]
mod http;
#[path = "mesos/ipv6.rs"]
mod ipv6;
#[path = "mesos/large.rs"]
mod large;
#[path = "mesos/leases.rs"]
mod leases;
#[path = "support/load/mod.rs"]
mod load;
#[path = "mesos/lossless.rs"]
mod lossless;
#[path = "mesos/metrics.rs"]
mod metrics;
#[path = "mesos/overlays.rs"]
mod overlays;
#[cfg(feature = "fault-injection")]
#[path = "mesos/panic.rs"]
mod panic;
#[path = "support/predecessor/mod.rs"]
mod predecessor;
#[path = "mesos/predecessors.rs"]
mod predecessors;
#[path = "support/prometheus.rs"]
mod prometheus;
#[path = "mesos/registration.rs"]
mod registration;
#[path = "mesos/restarts.rs"]
mod restarts;
#[path = "mesos/scale.rs"]
mod scale;
#[path = "mesos/takeover.rs"]
mod takeover;
#[path = "mesos/traffic.rs"]
mod traffic;
#[path = "mesos/unreadable_log.rs"]
mod unreadable_log;
