//! What the tests share.
#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

pub mod host;

/// Whether the test can run: the kernel's network configuration is root's. Says
/// why if it cannot. With `CI=true` that is a failure, so that nobody takes
/// skipped tests for passed ones.
pub fn root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let reason = format!("{test} needs root: it makes network namespaces");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{reason}");
    eprintln!("skipped: {reason}");
    false
}
