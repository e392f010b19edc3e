//! Models of the C++ modules that this project replaces, as pure machines with the behaviour that
//! their peers can observe.
//!
//! The C++ modules know protobuf fields below 100 only, drop unknown messages, send no peers and
//! refuse no registration. Unknown details are `Habits`, which tests choose.

#![allow(dead_code, reason = "each test program uses its part of it")]

pub mod agent;
pub mod master;

use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Upid};

/// Makes an effect that sends a message.
fn send<M: Named>(to: &Upid, message: &M) -> Effect {
    Effect::send(to.clone(), message)
}
