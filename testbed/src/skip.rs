//! Skipping of tests that cannot run on this machine.

use std::fs::OpenOptions;
use std::io::Write;

/// Environment variable: file in which `cargo xtask test` collects the reasons.
pub const FILE_VARIABLE: &str = "TESTBED_SKIPPED";

/// Reports that a test is skipped, and why.
///
/// # Panics
/// With `CI=true` in the environment a skipped test is a failed one.
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
    // One write per line, since tests run in parallel.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot record that a test was skipped: {error}");
    }
}

/// Environment variable: reason why Mesos is not available, set by `cargo xtask test`.
pub const NO_MESOS_VARIABLE: &str = "TESTBED_NO_MESOS";

/// Returns Mesos, which is fetched and built if necessary. `None`: this is impossible, and the
/// test is reported as skipped.
pub fn require_mesos(test: &str) -> Option<crate::mesos::Mesos> {
    let known = std::env::var(NO_MESOS_VARIABLE);
    let mesos = match known {
        Ok(reason) => Err(reason),
        Err(_) => crate::mesos::Mesos::get().map_err(|error| format!("{error:#}")),
    };
    mesos
        .map_err(|reason| skip(test, &format!("cannot run Mesos: {reason}")))
        .ok()
}

/// Returns true if hosts can be made ([`crate::net::available`]). `false`: the test is reported as
/// skipped.
pub fn require_hosts(test: &str) -> bool {
    match crate::net::available() {
        Ok(()) => true,
        Err(error) => {
            skip(test, &format!("{error:#}"));
            false
        }
    }
}

/// Returns true if Docker engines can run ([`crate::docker::available`]). `false`: the test is
/// reported as skipped.
pub fn require_docker(test: &str) -> bool {
    match crate::docker::available() {
        Ok(()) => true,
        Err(error) => {
            skip(test, &format!("{error:#}"));
            false
        }
    }
}

/// Returns a release of Docker, which is fetched if necessary. `None`: engines cannot run, or the
/// release cannot be fetched, and the test is reported as skipped.
pub fn require_docker_release(test: &str, name: &str) -> Option<crate::docker::Release> {
    if !require_docker(test) {
        return None;
    }
    let release = crate::docker::Release::named(name);
    let fetched = release.and_then(|release| release.fetch().map(|()| release));
    fetched
        .map_err(|error| skip(test, &format!("{error:#}")))
        .ok()
}

/// Returns the oldest g++ to be had, which is fetched if necessary. `None`: it cannot be fetched,
/// and the test is reported as skipped.
pub fn require_oldest_compiler(test: &str) -> Option<crate::compiler::Compiler> {
    crate::compiler::oldest()
        .map_err(|error| skip(test, &format!("{error:#}")))
        .ok()
}
