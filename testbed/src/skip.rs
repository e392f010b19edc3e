//! Tests that cannot run on this machine say so, and why.

use std::fs::OpenOptions;
use std::io::Write;

/// The file that `cargo xtask test` collects the reasons in.
pub const FILE_VARIABLE: &str = "TESTBED_SKIPPED";

/// Says that a test is skipped. With `CI=true` that is a failure instead, so that
/// nobody takes skipped tests for passed ones.
///
/// # Panics
/// With `CI=true` in the environment.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "cannot run {line}"
    );
    eprintln!("skipped: {line}");
    let Some(file) = std::env::var_os(FILE_VARIABLE) else {
        return;
    };
    // One write per line: tests run in parallel.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("noting that it was skipped: {error}");
    }
}

/// Set by `cargo xtask test` when Mesos cannot be had: why.
pub const NO_MESOS_VARIABLE: &str = "TESTBED_NO_MESOS";

/// Mesos, fetched and built if need be; if that is impossible, the test is skipped.
pub fn require_mesos(test: &str) -> Option<crate::mesos::Mesos> {
    let known = std::env::var(NO_MESOS_VARIABLE);
    let mesos = match known {
        Ok(reason) => Err(reason),
        Err(_) => crate::mesos::Mesos::get().map_err(|error| format!("{error:#}")),
    };
    mesos
        .map_err(|reason| skip(test, &format!("no Mesos: {reason}")))
        .ok()
}

/// Whether hosts can be made ([`crate::net::available`]); if not, the test is skipped.
pub fn require_hosts(test: &str) -> bool {
    match crate::net::available() {
        Ok(()) => true,
        Err(error) => {
            skip(test, &format!("{error:#}"));
            false
        }
    }
}

/// Whether container engines can be run ([`crate::docker::available`]); if not, the
/// test is skipped.
pub fn require_docker(test: &str) -> bool {
    match crate::docker::available() {
        Ok(()) => true,
        Err(error) => {
            skip(test, &format!("{error:#}"));
            false
        }
    }
}
