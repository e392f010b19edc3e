//! Everything the core may not touch: clock, randomness, files, environment, and
//! the supervisor that turns a panic into a restart.
//!
//! A [`Node`] is one master or one agent as its driver sees it: inputs go in,
//! [`Action`]s come out. [`settings`] makes what it needs from configuration file
//! and environment.

mod action;
mod clock;
#[cfg(feature = "fault-injection")]
pub mod fault;
mod host;
mod logger;
mod node;
pub mod settings;

pub use action::{Action, LogMeeting, LogSettings, Role};
pub use clock::Clock;
pub use host::LocalHost;
pub use logger::{Logger, log, set_logger};
pub use node::{Birth, Host, Make, Node, NodeOptions, Refused};
pub use overlay_host::panics::{Panic, catch};
