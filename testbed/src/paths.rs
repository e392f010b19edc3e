//! Paths of the sources, of built programs, and of files that are kept between runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// Returns the directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the test bed lies in the workspace")
}

/// Returns cargo's target directory, in which fetched files are kept too.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// Returns the directory of the programs of this build: that of the running program, or its parent
/// for tests and examples.
fn built() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("finding the path of this program")?;
    let dir = exe.parent().context("a program without a directory")?;
    let below = dir.ends_with("deps") || dir.ends_with("examples");
    Ok(if below {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    }
    .to_owned())
}

/// Arguments for cargo that build the programs which tests run.
pub const BUILD_PROGRAMS: &[&str] = &[
    "build",
    "--package",
    "testbed",
    "--package",
    "overlay-cli",
    "--bins",
];

/// Returns a program that tests run: one of the test bed's own, or `mesos-overlay`. Cargo builds
/// programs only with their package, not for another package's tests, so they are brought up to
/// date here, once per process.
pub fn program(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let dir = built()?;
    let outcome = BUILT.get_or_init(|| build_programs(&dir).map_err(|error| format!("{error:#}")));
    if let Err(error) = outcome {
        bail!("{error}");
    }
    let path = dir.join(name);
    if !path.exists() {
        bail!(
            "cargo {} did not make {}",
            BUILD_PROGRAMS.join(" "),
            path.display()
        );
    }
    Ok(path)
}

fn build_programs(dir: &Path) -> Result<()> {
    if std::env::var_os("TESTBED_BUILT").is_some() {
        return Ok(()); // cargo xtask test has built them
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(BUILD_PROGRAMS)
        .arg("--quiet")
        .current_dir(workspace());
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo
        .stdin(Stdio::null())
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        bail!(
            "cargo {}: {}",
            BUILD_PROGRAMS.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Returns the library with both modules, of the same build as the running test. (Cargo puts the
/// library that tests depend on into `deps`.)
pub fn module() -> Result<PathBuf> {
    Ok(built()?.join("deps/libmesos_overlay.so"))
}
