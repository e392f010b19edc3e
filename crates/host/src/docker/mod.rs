//! The networks of the host's container engine (Docker): desired state, the plan
//! that leads to it, and the worker that asks, plans and carries out.
//!
//! The same shape as the rest of the host ([`super`]), on a thread of its own: an
//! engine that hangs holds up nothing else. Like there, nothing is remembered from
//! one pass to the next.

pub mod observed;
pub mod plan;

mod client;
mod flap_damping;
mod pass;
mod worker;

pub use pass::{Removal, remove_all};
pub use worker::Worker;
