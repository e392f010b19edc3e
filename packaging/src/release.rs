//! The release build of the module, the program and the static library.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use testbed::{install, paths};

use crate::glibc::Stubs;
use crate::run;

/// Name of the target, which makes cargo keep the flags from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

const ARGUMENTS: [&str; 5] = ["build", "--release", "--locked", "--target", TARGET];

/// Files of a release build.
#[derive(Clone, Debug)]
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
/// A tool is missing, the stubs cannot be made, or cargo cannot be run, or fails.
pub fn build() -> Result<Release> {
    build_in(paths::workspace(), &paths::target(), None)
}

/// Builds the release of a source directory into a target directory, with cargo's files in `home`
/// if there is one.
///
/// # Errors
/// As [`build`].
pub fn build_in(source: &Path, target: &Path, home: Option<&Path>) -> Result<Release> {
    install::require(install::RELEASE)?;
    let stubs = Stubs::make(target)?;
    // The module's symbols of Mesos are weak, so any other one that no library has is a mistake.
    let flags = [
        format!("-Clinker={}", stubs.linker().display()),
        "-Clink-arg=-Wl,-z,defs".to_owned(),
        "-Cstrip=symbols".to_owned(),
    ];
    let status = run::cargo()
        .args(ARGUMENTS)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", target)
        .envs(home.map(|home| ("CARGO_HOME", home)))
        // Not against the headers of an installed Mesos, also where pkg-config finds one.
        .env("MESOS_PREFIX", "")
        .current_dir(source)
        .stdin(Stdio::null())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", ARGUMENTS.join(" "));
    Ok(paths_in(target))
}

/// Returns the paths of the files that [`build`] makes.
pub fn paths() -> Release {
    paths_in(&paths::target())
}

fn paths_in(target: &Path) -> Release {
    let directory = target.join(TARGET).join("release");
    Release {
        module: directory.join("libmesos_overlay.so"),
        archive: directory.join("libmesos_overlay.a"),
        program: directory.join("mesos-overlay"),
    }
}
