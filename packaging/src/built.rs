//! Everything that is released, built once.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use testbed::paths;

use crate::release::{self, Release};
use crate::{date, sdk};

/// Environment variable: `cargo xtask test` has built everything.
const DONE: &str = "TESTBED_BUILT";

/// Environment variable: the run of cargo nextest, the same for all tests.
const RUN: &str = "NEXTEST_RUN_ID";

/// Everything that is released.
#[derive(Debug)]
pub struct Built {
    /// The module, the program and the static library.
    pub release: Release,
    /// The SDK, an archive.
    pub sdk: PathBuf,
}

/// Returns the directory of the packages, `target/packages`.
pub fn directory() -> PathBuf {
    paths::target().join("packages")
}

/// Builds everything.
///
/// # Errors
/// A build fails, or a file cannot be written.
pub fn build() -> Result<Built> {
    let directory = directory();
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let release = release::build()?;
    let sdk = sdk::build(&release, date::seconds()?, &directory)?;
    Ok(Built { release, sdk })
}

/// Returns everything, for tests. The first test of a run builds it, unless `cargo xtask test` has.
///
/// # Errors
/// A build fails, or a file cannot be written.
pub fn get() -> Result<Built> {
    let built = Built {
        release: release::paths(),
        sdk: sdk::path(&directory()),
    };
    if std::env::var_os(DONE).is_some() {
        return Ok(built);
    }
    let run = std::env::var(RUN).unwrap_or_default();
    let stamp = paths::target().join("packages.run");
    let lock = File::create(paths::target().join("packages.lock")).context("the packages' lock")?;
    lock.lock().context("locking the packages")?;
    if !run.is_empty() && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == run) {
        return Ok(built);
    }
    let built = build()?;
    fs::write(&stamp, run).context("noting that the packages are built")?;
    Ok(built)
}
