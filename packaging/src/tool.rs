//! Programs that are run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs a program and returns what it printed. Its error output is in the error if it fails.
///
/// # Errors
/// The program cannot be started, or fails.
pub fn run(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed ({}):\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}
