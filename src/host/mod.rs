//! The agent's host: desired state, the plan that leads to it, and the executor.
//!
//! [`desired`] is what the agent's state machine wants, [`observed`] what kernel
//! and disk have, [`plan`] the difference as operations (pure), and [`Executor`]
//! the thread that reads, plans and carries out. It remembers nothing from one
//! pass to the next: what somebody changed by hand is found like everything else.

pub mod desired;
pub mod observed;
pub mod plan;

mod cni;
mod executor;
mod failures;
mod firewall;
mod netlink;
mod pass;
mod sysctl;

pub use executor::Executor;
