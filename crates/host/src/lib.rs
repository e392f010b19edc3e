//! The agent's host: reads its kernel configuration, firewall, CNI files and container engine,
//! compares them with the desired state, and applies the difference.
//!
//! [`reconcile`] compares desired and observed state and returns a plan (pure). The
//! [`Executor`] is the thread that observes, plans and applies, again whenever an event
//! (`kernel::watch`) or the time (`schedule`) asks for it. No reconciliation relies on what
//! an earlier one did, so that manual changes are found like every other difference.
//! [`docker`] does the same for the container engine's networks, on a thread of its own.

pub mod docker;
pub mod files;
pub mod lookup;
pub mod panics;
pub mod reconcile;
pub mod survey;

mod cni;
mod executor;
mod failures;
mod firewall;
mod first_aid;
mod kernel;
mod operation;
mod progress;
mod reconciler;
mod removal;
mod schedule;
mod supervisor;
mod threads;
mod usage;

pub use executor::{Executor, UnderlayMtu};
pub use first_aid::first_aid;
pub use operation::{ObjectKind, Operation, Tense};
pub use progress::is_abandoned;
pub use reconcile::{PeerObjectCounts, WantedObjects};
pub use reconciler::{Preview, preview, reconcile_once};
pub use removal::{Outcome, reconcile_and_verify};
pub use supervisor::Counters;
pub use usage::{Sampler, reserved};
