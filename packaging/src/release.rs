//! The release build of the module, the program and the static library.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::paths;

/// Files of a release build.
#[derive(Debug)]
pub struct Release {
    /// `libmesos_overlay.so`, which Mesos loads.
    pub module: PathBuf,
    /// `libmesos_overlay.a`, the module without the C++ shim.
    pub archive: PathBuf,
    /// `mesos-overlay`, the operators' program.
    pub program: PathBuf,
}

/// Builds the release.
///
/// # Errors
/// Cargo cannot be run, or fails.
pub fn build() -> Result<Release> {
    let arguments = ["build", "--release", "--locked"];
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(arguments)
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    let directory = paths::target().join("release");
    Ok(Release {
        module: directory.join("libmesos_overlay.so"),
        archive: directory.join("libmesos_overlay.a"),
        program: directory.join("mesos-overlay"),
    })
}
