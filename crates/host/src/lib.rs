//! The agent's host: observed state, the plan that leads to the desired state, and its execution.
//!
//! [`reconcile`] compares desired and observed state and gives a plan (pure), [`Executor`] is the
//! thread that observes, plans and applies. Nothing is remembered from one reconciliation to the
//! next, so manual changes are found like everything else. In between the executor listens to
//! kernel events (`kernel::watch`) and reconciles again when something differs (`schedule` says when).

pub mod docker;
pub mod panics;
pub mod reconcile;

mod cni;
mod executor;
mod failures;
mod firewall;
mod kernel;
mod preview;
mod reconciler;
mod refused;
mod schedule;
mod usage;

pub use executor::{Counters, Executor, Fitting};
pub use preview::{Preview, preview};
pub use reconciler::make_right;
pub use usage::Sampler;
