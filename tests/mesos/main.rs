//! Tests of the modules in real Mesos masters and agents.
//!
//! Tests of the control plane run on loopback addresses and do not configure the kernel; the others
//! run on simulated hosts (network namespaces).
mod addresses;
mod attacks;
mod authentication;
mod bad_config;
mod bad_input;
mod bounds;
mod common;
mod delete;
mod docker;
mod docker_restart;
mod docker_takeover;
mod election;
mod failover;
mod full_disk;
mod growth;
mod help;
mod http;
mod ipv6;
mod large;
mod leaked_addresses;
mod leases;
mod lossless;
mod metrics;
mod module_twice;
mod obstacles;
mod overlays;
#[cfg(feature = "fault-injection")]
mod panic;
mod predecessor_process;
mod predecessors;
mod registration;
mod restarts;
mod scale;
mod takeover;
mod threads;
mod traffic;
mod unreadable_log;
mod zookeeper;
