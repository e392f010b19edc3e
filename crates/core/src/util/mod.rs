//! Deterministic helpers of both state machines.

pub mod backoff;
pub mod encoding;
pub mod family;
pub mod line;
pub mod special_purpose;
pub mod throttle;
pub mod time;
