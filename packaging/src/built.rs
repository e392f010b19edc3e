//! The release and the SDK, which tests share: built once for all tests of a run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Error, Result};
use testbed::paths;

use crate::release::{self, Release};
use crate::{packages, sdk};

/// Environment variable: `cargo xtask test` has built everything.
const DONE: &str = "TESTBED_BUILT";

/// Environment variable: the run of cargo nextest, the same for all tests.
const RUN: &str = "NEXTEST_RUN_ID";

/// The release and the SDK.
#[derive(Clone, Debug)]
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

/// Makes the directory, and waits until no other process builds in it. Dropping the file lets others
/// in.
fn lock(directory: &Path) -> Result<File> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let lock = File::create(directory.join("lock")).context("the lock of target/sdk-tests")?;
    lock.lock().context("locking target/sdk-tests")?;
    Ok(lock)
}

/// Builds the release and the SDK. Processes that build at the same time take turns.
///
/// # Errors
/// A build fails, or a file cannot be written.
pub fn build() -> Result<Built> {
    let directory = directory();
    let _lock = lock(&directory)?;
    build_in(&directory)
}

/// Builds the release, and the SDK in a directory that no other process builds in.
fn build_in(directory: &Path) -> Result<Built> {
    let date = packages::date()?;
    let release = release::build()?;
    let sdk = sdk::build(&release, date, directory)?;
    Ok(Built { release, sdk })
}

/// Returns the release and the SDK. The first test of a run builds them, unless `cargo xtask test`
/// has.
///
/// # Errors
/// A build fails, or a file cannot be written. All calls of a process have the same outcome.
pub fn get() -> Result<Built> {
    static OUTCOME: OnceLock<Result<Built, String>> = OnceLock::new();
    let outcome = OUTCOME.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    outcome.clone().map_err(Error::msg)
}

fn find() -> Result<Built> {
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
    let _lock = lock(&directory)?;
    if !run.is_empty() && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == run) {
        return Ok(built);
    }
    let built = build_in(&directory)?;
    fs::write(&stamp, run).context("noting that the SDK is built")?;
    Ok(built)
}
