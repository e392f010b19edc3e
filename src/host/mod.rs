//! The agent's host: desired state, the plan that leads to it, and the executor.
//!
//! [`desired`] is what the agent's state machine wants, [`observed`] what kernel
//! and disk have, [`plan`] the difference as operations (pure), and [`Executor`]
//! the thread that reads, plans and carries out. It remembers nothing from one
//! pass to the next: what somebody changed by hand is found like everything else.
//! Between passes it listens to what the kernel tells (`watch`), and looks again
//! when something is not as desired (`pace` says when).

pub mod desired;
pub mod engine;
pub mod observed;
pub mod plan;

mod cni;
mod executor;
mod failures;
mod firewall;
mod netlink;
mod pace;
mod pass;
mod peer_map;
mod preview;
mod refused;
mod sysctl;
mod usage;
mod watch;

pub use executor::{Counters, Executor, Fitting};
pub use pass::make_right;
pub use peer_map::{Differences, PeerMap};
pub use preview::{Preview, preview};
pub use usage::Sampler;
