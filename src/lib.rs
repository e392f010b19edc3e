//! An IP address per container on Apache Mesos.
//!
//! Two Mesos modules in one library: `overlay-master` gives every agent its
//! share of each overlay network, `overlay-agent` makes the agent's host match.
//! `ARCHITECTURE.md` has the picture; from the inside out:
//!
//! * [`wire`]: the protobuf messages and the log's contents, and their JSON.
//! * [`core`]: both roles as pure state machines. [`core::Input`]s go in,
//!   [`core::Effect`]s come out; nothing else happens.
//! * [`host`]: what the agent wants of its host, what the host has, the
//!   difference as a plan, and the executor that carries it out.
//! * [`runtime`]: what the core may not touch (clock, files, threads), and the
//!   supervisor that turns a panic into a restart.
//! * [`ffi`]: the C ABI of `include/mesos_overlay.h`.

// The bans of clippy.toml (clocks, files, hash-ordered collections) are meant for
// the pure part; `core` and the planner turn them on again.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod core;
pub mod ffi;
pub mod host;
pub mod runtime;
pub mod wire;
