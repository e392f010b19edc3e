//! What the tests share.
#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

pub mod engine;
pub mod host;

/// Whether the test can run: the kernel's network configuration is root's. Says
/// why if it cannot (see [`testbed::skip`]).
pub fn root(test: &str) -> bool {
    testbed::skip::unless_hosts(test)
}
