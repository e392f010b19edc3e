//! The agent's host: desired state, the plan that leads to it, and the executor.

pub mod desired;
mod executor;

pub use executor::Executor;
