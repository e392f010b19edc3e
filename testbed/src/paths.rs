//! Where things are: the sources, what cargo built, what is kept between runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the test bed lies in the workspace")
}

/// Cargo's target directory; what is fetched once and kept lies there too.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// Where the programs of this build are: beside the running one. (Tests and examples
/// lie one directory further down.)
fn built() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("where this program is")?;
    let dir = exe.parent().context("a program without a directory")?;
    let below = dir.ends_with("deps") || dir.ends_with("examples");
    Ok(if below {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    }
    .to_owned())
}

/// The arguments with which cargo builds the programs that tests run.
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
        return Ok(()); // by cargo xtask test, for all of its tests
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

/// The library with both modules, of the same build as the running test. (For a
/// package's own tests cargo leaves the library among their dependencies.)
pub fn module() -> Result<PathBuf> {
    Ok(built()?.join("deps/libmesos_overlay.so"))
}
