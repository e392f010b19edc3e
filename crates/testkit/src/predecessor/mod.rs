//! The C++ module pair that ours takes the place of, as pure machines: what its peers
//! can see of it, and no more.
//!
//! It knows fields below 100 only, drops messages that it does not know, tells nobody of
//! peers and refuses nobody. What is not known of it is a habit, for a test to choose.

#![allow(dead_code, reason = "each test program uses its part of it")]

pub mod agent;
pub mod master;

use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Upid};

/// A message for somebody.
fn send<M: Named>(to: &Upid, message: &M) -> Effect {
    Effect::send(to.clone(), message)
}
