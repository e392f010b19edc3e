//! The two roles of mesos-overlay as pure state machines.
//!
//! The driver of a [`Machine`] gives it an [`Input`], takes [`Effect`]s until there are none, and
//! returns with [`Input::Timeout`] no later than [`Machine::poll_timeout`]. A machine has no
//! clock, file, socket or thread: time and the seed of its random numbers are arguments. The same
//! inputs at the same times have the same effects, on which the simulation in `tests/` relies.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod agent;
pub mod allocation;
pub mod config;
pub mod host_api;
pub mod machine;
pub mod master;
pub mod metrics;
pub mod proto;
pub mod protocol;
pub mod util;

pub use host_api::report::{EngineReport, HostReport};
pub use machine::{Effect, Input, Io, Level, Machine, StoreOutcome};
pub use protocol::http::{Request, RequestId, Response};
pub use protocol::session::secrets::Seed;
pub use protocol::upid::Upid;
pub use util::time::Time;

/// libprocess id of the master's process, on every Mesos master.
pub const MASTER_ID: &str = "overlay-master";
/// libprocess id of the agent's process, on every Mesos agent.
pub const AGENT_ID: &str = "overlay-agent";
