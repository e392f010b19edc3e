//! Deterministic helpers that both state machines use.

pub mod backoff;
pub mod throttle;
pub mod time;
