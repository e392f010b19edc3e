//! Environment of the machines: clock, randomness, files, environment variables, log, and
//! the restart after a panic.
//!
//! A [`Node`] is a master or an agent as its driver sees it: the driver gives it events and
//! takes [`Action`]s. [`settings`] reads its arguments from the configuration file and the
//! environment.

mod action;
mod answer_files;
mod clock;
#[cfg(feature = "fault-injection")]
pub mod fault;
mod host;
mod host_proxy;
mod key_file;
mod leader_watch;
mod log_proxy;
mod logger;
mod node;
mod seeds;
pub mod settings;
mod supervisor;
pub mod workers;

pub use action::{Action, LogSettings, Role, ZooKeeperSettings};
pub use clock::Clock;
pub use host::{Host, LocalHost};
pub use logger::{Logger, log, set_logger};
pub use node::{InputError, Node, NodeOptions};
pub use overlay_host::panics::{Panic, catch};
pub use seeds::Seeds;
pub use supervisor::{MachineContext, MachineFactory};
