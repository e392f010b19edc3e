//! The release and the SDK, which tests share: built once for all tests of a run.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use testbed::paths;

use crate::release::{self, Release};
use crate::{packages, sdk};

/// Environment variable: `cargo xtask test` has built everything.
const DONE: &str = "TESTBED_BUILT";

/// Environment variable: the run of cargo nextest, the same for all tests.
const RUN: &str = "NEXTEST_RUN_ID";

/// The release and the SDK.
#[derive(Debug)]
pub struct Built {
    /// The module, the program and the static library.
    pub release: Release,
    /// The SDK, an archive in `target/sdk-tests`.
    pub sdk: PathBuf,
}

/// Returns the directory of the SDK that tests use.
fn directory() -> PathBuf {
    paths::target().join("sdk-tests")
}

/// Builds the release and the SDK.
///
/// # Errors
/// A build fails, or a file cannot be written.
pub fn build() -> Result<Built> {
    let directory = directory();
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let release = release::build()?;
    let sdk = sdk::build(&release, packages::date()?, &directory)?;
    Ok(Built { release, sdk })
}

/// Returns the release and the SDK. The first test of a run builds them, unless `cargo xtask test`
/// has.
///
/// # Errors
/// A build fails, or a file cannot be written.
pub fn get() -> Result<Built> {
    let directory = directory();
    let built = Built {
        release: release::paths(),
        sdk: sdk::path(&directory),
    };
    if std::env::var_os(DONE).is_some() {
        return Ok(built);
    }
    let run = std::env::var(RUN).unwrap_or_default();
    let stamp = directory.join("run");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let lock = File::create(directory.join("lock")).context("the lock of target/sdk-tests")?;
    lock.lock().context("locking target/sdk-tests")?;
    if !run.is_empty() && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == run) {
        return Ok(built);
    }
    let built = build()?;
    fs::write(&stamp, run).context("noting that the SDK is built")?;
    Ok(built)
}
