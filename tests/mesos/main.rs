//! The module inside real Mesos masters and agents.
//!
//! Where only the control plane matters, masters and agents run on loopback
//! addresses and the kernel is left alone; the rest runs on hosts, which are network namespaces.
mod addresses;
mod authentication;
mod bad_config;
mod bad_input;
mod common;
mod delete;
mod docker;
mod docker_restart;
mod docker_takeover;
mod election;
mod failover;
mod help;
mod http;
mod ipv6;
mod large;
mod leases;
mod lossless;
mod metrics;
mod overlays;
#[cfg(feature = "fault-injection")]
mod panic;
mod predecessor_process;
mod predecessors;
mod registration;
mod restarts;
mod scale;
mod takeover;
mod traffic;
mod unreadable_log;
