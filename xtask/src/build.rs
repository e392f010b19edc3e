//! Calls of cargo.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::paths;

/// Returns a command that runs cargo in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo
        .args(arguments)
        .current_dir(paths::workspace())
        .stdin(Stdio::null());
    cargo
}

/// Runs cargo and waits for it. Its output is not captured.
pub fn run(arguments: &[&str]) -> Result<()> {
    let line = format!("cargo {}", arguments.join(" "));
    eprintln!("$ {line}");
    let status = cargo(arguments)
        .status()
        .with_context(|| format!("running {line}"))?;
    ensure!(status.success(), "{line} failed");
    Ok(())
}
