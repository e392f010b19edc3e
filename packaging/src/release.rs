//! The release build of the module, the program and the static library.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::paths;

use crate::glibc::Stubs;

/// Name of the target, which makes cargo keep the flags from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

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

/// Builds the release, linked with [`Stubs`] below the target directory. A build without changes
/// takes a second.
///
/// # Errors
/// The stubs cannot be made, or cargo cannot be run, or fails.
pub fn build() -> Result<Release> {
    let stubs = Stubs::make(&paths::target())?;
    let arguments = ["build", "--release", "--locked", "--target", TARGET];
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(arguments)
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            stubs.linker(),
        )
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    let directory = paths::target().join(TARGET).join("release");
    Ok(Release {
        module: directory.join("libmesos_overlay.so"),
        archive: directory.join("libmesos_overlay.a"),
        program: directory.join("mesos-overlay"),
    })
}
