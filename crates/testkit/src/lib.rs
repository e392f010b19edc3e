//! Code that several test targets and benchmarks share.

#[cfg(feature = "load")]
pub mod blind;
pub mod checked_master;
#[cfg(feature = "host")]
pub mod engine;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "load")]
pub mod load;
pub mod predecessor;
pub mod prometheus;
pub mod sessions;
#[cfg(feature = "load")]
pub mod tap;
pub mod transcript;
#[cfg(feature = "load")]
pub mod watch;

/// Returns whether a test that changes the kernel's network configuration can run, and notes the
/// reason if it cannot (see [`testbed::skip`]).
#[cfg(feature = "host")]
pub fn root(test: &str) -> bool {
    testbed::skip::require_hosts(test)
}
