//! The networks of the host's container engine (Docker).
//!
//! The stages and modules are those of the rest of the host: [`observed`] state, [`plan`],
//! `reconciler` (observe, plan, apply, report), `schedule`, and the [`Executor`], a thread of
//! its own so that a hanging engine delays nothing else. No reconciliation relies on what an
//! earlier one did.

pub mod observed;
pub mod plan;

mod client;
mod executor;
mod flap_damping;
mod look;
mod preview;
mod probe;
mod reconciler;
mod removal;
mod schedule;

pub use client::EngineRelease;
pub use executor::Executor;
pub use look::look;
pub use preview::{EnginePreview, ExistingUsage, preview};
pub use probe::{ProbeError, probe};
pub use removal::{Mode, Removal, remove_all};
